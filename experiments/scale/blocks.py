"""How many rows a block should have that is done, or lost, as a whole: a simulation of nodes that die while they work.

    python experiments/scale/blocks.py [--node-hours 4] [--seconds 0.3] [--nodes 200]

Each node takes a block, works through it, and commits it. Nodes die at random (exponential lifetimes), lose the block they
were in, and come back after a while. A commit takes its own time, and the last blocks leave nodes idle. Printed for each
size of a block: the share of all node time that made rows which count, the hours, and the part files.
"""

import argparse
import heapq
from collections import deque

import numpy as np

SIZES = (16, 64, 256, 1024, 4096, 16384)  # rows
COMMIT = 0.5  # seconds: a small file written to an object store, and listed
BACK = 120.0  # seconds until a node that died works again: started, models loaded
SPREAD = 0.8  # standard deviation of a row's seconds, as a share of them: recordings differ in length


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--node-hours", type=float, default=4.0, help="that a node lives, on average (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds", type=float, default=0.3, help="that a row takes, on average (default: %(default)s)"
    )
    parser.add_argument("--nodes", type=int, default=200, help="(default: %(default)s)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    print(f"| rows of a block | useful share of node time | hours, {asked.rows:,} rows | part files |")
    print("|---|---|---|---|")
    for size in SIZES:
        hours, useful = simulate(size, asked)
        print(f"| {size:,} | {useful:.1%} | {hours:.2f} | {asked.rows / size:,.0f} |")


def simulate(size: int, asked: argparse.Namespace) -> tuple[float, float]:
    """Hours until the last row is committed, and the share of node time that made rows which count."""
    random = np.random.default_rng(asked.seed)
    counts = np.full(-(-asked.rows // size), size)
    counts[-1] = asked.rows - size * (len(counts) - 1)
    # The sum of so many rows, as the central limit theorem has it.
    drawn = random.normal(asked.seconds * counts, SPREAD * asked.seconds * np.sqrt(counts))
    blocks = deque(drawn.clip(asked.seconds).tolist())
    useful, lifetime = sum(blocks), asked.node_hours * 3600
    free = [(0.0, float(random.exponential(lifetime))) for _ in range(asked.nodes)]  # when a node is free, when it dies
    heapq.heapify(free)
    end = 0.0
    while blocks:
        now, dies = heapq.heappop(free)
        if dies <= now:
            heapq.heappush(free, (now + BACK, now + BACK + float(random.exponential(lifetime))))
            continue
        work = blocks.pop()
        if now + work + COMMIT > dies:  # lost
            blocks.appendleft(work)
            heapq.heappush(free, (dies + BACK, dies + BACK + float(random.exponential(lifetime))))
            continue
        end = max(end, now + work + COMMIT)
        heapq.heappush(free, (now + work + COMMIT, dies))
    return end / 3600, useful / (end * asked.nodes)


if __name__ == "__main__":
    main()
