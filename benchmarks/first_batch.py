"""How long the first batch takes: from constructing the loader, in a new process each time.

    python benchmarks/first_batch.py                    the workloads P1, P2 and P3 of benchmarks/views.py

Nothing is compiled while loading, so this is opening the file, starting threads, and one batch of 50 images. Importing
comes before and is shown beside.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from options import new_parser


def measure(workload: str, folder: str) -> dict[str, float]:
    """In this process, which must be new."""
    begin = time.perf_counter()
    import torch

    torch.set_num_threads(1)
    after_torch = time.perf_counter()
    from systems import ours
    from workloads import Source

    imported = time.perf_counter()
    next(iter(ours.loader(workload, Source(Path(folder)), threads=2)))
    end = time.perf_counter()
    return {"torch_s": after_torch - begin, "ffcv_s": imported - after_torch, "first_batch_s": end - imported}


def main() -> None:
    parser = new_parser(__doc__, data=True, images=500, turns=5)
    parser.add_argument("--workloads", nargs="+", default=["P1", "P2", "P3"])
    parser.add_argument("--job", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        print(json.dumps(measure(*arguments.job)))
        return
    from workloads import prepare

    with tempfile.TemporaryDirectory() as folder:
        prepare(arguments.data, Path(folder), 512, arguments.images)
        for workload in arguments.workloads:
            command = [sys.executable, __file__, "--job", workload, folder]
            turns = [
                json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
                for _ in range(arguments.turns)
            ]
            torch_s, ffcv_s, first_s = (statistics.median(turn[key] for turn in turns) for key in turns[0])
            print(
                f"{workload}: first batch {first_s:.2g} s after Loader(...) (median of {arguments.turns}); before it, "
                f"import torch {torch_s:.2f} s, the rest {ffcv_s:.2f} s"
            )


if __name__ == "__main__":
    main()
