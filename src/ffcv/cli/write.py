"""`ffcv write` and `ffcv merge`: a source becomes one or several `.beton` files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import typer
from rich.console import Console

from ffcv._words import counted
from ffcv.cli.progress import progress_bar
from ffcv.cli.select import select
from ffcv.data import BetonSource, ImageReader, Source, open_source
from ffcv.data.source import LabelledImages
from ffcv.errors import SourceError, storable
from ffcv.fields import Field, RGBImageField
from ffcv.fields.rgb_image import WriteMode
from ffcv.format import VERSION
from ffcv.writer import MAX_LISTED, DatasetWriter

_LISTED = 20
"""Skipped samples that are printed one by one."""


@dataclass(frozen=True)
class WriteOptions:
    """The options of `ffcv write`; see its `--help`."""

    max_resolution: int | None = None
    quality: int | None = None
    write_mode: str | None = None
    smart_threshold: int | None = None
    compress_probability: float | None = None
    workers: int = -1
    shuffle: int | None = None
    on_error: str = "raise"
    exif_orientation: bool = False
    restart_markers: bool = False
    entry_points: bool = True
    shards: int = 1
    select: str | None = None
    where: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    custom_fields: Mapping[str, type[Field]] = field(default_factory=dict)

    def check(self) -> None:
        """Raises `typer.BadParameter` for options that contradict each other."""
        mode = self.write_mode
        if mode is not None and mode not in get_args(WriteMode):
            raise typer.BadParameter(
                f"{mode!r} is not one of {', '.join(get_args(WriteMode))}", param_hint="--write-mode"
            )
        if self.smart_threshold is not None and mode != "smart":
            raise typer.BadParameter("goes with --write-mode smart", param_hint="--smart-threshold")
        if self.smart_threshold is None and mode == "smart":
            raise typer.BadParameter("needs --smart-threshold BYTES", param_hint="--write-mode smart")
        if self.compress_probability is not None and mode != "proportion":
            raise typer.BadParameter("goes with --write-mode proportion", param_hint="--compress-probability")
        if self.on_error not in ("raise", "skip"):
            raise typer.BadParameter(f"{self.on_error!r} is not one of raise, skip", param_hint="--on-error")
        for given, option in ((self.restart_markers, "--restart-markers"), (self.quality is not None, "--quality")):
            if given and mode == "raw":
                raise typer.BadParameter("goes with JPEGs, so not with --write-mode raw", param_hint=option)

    @property
    def encodes_again(self) -> bool:
        return self.write_mode is not None or self.quality is not None

    def images(self) -> ImageReader:
        return ImageReader(not self.encodes_again, self.exif_orientation, self.max_resolution)

    def encoding(self) -> dict[str, Any]:
        """The image field's arguments; lossless without options."""
        mode = self.write_mode
        if mode is None:
            mode = "raw" if self.max_resolution is None and self.quality is None else "jpg"
        given = {
            "max_resolution": self.max_resolution,
            "jpeg_quality": self.quality,
            "smart_threshold": self.smart_threshold,
            "compress_probability": self.compress_probability,
            "restart_markers": self.restart_markers or None,
        }
        return {"write_mode": mode, **{name: value for name, value in given.items() if value is not None}}

    def manifest(self) -> dict[str, Any]:
        """What the file keeps about how it was made."""
        chosen = ("select", "where", "shuffle", "shards", "on_error", "image_column", "label_column")
        changed = {name: value for name in chosen if (value := getattr(self, name)) != getattr(WriteOptions, name)}
        turned = {"exif_orientation": True} if self.exif_orientation else {}
        return {"encoding": self.encoding() | turned, **({"options": changed} if changed else {})}


def write(source: str, out: Path, options: WriteOptions) -> None:
    """Converts `source` to `out`."""
    options.check()
    dataset = open_source(
        source, options.images(), options.image_column, options.label_column, custom_fields=options.custom_fields
    )
    write_source(dataset, out, options, options.manifest())


def merge(files: Sequence[Path], out: Path, overwrite: bool, custom_fields: Mapping[str, type[Field]]) -> None:
    """Writes the samples of several files into one, as they are stored.

    A file that is there is not replaced unasked: OUT is one of those to merge where it was forgotten,
    `ffcv merge *.beton`.
    """
    if any(out.resolve() == file.resolve() for file in files):
        raise typer.BadParameter(f"{out} is one of the files to merge; choose another name", param_hint="OUT")
    if out.is_file() and not overwrite:
        raise SourceError(f"{out}: is there already; give another name for OUT, or --overwrite to replace it")
    write_source(BetonSource(files, custom_fields=custom_fields), out, WriteOptions(), {})


