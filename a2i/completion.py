"""What the Tab key offers after `a2i`: programs, sounds, options, settings, and the values that a setting takes.

argcomplete speaks with the shell, and Hydra knows the settings. In bash, and likewise in zsh:

    eval "$(register-python-argcomplete a2i)"
"""

import argparse
import os
import re
from collections.abc import Callable, Sequence

import argcomplete
import hydra
from argcomplete.completers import FilesCompleter
from argcomplete.lexers import split_line
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.plugins.completion_plugin import DefaultCompletionPlugin

from a2i import plugins
from a2i.explain import groups_of, settings_of
from a2i.names import PLACE
from a2i.paths import CONF

_files = FilesCompleter()


def complete(parser: argparse.ArgumentParser, programs: Sequence[str]) -> None:
    """Answer the shell that asks with the variables that argcomplete's script sets, and end the process.

    Args:
        parser: of `a2i` itself, for a command line that names no program. Its first positional argument takes sounds.
        programs: the words that begin another program.
    """
    line = os.environ["COMP_LINE"]
    typed = line[: int(os.environ.get("COMP_POINT", len(line)))]
    quote, word, _, before, _ = split_line(typed)
    before = before[1:]
    program = before.pop(0) if before and before[0] in programs else None
    has_settings = program is None or (CONF / f"{program}.yaml").is_file()
    options = (get_args_parser() if program else parser) if has_settings else argparse.ArgumentParser()
    if not word.startswith("-") and not _takes_value(options, before):
        # argparse knows no word after `x.wav -o out`, so what is before the word is left out.
        options = argparse.ArgumentParser(add_help=False)
        first = [] if program or before else list(programs)
        words = options.add_argument("words", nargs="*")
        words.completer = _completer(program or "infer", before, first) if has_settings else _files  # type: ignore[attr-defined]
        escaped = quote + word if quote else re.sub(r"([\s\\'\"])", r"\\\1", word)
        typed = f"a2i {escaped}"
    else:
        typed = " ".join(["a2i", *before, word])
    os.environ |= {"COMP_LINE": typed, "COMP_POINT": str(len(typed))}
    argcomplete.autocomplete(options, always_complete_options=False)


def _takes_value(parser: argparse.ArgumentParser, before: Sequence[str]) -> bool:
    """Whether the last word is an option that the next one is the value of."""
    actions = [action for action in parser._actions if before and before[-1] in action.option_strings]
    return any(action.nargs != 0 for action in actions)


def _completer(program: str, before: Sequence[str], first: Sequence[str]) -> Callable[..., list[str]]:
    def completer(prefix: str, **_: object) -> list[str]:
        found = [word for word in first if word.startswith(prefix)]
        if program == "infer" and "=" not in prefix:
            found += _files(prefix)
        return found + settings(program, prefix, before)

    return completer


def settings(program: str, word: str, before: Sequence[str] = ()) -> list[str]:
    """How a word that begins a setting may go on: keys, groups, a group's choices, else the value as it stands, and files.

    Args:
        program: whose settings they are.
        word: as far as it is typed: `exp`, `experiment=mi`, `data.root=rec`.
        before: the words before it; those that are settings count.

    Returns:
        whole words, such as `experiment=mini`.
    """
    try:
        given = [item for item in plugins.take(before) if "=" in item and not item.startswith("-")]
    except ValueError:  # there is no such plug-in, or it is broken; the program will say so
        return []
    groups = groups_of(program)
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        ask = DefaultCompletionPlugin(GlobalHydra.instance().config_loader())._query
        try:
            found = ask(program, " ".join([*given, word]))
        except Exception:  # what was typed so far does not compose; the program will say why
            found = []
    key, equals, value = word.partition("=")
    if equals:
        # Hydra completes a setting without a value as nothing, or as None.
        found = [item for item in found if item not in (word, f"{key}=None")]
        if (key not in groups or key in PLACE) and (value or not found):
            found += [f"{key}={file}" for file in _files(value)]
    else:
        # Hydra lists every group, those of other programs too, and says of one that has groups below it only the name.
        known = {*settings_of(program), *groups, "hydra"}
        found = [item for item in found if re.split("[./=@]", item.lstrip("+~"))[0] in known]
        found = [item if item[-1] in "=./" else f"{item}{end}" for item in found for end in ("=", "/")]
    return [item for item in dict.fromkeys(found) if item.startswith(word)]
