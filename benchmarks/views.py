"""Images per second and CPU seconds of rendering views: this package beside others, in one run.

    python benchmarks/views.py                      the photographs of ../shared/data, or scikit-learn's two
    python benchmarks/views.py --data FOLDER        any folder (or zip) of JPEG files
    python benchmarks/views.py --systems ours torchvision_pil --workloads P1 P2 --turns 5

Every measurement is a process of its own: a warm-up epoch, then a timed one of about 500 images by the same loader,
whose workers stay. Systems take turns,
so that a machine that slows down slows all of them; the table shows medians, and ratios within the run. CPU seconds
count worker processes too. Beside the table stands the floor: libjpeg-turbo's full decode alone, of the same files.

The others are installed beside, each in a folder of its own, which `--path` names (`--no-deps`: numpy, torch and
numba are those of the development environment). FFCV, FFCV-SSL (the originals) and SPDL need libraries of Debian:

    pip install --no-deps --target ALB albumentations==2.0.8 albucore==0.0.24 "opencv-python-headless<5" \\
        stringzilla simsimd
    pip install --no-deps --target DALI nvidia-dali-cuda120==2.4.0 "nvidia-nvimgcodec-cu12<0.10" \\
        optree nvtx makefun astunparse gast six
    apt-get install libopencv-dev libturbojpeg0-dev pkg-config
    pip install --no-deps --target FFCV ffcv==1.0.2 "opencv-python-headless<5"
    git clone https://github.com/facebookresearch/FFCV-SSL
    pip install --no-deps --target FFCVSSL ./FFCV-SSL "opencv-python-headless<5"
    apt-get install ffmpeg
    pip install --no-deps --target SPDL spdl-core==0.8.0 spdl-io==0.8.0
    python benchmarks/views.py --systems ours ours_plain ffcv_original ffcv_ssl dali_cpu spdl_ffmpeg \\
        albumentations_cv2 torchvision_pil \\
        --path ffcv_original=FFCV ffcv_ssl=FFCVSSL dali_cpu=DALI spdl_ffmpeg=SPDL albumentations_cv2=ALB
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from options import new_parser
from workloads import WORKLOADS, Source, prepare

JPEGS, RAW = ("P1", "P2", "P2b", "P3", "P4"), ("P1 raw", "P2 raw", "P4 raw")
SYSTEMS = {  # and the workloads that each can do
    "ours": (*JPEGS, *RAW),
    "ours_plain": JPEGS,
    "ffcv_original": ("P1", "P4", "P1 raw", "P4 raw"),
    "ffcv_ssl": ("P1", "P2", "P4", *RAW),
    "dali_cpu": JPEGS,
    "spdl_ffmpeg": ("P1", "P4"),
    "albumentations_cv2": JPEGS,
    "torchvision_pil": JPEGS,
}
DEFAULT_SYSTEMS = ("ours", "ours_plain", "torchvision_pil")  # what the development environment holds


def cpu_seconds() -> float:
    """Of this process, of those that it started and waited for, and of those that still run."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    running = Path("/proc/self/task").glob("*/children")
    threads = (task for children in running for child in children.read_text().split() for task in _threads(child))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages) + sum(threads)


def _threads(process: str) -> list[float]:
    """CPU seconds of each thread."""
    files = Path("/proc", process, "task").glob("*/schedstat")
    return [int(file.read_text().split()[0]) / 1e9 for file in files]


def measure(system: str, workload: str, source: Source, threads: int) -> dict[str, float]:
    """A warm-up epoch and a timed one of the same loader, in this process."""
    import importlib

    import torch

    torch.set_num_threads(1)
    module = importlib.import_module(f"systems.{system}")
    loader = module.loader(workload, source, threads)
    for _ in loader:
        pass
    cpu, wall, images = cpu_seconds(), time.perf_counter(), 0
    for batch in loader:
        images += len(batch[0])
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    return {"images_per_s": images / wall, "cpu_s_per_1000": cpu / images * 1000}


