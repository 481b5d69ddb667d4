"""Parquet files with a column of encoded images."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from ffcv.data.images import ImageReader
from ffcv.data.source import Source, class_labels
from ffcv.data.tables import choose_column, image_of
from ffcv.errors import SourceError, message_of
from ffcv.fields import Field, IntField, RGBImageField

try:
    import pyarrow  # pyright: ignore[reportMissingImports]
    import pyarrow.parquet  # pyright: ignore[reportMissingImports]
except ModuleNotFoundError as error:
    raise SourceError("reading Parquet needs pyarrow: pip install 'ffcv-ssl[parquet]'") from error

__all__ = ["ParquetSource"]


class ParquetSource(Source):
    """The rows of Parquet files: a column of image bytes (or of structs with 'bytes', as Hugging Face writes them) and
    one of labels, numbers or names.

    Each thread keeps one row group, so memory is bounded by threads times the largest.

    Args:
        paths: Files with the same columns.
        images: How to read image files.
        image_column: Default: the only column of bytes.
        label_column: Default: 'label', or the only column of whole numbers, truth values or texts; none where there is
            no such.

    Raises:
        SourceError: A file is damaged, or the columns are not as described.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        images: ImageReader | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
    ) -> None:
        self._paths = [os.fspath(path) for path in paths]
        self.name = os.path.basename(self._paths[0])
        self._images = images or ImageReader()
        self._local = threading.local()
        self._image, self._label = _columns(self._paths[0], image_column, label_column)
        groups: list[tuple[int, int]] = []
        rows: list[int] = []
        labels: list[Any] = []
        schemas: list[Any] = []
        for number, path in enumerate(self._paths):
            try:
                file = pyarrow.parquet.ParquetFile(path, memory_map=True)
                schemas.append(file.schema_arrow)
                self._check_columns(schemas[0], schemas[-1], path)
                for group in range(file.num_row_groups):
                    groups.append((number, group))
                    rows.append(file.metadata.row_group(group).num_rows)
                if self._label is not None:
                    labels.extend(file.read(columns=[self._label]).column(0).to_pylist())
            except (pyarrow.ArrowException, OSError) as error:
                raise SourceError(f"{path}: not a Parquet file with these columns, or damaged ({error})") from error
        self._groups = groups
        self._starts = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)
        self.labels, self.classes = (None, None) if self._label is None else class_labels(labels, self._paths[0])

    def _check_columns(self, first: Any, schema: Any, path: str) -> None:
        for column in (self._image, self._label):
            if column is None:
                continue
            expected = first.field(column).type
            got = schema.field(column).type if column in schema.names else None
            if got != expected:
                what = "no such column" if got is None else str(got)
                raise SourceError(f"{path}: column {column!r}: {what}, but in {self._paths[0]} it holds {expected}")

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        group = int(np.searchsorted(self._starts, index, side="right")) - 1
        number, inside = self._groups[group]
        if getattr(self._local, "group", None) != group:
            try:
                file = pyarrow.parquet.ParquetFile(self._paths[number], memory_map=True)
                self._local.column = file.read_row_group(inside, columns=[self._image], use_threads=False).column(0)
            except (pyarrow.ArrowException, OSError) as error:
                where = f"{self._paths[number]}: row group {inside}, with row {index}"
                raise SourceError(f"{where}: damaged ({message_of(error)}); fetch the file again") from error
            self._local.group = group
        row = index - int(self._starts[group])
        cell = self._local.column[row].as_py()
        image = image_of(cell, f"{self._paths[number]}: row {index}", self._images)
        return (image,) if self.labels is None else (image, self.labels[index])

    def fields(self, image: RGBImageField) -> dict[str, Field]:
        return {"image": image} if self.labels is None else {"image": image, "label": IntField()}


def _columns(path: str, image: str | None, label: str | None) -> tuple[str, str | None]:
    try:
        schema = pyarrow.parquet.read_schema(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise SourceError(f"{path}: not a Parquet file, or damaged ({error})") from error
    types = pyarrow.types

    def holds_images(kind: Any) -> bool:
        inner = [field.name for field in kind] if types.is_struct(kind) else []
        return types.is_binary(kind) or types.is_large_binary(kind) or "bytes" in inner

    image = choose_column(path, "image", image, schema.names, [f.name for f in schema if holds_images(f.type)])

    def holds_labels(kind: Any) -> bool:
        if types.is_dictionary(kind):
            return holds_labels(kind.value_type)
        return types.is_integer(kind) or types.is_boolean(kind) or types.is_string(kind) or types.is_large_string(kind)

    likely = [f.name for f in schema if holds_labels(f.type)]
    if label is None and "label" in schema.names:
        label = "label"
    if label is None and not likely:
        return image, None
    label = choose_column(path, "label", label, schema.names, likely)
    if label not in likely:
        kind = schema.field(label).type
        raise SourceError(f"{path}: column {label!r} holds {kind}, but labels are whole numbers or names")
    return image, label
