"""`a2i dog.wav`: sounds become captions and pictures. `a2i train …` and its kin are the programs behind it."""

import argparse
import os
import runpy
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any

from a2i import __version__
from a2i.machine import begin_program

PROGRAMS = ("train", "evaluate", "prepare", "infer", "app", "listen", "export", "doctor")
HELP = """\
Caption sounds and draw the captions. Each sound produces NAME.png (caption, seed and model in its metadata) and one line in
results.jsonl. A file that can't be read stops no other: its line says why, and the exit status is 1. The same command again
goes on where it was stopped.

  a2i dog.wav                          the small embedded models: no download, no GPU
  a2i FOLDER -o pictures               every sound in a folder and below it
  a2i 'sounds/*.mp3' --image none      captions alone
  a2i dog.wav --captioner runs/mini/2026-01-31_12-00-00/captioner --image stable_diffusion
  a2i dog.wav decoding.num_beams=5     any other setting as key=value
"""
MORE = """\
programs (each has a --help of its own):
  a2i train experiment=NAME            train a captioner
  a2i evaluate captioner=FOLDER        score captions, and compare them with others
  a2i prepare data=NAME                download or make a data set, check it, and decode its sounds once
  a2i infer audio=FILE                 as above, with every setting as key=value
  a2i app                              a page in the browser: drop or record a sound, choose its caption, draw it
  a2i listen                           the microphone: a caption every few seconds, a picture of each new scene
  a2i export captioner=RUN to=FOLDER   a trained captioner with a model card, for others; to=hub:OWNER/NAME sends it
  a2i doctor                           what this machine can do, and what to type

A file with the name of a program is reached as ./train.
The Tab key completes programs, settings and their values after: eval "$(register-python-argcomplete a2i)"
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point.

    Args:
        argv: arguments without the program's name; None for those of the process.
    """
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what may follow
        from a2i.completion import complete

        complete(_parser(), PROGRAMS)
    given = list(sys.argv[1:] if argv is None else argv)
    if given and given[0] in PROGRAMS:
        # As `python -m` runs it: a program that starts itself again, on other devices, finds itself under that name.
        sys.argv[1:] = given[1:]
        runpy.run_module(f"a2i.{given[0]}", run_name="__main__", alter_sys=True)
        return
    begin_program()
    parser = _parser()
    if not given:
        parser.print_help(sys.stderr)
        sys.exit(2)
    if {"-h", "--help", "--version"} & set(given):
        parser.parse_args(given)
    _caption_and_draw(parser, given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "a2i", "a2i SOUND ... [-o FOLDER] [key=value ...]", HELP, MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument(
        "audio", nargs="*", metavar="SOUND", help="file, folder, pattern, or text file with a path a line"
    )
    parser.add_argument("-o", "--out", metavar="FOLDER", help="folder for pictures and results.jsonl (default: out)")
    parser.add_argument(
        "--captioner", metavar="NAME", help="name, folder or Hub id (default: mini, the one that comes with a2i)"
    )
    parser.add_argument(
        "--image", metavar="NAME", help="name, folder or Hub id of the picture model; none for captions alone (mini)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="of the pictures, and of sampled captions (default: 0)")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps … (default: the fastest one there is)")
    parser.add_argument("--again", action="store_true", default=None, help="make anew what is there already")
    parser.add_argument("--version", action="version", version=f"a2i {__version__}")
    return parser


def _parsed(parser: argparse.ArgumentParser, given: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The options as settings of `conf/infer.yaml`, and what stands beside them as `key=value`.

    Raises:
        ValueError: one setting is given in both ways, or a program's name is misspelt.
    """
    from a2i.command_line import is_bare, no_option  # here: --help need not wait for Hydra

    if given[0].isalpha() and not os.path.lexists(given[0]) and (near := get_close_matches(given[0], PROGRAMS, 1)):
        raise ValueError(f"got {given[0]}, which is no file here; did you mean a2i {near[0]}?")
    values = vars(parser.parse_intermixed_args([no_option(argument) for argument in given]))
    sounds = values.pop("audio")
    overrides = [item for item in sounds if not is_bare(item, "infer")]
    sounds = [item for item in sounds if item not in overrides]
    options = {key: value for key, value in values.items() if value is not None}
    if sounds:
        options["audio"] = sounds[0] if len(sounds) == 1 else sounds
    keys = {item.partition("=")[0].lstrip("+") for item in overrides}
    if twice := [key for key in options if key in keys]:
        given_as = sounds[0] if twice[0] == "audio" else f"--{twice[0]}"
        raise ValueError(f"got {given_as} beside {twice[0]}=; expected one of the two")
    return options, overrides


def _caption_and_draw(parser: argparse.ArgumentParser, given: list[str]) -> None:
    from a2i import plugins
    from a2i.command_line import INTERRUPTED, composed
    from a2i.compose import clear_errors
    from a2i.explain import explained
    from a2i.infer import caption_and_draw

    try:
        with clear_errors(partial(explained, name="infer")):
            options, overrides = _parsed(parser, given)
            caption_and_draw(composed("infer", options, plugins.take(overrides)))
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
