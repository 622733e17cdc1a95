"""What becomes of keys that are misspelt, and of values that are of no use, in every configuration?

    python experiments/reliability/settings.py [--keys N]

Each key of each program, with each choice of each group, is misspelt by a letter, and given values of other types than its own.
No model is loaded and nothing is written: all is composed and checked as the programs do it before they begin. What is to be
refused is told by the type of the value that stands in the configuration, and not by the annotations that the checks read.
"""

import argparse
import contextlib
import copy
import os
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import hydra
from rich.console import Console
from rich.progress import track

from a2i.command_line import arguments
from a2i.compose import EXPECTED_ERRORS, plain
from a2i.explain import explained, groups_of
from a2i.paths import CONF
from a2i.plugins import choices

PROGRAMS = ("app", "evaluate", "export", "infer", "listen", "prepare", "train")
# What a program needs before anything else is looked at.
GIVEN = {"infer": {"audio": "a.wav"}, "listen": {"audio": "a.wav"}, "export": {"to": "given"}}
CHOSEN = {"evaluate": {"captioner": "mini"}, "export": {"captioner": "mini"}, "train": {"experiment": "mini"}}
# What has to be given with a choice that leaves it open.
OPEN = {
    "data=folder": "data.root=somewhere",
    "data=shards": "data.root=somewhere",
    "data=huggingface": "data.name=owner/name",
    "image=folder": "image.model=somewhere",
    "captioner=folder": "captioner.folder=somewhere",
}
LEFT_OUT = ("model=default",)
# Where the rule below is wrong: a list of files; a section that only others refer to; a whole number where others fit.
JUDGED = {
    ("audio", "list"),
    ("audio", "numbers"),
    ("scenes.shortest", "fraction"),
    ("caption_metrics.java_seconds", "fraction"),
    ("ray.cpus", "fraction"),  # Ray shares a core
    # Checked where the model is built, with each other.
    *(
        (f"model.decoder.{name}", "negative")
        for name in ("layers", "width", "heads", "embedding", "positions", "hidden")
    ),
    *(("text", what) for what in ("text", "negative", "fraction", "truth", "list", "numbers")),
}
# What only the library that takes it can tell: checked where the model or the trainer is built, before the first step.
OTHERS = (
    *(
        "model.encoder.config.",
        "model.decoder.config.",
        "model.encoder.num_mel_bins",
        "model.bridge",
        "model.decoding.do_sample",
        "text.cleaning",
    ),
    *("trainer.devices", "trainer.num_sanity_val_steps", "trainer.enable_model_summary"),
    *("training.augment.", "training.optimizer", "image.call."),
)
VALUES: dict[str, Any] = {
    "text": "many", "nothing": "", "negative": -3, "fraction": 1.5, "huge": 10**30,
    "endless": float("inf"), "no number": float("nan"),
    "truth": True, "list": ["a", "b"], "numbers": [1, 2], "dictionary": {"a": 1}, "null": None,
}  # fmt: skip
# What can't be meant where a value of this type stands. A number may be text: a folder may be called 2024.
NEVER: dict[type, tuple[str, ...]] = {
    bool: (
        "text",
        "nothing",
        "negative",
        "fraction",
        "huge",
        "endless",
        "no number",
        "list",
        "numbers",
        "dictionary",
        "null",
    ),
    int: ("text", "nothing", "fraction", "endless", "no number", "truth", "list", "numbers", "dictionary"),
    float: ("text", "nothing", "endless", "no number", "truth", "list", "numbers", "dictionary"),
    str: ("truth", "list", "numbers", "dictionary"),
    list: ("negative", "fraction", "truth", "dictionary"),
    dict: ("text", "negative", "fraction", "truth", "list", "numbers"),
}
# What counts something, by its name: a negative one can't be meant.
COUNT = re.compile(
    r"(^|_)(num|batch|steps|size|clips|layers?|channels|bins|epochs|workers|tokens|height|width|heads|queue|port)(_|$)"
)


