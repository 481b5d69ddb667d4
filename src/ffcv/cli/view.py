"""`ffcv view`: a picture of what a training will see."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import typer
from PIL import Image
from rich.console import Console

from ffcv import _core
from ffcv._atomic_file import atomic_file
from ffcv._words import counted
from ffcv.cli import augment
from ffcv.cli.captions import caption
from ffcv.cli.sheet import PICTURE, Box, Picture, Row, Sheet, View
from ffcv.data.beton import read_manifest, read_value
from ffcv.errors import DecodeError, FfcvError, FormatError, message_of, storable
from ffcv.fields import Field, IntField
from ffcv.fields.rgb_image import IMAGE_MODES
from ffcv.loader import Loader
from ffcv.pipeline.plan import SampleError
from ffcv.reader import Reader
from ffcv.transforms import NormalizeImage

SAMPLES, PLAIN_SAMPLES = 6, 36
"""Drawn where nothing else is asked for; the latter without views."""


@dataclass(frozen=True)
class ViewOptions:
    """The command's options; see its `--help`."""

    samples: int | None = None
    indices: tuple[str, ...] = ()
    views: int | None = None
    recipe: str | None = None
    plain: bool = False
    seed: int = 0
    epoch: int = 0
    field: str | None = None

    def check(self) -> None:
        """Raises `typer.BadParameter` for options that contradict each other."""
        if self.plain and (self.recipe is not None or self.views is not None):
            raise typer.BadParameter("draws no views: leave --recipe and --views out", param_hint="--plain")
        if self.indices and self.samples is not None:
            raise typer.BadParameter("already says which samples: leave --samples out", param_hint="--indices")


def view(file: Path, out: Path, options: ViewOptions, custom_fields: Mapping[str, type[Field]]) -> None:
    """Draws samples of `file` and their views, and writes the sheet to `out`.

    Raises:
        FfcvError, OSError: The file does not open, has no such field or samples, or one that cannot be decoded; `out`
            cannot be written.
    """
    options.check()
    kind = _format_of(out)
    reader = Reader(file, custom_fields)
    field = augment.image_field(reader, options.field)
    indices = _choose(reader, options)
    try:
        rows, title = _rows(reader, field, indices, options, custom_fields)
    except DecodeError as error:
        raise FormatError(
            f"{_told(error, reader, field)}; choose others with --indices, and list all bad ones with "
            f"'ffcv verify {reader.path} --decode'"
        ) from error
    heading = f"{storable(Path(reader.path).name)}: {len(indices):,} of {counted(reader.num_samples, 'sample')}{title}"
    sheet = Sheet(heading, rows)
    size = f"{sheet.image.width} x {sheet.image.height} pixels"
    with atomic_file(out) as target:
        try:
            sheet.image.save(target, kind)
        except (OSError, ValueError) as error:  # WebP and JPEG bound the sides
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise FfcvError(
                f"{out}: a sheet of {size} cannot be written as {kind} ({message_of(error)}): write a .png, or fewer "
                "samples"
            ) from error
    Console().print(f"{out}: {size}; {heading}", highlight=False, markup=False, soft_wrap=True)


def _format_of(out: Path) -> str:
    """Pillow's name of the format that the file's name asks for."""
    kind = Image.registered_extensions().get(out.suffix.lower(), "")
    if kind not in Image.SAVE:
        raise FfcvError(f"{out}: a picture is written as .png, .jpg or .webp; got {out.suffix!r}")
    return kind


def _choose(reader: Reader, options: ViewOptions) -> list[int]:
    """The samples to draw: those asked for, or spread evenly over the file, so that sorted classes all have a turn."""
    count = reader.num_samples
    if not count:
        raise FfcvError(f"{reader.path}: has no samples")
    if not options.indices:
        number = options.samples or (PLAIN_SAMPLES if options.plain else SAMPLES)
        return np.unique(np.linspace(0, count - 1, min(number, count)).round().astype(int)).tolist()
    words = [word for given in options.indices for word in re.split(r"[,\s]+", given.strip()) if word]
    if not words:
        raise FfcvError(f"{reader.path}: --indices names no sample; its samples are 0 to {count - 1:,}")
    for word in words:
        if not re.fullmatch(r"\d+", word) or int(word) >= count:
            raise FfcvError(f"{reader.path}: --indices {word}: its samples are 0 to {count - 1:,}")
    return [int(word) for word in words]


