"""Does a test fail when the code that decides a figure, a mask, a token or a sample is changed in one place?

    python experiments/reliability/mutants.py [--most N] [--work FOLDER]

In a copy of this project mutmut changes the modules that `[tool.mutmut]` of pyproject.toml names, in one place at a time, and
runs those tests of the list there that come by the changed function. `--most` takes so many changes of each module by chance,
of a seed always the same; a larger number takes more to them. Asked again with the same folder it goes on where it was stopped,
and with `--again` it tries once more what had survived, with the tests as they are by then. What survives and was judged
harmless stands in judged.toml, with its reason. What was not judged is printed, and makes the exit status 1.
"""

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
COPIED = ("a2i", "hydra_plugins", "conf", "tests", "experiments")
FIRST = "a2i.metrics.table.*"  # a few, with which all are made
OUTCOMES = {0: "survived", 1: "killed", 3: "killed", 5: "untested", 33: "untested"}  # else it hung, or died


def copy(tree: Path) -> None:
    """This project into `tree`; what is there already is brought up to date."""
    for name in COPIED:
        shutil.copytree(ROOT / name, tree / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.is_file() and path.name != ".git":
            shutil.copy2(path, tree)


def mutmut(tree: Path, names: list[str]) -> None:
    """Try mutants; mutmut shows how far it is."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(tree / "mutants")}
    program = [str(Path(sys.executable).with_name("mutmut")), "run", "--max-children", "2", *names]
    if subprocess.run(program, cwd=tree, env=environment, check=False).returncode:
        sys.exit("error: mutmut failed; see above")


def outcomes(tree: Path) -> dict[str, dict[str, int | None]]:
    """By module, the exit status of the tests for each mutant, None where it was not tried."""
    found = {}
    for path in sorted((tree / "mutants").rglob("*.py.meta")):
        module = path.relative_to(tree / "mutants").as_posix().removesuffix(".meta")
        if status := json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]:
            found[module] = status
    return found


def drawn(names: list[str], most: int | None, seed: int) -> list[str]:
    """The first so many in an order by chance."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())[:most]


def change(tree: Path, module: str, name: str) -> tuple[str, str]:
    """A mutant's line, before and after."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    with contextlib.chdir(tree):
        lines = get_diff_for_mutant(name, path=Path(module)).splitlines()
    before, after = (
        " ".join(line[1:].strip() for line in lines if line.startswith(sign) and not line.startswith(sign * 3))
        for sign in "-+"
    )
    return before, after


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, help="mutants of each module; default: all")
    parser.add_argument("--seed", type=int, default=0, help="of which (default: %(default)s)")
    parser.add_argument("--again", action="store_true", help="try again what survived")
    parser.add_argument("--told", action="store_true", help="try none; only tell what was tried")
    parser.add_argument("--work", type=Path, help="folder to work in, kept; default: a temporary one")
    asked = parser.parse_args()
    tree = (asked.work or Path(tempfile.mkdtemp(prefix="a2i-mutants-"))).resolve()
    print(f"works in {tree}")
    if not asked.told:
        copy(tree)
        if not (tree / "mutants").exists() or not outcomes(tree):
            mutmut(tree, [FIRST])
        left = [
            name
            for status in outcomes(tree).values()
            for name in drawn([*status], asked.most, asked.seed)
            if status[name] is None or (asked.again and OUTCOMES.get(status[name]) in ("survived", "untested"))
        ]
        if left:
            mutmut(tree, left)
    judged = {
        (each["module"], line): each["reason"]
        for each in tomllib.loads((HERE / "judged.toml").read_text(encoding="utf-8"))["judged"]
        for line in each["lines"]
    }
    print("| module | mutants | tried | killed | hung or died | survived, judged | survived, open |")
    print("|---|---|---|---|---|---|---|")
    together: Counter[str] = Counter()
    survivors = []
    for module, status in outcomes(tree).items():
        tried = [name for name in drawn([*status], asked.most, asked.seed) if status[name] is not None]
        counts = Counter({"mutants": len(status), "tried": len(tried)})
        for name in tried:
            outcome = OUTCOMES.get(status[name], "hung or died")
            if outcome in ("survived", "untested"):
                before, after = change(tree, module, name)
                outcome = "judged" if (module, after) in judged else "open"
                if outcome == "open":
                    survivors.append(f"{name}\n  - {before}\n  + {after}")
            counts[outcome] += 1
        together += counts
        print(row(module, counts))
    print(row("together", together))
    if survivors:
        print("\nsurvived, and not judged:", *survivors, sep="\n")
        sys.exit(1)


def row(module: str, counts: Counter[str]) -> str:
    columns = ("mutants", "tried", "killed", "hung or died", "judged", "open")
    return f"| `{module}` | {' | '.join(f'{counts[column]:,}' for column in columns)} |"


if __name__ == "__main__":
    main()
