"""A CSV file of image paths and labels."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from ffcv.data.images import ImageReader, ImageValue, read_file
from ffcv.data.source import Source, class_labels
from ffcv.errors import SourceError
from ffcv.fields import Field, IntField, RGBImageField

__all__ = ["PathList"]

_PATH_COLUMNS = ("path", "image", "file", "filename", "file_name", "image_path")
_LABEL_COLUMNS = ("label", "class", "target", "y")


class PathList(Source):
    """The images that a CSV file names, with the labels beside them.

    With a header, the columns 'path' (or 'image', 'file', ...) and 'label' (or 'class', ...) count; without one, the
    first column is the path and the second the label. Paths are relative to the CSV file. Labels are whole numbers, or
    names, which are numbered in alphabetical order. There may be no labels.

    Args:
        path: The CSV file.
        images: How to read image files.
        path_column: The column of paths, where it has another name.
        label_column: The column of labels, where it has another name.

    Raises:
        SourceError: The file has no rows or lacks a column.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        images: ImageReader | None = None,
        path_column: str | None = None,
        label_column: str | None = None,
    ) -> None:
        self.name = os.path.basename(path)
        self._images = images or ImageReader()
        self._folder = Path(path).parent
        try:
            with open(path, newline="", encoding="utf-8-sig") as file:
                rows = [row for row in csv.reader(file) if row]
        except (UnicodeDecodeError, csv.Error) as error:
            raise SourceError(f"{path}: not a CSV file in UTF-8 ({error})") from error
        if not rows:
            raise SourceError(f"{path}: has no rows; expected 'path,label' on each")
        header = [cell.strip().lower() for cell in rows[0]]
        image, label = _find(header, path_column, _PATH_COLUMNS), _find(header, label_column, _LABEL_COLUMNS)
        for wanted, found in ((path_column, image), (label_column, label)):
            if wanted is not None and found is None:
                raise SourceError(f"{path}: no column {wanted!r}; its header is {', '.join(header)}")
        if image is not None:
            rows = rows[1:]
        elif label_column is not None:
            raise SourceError(
                f"{path}: which column is the path? it has {', '.join(header)}; choose with --image-column"
            )
        else:
            image, label = 0, 1 if len(rows[0]) > 1 else None
        if not rows:
            raise SourceError(f"{path}: has a header, but no rows")
        for number, row in enumerate(rows):
            if len(row) <= max(image, label or 0):
                raise SourceError(f"{path}: row {number} has only {len(row)} columns: {','.join(row)!r}")
            if not row[image].strip():
                raise SourceError(f"{path}: row {number} has no path: {','.join(row)!r}")
        self._paths = [row[image].strip() for row in rows]
        self.labels: list[int] | None = None
        self.classes = None
        if label is not None:
            self.labels, self.classes = class_labels((row[label] for row in rows), os.fspath(path))

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[ImageValue] | tuple[ImageValue, int]:
        path = str(self._folder / self._paths[index])
        image = self._images.read(read_file(path, path), path)
        return (image,) if self.labels is None else (image, self.labels[index])

    def fields(self, image: RGBImageField) -> dict[str, Field]:
        return {"image": image} if self.labels is None else {"image": image, "label": IntField()}


def _find(header: list[str], wanted: str | None, usual: tuple[str, ...]) -> int | None:
    names = usual if wanted is None else (wanted.lower(),)
    return next((header.index(name) for name in names if name in header), None)
