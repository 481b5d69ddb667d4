"""`ffcv bench`: what this machine will deliver from a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ffcv import _core
from ffcv._words import counted
from ffcv.cli import augment
from ffcv.cli.measure import LIMITS, Measured, Rate, Work, measure, most_of
from ffcv.cli.progress import progress_bar
from ffcv.cores import available_cores
from ffcv.errors import FfcvError, storable
from ffcv.fields import Field
from ffcv.fields.rgb_image import IMAGE_MODES
from ffcv.reader import Reader
from ffcv.transforms import CenterCrop, RandomResizedCrop, ToTensor, ToTorchImage

BATCH_SIZE = 256


@dataclass(frozen=True)
class BenchOptions:
    """The command's options; see its `--help`."""

    workers: int = -1
    batch_size: int | None = None
    seconds: float = 1.0
    recipe: str | None = None
    field: str | None = None


def bench(file: Path, options: BenchOptions, as_json: bool, custom_fields: Mapping[str, type[Field]]) -> None:
    """Measures, and prints a table, or one JSON object.

    Raises:
        FfcvError, OSError: The file does not open, has no images, or one that cannot be decoded.
    """
    reader = Reader(file, custom_fields)
    field = augment.image_field(reader, options.field)
    if not reader.num_samples:
        raise FfcvError(f"{reader.path}: has no samples")
    works = _works(reader, field, options)
    indices = most_of(reader, field)
    batch_size = options.batch_size or min(BATCH_SIZE, -(-len(indices) // 8))
    most = available_cores() if options.workers < 1 else options.workers
    threads = sorted({*(2**power for power in range(most.bit_length()) if 2**power < most), most})
    results: list[Measured] = []
    with progress_bar("measurements") as progress:
        for work, count in progress.track(
            [(work, count) for work in works for count in reversed(threads)], description="Measuring"
        ):
            is_first = count == most  # the only ones for which the file is made cold
            results.append(measure(reader, field, work, indices, batch_size, count, options.seconds, is_first))
    results.sort(key=lambda result: ([work.name for work in works].index(result.work.name), result.threads))
    facts = _facts(reader, field, indices) | {"batch_size": batch_size, "seconds": options.seconds}
    if as_json:
        print(json.dumps(facts | {"results": [_as_json(result) for result in results]}, indent=2))
    else:
        _print(facts, results, most)


def _works(reader: Reader, field: str, options: BenchOptions) -> list[Work]:
    """What is measured, from the least to the most."""
    side = augment.side_of(reader, field)
    size, plain = (side, side), [ToTensor(), ToTorchImage()]
    simclr = augment.simclr(side)
    works = [
        Work("read", "reading", []),
        Work("centre", f"centre crop at {side}", [[CenterCrop(size, 224 / 256), *plain]]),
        Work("crop", f"random crop at {side}", [[RandomResizedCrop(size), *plain]]),
        Work("simclr", simclr.title, simclr.pipelines),
    ]
    if options.recipe is not None:
        recipe = augment.of_recipe("bench", options.recipe, Path(reader.path))
        works.append(Work("recipe", recipe.title, recipe.pipelines))
    return works


def _facts(reader: Reader, field: str, indices: np.ndarray) -> dict[str, Any]:
    """What was measured, and on what, as JSON values."""
    column = reader.rows(0, len(indices))[field]
    return {
        "path": storable(reader.path),
        "num_samples": reader.num_samples,
        "measured_images": len(indices),
        "measured_bytes": int(reader.sizes(column["data_ptr"]).sum()),
        "median_size": [int(np.median(column["width"])), int(np.median(column["height"]))],
        "jpeg_share": float(np.mean(column["mode"] == IMAGE_MODES["jpg"])),
        "checksums": reader.checksums is not None,
        "entry_points": reader.largest_entry_points > 0,
        "kernels": _core.isa(),
        "cores": available_cores(),
    }


def _as_json(result: Measured) -> dict[str, Any]:
    def rate(found: Rate | None) -> dict[str, Any] | None:
        if found is None:
            return None
        return {
            "images": found.images,
            "images_per_s": round(found.images_per_s, 1),
            "cpu_ms_per_image": round(found.cpu_ms_per_image, 4),
            "threads_busy": round(found.threads_busy, 3),
        }

    return {
        "what": result.work.name,
        "title": result.work.title,
        "threads": result.threads,
        "first_epoch": rate(result.first),
        "later": rate(result.later),
        "limit": result.later.limit,
    }


def _print(facts: dict[str, Any], results: list[Measured], most: int) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160  # a file has room for every number of threads
    extras = ["checksums" if facts["checksums"] else "no checksums"] + ["entry points"] * facts["entry_points"]
    width, height = facts["median_size"]
    console.print(
        f"{facts['path']}: measured {facts['measured_images']:,} of {counted(facts['num_samples'], 'image')}, "
        f"{facts['measured_bytes'] / 2**20:,.1f} MiB, {facts['jpeg_share']:.0%} JPEG, median {width} x {height}; "
        f"{', '.join(extras)}",
        soft_wrap=True,
        markup=False,
    )
    console.print(
        f"{counted(facts['cores'], 'core')}, kernels {facts['kernels']}, batches of {facts['batch_size']}, "
        f"{facts['seconds']:g} s each",
        soft_wrap=True,
        markup=False,
    )
    console.print(_table(results, most))
    limits = sorted({result.later.limit for result in results if result.threads == most})
    console.print(
        f"first epoch: on {counted(most, 'thread')}, after the system was asked to drop the images from its page cache"
        "\n"
        "CPU, busy (share of the time that the threads compute), limit: of later epochs, on as many\n"
        + "\n".join(f"limit {limit}: {LIMITS[limit]}" for limit in limits),
        soft_wrap=True,
        markup=False,
        style="dim",
    )


def _table(results: list[Measured], most: int) -> Table:
    """A row a work; the columns of one number of threads are those of the most."""
    threads = sorted({result.threads for result in results})
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("images/s", no_wrap=True)
    for heading in (*(counted(count, "thread") for count in threads), "first\nepoch", "CPU ms\nan image", "busy"):
        table.add_column(heading, justify="right", vertical="bottom")
    table.add_column("limit")
    for last in (result for result in results if result.threads == most):
        rates = {result.threads: result.later.images_per_s for result in results if result.work.name == last.work.name}
        first = "" if last.first is None else f"{last.first.images_per_s:,.0f}"
        numbers = (*(f"{rates[count]:,.0f}" for count in threads), first, f"{last.later.cpu_ms_per_image:.3f}")
        table.add_row(Text(last.work.title), *numbers, f"{last.later.threads_busy:.0%}", last.later.limit)
    return table
