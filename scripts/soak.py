"""Iterates 10,000 batches of images and fails if memory grows by 1 MiB or more: `make soak`, a few minutes."""

import gc
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from datasets import write_photos
from ffcv import Loader
from ffcv.transforms import RandomHorizontalFlip, RandomResizedCrop, ToTensor, ToTorchImage

BATCHES = 10_000


def resident_kib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def main() -> None:
    if os.environ.get("MALLOC_ARENA_MAX") != "1":  # or what threads' arenas keep would pass for growth
        os.execve(sys.executable, [sys.executable, __file__], os.environ | {"MALLOC_ARENA_MAX": "1"})
    with tempfile.TemporaryDirectory() as folder:
        path = write_photos(Path(folder) / "photos.beton", 64)
        view = [RandomResizedCrop((64, 64)), RandomHorizontalFlip(0.5), ToTensor(), ToTorchImage()]
        pipelines = {"image": view, "image2": view}
        for os_cache in (True, False):
            loader = Loader(
                path,
                8,
                shuffle=True,
                seed=1,
                os_cache=os_cache,
                pipelines=pipelines,
                custom_field_mapper={"image2": "image"},
            )
            seen, before = 0, 0
            while seen < BATCHES + 400:
                for _ in loader:
                    seen += 1
                if seen == 400:
                    gc.collect()
                    before = resident_kib()
            gc.collect()
            growth = resident_kib() - before
            print(f"os_cache={os_cache}: {seen - 400} batches, resident memory {growth:+d} KiB", flush=True)
            loader.close()
            if growth >= 1024:
                raise SystemExit("memory grows")


if __name__ == "__main__":
    main()
