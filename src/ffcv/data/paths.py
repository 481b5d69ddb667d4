"""A CSV file of image paths and labels."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from ffcv.data.images import ImageReader, ImageValue, read_file
from ffcv.data.source import LabelledImages, class_labels
from ffcv.data.tables import unlabelled
from ffcv.errors import SourceError

__all__ = ["PathList"]

_PATH_COLUMNS = ("path", "image", "file", "filename", "file_name", "image_path")
_LABEL_COLUMNS = ("label", "class", "target", "y")


class PathList(LabelledImages):
    """The images that a CSV file names, with the labels beside them.

    With a header, the columns 'path' (or 'image', 'file', ...) and 'label' (or 'class', ...) count; without one, the
    first column is the path and the second the label, and the first path must be that of a file. Paths are relative to
    the CSV file. Labels are whole numbers, or names, which are numbered in alphabetical order. There may be no labels.

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
        rows = _read_rows(path)
        header = [cell.strip().lower() for cell in rows[0]]
        image, label = _find(header, path_column, _PATH_COLUMNS), _find(header, label_column, _LABEL_COLUMNS)
        for wanted, found in ((path_column, image), (label_column, label)):
            if wanted is not None and found is None:
                raise SourceError(f"{path}: no column {wanted!r}; its header is {', '.join(header)}")
        if image is not None:
            rows = rows[1:]
            if label is None:
                self.remarks = unlabelled(header[:image] + header[image + 1 :])
        elif label_column is not None or not self._is_file(rows[0][0]):
            raise SourceError(
                f"{path}: which column is the path? its first row, {', '.join(header)}, names neither one of "
                f"{', '.join(_PATH_COLUMNS)} nor, in its first cell, a file; choose with --image-column, or mend the "
                "path"
            )
        else:
            image, label = 0, 1 if len(header) > 1 else None
        if not rows:
            raise SourceError(f"{path}: has a header, but no rows")
        for number, row in enumerate(rows):
            if len(row) <= max(image, label or 0):
                raise SourceError(f"{path}: row {number} has only {len(row)} columns: {','.join(row)!r}")
            if not row[image].strip():
                raise SourceError(f"{path}: row {number} has no path: {','.join(row)!r}")
        self._paths = [row[image] for row in rows]
        if label is not None:
            self.labels, self.classes = class_labels((row[label] for row in rows), os.fspath(path))

    def __len__(self) -> int:
        return len(self._paths)

    def _is_file(self, cell: str) -> bool:
        return any((self._folder / name).is_file() for name in (cell, cell.strip()))

    def image(self, index: int) -> ImageValue:
        named = self._paths[index]
        if named != named.strip() and not os.path.exists(self._folder / named):
            named = named.strip()  # the spaces are not the name's
        path = str(self._folder / named)
        return self._images.read(read_file(path, path), path)


def _read_rows(path: str | os.PathLike[str]) -> list[list[str]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path}: not a CSV file in UTF-8 ({error})") from error
    if not rows:
        raise SourceError(f"{path}: has no rows; expected 'path,label' on each")
    return rows


def _find(header: list[str], wanted: str | None, usual: tuple[str, ...]) -> int | None:
    names = usual if wanted is None else (wanted.lower(),)
    return next((header.index(name) for name in names if name in header), None)
