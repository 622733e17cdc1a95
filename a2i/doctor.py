"""`python -m a2i.doctor`: what this machine has, what it can do with it, and what to type. Nothing is changed or downloaded."""

import argparse
import csv
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Any

from a2i import hub
from a2i.errors import first_line
from a2i.machine import begin_program, cores
from a2i.names import MINI, offered
from a2i.paths import MINI_CAPTIONER, PACKAGE

TABLE = PACKAGE / "assets" / "models.tsv"  # what named models need, the smallest first, each with its source
GB = 1e9
JAVA_SECONDS = 10.0


@dataclass(frozen=True)
class Finding:
    """What was found.

    Attributes:
        what: was looked for.
        found: in words.
        to_do: what to do about it; empty where nothing has to be done.
    """

    what: str
    found: str
    to_do: str = ""


@dataclass(frozen=True)
class Model:
    """What a named model needs; None where no source says.

    Attributes:
        group: `captioner` or `image`.
        name: to choose it by.
        weights: how many, such as `1.5 B`; empty where no source says.
        download_gb: in GB of 10^9 bytes; 0 for what comes with a2i.
        memory_gb: of a GPU, as its source says.
        cpu: whether a CPU will do.
        source: of these figures; of several, with a blank between.
        model: Hub id; None for what comes with a2i.
        licence: of the weights.
        cached_gb: that lie in the Hub's cache here.
        extra: of a2i, that it needs; None for none.
        gated: whether its owner has to give access.
    """

    group: str
    name: str
    weights: str
    download_gb: float | None
    memory_gb: float | None
    cpu: bool
    source: str
    model: str | None = None
    licence: str | None = None
    cached_gb: float = 0.0
    extra: str | None = None
    gated: bool = False


def models() -> list[Model]:
    """The named models that there are, the smallest first, with what `assets/models.tsv` says of them."""
    from a2i.captioner.folder import licence  # here: --help need not wait for torch

    cached, found = _cached(), []
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = {(row["group"], row["name"]): row for row in csv.DictReader(file, delimiter="\t")}
    names = [(group, name) for group in ("captioner", "image") for name in offered(group) if name != "none"]
    for group, name in sorted(names, key=lambda each: list(rows).index(each) if each in rows else len(rows)):
        row = rows.get((group, name), {})
        settings = _settings(group, name)
        model = None if name == MINI else settings.get("model")
        found.append(
            Model(
                group,
                name,
                row.get("weights", ""),
                _number(row.get("download_gb")),
                _number(row.get("memory_gb")),
                row.get("cpu") == "yes",
                row.get("source", ""),
                model,
                settings.get("licence") or (licence(MINI_CAPTIONER) if name == MINI else None),
                cached.get(str(model), 0.0),
                row.get("extra") or None,
                row.get("gated") == "yes",
            )
        )
    return found


def findings() -> list[Finding]:
    """What this machine has. What can't be told is told as that."""
    checks: dict[str, Callable[[], Finding]] = {
        "Python": _python,
        "PyTorch": _torch,
        "GPU": _gpu,
        "memory": _memory,
        "disk": _disk,
        "FFmpeg": _ffmpeg,
        "Java": _java,
        "Hub": _hub,
        "Hub login": _hub_login,
        "W&B": _wandb,
        **{f"a2i[{extra}]": partial(_extra, extra) for extra in _extras()},
    }
    return [_told(what, check) for what, check in checks.items()]


