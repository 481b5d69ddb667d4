"""What tables of images have in common: which column is the image, which the label, and what a cell holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from ffcv.data.images import ImageReader, ImageValue, read_file
from ffcv.errors import SourceError


def choose_column(where: str, what: str, wanted: str | None, all_names: Sequence[str], likely: Sequence[str]) -> str:
    """The column wanted, or the only likely one.

    Raises:
        SourceError: It does not exist, or none or several could be meant.
    """
    if wanted is not None:
        if wanted not in all_names:
            raise SourceError(f"{where}: no column {wanted!r}; it has {', '.join(all_names)}")
        return wanted
    if len(likely) != 1:
        found = f"several could be: {', '.join(likely)}" if likely else f"it has {', '.join(all_names)}"
        raise SourceError(f"{where}: which column is the {what}? {found}; choose with --{what}-column")
    return likely[0]


def unlabelled(columns: Sequence[str]) -> list[str]:
    """What to remark about a table of whose `columns`, those of images left out, none was taken for the labels."""
    return [f"no labels: none of the columns {', '.join(columns)} was taken; choose one with --label-column"] * bool(
        columns
    )


def image_of(cell: Any, where: str, images: ImageReader) -> ImageValue:
    """The image in a cell: bytes, a mapping with 'bytes' or 'path' (Hugging Face's), or a PIL image."""
    if isinstance(cell, Mapping):
        path = cell.get("path")
        cell = cell["bytes"] if cell.get("bytes") is not None else read_file(path, where) if path else None
    if isinstance(cell, bytes):
        return images.read(cell, where)
    if isinstance(cell, Image.Image):
        return cell
    raise SourceError(f"{where}: expected an image's bytes, got {type(cell).__name__}")
