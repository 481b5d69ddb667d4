"""The views that `ffcv view` draws and `ffcv bench` measures: SimCLR's usual two, or a recipe's."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ffcv import transforms as T
from ffcv._words import counted
from ffcv.cli.extras import need
from ffcv.errors import FfcvError
from ffcv.fields import RGBImageField
from ffcv.reader import Reader

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""ImageNet's, on the 0..255 scale."""

SIDE = 224
"""Of views, in pixels, for images that are not smaller."""


class Views(NamedTuple):
    """One pipeline a view, each with its normalisation, and what to call them."""

    title: str
    pipelines: list[list[Any]]


def image_field(reader: Reader, name: str | None) -> str:
    """The image field of that name; without one, 'image' or the first that there is.

    Raises:
        FfcvError: There is none.
    """
    images = [field for field, kind in reader.fields.items() if isinstance(kind, RGBImageField)]
    if name is not None and name not in images:
        known = f"image fields: {', '.join(images)}" if images else "no image field"
        raise FfcvError(f"{reader.path}: --field {name}: no such image field; the file has {known}")
    if not images:
        raise FfcvError(
            f"{reader.path}: has no image field but {', '.join(reader.fields)}; 'ffcv info {reader.path}' says what it "
            "holds"
        )
    return name or ("image" if "image" in images else images[0])


def side_of(reader: Reader, field: str) -> int:
    """The side of views for a file: `SIDE`, or, of small images, the median of their shorter sides."""
    images = reader.rows(0, 1 << 16)[field]
    return min(SIDE, int(np.median(np.minimum(images["height"], images["width"]))))


def simclr(side: int, count: int = 2) -> Views:
    """SimCLR's augmentation (https://arxiv.org/abs/2002.05709, appendix A): colours at half its strength, as most
    follow-ups have them, and no blur for small images, as in its experiments on CIFAR-10."""
    kernel = 2 * (side // 20) + 1
    view = [
        T.RandomResizedCrop((side, side)),
        T.RandomHorizontalFlip(0.5),
        T.RandomColorJitter(0.8, 0.4, 0.4, 0.2, 0.1),
        T.RandomGrayscale(0.2),
        *([T.GaussianBlur(0.5, kernel, (0.1, 2.0))] if side >= 64 else []),
    ]
    return Views(f"{counted(count, 'SimCLR view')} at {side}", [[*view, *normalised()] for _ in range(count)])


def of_recipe(command: str, recipe: str, file: Path, epoch: int = 0) -> Views:
    """What `ffcv train --recipe` makes of each image in `epoch`.

    Raises:
        FfcvError: The [train] extra is missing, or there is no such recipe.
    """
    need({"jsonargparse": "jsonargparse", "yaml": "pyyaml"}, f"ffcv {command} --recipe", "train")
    from dataclasses import replace

    from ffcv.ssl import config, methods

    settings = config.parse(["--recipe", recipe, "--data.train", str(file)])
    sized = replace(settings.views, size=settings.views.size_at(epoch))
    method = methods.load(settings.method)
    pipelines = method.views(method.__new__(method), sized)  # of the class alone: no network is needed for them
    return Views(f"{recipe}, {counted(len(pipelines), 'view')}", pipelines)


def normalised() -> list[Any]:
    """Bytes to float32 tensors [B, 3, H, W] in channels-last memory, as a training takes them."""
    return [T.NormalizeImage(np.array(MEAN), np.array(STD), np.float32), T.ToTensor(), T.ToTorchImage()]


def names_of(views: int, field: str, reader: Reader) -> list[str]:
    """The views' names, on which their random streams depend: those that `ffcv train` gives them."""
    names = [field]
    for number in range(2, views + 1):
        name = f"{field}{number}"
        while name in reader.fields:
            name += "_"
        names.append(name)
    return names
