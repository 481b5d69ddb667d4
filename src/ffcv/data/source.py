"""What `ffcv write` converts: one interface, and the function that recognises what it was given."""

from __future__ import annotations

import glob
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ffcv.data.images import ImageReader, ImageValue
from ffcv.errors import SourceError, storable
from ffcv.fields import Field, IntField, RGBImageField

__all__ = ["LabelledImages", "Source", "class_labels", "name_of", "open_source"]

KINDS = (
    "a folder with one sub-folder of images a class, .tar shards (WebDataset), .parquet, .csv of paths and labels, "
    ".beton, or hf:NAME[:SPLIT] (Hugging Face)"
)


class Source(ABC):
    """An indexable dataset that knows its fields: `source[i]` has one value for each.

    Attributes:
        name: What the manifest says the data came from.
        classes: What the labels stand for, or None.
        remarks: What was left out and may be missed: files passed over, columns not taken.
        bad: What is wrong with samples that are known to be bad before they are read, by index.
    """

    name: str
    classes: list[str] | None = None
    remarks: Sequence[str] = ()
    bad: Mapping[int, str] = MappingProxyType({})

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> tuple[Any, ...]: ...

    @abstractmethod
    def fields(self, image: RGBImageField) -> dict[str, Field]:
        """The fields to write, with `image` for images."""

    def manifest(self) -> dict[str, Any]:
        """What a file written from the source keeps about it."""
        source: dict[str, Any] = {"source": storable(self.name)}
        return source if self.classes is None else {**source, "classes": list(map(storable, self.classes))}


class LabelledImages(Source):
    """One image a sample, and a label where there are labels: (image, label) or (image,).

    Attributes:
        labels: One for each image, or None.
    """

    labels: list[int] | None = None

    @abstractmethod
    def image(self, index: int) -> ImageValue:
        """One sample's image.

        Raises:
            SourceError: It cannot be read, or is damaged.
        """

    def __getitem__(self, index: int) -> tuple[ImageValue] | tuple[ImageValue, int]:
        image = self.image(index)
        return (image,) if self.labels is None else (image, self.labels[index])

    def fields(self, image: RGBImageField) -> dict[str, Field]:
        return {"image": image} if self.labels is None else {"image": image, "label": IntField()}


def name_of(paths: Sequence[str | os.PathLike[str]]) -> str:
    """What the manifest says the data came from, for one or several files."""
    first, last = os.path.basename(paths[0]), os.path.basename(paths[-1])
    return first if len(paths) == 1 else f"{first} ... {last} ({len(paths)} files)"


def class_labels(values: Iterable[Any], where: str) -> tuple[list[int], list[str] | None]:
    """Labels as numbers: whole numbers stay, names are numbered in alphabetical order. None and '' are no labels.

    Returns:
        The labels, and the names where there are any.
    """
    values = list(values)
    for row, value in enumerate(values):
        if not isinstance(value, str | Integral | None):
            raise SourceError(
                f"{where}: row {row} has the label {value!r} ({type(value).__name__}), but labels are whole numbers or "
                "names; choose another column with --label-column"
            )
    texts = ["" if value is None else str(value).strip() for value in values]
    if all(re.fullmatch(r"[+-]?\d+", text) for text in texts):
        return [int(text) for text in texts], None
    if "" in texts:
        raise SourceError(f"{where}: row {texts.index('')} has no label")
    classes = sorted(set(texts))
    numbers = {name: number for number, name in enumerate(classes)}
    return [numbers[text] for text in texts], classes


def open_source(
    given: str,
    images: ImageReader | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    *,
    custom_fields: Mapping[str, type[Field]] | None = None,
) -> Source:
    """Recognises a source by its name and content.

    Args:
        given: A path, a pattern of paths (`shards/train-{000..099}.tar`, `*.parquet`), or `hf:NAME[:SPLIT]`.
        images: How to read image files.
        image_column: For tables: the column of images; default the only one that could be.
        label_column: For tables: the column of labels; default 'label' or the only one that could be.
        custom_fields: For a .beton: for each field of a custom type, the class that wrote it.

    Raises:
        FileNotFoundError, SourceError: Nothing is there, or nothing that can be converted.
    """
    from ffcv.data.beton import BetonSource
    from ffcv.data.folder import ImageFolder
    from ffcv.data.huggingface import HuggingFaceSource
    from ffcv.data.paths import PathList
    from ffcv.data.webdataset import WebDatasetSource

    images = images or ImageReader()
    if given.startswith("hf:"):
        return HuggingFaceSource.load(given[3:], images, image_column, label_column)
    paths = expand(given)
    first = Path(paths[0])
    if len(paths) == 1 and first.is_dir():
        if any((first / name).exists() for name in ("dataset_info.json", "dataset_dict.json")):
            return HuggingFaceSource.load(str(first), images, image_column, label_column)
        for suffix in (".tar", ".parquet"):
            if inside := sorted(map(str, first.glob(f"*{suffix}"))):
                if any(entry.is_dir() and not entry.name.startswith(".") for entry in first.iterdir()):
                    raise SourceError(
                        f"{given}: has {suffix} files and sub-folders, and either could be meant; give "
                        f"'{first / f'*{suffix}'}', or move these files away for the images in the sub-folders"
                    )
                paths, first = inside, Path(inside[0])
                break
        else:
            _refuse_columns(given, image_column, label_column)
            return ImageFolder(first, images=images)
    suffix = first.suffix.lower()
    if suffix in (".tar", ".beton"):
        _refuse_columns(given, image_column, label_column)
    if suffix == ".tar":
        return WebDatasetSource(paths, images)
    if suffix == ".parquet":
        from ffcv.data.parquet import ParquetSource

        return ParquetSource(paths, images, image_column, label_column)
    if suffix == ".beton":
        return BetonSource(paths, images, custom_fields)
    if suffix == ".csv" and len(paths) == 1:
        return PathList(first, images, image_column, label_column)
    raise SourceError(f"{given}: cannot be converted; give {KINDS}")


def _refuse_columns(given: str, image: str | None, label: str | None) -> None:
    if image is not None or label is not None:
        raise SourceError(
            f"{given}: is no table, and has no columns to choose: --image-column and --label-column go with .csv, "
            ".parquet and hf:"
        )


def expand(given: str) -> list[str]:
    """The paths that a pattern stands for, in order: `{000..012}` counts, `*` and `?` match what exists."""
    counted = [given]
    while match := re.search(r"\{(\d+)\.\.(\d+)\}", counted[0]):
        first, last = match.groups()
        if int(last) - int(first) >= 1_000_000:
            raise SourceError(f"{given}: {match.group()} counts to too many files")
        numbers = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
        counted = [path.replace(match.group(), number, 1) for path in counted for number in numbers]
        if not counted:
            raise SourceError(f"{given}: {match.group()} counts nothing")
    found = {one: [one] if os.path.exists(one) else sorted(glob.glob(one)) for one in counted}
    for one, paths in found.items():
        if not paths:
            which = given if one == given else f"{given}: {one}"
            raise FileNotFoundError(
                f"{which}: no such folder or file; expected one sub-folder a class, or give {KINDS}"
            )
    return [path for paths in found.values() for path in paths]