def write_source(dataset: Source, out: Path, options: WriteOptions, manifest: Mapping[str, Any]) -> None:
    """Writes a source to `out`, or to as many shards as asked for; `manifest` is kept beside what the source says."""
    chosen = _choose(dataset, options)
    parts = np.array_split(chosen, options.shards)
    if not len(parts[-1]):
        raise SourceError(f"{len(chosen):,} samples are not enough for {options.shards} shards")
    if options.on_error == "raise" and dataset.bad:
        for index in chosen.tolist():
            if index in dataset.bad:
                raise SourceError(dataset.bad[index])
    paths = [out]
    if options.shards > 1:
        names = (f"{out.stem}-{number:05d}-of-{options.shards:05d}{out.suffix}" for number in range(options.shards))
        paths = [out.with_name(name) for name in names]
    for path in paths:
        _check_target(path)
    notes = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    for remark in dataset.remarks:
        notes.print(f"{storable(dataset.name)}: {remark}")
    skipped = 0
    for path, indices in zip(paths, parts, strict=True):
        skipped += _write_file(dataset, path, indices, options, manifest)
    if skipped:
        listed = "" if skipped <= MAX_LISTED else f" (the first {MAX_LISTED:,} of each file)"
        notes.print(f"{skipped:,} of {len(chosen):,} samples were left out; the file's manifest lists them{listed}")


def _check_target(path: Path) -> None:
    """Refuses to replace a file of another kind, which OUT is where it was forgotten: `ffcv write *.parquet`."""
    if path.is_file() and path.stat().st_size:
        with path.open("rb") as file:
            if file.read(2) != VERSION.to_bytes(2, "little"):
                raise SourceError(f"{path}: is there, and is no .beton file; give another name, or remove it first")


def _choose(dataset: Source, options: WriteOptions) -> np.ndarray:
    """The indices of the samples to write, in order."""
    chosen = np.array(select(options.select, len(dataset)), dtype=np.int64)
    if options.where is not None:
        name, equals, values = options.where.partition("=")
        if not equals or not isinstance(dataset, BetonSource):
            raise typer.BadParameter("is FIELD=VALUE[,VALUE...], for .beton files", param_hint="--where")
        try:
            wanted = [float(value) if "." in value else int(value) for value in values.split(",")]
        except ValueError:
            raise typer.BadParameter(f"{values!r} are not numbers", param_hint="--where") from None
        chosen = chosen[np.isin(dataset.column(name)[chosen], wanted)]
    if options.shuffle is not None:
        chosen = np.random.default_rng(options.shuffle).permutation(chosen)
    if not len(chosen):
        raise SourceError(f"{dataset.name}: no sample is selected")
    return chosen


def _write_file(
    dataset: Source, path: Path, indices: np.ndarray, options: WriteOptions, manifest: Mapping[str, Any]
) -> int:
    """Writes one file; returns how many samples were skipped."""
    on_error: Literal["raise", "skip"] = "skip" if options.on_error == "skip" else "raise"
    with progress_bar("samples") as progress:
        task = progress.add_task(f"Writing {path.name}", total=len(indices))
        fields = dataset.fields(RGBImageField(**options.encoding(), entry_points=options.entry_points))
        writer = DatasetWriter(
            str(path),
            fields,
            num_workers=options.workers,
            backend="thread",  # reading and (de)compressing release the interpreter's lock
            manifest={**dataset.manifest(), **manifest, "package": _package()},
            on_progress=lambda done, _: progress.update(task, completed=done),
            on_error=on_error,
        )
        writer.from_indexed_dataset(dataset, indices, chunksize=16)
    report = Console(stderr=True)
    for index, error in writer.skipped[:_LISTED]:
        report.print(f"skipped sample {index}: {error}", highlight=False, markup=False, soft_wrap=True)
    if len(writer.skipped) > _LISTED:
        report.print(f"... and {len(writer.skipped) - _LISTED:,} more", highlight=False)
    written = len(indices) - len(writer.skipped)
    classes = "" if dataset.classes is None else f" of {counted(len(dataset.classes), 'class')}"
    if isinstance(dataset, LabelledImages) and dataset.labels is None:
        classes = ", no labels"
    what = "image" if any(isinstance(each, RGBImageField) for each in fields.values()) else "sample"
    Console().print(
        f"{path}: {counted(written, what)}{classes}, {path.stat().st_size / 2**20:,.1f} MiB",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    return len(writer.skipped)


def _package() -> str:
    from importlib.metadata import version

    return f"ffcv-ssl {version('ffcv-ssl')}"
