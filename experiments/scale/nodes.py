"""A run on two nodes of Ray, emulated on this machine, one of which is killed; then a run that is killed and run again.

`python experiments/scale/nodes.py --clips 200` prints how many rows there are, and how many of them twice.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "120"}

import pyarrow.parquet
from engines import files
from ray.cluster_utils import Cluster

NODE = {"num_cpus": 1, "object_store_memory": 100 << 20}


def run(asked: list[str], act: Callable[[subprocess.Popen[str]], None] | None, out: Path, parts: int) -> dict[str, Any]:
    """Run infer; when some parts more than before are there, do something to it. Then count."""
    rows, before = out / "rows", len(list((out / "rows").glob("part-*")))
    began = time.monotonic()
    with subprocess.Popen([sys.executable, "-m", "a2i.infer", *asked], stdout=subprocess.PIPE, text=True) as process:
        while act is not None and process.poll() is None:
            if len(list(rows.glob("part-*"))) >= before + parts:
                act(process)
                act = None
            time.sleep(0.05)
        said = process.stdout.read().splitlines() if process.stdout else []
    found = pyarrow.parquet.read_table(rows, columns=["key", "error"]).to_pydict()
    return {
        "exit status": process.returncode,
        "seconds": round(time.monotonic() - began, 1),
        "said last": said[-1] if said else "",
        "rows": len(found["key"]),
        "twice": len(found["key"]) - len(set(found["key"])),
        "errors": sum(error is not None for error in found["error"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--clips", type=int, default=200, help="sounds")
    parser.add_argument(
        "--work", type=Path, default=Path("bench/nodes"), help="folder for sounds and results, which is new"
    )
    parser.add_argument("--image", default="mini", help="picture model; none for captions alone")
    given = parser.parse_args()
    sounds = files(given.clips, (given.work / "sounds").absolute())
    cluster = Cluster(initialize_head=True, head_node_args=NODE | {"include_dashboard": False})
    node = cluster.add_node(**NODE)
    asked = [f"audio={sounds}", f"image={given.image}", "engine=ray", f"ray.address={cluster.address}", "ray.rows=4"]

    def kill_node(_: subprocess.Popen[str]) -> None:
        cluster.remove_node(node, allow_graceful=False)

    def kill(process: subprocess.Popen[str]) -> None:
        process.send_signal(signal.SIGKILL)

    for name, act in (("one of two nodes killed", kill_node), ("killed", kill), ("run again", None)):
        out = (given.work / ("node" if act is kill_node else "again")).absolute()
        print(name, json.dumps(run([*asked, f"out={out}"], act, out, parts=4)), flush=True)
        if act is kill_node:
            cluster.add_node(**NODE)
    cluster.shutdown()


if __name__ == "__main__":
    main()