def advice(
    known: Sequence[Model],
    card_gb: float | None,
    reachable: bool,
    lacking: Collection[str] = (),
    token: bool = True,
    free_gb: float | None = None,
) -> dict[str, Model]:
    """Of each group a model that this machine is known to bear, and that can be loaded as things are. Both are loaded together:
    on a card those two that fill it most, else the largest of each.

    Args:
        known: as `models` gives them, the smallest first.
        card_gb: memory of the largest GPU; None without one.
        reachable: whether what is not in the cache can be downloaded.
        lacking: the extras of a2i that are not installed.
        token: whether the Hub knows who asks, as it has to for gated models.
        free_gb: on the disk of the Hub's cache; None where that is not known.
    """

    def can_be_loaded(model: Model) -> bool:
        there = model.model is None or model.cached_gb > 0
        known_to_fit = model.cpu or (card_gb is not None and model.memory_gb is not None)
        return known_to_fit and (there or (reachable and (token or not model.gated))) and model.extra not in lacking

    def fit(models: Sequence[Model]) -> bool:
        on_card = sum(model.memory_gb or 0 for model in models)
        on_disk = sum(max((model.download_gb or 0) - model.cached_gb, 0) for model in models)
        return (card_gb is None or on_card <= card_gb) and (free_gb is None or on_disk <= free_gb)

    groups: dict[str, list[Model]] = {}
    for each in filter(can_be_loaded, known):
        groups.setdefault(each.group, []).append(each)
    fitting = [models for models in product(*groups.values()) if fit(models)]
    if card_gb is None:  # `product` counts up: the largest of each come last
        best = fitting[-1:]
    else:
        best = sorted(fitting, key=lambda models: sum(model.memory_gb or 0 for model in models))[-1:]
    return {model.group: model for models in best for model in models}


def card_memory() -> float | None:
    """GB of the largest GPU; None without one."""
    try:
        import torch

        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return max((torch.cuda.get_device_properties(each).total_memory / GB for each in range(count)), default=None)
    except (ImportError, RuntimeError, OSError):
        return None


def command(chosen: dict[str, Model]) -> str:
    """What to type."""
    image = chosen["image"].name if "image" in chosen else "none"
    return f"python -m a2i.infer audio=FILE captioner={chosen['captioner'].name} image={image}"


def _told(what: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    # A doctor must not fall ill of what it finds.
    except Exception as error:
        return Finding(what, f"can't be told ({type(error).__name__}: {first_line(error)})")


def _python() -> Finding:
    return Finding("Python", f"{platform.python_version()}, {platform.system()} {platform.machine()}, {cores()} cores")


def _torch() -> Finding:
    import torch

    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    return Finding("PyTorch", f"{torch.__version__}, {cuda}")


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        cards = [torch.cuda.get_device_properties(each) for each in range(torch.cuda.device_count())]
        return Finding("GPU", "; ".join(f"{card.name}, {card.total_memory / GB:.0f} GB" for card in cards))
    if torch.backends.mps.is_available():
        return Finding("GPU", "Apple's")
    driver = shutil.which("nvidia-smi") is not None
    return Finding("GPU", "none", "PyTorch finds no card: is its CUDA newer than the driver?" if driver else "")


def _memory() -> Finding:
    return Finding("memory", f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / GB:.0f} GB")


def _disk() -> Finding:
    from huggingface_hub import constants

    return Finding("disk", f"{_free_gb():.0f} GB free for the Hub's cache ({constants.HF_HUB_CACHE})")


def _free_gb() -> float:
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    there = next(folder for folder in (cache, *cache.parents) if folder.exists())
    return shutil.disk_usage(there).free / GB


def _ffmpeg() -> Finding:
    import av

    version = ".".join(map(str, av.library_versions["libavcodec"]))
    return Finding("FFmpeg", f"PyAV {av.__version__}, libavcodec {version}")


def _java() -> Finding:
    program = shutil.which("java")
    if program is None:
        return Finding("Java", "none", "METEOR and SPICE need Java 8 or newer; every other score does without")
    done = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=JAVA_SECONDS, check=False)
    return Finding("Java", next(iter((done.stderr or done.stdout).splitlines()), program))


def _hub() -> Finding:
    if hub.is_offline():
        return Finding("Hub", "not asked: HF_HUB_OFFLINE=1", "unset it to download models")
    reason = hub.unreachable()
    if reason is None:
        return Finding("Hub", f"can be reached at {hub.endpoint()}")
    return Finding("Hub", reason, "what is in its cache, and what comes with a2i, will do")


def _hub_login() -> Finding:
    from huggingface_hub import get_token

    if get_token():
        return Finding("Hub login", "there is a token")
    return Finding("Hub login", "no token", "only for private and gated models, and to send one: hf auth login")


