"""What was done to a view, in words, from the loader's parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def caption(params: Mapping[str, Any], row: int) -> list[str]:
    """The operations that changed sample `row`, in order, each as one or more short phrases.

    Args:
        params: 'position:family' of each operation -> a NamedTuple of arrays [B], as `Loader(return_params=True)` gives
            them for one view.
        row: In the batch.
    """
    phrases: list[str] = []
    for name, values in params.items():
        family = name.partition(":")[2]
        one = {key: value[row] for key, value in values._asdict().items() if isinstance(value, np.ndarray)}
        phrases += _KNOWN[family](one) if family in _KNOWN else _other(family, one)
    return phrases


def _crop(one: dict[str, Any]) -> list[str]:
    share = one["height"] * one["width"] / (one["image_height"] * one["image_width"])
    return [f"crop {one['width']} x {one['height']} ({share:.0%})"]


def _colours(one: dict[str, Any]) -> list[str]:
    factors = [f"{name} {one[name]:.2f}" for name in ("brightness", "contrast", "saturation") if one[name] != 1]
    return factors + ([f"hue {360 * one['hue']:+.0f}°"] if one["hue"] else [])


def _other(family: str, one: dict[str, Any]) -> list[str]:
    """Any other operation: its name and numbers, where it says that it was applied."""
    if not one.pop("applied", True):
        return []
    numbers = [f"{key} {value:.3g}" for key, value in one.items() if np.ndim(value) == 0]
    return [" ".join([family.replace("_", " "), *numbers])]


_KNOWN = {
    "crop": _crop,
    "center_crop": _crop,
    "whole_image": lambda one: [],
    "horizontal_flip": lambda one: ["flipped"] if one["applied"] else [],
    "color_jitter": _colours,
    "grayscale": lambda one: ["gray"] if one["applied"] else [],
    "gaussian_blur": lambda one: [f"blur {one['sigma']:.2f} px"] if one["sigma"] else [],
    "solarize": lambda one: ["solarised"] if one["applied"] else [],
}
