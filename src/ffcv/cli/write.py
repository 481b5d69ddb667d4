"""`ffcv write`: an image folder becomes a `.beton` file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from ffcv.data.folder import ImageFolder, class_manifest
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.rgb_image import WriteMode
from ffcv.writer import DatasetWriter


class RateColumn(ProgressColumn):
    """Images a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("-- images/s" if speed is None else f"{speed:,.0f} images/s")


def write(
    folder: Path,
    out: Path,
    max_resolution: int | None,
    quality: int | None,
    write_mode: str | None,
    smart_threshold: int | None,
    compress_probability: float | None,
    workers: int,
) -> None:
    """Converts `folder` to `out`; see `ffcv write --help` for the arguments."""
    if write_mode is not None and write_mode not in get_args(WriteMode):
        raise typer.BadParameter(
            f"{write_mode!r} is not one of {', '.join(get_args(WriteMode))}", param_hint="--write-mode"
        )
    if smart_threshold is not None and write_mode != "smart":
        raise typer.BadParameter("goes with --write-mode smart", param_hint="--smart-threshold")
    if smart_threshold is None and write_mode == "smart":
        raise typer.BadParameter("needs --smart-threshold BYTES", param_hint="--write-mode smart")
    if compress_probability is not None and write_mode != "proportion":
        raise typer.BadParameter("goes with --write-mode proportion", param_hint="--compress-probability")
    encoding = _encoding(max_resolution, quality, write_mode)
    if smart_threshold is not None:
        encoding["smart_threshold"] = smart_threshold
    if compress_probability is not None:
        encoding["compress_probability"] = compress_probability

    dataset = ImageFolder(folder, passthrough=write_mode is None and quality is None)
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(f"Writing {out.name}", total=len(dataset))
        writer = DatasetWriter(
            str(out),
            {"image": RGBImageField(**encoding), "label": IntField()},
            num_workers=workers,
            backend="thread",  # reading and (de)compressing release the interpreter's lock
            manifest={**class_manifest(dataset), "encoding": encoding},
            on_progress=lambda done, _: progress.update(task, completed=done),
        )
        writer.from_indexed_dataset(dataset, chunksize=16)
    Console().print(
        f"{out}: {len(dataset):,} images of {len(dataset.classes):,} classes, {out.stat().st_size / 2**20:,.1f} MiB",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _encoding(max_resolution: int | None, quality: int | None, write_mode: str | None) -> dict[str, Any]:
    """The image field's arguments for the options given; lossless without options."""
    if write_mode is None:
        write_mode = "raw" if max_resolution is None and quality is None else "jpg"
    encoding: dict[str, Any] = {"write_mode": write_mode}
    if max_resolution is not None:
        encoding["max_resolution"] = max_resolution
    if quality is not None:
        encoding["jpeg_quality"] = quality
    return encoding
