"""What the loader costs beyond the engine, how much memory a process takes, and how fast an epoch starts.

    python benchmarks/loader.py                 everything; the photographs of ../shared/data, or scikit-learn's two
    python benchmarks/loader.py overhead --turns 7
    python benchmarks/loader.py memory start

overhead: an epoch through `Loader` over the same batches rendered by `Plan.render` alone (the engine: drawing
parameters, decoding, rendering), for two 224 views of photographs and for one 32x32 crop of CIFAR-like raw images: in
time, and in CPU seconds of all threads, which other work on the machine disturbs less. Turns alternate; the figures are
medians of the ratios. memory: the peak resident set of a process of its own that iterates P2 (two 224 views, batch 256,
2 threads, torch imported). start: a file of ten million samples.
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

import numpy as np

from ffcv import DatasetWriter, Loader
from ffcv.fields import IntField, RGBImageField
from ffcv.pipeline.steps import BatchKey
from ffcv.transforms import (
    NormalizeImage,
    RandomColorJitter,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomSolarization,
    ToTensor,
    ToTorchImage,
)

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "tests")]
from options import new_parser  # noqa: E402
from small_files import write_many  # noqa: E402
from workloads import MEAN, STD, prepare  # noqa: E402

THREADS = 2
DTYPES = ("uint8", "float16", "float32")


def simclr(dtype: type, *more: object) -> list:
    first = [RandomResizedCrop((224, 224)), RandomHorizontalFlip(0.5), RandomColorJitter(0.8, 0.4, 0.4, 0.2, 0.1)]
    last = [] if dtype is np.uint8 else [NormalizeImage(MEAN, STD, dtype)]
    return [*first, RandomGrayscale(0.2), *more, *last, ToTensor(), ToTorchImage()]


def large(path: str, batch_size: int, dtype: type = np.float32, **options: object) -> Loader:
    return Loader(
        path,
        batch_size,
        shuffle=True,
        seed=0,
        num_workers=THREADS,
        pipelines={"image": simclr(dtype), "image2": simclr(dtype, RandomSolarization(0.2, 128)), "label": None},
        custom_field_mapper={"image2": "image"},
        **options,  # type: ignore[arg-type]
    )


def small(path: str, batch_size: int) -> Loader:
    view = [RandomResizedCrop((32, 32)), RandomHorizontalFlip(0.5), ToTensor(), ToTorchImage()]
    return Loader(path, batch_size, shuffle=True, seed=0, num_workers=THREADS, pipelines={"image": view, "label": None})


class RandomImages:
    """CIFAR-like: raw 32x32 images."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return np.random.default_rng(index).integers(0, 256, (32, 32, 3), np.uint8), index


def clocks() -> np.ndarray:
    """Time and CPU time of this process, in seconds."""
    return np.array([time.perf_counter(), time.process_time()])


def through_loader(loader: Loader) -> np.ndarray:
    loader.set_epoch(0)
    began = clocks()
    for batch in loader:
        del batch
    return clocks() - began


def engine_alone(loader: Loader) -> np.ndarray:
    """The same batches, one after the other, in this thread."""
    order = loader.traversal_order.sample_order(0)
    batches = [order[i : i + loader.batch_size] for i in range(0, len(loader) * loader.batch_size, loader.batch_size)]
    maker = loader._maker()
    began = clocks()
    for number, samples in enumerate(batches):
        prepared = maker.plan.prepare(BatchKey(samples, 0, number))
        batch = maker.plan.render(prepared, maker.renderer, maker.slots.allocate)
        del batch
    return clocks() - began


def overhead(name: str, loader: Loader, turns: int) -> None:
    through_loader(loader), engine_alone(loader)
    pairs = [(through_loader(loader), engine_alone(loader)) for _ in range(turns)]
    elapsed, cpu = 100 * (np.median([whole / engine for whole, engine in pairs], axis=0) - 1)
    images = len(loader) * loader.batch_size
    best = statistics.median(engine[0] for _, engine in pairs)
    print(
        f"overhead {name:28} {elapsed:+5.1f} % time, {cpu:+5.1f} % CPU   (engine alone: {images / best:.0f} images/s)",
        flush=True,
    )


def peak_of_this_process() -> float:
    """In MiB; unlike `getrusage`, whose figure begins with that of the process that started this one."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def peak_mib(path: str, batch_size: int, dtype: str, batches_ahead: int) -> None:
    """Of this process, which must be a fresh one: before the loader, one batch, at the end."""
    import torch

    assert torch.__version__
    before = peak_of_this_process()
    loader = large(path, batch_size, np.dtype(dtype).type, batches_ahead=batches_ahead)
    size = 0.0
    for epoch in range(3):
        for batch in loader:  # as users write it: the loop holds a batch until it has the next
            size = sum(view.nbytes for view in batch) / 2**20
            if epoch == 1:
                time.sleep(0.5)  # a training step: what may be made ahead is made
    print(json.dumps([before, size, peak_of_this_process()]))


def memory(path: str, batch_size: int, dtypes: list[str]) -> None:
    for dtype in dtypes:
        for ahead in (3, 1):
            command = [sys.executable, __file__, "--peak", json.dumps([path, batch_size, dtype, ahead])]
            result = subprocess.run(command, capture_output=True, text=True, check=True)
            before, size, after = json.loads(result.stdout.splitlines()[-1])
            print(
                f"memory   P2 {dtype:8} batches_ahead={ahead}: peak {after:.0f} MiB: before the loader {before:.0f}, "
                f"batches {(after - before) / size:.2f} x {size:.0f}",
                flush=True,
            )


def start(folder: Path, samples: int) -> None:
    path = write_many(folder / "many.beton", samples)
    began = time.perf_counter()
    loader = Loader(path, 256, shuffle=True, seed=1, num_workers=THREADS)
    made = time.perf_counter()
    iterator = iter(loader)
    started = time.perf_counter()
    next(iterator)
    first = time.perf_counter()
    print(
        f"start    {samples:,} samples: constructed in {made - began:.3f} s, __iter__ in "
        f"{1000 * (started - made):.2f} ms, first batch after {1000 * (first - started):.1f} ms"
    )
    iterator.close()


def main() -> None:
    parser = new_parser(__doc__, data=True, images=1024, turns=5)
    parser.add_argument("what", nargs="*", default=["overhead", "memory", "start"])
    parser.add_argument("--samples", type=int, default=10_000_000, help="of the file of start (%(default)s)")
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES), choices=DTYPES, help="of memory")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        peak_mib(*json.loads(arguments.peak))
        return

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if {"overhead", "memory"} & set(arguments.what):
            source = prepare(arguments.data, folder, 512, arguments.images)
            photos = str(source.beton)
        if "overhead" in arguments.what:
            tiny = folder / "tiny.beton"
            fields = {"image": RGBImageField("raw"), "label": IntField()}
            DatasetWriter(tiny, fields, num_workers=THREADS).from_indexed_dataset(RandomImages(20 * arguments.images))
            batch = min(64, arguments.images)
            overhead(f"two 224 views, batch {batch}", large(photos, batch), arguments.turns)
            overhead("two 224 views, os_cache=False", large(photos, batch, os_cache=False), arguments.turns)
            overhead("one 32x32 view, batch 256", small(str(tiny), 256), arguments.turns)
        if "memory" in arguments.what:
            memory(photos, min(256, arguments.images), arguments.dtypes)
        if "start" in arguments.what:
            start(folder, arguments.samples)


if __name__ == "__main__":
    main()