def _wandb() -> Finding:
    try:
        from a2i.tracking import has_account
    except ImportError:
        return Finding("W&B", "not installed", "pip install 'a2i[eval]'")
    if mode := os.environ.get("WANDB_MODE"):
        return Finding("W&B", f"WANDB_MODE={mode}")
    if has_account():
        return Finding("W&B", "there is a login")
    return Finding("W&B", "no login", "runs are logged offline; to send them: wandb login")


def _extras() -> dict[str, list[str]]:
    """The packages that each extra of a2i asks for, by the extra's name."""
    try:
        wanted = metadata.requires("a2i") or []
        named = metadata.metadata("a2i").get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        return {}
    own: dict[str, list[str]] = {extra: [] for extra in named if extra not in ("all", "dev")}
    for line in wanted:
        found = re.match(r"""([\w.-]+)[^;]*;\s*extra\s*==\s*['"]([\w-]+)['"]""", line)
        if found and found[2] in own and found[1] != "a2i":
            own[found[2]].append(found[1])
    return own


def _missing(extra: str) -> list[str]:
    return [package for package in _extras()[extra] if not _is_installed(package)]


def _extra(extra: str) -> Finding:
    missing = _missing(extra)
    if not missing:
        return Finding(f"a2i[{extra}]", "installed")
    return Finding(f"a2i[{extra}]", f"lacks {', '.join(missing)}", f"pip install 'a2i[{extra}]'")


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _cached() -> dict[str, float]:
    """GB in the Hub's cache, by model."""
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        return {repo.repo_id: repo.size_on_disk / GB for repo in scan_cache_dir().repos if repo.repo_type == "model"}
    except (CacheNotFound, OSError, ValueError):
        return {}


def _settings(group: str, name: str) -> dict[str, Any]:
    from a2i.names import named_settings

    try:
        return named_settings(group, name) or {}
    except ValueError:  # it refers to something that is not there
        return {}


def _number(text: str | None) -> float | None:
    return float(text) if text else None


def _shown(found: Sequence[Finding], known: Sequence[Model], chosen: dict[str, Model]) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    # What goes to a file or another program is not folded into the 80 columns that a terminal is taken to have.
    console = Console(width=None if sys.stdout.isatty() else 160)
    table = Table("", "found", "to do")
    for each in found:
        table.add_row(each.what, each.found, each.to_do)
    console.print(table, markup=False)
    table = Table(Column("model", no_wrap=True), "weights", "download", "GPU memory", "CPU", "here", "licence")
    for model in known:
        download = "comes with a2i" if model.model is None else _gb(model.download_gb)
        here = "" if model.model is None else f"{model.cached_gb:.1f} GB" if model.cached_gb else "no"
        will_do = "will do" if model.cpu else ""
        name = f"{model.group}={model.name}"
        table.add_row(name, model.weights, download, _gb(model.memory_gb), will_do, here, model.licence or "")
    console.print(table, markup=False)
    print(f"what this machine is known to bear (any other model may be tried):\n  {command(chosen)}")


def _gb(size: float | None) -> str:
    return "" if size is None else f"{size:g} GB"


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point.

    Args:
        arguments: without the program's name; None for those of the process.
    """
    parser = argparse.ArgumentParser(
        "python -m a2i.doctor",
        description="Say what this machine has, which models it can run, and what to type. Nothing is changed or downloaded.",
    )
    parser.add_argument("--json", action="store_true", help="the same for programs")
    options = parser.parse_args(arguments)
    from huggingface_hub import get_token  # here: --help need not wait for it

    found, known = findings(), models()
    reachable = not hub.is_offline() and hub.unreachable() is None
    extras = _extras()
    lacking = {each.extra for each in known if each.extra and (each.extra not in extras or _missing(each.extra))}
    chosen = advice(known, card_memory(), reachable, lacking, get_token() is not None, _free_gb())
    if options.json:
        told = {"findings": list(map(asdict, found)), "models": list(map(asdict, known)), "command": command(chosen)}
        print(json.dumps(told, indent=2))
    else:
        _shown(found, known, chosen)


def program() -> None:
    """The console script."""
    begin_program()
    main(sys.argv[1:])


if __name__ == "__main__":
    program()
