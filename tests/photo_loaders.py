"""Loaders of photographs (datasets.write_photos), as several test files use them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ffcv import Loader
from ffcv.reader import Reader
from ffcv.transforms import CenterCrop, RandomResizedCrop, ToTensor, ToTorchImage


def centre_crops(path: Path, *more: Any, **options: Any) -> Loader:
    """Batches of four small tensors [B, 3, 16, 16]; `more` operations follow."""
    defaults: dict[str, Any] = {"batch_size": 4, "num_workers": 2, "seed": 3}
    return Loader(
        path,
        pipelines={"image": [CenterCrop((16, 16), 1.0), ToTensor(), ToTorchImage(), *more]},
        **(defaults | options),
    )


def random_crops(path: Path, **options: Any) -> Loader:
    """Batches of four tensors [B, 24, 24, 3], the last one smaller; one batch ahead."""
    defaults: dict[str, Any] = {"batch_size": 4, "num_workers": 2, "seed": 3, "drop_last": False, "batches_ahead": 1}
    return Loader(path, pipelines={"image": [RandomResizedCrop((24, 24)), ToTensor()]}, **(defaults | options))


def views(**pipelines: list) -> dict:
    """Arguments for a loader with these views of the image field."""
    extra = {name: "image" for name in pipelines if name != "image"}
    return {"pipelines": {"image": None, **pipelines}, "custom_field_mapper": extra}


def only_batch(path: Path, pipelines: dict, **options: Any) -> Any:
    """The one batch with all samples, in order."""
    reader = Reader(path)
    defaults: dict[str, Any] = {"batch_size": reader.num_samples, "seed": 3, "num_workers": 2, "drop_last": False}
    if "label" in reader.field_names:
        pipelines = {"label": None, **pipelines}
    return next(iter(Loader(path, pipelines=pipelines, **(defaults | options))))
