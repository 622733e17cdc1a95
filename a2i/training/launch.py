"""How the ranks of a run are started: by Lightning itself, by torchrun, or by SLURM's srun; and the folder that they share.

Knows nothing of torch until it has to ask torchrun's store: to begin a run need not wait for it.
"""

import hashlib
import os
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from a2i.training.run_folder import OVERRIDES_FILE, first_process, new_folder

PATIENCE = timedelta(minutes=10)  # machines of a cluster start minutes apart


def by_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def by_slurm() -> bool:
    """Whether this is part of a batch job of SLURM; in an interactive one, programs are started by hand, one after another."""
    return "SLURM_JOB_ID" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive")


def again() -> bool:
    """Whether SLURM or torchrun has started the same program before, and starts it again."""
    counts = ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT")
    return any(os.environ.get(name, "0").isdecimal() and int(os.environ.get(name, "0")) > 0 for name in counts)


def shared_folder(wanted: str) -> str:
    """Create a run folder that all ranks know: the first one decides.

    In a batch job of SLURM its name is made of the job's number and the command, so that it is found again when the job is put
    back into its queue; else it is `wanted`, or that with a number behind it, where another run has that one. Under torchrun
    the first rank tells the others through torchrun's own store.

    Raises:
        ValueError: the ranks were started in a way in which they can't be told.
    """
    if by_slurm():
        command = hashlib.sha256("\0".join(sys.argv[1:]).encode()).hexdigest()[:6]
        folder = Path(wanted).parent / f"slurm_{os.environ['SLURM_JOB_ID']}_{command}"
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder)
    if not by_torchrun():
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ:
            raise ValueError(
                f"got rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']}, started neither by torchrun nor by srun, so that"
                " no rank knows the others' run folder; set hydra.run.dir=FOLDER"
            )
        return new_folder(wanted)
    if os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0":
        raise ValueError(
            "got torchrun --max-restarts, which would begin in another folder each time; set hydra.run.dir=FOLDER, with"
            " which the run goes on where it was"
        )
    return _told(wanted)


_known: dict[str, str] = {}
_stores: list[Any] = []


def _told(wanted: str) -> str:
    """The folder that the first rank makes; each asks for as many, in the same order."""
    if wanted not in _known:
        first, key = os.environ["RANK"] == "0", f"folder {len(_known)}"
        if not _stores:
            from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

            by_agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # else the first rank keeps it
            address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            store = TCPStore(*address, is_master=first and not by_agent, timeout=PATIENCE, multi_tenant=True)
            _stores.append(PrefixStore("a2i", store))
        if first:
            _stores[0].set(key, new_folder(wanted))
        _known[wanted] = _stores[0].get(key).decode()
    return _known[wanted]


def outside(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """A trainer's settings with as many devices and machines as torchrun or srun started processes on.

    Any other number would be an error.
    """
    if by_torchrun():
        world, local = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
        return {**trainer, "devices": local, "num_nodes": world // local} if world > 1 else dict(trainer)
    if "SLURM_PROCID" in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1 and by_slurm():
        nodes = int(os.environ.get("SLURM_NNODES", "1"))
        return {**trainer, "devices": int(os.environ["SLURM_NTASKS"]) // nodes, "num_nodes": nodes}
    return dict(trainer)


def goes_on(folder: Path, overrides: list[str]) -> bool:
    """Whether this program was started again and its run has checkpoints to go on from.

    Args:
        folder: of the run.
        overrides: with which this program was started.

    Raises:
        ValueError: the run is another's.
    """
    if not (folder / "checkpoints").exists() or not (first_process() or again()):
        return False
    kept = folder / OVERRIDES_FILE
    if again() and kept.exists() and yaml.safe_load(kept.read_text(encoding="utf-8")) == overrides:
        return True
    raise ValueError(f"{folder}: holds a run already; give another hydra.run.dir, or go on: resume={folder}")


def check_sweep(devices: Any, overrides: list[str]) -> None:
    """Raise a ValueError where the ranks of a sweep would each run another sweep.

    Args:
        devices: `trainer.devices`.
        overrides: Hydra's own.
    """
    several = len(devices) > 1 if isinstance(devices, list) else str(devices) != "1"
    if several and "WORLD_SIZE" not in os.environ:
        raise ValueError(
            f"got trainer.devices={devices} in a sweep: Lightning would start the whole sweep anew on every other device."
            " Set trainer.devices=1, or start each job's ranks from outside (torchrun)"
        )
    if by_torchrun() and not any(item.startswith("hydra.sweep.dir=") for item in overrides):
        raise ValueError(
            "under torchrun every rank would choose a sweep's folder of its own; set hydra.sweep.dir=FOLDER"
        )