def _rows(
    reader: Reader, field: str, indices: list[int], options: ViewOptions, custom_fields: Mapping[str, type[Field]]
) -> tuple[list[Row], str]:
    """The sheet's rows, and what to call the views, empty without any."""
    classes = (read_manifest(reader) or {}).get("classes") or []
    pictures = [_picture(reader, field, index, classes) for index in indices]
    if options.plain:
        return [Row(picture, []) for picture in pictures], ""
    views = _views(reader, field, options)
    columns = _render(reader, field, indices, views, options, custom_fields)
    rows = [Row(picture, [column[i] for column in columns]) for i, picture in enumerate(pictures)]
    return rows, f"; {views.title}; seed {options.seed}, epoch {options.epoch}"


def _views(reader: Reader, field: str, options: ViewOptions) -> augment.Views:
    """The recipe's, or SimCLR's; as many as were asked for, over and over in their order."""
    if options.recipe is None:
        return augment.simclr(augment.side_of(reader, field), options.views or 2)
    views = augment.of_recipe("view", options.recipe, Path(reader.path), options.epoch)
    if options.views is None or options.views == len(views.pipelines):
        return views
    chosen = list(islice(cycle(views.pipelines), options.views))
    return augment.Views(f"{views.title}, {options.views} drawn", chosen)


def _render(
    reader: Reader,
    field: str,
    indices: list[int],
    views: augment.Views,
    options: ViewOptions,
    custom_fields: Mapping[str, type[Field]],
) -> list[list[View]]:
    """Each view of every sample: the pixels that a training gets, before they are normalised."""
    names = augment.names_of(len(views.pipelines), field, reader)
    pixels = [[step for step in view if not isinstance(step, NormalizeImage)] for view in views.pipelines]
    pipelines: dict[str, Any] = dict.fromkeys(reader.fields) | dict(zip(names, pixels, strict=True))
    with Loader(
        reader.path,
        len(indices),
        seed=options.seed,
        indices=indices,
        pipelines=pipelines,
        custom_fields=custom_fields,
        custom_field_mapper=dict.fromkeys(names[1:], field),
        drop_last=False,
        return_params=True,
    ) as loader:
        loader.set_epoch(options.epoch)
        *images, params = next(iter(loader))
    columns = []
    for number, (name, image) in enumerate(zip(names, images, strict=True), 1):
        crop = next(iter(params[name].values()))
        boxes = [Box(*map(int, box)) for box in zip(crop.top, crop.left, crop.height, crop.width, strict=True)]
        told = [caption(params[name], i) for i in range(len(indices))]
        arrays = np.ascontiguousarray(image.permute(0, 2, 3, 1).numpy())
        columns.append([_labelled(number, arrays[i], boxes[i], told[i]) for i in range(len(indices))])
    return columns


def _labelled(number: int, pixels: np.ndarray, box: Box, told: list[str]) -> View:
    first, *others = told
    return View(pixels, box, [[f"view {number}: {first}"], others])


def _picture(reader: Reader, field: str, index: int, classes: Sequence[str]) -> Picture:
    """A whole image, shrunk to what the sheet has room for, with its number, class and size."""
    entry = reader.rows(index, index + 1)[field][0]
    height, width, is_jpeg = int(entry["height"]), int(entry["width"]), entry["mode"] == IMAGE_MODES["jpg"]
    try:
        content = read_value(reader, index, field)
        pixels = _core.decode_jpeg(content, max_side=PICTURE) if is_jpeg else _core.shrink(content, PICTURE)
    except (FormatError, DecodeError) as error:
        raise SampleError(reader.path, field, {index: message_of(error).removeprefix(f"{reader.path}: ")}) from error
    name = _class_of(reader, index, classes)
    text = [f"{index}" if name is None else f"{index}: {name}", f"{width} x {height}, {'JPEG' if is_jpeg else 'raw'}"]
    return Picture(pixels, height, width, text)


def _class_of(reader: Reader, index: int, classes: Sequence[str]) -> str | None:
    """The name that the manifest has for the sample's label, else the label; None where there is none."""
    if not isinstance(reader.fields.get("label"), IntField):
        return None
    label = int(reader.rows(index, index + 1)["label"][0])
    return storable(classes[label]) if 0 <= label < len(classes) else f"label {label}"


def _told(error: DecodeError, reader: Reader, field: str) -> str:
    """The error, without what a loader would have one do."""
    if not isinstance(error, SampleError):
        return message_of(error)
    sample, message = next(iter(error.samples.items()))
    return f"{reader.path}: sample {sample}, field {field!r}: {message}"