def floor(source: Source) -> float:
    """CPU seconds of libjpeg-turbo's full decode alone, for 1000 images."""
    import numpy as np

    from ffcv import _core

    jpegs = [np.fromfile(path, np.uint8) for path in source.files]
    turns = []
    for _ in range(4):  # the first warms up
        begin = cpu_seconds()
        for jpeg in jpegs:
            _core.decode_jpeg(jpeg, _core.JpegEngine.libjpeg)
        turns.append((cpu_seconds() - begin) / len(jpegs) * 1000)
    return statistics.median(turns[1:])


def run_apart(system: str, workload: str, source: Source, threads: int, folder: str | None) -> dict[str, float]:
    """In a process of its own, with what is installed in `folder` before anything else."""
    job = json.dumps([system, workload, str(source.folder), threads])
    environment, options = dict(os.environ), []
    if folder:  # -S: an editable installation of ours would come before any folder
        options = ["-S"]
        paths = [folder, os.environ.get("PYTHONPATH"), sysconfig.get_path("purelib")]
        environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    command = [sys.executable, *options, __file__, "--job", job]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if result.returncode:
        raise SystemExit(f"{system} {workload} failed:\n{result.stderr}")
    return json.loads(result.stdout.splitlines()[-1])


def plan(systems: list[str], workload: str) -> dict[str, str]:
    """What each system does beside ours: who has no such files reads JPEGs, so that both meet the same minutes."""
    jpeg, _, raw = workload.partition(" ")
    names = {system: workload if workload in SYSTEMS[system] else jpeg for system in systems}
    return {
        system: name
        for system, name in names.items()
        if name in SYSTEMS[system] and not (raw and system == "ours_plain")
    }


def show(results: dict[str, dict[str, dict[str, float]]], floor_cpu: float) -> None:
    """The table; the last column is the time over the floor, which nobody who decodes with libjpeg-turbo goes below."""
    from rich.console import Console
    from rich.table import Table

    table = Table("workload", "system", "images/s", "CPU s / 1000 images", "CPU, times ours", "CPU over the floor")
    for workload, systems in results.items():
        for system, row in systems.items():
            ratio = row["cpu_s_per_1000"] / systems["ours"]["cpu_s_per_1000"] if "ours" in systems else float("nan")
            cpu = f"{row['cpu_s_per_1000']:.2f}"
            over = "" if "raw" in workload else f"{row['cpu_s_per_1000'] - floor_cpu:+.2f}"
            table.add_row(workload, system, f"{row['images_per_s']:.0f}", cpu, f"{ratio:.1f}", over)
    Console().print(table)
    print(f"The floor: libjpeg-turbo's full decode alone takes {floor_cpu:.2f} CPU s / 1000 images")


def main() -> None:
    parser = new_parser(__doc__, data=True, images=500, turns=5)
    parser.add_argument("--systems", nargs="+", default=list(DEFAULT_SYSTEMS), choices=list(SYSTEMS))
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS), choices=list(WORKLOADS))
    parser.add_argument("--path", nargs="+", default=[], metavar="SYSTEM=DIR", help="where a system is installed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--longer-side", type=int, default=512, help="of the re-encoded images, in pixels")
    parser.add_argument("--json", type=Path, help="where to save the figures")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        system, workload, folder, threads = json.loads(arguments.job)
        print(json.dumps(measure(system, workload, Source(Path(folder)), threads)))
        return

    folders = dict(pair.split("=", 1) for pair in arguments.path)
    results: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        source = prepare(arguments.data, Path(folder), arguments.longer_side, arguments.images)
        print(f"{len(source.files)} images an epoch, {arguments.threads} threads, median of {arguments.turns} turns")
        for workload in arguments.workloads:
            names = plan(arguments.systems, workload)
            if missing := [system for system in arguments.systems if system not in names]:
                print(f"{workload}: not done by {', '.join(missing)}")
            turns: dict[str, list[dict[str, float]]] = {system: [] for system in names}
            for _ in range(arguments.turns):
                for system, name in names.items():
                    row = run_apart(system, name, source, arguments.threads, folders.get(system))
                    turns[system].append(row)
            results[workload] = {
                system: {key: statistics.median(row[key] for row in rows) for key in rows[0]}
                for system, rows in turns.items()
            }
        floor_cpu = floor(source)
    show(results, floor_cpu)
    if arguments.json:
        machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        arguments.json.write_text(
            json.dumps({"machine": machine, "floor_cpu_s_per_1000": floor_cpu, "results": results}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
