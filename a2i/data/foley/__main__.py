"""A few sounds to listen to: ``python -m a2i.data.foley FOLDER --count 6 --seed 1``."""

import argparse
import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from a2i.data.foley.files import replace
from a2i.data.foley.recipe import FoleySettings, captions_of, scene_of, wav_of
from a2i.data.foley.sources import SOURCES
from a2i.machine import begin_program

TABLE = "captions.csv"
HEADER = ["file_name", "split", *(f"caption_{number}" for number in range(1, 6))]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; ``None`` for the program's own."""
    parser = argparse.ArgumentParser(
        prog="python -m a2i.data.foley",
        description="Make a few sounds and print their paths. Files are named by what is heard in them: rain.wav, "
        "rain_and_bell.wav (at once), bell_then_thunder.wav (one after the other). A file of the same name is "
        f"overwritten. {TABLE} beside them holds their captions, as data=folder reads them.",
        epilog=f"Sources: {', '.join(SOURCES)}.",
    )
    parser.add_argument("folder", type=Path, metavar="OUT_FOLDER", help="where the WAV files go; made if missing")
    parser.add_argument("--count", type=int, default=6, help="how many sounds (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other sounds (default: %(default)s)")
    parser.add_argument(
        "--sources", nargs="+", choices=list(SOURCES), metavar="NAME", default=list(SOURCES),
        help="only these sources (default: all)",
    )  # fmt: skip
    parser.add_argument("--alone", action="store_true", help="one source in each file, never two")
    parser.add_argument("--sample-rate", type=int, default=16_000, metavar="HZ", help="(default: %(default)s)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the sounds that the command line asks for."""
    options = parse(arguments)
    shares = (1.0, 0.0, 0.0) if options.alone or len(set(options.sources)) == 1 else (0.5, 0.25, 0.25)
    try:
        settings = FoleySettings(
            seed=options.seed,
            sample_rate=options.sample_rate,
            alone=shares[0],
            mixed=shares[1],
            sequence=shares[2],
            sources=tuple(dict.fromkeys(options.sources)),
        )
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
    taken: Counter[str] = Counter()
    rows: dict[str, list[str]] = {}
    for index in range(options.count):
        title = scene_of(settings, "test", index).title
        taken[title] += 1
        path = options.folder / (f"{title}.wav" if taken[title] == 1 else f"{title}_{taken[title]}.wav")
        replace(path, wav_of(settings, "test", index))
        print(path)
        rows[path.name] = [("val", "test")[index % 10] if index % 10 < 2 < options.count else "train"]
        rows[path.name] += captions_of(settings, "test", index)
    _add_captions(options.folder / TABLE, rows)


def _add_captions(path: Path, rows: dict[str, list[str]]) -> None:
    """Write a table of captions; rows of other files stay, and so does a table that was not made here."""
    known: dict[str, list[str]] = {}
    if path.exists():
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            head, *lines = list(csv.reader(file)) or [[]]
        if head != HEADER:
            print(f"{path} was not made here, so it stays as it is; the captions of these sounds are not written")
            return
        known = {line[0]: line[1:] for line in lines if line}
    table = io.StringIO(newline="")
    csv.writer(table).writerows([HEADER, *([name, *values] for name, values in (known | rows).items())])
    replace(path, table.getvalue().encode())


if __name__ == "__main__":
    begin_program()
    main()
