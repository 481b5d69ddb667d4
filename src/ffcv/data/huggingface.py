"""Datasets of the Hugging Face `datasets` package."""

from __future__ import annotations

import os
from typing import Any

from ffcv.data.images import ImageReader, ImageValue
from ffcv.data.source import LabelledImages, class_labels
from ffcv.data.tables import choose_column, image_of, unlabelled
from ffcv.errors import SourceError, message_of

__all__ = ["HuggingFaceSource"]


class HuggingFaceSource(LabelledImages):
    """A `datasets.Dataset` with an image feature and, where there is one, a label.

    Any object with `features`, `__len__`, `__getitem__` giving a mapping, and `dataset[column]` will do. Images are
    read undecoded where the feature allows (`Image(decode=False)`), so that JPEGs pass through unchanged.

    Args:
        dataset: One split.
        images: How to read image files.
        image_column: Default: the only feature of type Image.
        label_column: Default: 'label', or the only feature of type ClassLabel; none where there is no such.
        name: For the manifest.
    """

    def __init__(
        self,
        dataset: Any,
        images: ImageReader | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
        name: str = "huggingface",
    ) -> None:
        self.name = name
        self._images = images or ImageReader()
        features: Any = getattr(dataset, "features", None)
        if not hasattr(features, "items"):
            raise SourceError(f"{name}: expected one split with features; choose one, such as hf:NAME:train")
        if not hasattr(dataset, "__len__"):
            raise SourceError(f"{name}: a stream has no length and no rows by number; load it without streaming=True")
        if getattr(dataset, "format", {}).get("type") not in (None, "custom"):
            dataset = dataset.with_format(None)  # plain values, not tensors or tables of them
        kinds = {column: type(feature).__name__ for column, feature in features.items()}
        likely = [column for column, kind in kinds.items() if kind == "Image"]
        self._image = choose_column(name, "image", image_column, list(kinds), likely)
        named = [column for column, kind in kinds.items() if kind == "ClassLabel"]
        if label_column is None and "label" in kinds:
            label_column = "label"
        elif label_column is None and named:
            label_column = choose_column(name, "label", None, list(kinds), named)
        elif label_column is not None:
            choose_column(name, "label", label_column, list(kinds), [])
        if label_column is None:
            self.remarks = unlabelled([column for column in kinds if column != self._image])
        else:
            self.labels, self.classes = class_labels(list(dataset[label_column]), name)
            names = getattr(features[label_column], "names", None)
            self.classes = list(names) if names else self.classes
        feature = features[self._image]
        if hasattr(dataset, "cast_column") and getattr(feature, "decode", False):
            dataset = dataset.cast_column(self._image, type(feature)(decode=False))
        self._dataset = dataset.select_columns([self._image]) if hasattr(dataset, "select_columns") else dataset

    @staticmethod
    def load(
        given: str, images: ImageReader | None = None, image_column: str | None = None, label_column: str | None = None
    ) -> HuggingFaceSource:
        """Opens FOLDER[:SPLIT] written by `save_to_disk`, or NAME[:SPLIT] of the hub.

        Raises:
            SourceError: The `datasets` package is missing or cannot open it, or several splits could be meant.
        """
        try:
            import datasets  # pyright: ignore[reportMissingImports]
        except ModuleNotFoundError:
            raise SourceError(f"{given}: needs the package 'datasets': pip install 'ffcv-ssl[huggingface]'") from None
        name, split = given, ""
        if ":" in given and not os.path.isdir(given):
            name, _, split = given.rpartition(":")
        if not name:
            raise SourceError(f"hf:{given}: names no dataset; give hf:NAME[:SPLIT] or hf:FOLDER[:SPLIT]")
        try:
            saved = os.path.isdir(name)
            dataset: Any = datasets.load_from_disk(name) if saved else datasets.load_dataset(name, split=split or None)
        except (ValueError, OSError, RuntimeError, ImportError) as error:
            raise SourceError(f"{given}: cannot be opened by the package 'datasets': {message_of(error)}") from error
        if hasattr(dataset, "keys"):
            splits = list(dataset.keys())
            if split not in splits if split else len(splits) != 1:
                raise SourceError(
                    f"{given}: has the splits {', '.join(splits)}; choose one, such as hf:{name}:{splits[0]}"
                )
            dataset = dataset[split or splits[0]]
        elif saved and split:
            raise SourceError(f"{given}: has no splits; give hf:{name}")
        return HuggingFaceSource(dataset, images, image_column, label_column, name=os.path.basename(given))

    def __len__(self) -> int:
        return len(self._dataset)

    def image(self, index: int) -> ImageValue:
        cell = self._dataset[index][self._image]
        return image_of(cell, f"{self.name}: row {index}", self._images)
