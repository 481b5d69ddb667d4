"""What a run reads, and what it makes of it: images and their views."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ffcv.ssl.config.checking import check


@dataclass(frozen=True)
class DataConfig:
    """Where the images come from.

    Attributes:
        train: the `.beton` file to train on.
        val: the `.beton` file to evaluate on; without it a share of `train` is held out.
        held_out: that share, drawn once by `seed`; the encoder never sees it, with or without labels.
        image: name of the image field.
        label: name of the label field; null to leave labels alone, as where the file has no field 'label' (then nothing
            is evaluated).
        num_workers: threads of each process's loader, -1 to share the machine's cores among its processes.
        os_cache: keep the file in the operating system's cache (False: read page by page, for files beyond
            memory).
    """

    train: str
    val: str | None = None
    held_out: float = 0.1
    image: str = "image"
    label: str | None = "label"
    num_workers: int = -1
    os_cache: bool = True

    def __post_init__(self) -> None:
        check(0 <= self.held_out < 1, f"data.held_out must be in [0, 1), got {self.held_out}")


@dataclass(frozen=True)
class ViewConfig:
    """What a view looks like; probabilities are per image, 0 leaves the operation out.

    Attributes:
        size: side of the views and of the evaluated images, pixels.
        size_schedule: (epoch, side) points of the two large views' side while training (progressive resolution,
            such as [[10, 160], [30, 224]]): constant before the first and after the last, between them a line,
            rounded to multiples of 32. Empty: always `size`.
        scale: crop's share of the image's area.
        ratio: crop's width / height.
        flip: probability of a horizontal flip.
        jitter: probability of colour jitter with the four strengths that follow.
        grayscale: probability of grayscale.
        blur: probability of a Gaussian blur, with `blur_kernel` pixels and sigma within `blur_sigma` pixels.
        solarize: probability of inverting bytes from 128 up.
        second_blur: `blur` of the second view; null for the first one's.
        second_solarize: `solarize` of the second view; null for the first one's.
        num_local: small views beside the two large ones (multi-crop: dino, swav, lejepa).
        local_size: their side, pixels.
        local_scale: their crop's share of the image's area.
        local_blur: their `blur`; null for the first view's.
        centre_ratio: side of the evaluated centre crop / shorter side of the image.
        mean: per channel, 0..255.
        std: per channel, 0..255.
    """

    size: int = 224
    size_schedule: tuple[tuple[int, int], ...] = ()
    scale: tuple[float, float] = (0.2, 1.0)
    ratio: tuple[float, float] = (0.75, 4 / 3)
    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    grayscale: float = 0.2
    blur: float = 0.0
    blur_kernel: int = 5
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize: float = 0.0
    second_blur: float | None = None
    second_solarize: float | None = None
    num_local: int = 0
    local_size: int = 96
    local_scale: tuple[float, float] = (0.05, 0.4)
    local_blur: float | None = None
    centre_ratio: float = 1.0
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)

    def __post_init__(self) -> None:
        for name in ("size", "local_size"):
            side = getattr(self, name)
            check(side > 0, f"views.{name} must be above 0, got {side}")
        epochs = [epoch for epoch, _ in self.size_schedule]
        check(
            epochs == sorted(set(epochs)) and all(side > 0 for _, side in self.size_schedule),
            "views.size_schedule must be [[epoch, side], ...] with epochs that rise and sides above 0, got "
            f"{[list(point) for point in self.size_schedule]}",
        )
        for name in ("scale", "local_scale"):
            low, high = getattr(self, name)
            check(0 < low <= high <= 1, f"views.{name} must be 0 < low <= high <= 1, got {(low, high)}")
        shared = ("flip", "jitter", "grayscale", "blur", "solarize")
        for name in (*shared, "second_blur", "second_solarize", "local_blur"):
            p = getattr(self, name)
            check(p is None or 0 <= p <= 1, f"views.{name} is a probability, got {p}")
        check(0 < self.centre_ratio <= 1, f"views.centre_ratio must be in (0, 1], got {self.centre_ratio}")
        check(self.num_local >= 0, f"views.num_local must be 0 or more, got {self.num_local}")
        check(min(self.std) > 0, f"views.std must be above 0, got {self.std}")

    def sides(self, epochs: int) -> set[int]:
        """All sides that views have in so many epochs, or in evaluation, pixels."""
        local = {self.local_size} if self.num_local else set()
        return {self.size, *map(self.size_at, range(epochs)), *local}

    def size_at(self, epoch: int) -> int:
        """Side of the large views in `epoch`, from 0, pixels."""
        if not self.size_schedule:
            return self.size
        epochs, sides = zip(*self.size_schedule, strict=True)
        if epoch <= epochs[0] or epoch >= epochs[-1]:
            return sides[0] if epoch <= epochs[0] else sides[-1]
        return max(32, round(float(np.interp(epoch, epochs, sides)) / 32) * 32)
