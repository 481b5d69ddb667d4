"""Fuzzes files and images for a while: `make fuzz SECONDS=600` (with sanitizers), or

    python tests/fuzz/fuzz.py --seconds 60

A child process works; this one watches. When the child dies or takes too long over one input, the input is kept in
tests/fuzz/reproducers, where `tests/fuzz/test_fuzz.py` tries it ever after.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
if "FFCV_FUZZ_PACKAGE" in os.environ:  # the sanitizers' build, in place of the installed one
    sys.meta_path = [finder for finder in sys.meta_path if "Redirecting" not in type(finder).__name__]
    sys.path.insert(0, os.environ["FFCV_FUZZ_PACKAGE"])
sys.path.insert(0, str(HERE))

INPUT_TIMEOUT_S = 30


def work(folder: Path, seconds: float, seed: int, golden: Path | None) -> None:
    """The child: inputs until time is up. Writes each to `folder/current.*` before it is tried."""
    import faulthandler

    import numpy as np
    from harness import exercise_file, exercise_jpeg, mutate_file, mutate_jpeg, seed_jpegs, write_seed_files
    from images import exercise_image, seed_images

    rng = np.random.default_rng(seed)
    files = write_seed_files(folder)
    files += sorted(golden.glob("*.beton")) if golden is not None and golden.is_dir() else []
    contents, jpegs = [np.fromfile(path, np.uint8) for path in files], seed_jpegs()
    images = seed_images()
    kinds = ("files", "jpegs", "images")
    counts = {f"{kind}{state}": 0 for kind in kinds for state in ("", " accepted")}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        faulthandler.dump_traceback_later(INPUT_TIMEOUT_S, exit=True)
        if rng.random() < 0.3:
            path = folder / "current.beton"
            mutate_file(contents[int(rng.integers(len(contents)))], rng).tofile(path)
            counts["files"] += 1
            counts["files accepted"] += exercise_file(path)
            path.unlink()
        elif rng.random() < 0.2:
            path = folder / "current.img"
            for _ in range(20):
                data = mutate_jpeg(images[int(rng.integers(len(images)))], rng)
                data.tofile(path)
                counts["images"] += 1
                counts["images accepted"] += exercise_image(data.tobytes())
            path.unlink()
        else:
            path = folder / "current.jpg"
            for _ in range(20):
                data = mutate_jpeg(jpegs[int(rng.integers(len(jpegs)))], rng)
                data.tofile(path)
                counts["jpegs"] += 1
                counts["jpegs accepted"] += exercise_jpeg(data)
            path.unlink()
        (folder / "counts.json").write_text(json.dumps(counts))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--golden", type=Path, default=HERE.parents[2] / "shared" / "golden")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    seed = int(time.time()) if arguments.seed is None else arguments.seed
    if arguments.child:
        work(arguments.child, arguments.seconds, seed, arguments.golden)
        return 0
    totals: dict[str, int] = {}
    findings = 0
    start = time.monotonic()
    while (left := arguments.seconds - (time.monotonic() - start)) > 0:
        with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as temporary:
            command = [sys.executable, __file__, "--child", temporary, "--seconds", str(left), "--seed", str(seed)]
            run = subprocess.run(
                [*command, "--golden", str(arguments.golden)], capture_output=True, text=True, check=False
            )
            counts = Path(temporary, "counts.json")
            if counts.exists():
                for key, value in json.loads(counts.read_text()).items():
                    totals[key] = totals.get(key, 0) + value
            if run.returncode:
                findings += 1
                print(f"seed {seed}: {run.stderr[-6000:]}", flush=True)
                for current in Path(temporary).glob("current.*"):
                    kept = HERE / "reproducers" / f"{seed}{current.suffix}.gz"
                    kept.write_bytes(gzip.compress(current.read_bytes()))  # files are mostly zeros
                    print(f"kept {kept}", flush=True)
                if not totals:
                    return 1  # it does not even start
        seed += 1
    summary = ", ".join(f"{value:,} {key}" for key, value in totals.items())
    print(f"{time.monotonic() - start:.0f} s: {summary}; {findings} findings")
    return findings > 0


if __name__ == "__main__":
    sys.exit(main())
