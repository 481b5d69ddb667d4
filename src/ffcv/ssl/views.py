"""The recipe's augmentations as a pipeline of `ffcv.transforms`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ffcv import transforms as T
from ffcv.ssl.config import ViewConfig
from ffcv.ssl.errors import ConfigError


def augment(config: ViewConfig) -> list[Any]:
    """A random view, normalised: `distort`, then `normalize`."""
    return [*distort(config), *normalize(config)]


def global_views(config: ViewConfig) -> list[list[Any]]:
    """Two random views; the second one blurs and solarises as often as the recipe says for it."""
    blur = config.blur if config.second_blur is None else config.second_blur
    solarize = config.solarize if config.second_solarize is None else config.second_solarize
    return [augment(config), augment(replace(config, blur=blur, solarize=solarize))]


def local_views(config: ViewConfig) -> list[list[Any]]:
    """The recipe's small views of small parts, never solarised (DINO, https://arxiv.org/abs/2104.14294, section 3.1
    and its code)."""
    blur = config.blur if config.local_blur is None else config.local_blur
    local = replace(config, size=config.local_size, scale=config.local_scale, blur=blur, solarize=0.0)
    return [augment(local) for _ in range(config.num_local)]


def distort(config: ViewConfig) -> list[Any]:
    """Crop, flip, colour, grayscale, blur, solarise, in SimCLR's order (its appendix A).

    Raises:
        ConfigError: a number is none that the operation takes.
    """
    try:
        return _distort(config)
    except ValueError as error:
        raise ConfigError(f"no view can be made of --views: {error}") from None


def _distort(c: ViewConfig) -> list[Any]:
    size = (c.size, c.size)
    pipeline: list[Any] = [T.RandomResizedCrop(size, scale=tuple(c.scale), ratio=tuple(c.ratio))]
    if c.flip:
        pipeline.append(T.RandomHorizontalFlip(c.flip))
    if c.jitter:
        pipeline.append(T.RandomColorJitter(c.jitter, c.brightness, c.contrast, c.saturation, c.hue))
    if c.grayscale:
        pipeline.append(T.RandomGrayscale(c.grayscale))
    if c.blur:
        pipeline.append(T.GaussianBlur(c.blur, c.blur_kernel, tuple(c.blur_sigma)))
    if c.solarize:
        pipeline.append(T.RandomSolarization(c.solarize, 128))
    return pipeline


def centre(config: ViewConfig) -> list[Any]:
    """The one view for evaluation: the centre, resized."""
    return [T.CenterCrop((config.size, config.size), ratio=config.centre_ratio), *normalize(config)]


def crop_and_flip(config: ViewConfig) -> list[Any]:
    """The mildly random view that linear probes are usually trained on: crop and flip only."""
    return augment(replace(config, jitter=0.0, grayscale=0.0, blur=0.0, solarize=0.0))


def normalize(config: ViewConfig) -> list[Any]:
    """Bytes to normalised float32 tensors [B, 3, H, W] in channels-last memory."""
    mean, std = np.array(config.mean, np.float32), np.array(config.std, np.float32)
    return [T.NormalizeImage(mean, std, np.float32), T.ToTensor(), T.ToTorchImage()]
