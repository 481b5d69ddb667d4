"""Parquet files with a column of encoded images."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ffcv.data.images import ImageReader, ImageValue
from ffcv.data.source import LabelledImages, class_labels, name_of
from ffcv.data.tables import choose_column, image_of, unlabelled
from ffcv.errors import SourceError, message_of

try:
    import pyarrow  # pyright: ignore[reportMissingImports]
    import pyarrow.parquet  # pyright: ignore[reportMissingImports]
except ModuleNotFoundError as error:
    raise SourceError("reading Parquet needs pyarrow: pip install 'ffcv-ssl[parquet]'") from error

__all__ = ["ParquetSource"]

KEPT_BYTES = 1 << 30
"""Row groups that are kept in memory."""


class ParquetSource(LabelledImages):
    """The rows of Parquet files: a column of image bytes (or of structs with 'bytes', as Hugging Face writes them) and
    one of labels, numbers or names.

    A Parquet file gives whole row groups only. Those read last are kept, 1 GiB of them in all, so that shuffled data of
    that size are read once; of larger data, shuffled, a row group is read for almost every image: write those in order,
    and shuffle when training.

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
        self.name = name_of(self._paths)
        self._images = images or ImageReader()
        self._kept = _KeptGroups()
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
        if self._label is None:
            self.remarks = unlabelled([name for name in schemas[0].names if name != self._image])
        else:
            self.labels, self.classes = class_labels(labels, self._paths[0])

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

    def image(self, index: int) -> ImageValue:
        group = int(np.searchsorted(self._starts, index, side="right")) - 1
        number, inside = self._groups[group]
        try:
            column = self._kept.get(group, lambda: self._read_group(number, inside))
        except (pyarrow.ArrowException, OSError) as error:
            where = f"{self._paths[number]}: row group {inside}, with row {index}"
            raise SourceError(f"{where}: damaged ({message_of(error)}); fetch the file again") from error
        cell = column[index - int(self._starts[group])].as_py()
        return image_of(cell, f"{self._paths[number]}: row {index}", self._images)

    def _read_group(self, number: int, inside: int) -> Any:
        file = pyarrow.parquet.ParquetFile(self._paths[number], memory_map=True)
        return file.read_row_group(inside, columns=[self._image], use_threads=False).column(0)


class _KeptGroups:
    """The row groups that were read last, shared by all threads, up to `KEPT_BYTES` (and at least one)."""

    def __init__(self) -> None:
        self._columns: OrderedDict[int, Any] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, group: int, read: Callable[[], Any]) -> Any:
        with self._lock:  # also while it reads: the others mostly want the same group
            if group in self._columns:
                self._columns.move_to_end(group)
                return self._columns[group]
            column = self._columns[group] = read()
            self._bytes += column.nbytes
            while self._bytes > KEPT_BYTES and len(self._columns) > 1:
                _, oldest = self._columns.popitem(last=False)
                self._bytes -= oldest.nbytes
            return column


def _columns(path: str, image: str | None, label: str | None) -> tuple[str, str | None]:
    try:
        schema = pyarrow.parquet.read_schema(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise SourceError(f"{path}: not a Parquet file, or damaged ({error})") from error
    types = pyarrow.types

    def holds_images(kind: Any) -> bool:
        inner = [field.name for field in kind] if types.is_struct(kind) else []
        return str(kind) in ("binary", "large_binary", "binary_view") or "bytes" in inner

    image = choose_column(path, "image", image, schema.names, [f.name for f in schema if holds_images(f.type)])

    def holds_labels(kind: Any) -> bool:
        if types.is_dictionary(kind):
            return holds_labels(kind.value_type)
        is_text = str(kind) in ("string", "large_string", "string_view")
        return types.is_integer(kind) or types.is_boolean(kind) or is_text

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