@dataclass(frozen=True)
class Trial:
    """A configuration with one thing wrong.

    Attributes:
        program: its name.
        chosen: the group's choice that it is with, such as `image=mini`; empty for the defaults.
        key: the setting.
        what: what is wrong, `misspelt` or a name of `VALUES`.
        fate: `refused`, `accepted`, `unclear` (refused without the key or what was expected) or `crashed`.
        said: what was said.
    """

    program: str
    chosen: str
    key: str
    what: str
    fate: str
    said: str
    never: bool

    def __str__(self) -> str:
        return f"{self.program} {self.chosen} {self.key} {self.what}: {self.said}"


def checks() -> dict[str, Callable[[dict[str, Any]], Any]]:
    """What each program does with its settings before it begins."""
    from a2i import export, infer, prepare
    from a2i.app import settings as app
    from a2i.evaluate import settings as evaluate
    from a2i.listen import __main__ as listen
    from a2i.sweep import sweeper
    from a2i.training import settings as training

    modules = {
        "app": app,
        "evaluate": evaluate,
        "export": export,
        "infer": infer,
        "listen": listen,
        "prepare": prepare,
        "train": training,
    }
    every: dict[str, Callable[[dict[str, Any]], Any]] = {name: module.check for name, module in modules.items()}
    return every | {"train": lambda config: (training.check(config), sweeper.check(config.get("sweep") or {}))}


def configurations() -> Iterator[tuple[str, str, list[str]]]:
    """A program, a choice of one of its groups (empty for the defaults), and the arguments that ask for it."""
    for program in PROGRAMS:
        chosen = CHOSEN.get(program, {})
        yield program, "", [f"{group}={choice}" for group, choice in chosen.items()]
        for group in groups_of(program):
            every = choices(group) + (
                [f"study/{name}" for name in choices("experiment/study")] if group == "experiment" else []
            )
            for choice in every:
                asked = f"{group}={choice}"
                if asked in LEFT_OUT or chosen.get(group) == choice:
                    continue
                others = [] if group == "model" else [f"{key}={value}" for key, value in chosen.items() if key != group]
                yield program, asked, [*others, asked, *([OPEN[asked]] if asked in OPEN else [])]


def composed(program: str, given: list[str]) -> dict[str, Any]:
    """The plain settings of a program."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return plain(hydra.compose(program, arguments(given, program))) | GIVEN.get(program, {})  # type: ignore[no-any-return]


def leaves(settings: Any, prefix: str = "") -> dict[str, Any]:
    """The values by dotted key; those of sections too. A list is one value, and so is a section whose names are keys of other
    sections: what a sweep tries."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found[f"{prefix}{name}"] = value
        if isinstance(value, dict) and not any("." in str(below) for below in value):
            found |= leaves(value, f"{prefix}{name}.")
    # A group is chosen: Hydra refuses what is none of its choices.
    groups = {key for key in found if (CONF / key.replace(".", "/")).is_dir()}
    return {key: value for key, value in found.items() if not key.endswith("_target_") and key not in groups}


def misspelt(key: str) -> str:
    """The key with two letters of its last part exchanged, or one doubled."""
    head, dot, last = key.rpartition(".")
    pairs = [place for place in range(len(last) - 1) if last[place] != last[place + 1]]
    if not pairs or len(last) < 4:  # of a few letters all words are alike
        return f"{head}{dot}{last}{last[-1]}"
    place = pairs[len(pairs) // 2]
    return f"{head}{dot}{last[:place]}{last[place + 1]}{last[place]}{last[place + 2 :]}"


def try_key(program: str, chosen: str, given: list[str], key: str) -> Trial:
    """Give a misspelt key on the command line."""
    wrong = misspelt(key)
    with command_line(program, [*given, f"{wrong}=1"]):
        try:
            composed(program, [*given, f"{wrong}=1"])
        except EXPECTED_ERRORS as error:
            said = explained(error, program)
            clear = wrong in said and key in said and "\n" not in said
            return Trial(program, chosen, key, "misspelt", "refused" if clear else "unclear", said, True)
        except Exception as error:
            return Trial(program, chosen, key, "misspelt", "crashed", repr(error), True)
    return Trial(program, chosen, key, "misspelt", "accepted", "", True)


def try_value(
    program: str, chosen: str, settings: dict[str, Any], key: str, what: str, check: Callable[[dict[str, Any]], Any]
) -> Trial:
    """Give a key another value."""
    changed = copy.deepcopy(settings)
    section, (*parents, last) = changed, key.split(".")
    for parent in parents:
        section = section[parent]
    before = section[last]
    never = (
        (key, what) not in JUDGED
        and not key.startswith(OTHERS)
        and (
            what in NEVER.get(type(before), ())
            or (what == "negative" and COUNT.search(last) and isinstance(before, int))
        )
    )
    section[last] = {**before, **VALUES[what]} if isinstance(before, dict) and what == "dictionary" else VALUES[what]
    try:
        check(changed)
    except EXPECTED_ERRORS as error:
        said = explained(error, program)
        named = key in said or (".".join(parents) in said and f"'{last}'" in said)  # in its section, shown whole
        clear = named and "expected" in said and "\n" not in said
        return Trial(program, chosen, key, what, "refused" if clear else "unclear", said, bool(never))
    except Exception as error:
        return Trial(program, chosen, key, what, "crashed", repr(error), bool(never))
    return Trial(program, chosen, key, what, "accepted", "", bool(never))


@contextlib.contextmanager
def command_line(program: str, given: list[str]) -> Iterator[None]:
    """What is explained of a key is explained by what else was asked for."""
    before, sys.argv = sys.argv, [program, *given]
    try:
        yield
    finally:
        sys.argv = before


def trials(keys: int | None = None, seed: int = 0, programs: Sequence[str] = PROGRAMS) -> Iterator[Trial]:
    """All of them, in a folder where nothing is: of the keys of a choice those that the defaults don't have.

    Args:
        keys: as many of each configuration, by chance; None for all.
        seed: of that chance.
        programs: whose settings.
    """
    by_program, chance = checks(), random.Random(seed)
    defaults: dict[str, set[str]] = {}
    every = [each for each in configurations() if each[0] in programs]
    for program, chosen, given in track(every, "composing and checking", console=Console(stderr=True), transient=True):
        settings = composed(program, given)
        try:
            by_program[program](copy.deepcopy(settings))
        except ValueError:  # as of a captioner that can't be exported
            continue
        own = [
            key
            for key in leaves(settings)
            if key not in defaults.get(program, ()) or key.startswith(f"{chosen.partition('=')[0]}.")
        ]
        if not chosen:
            defaults[program] = set(own)
        for key in own if keys is None else chance.sample(own, min(keys, len(own))):
            yield try_key(program, chosen, given, key)
            for what in VALUES:
                yield try_value(program, chosen, settings, key, what, by_program[program])


def main() -> None:
    """Count them, and say which went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("programs", nargs="*", default=PROGRAMS, help=f"of {', '.join(PROGRAMS)}; all if none is named")
    parser.add_argument("--keys", type=int, help="of each configuration, by chance; else all")
    asked = parser.parse_args()
    counts: Counter[str] = Counter()
    told: Counter[tuple[str, str, str]] = Counter()  # once for a key, whatever it is chosen with
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for trial in trials(asked.keys, programs=asked.programs):
            fate = "accepted wrongly" if trial.fate == "accepted" and trial.never else trial.fate
            counts["tried"] += 1
            counts[fate] += 1
            if fate not in ("refused", "accepted"):
                told[fate, trial.key, trial.what] += 1
                if told[fate, trial.key, trial.what] == 1:
                    print(f"{fate}: {trial}", flush=True)
        left = os.listdir(folder)
    print(", ".join(f"{fate} {count:,}" for fate, count in counts.items()) + f"; files written: {len(left)}")


if __name__ == "__main__":
    main()
