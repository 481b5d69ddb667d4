"""What was done to images, as arrays: a label pipeline states the parameters of the image pipeline beside it.

One wrapper around the same definitions: with the same arguments and seed, the same parameters. So whatever draws needs
a seed in both pipelines; loaders refuse labels without one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ffcv.transforms.affine import RandomTranslate
from ffcv.transforms.base import ArrayDecoder, ImageDecoder, ImageTransform, RandomTransform
from ffcv.transforms.color_jitter import Amount, RandomColorJitter
from ffcv.transforms.crops import RandomResizedCrop
from ffcv.transforms.gaussian_blur import GaussianBlur
from ffcv.transforms.grayscale import RandomGrayscale
from ffcv.transforms.solarize import RandomSolarization


class Label(RandomTransform):
    """Appends the parameters of an image transform to a label pipeline's table.

    Args:
        transform: Any image transform, with the arguments and seed of the one in the image pipeline.
    """

    def __init__(self, transform: ImageTransform) -> None:
        if not isinstance(transform, ImageTransform):
            raise ValueError(f"transform must be an image transform, got {transform!r}")
        self.transform = transform
        self.family, self.seed, self.draws = transform.family, transform.seed, transform.draws  # type: ignore[misc]
        self.further_seeds = transform.further_seeds

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> Any:
        return self.transform.sample(u, sizes)

    def label(self, params: Any) -> np.ndarray:
        return self.transform.label(params)

    def __repr__(self) -> str:
        return f"Label({self.transform!r})"


class LabelDecoder(ArrayDecoder):
    """The crop boxes of a decoder, int32 [B, 6]: image width and height, top row, left column, height, width.

    Args:
        decoder: Any image decoder, with the arguments and seed of the one in the image pipeline.
    """

    def __init__(self, decoder: ImageDecoder) -> None:
        if not isinstance(decoder, ImageDecoder):
            raise ValueError(f"decoder must be an image decoder, got {decoder!r}")
        self.decoder = decoder
        self.family, self.seed, self.draws = decoder.family, decoder.seed, decoder.draws  # type: ignore[misc]
        self.further_seeds = decoder.further_seeds

    @property
    def output_size(self) -> tuple[int, int]:
        """(height, width) in pixels of the views that the label's transforms are for. Assigning is the decoder's."""
        return self.decoder.output_size

    @output_size.setter
    def output_size(self, output_size: int | tuple[int, int]) -> None:
        self.decoder.output_size = output_size  # pyright: ignore[reportAttributeAccessIssue] - checked where it is used

    def bound(self, heights: np.ndarray, widths: np.ndarray) -> LabelDecoder:
        decoder = self.decoder.bound(heights, widths)
        return self if decoder is self.decoder else LabelDecoder(decoder)

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> Any:
        return self.decoder.sample(u, sizes)

    def array(self, params: Any) -> np.ndarray:
        return np.stack(params[:6], axis=1).astype(np.int32)

    def __repr__(self) -> str:
        return f"LabelDecoder({self.decoder!r})"


def LabelRandomResizedCrop(
    output_size: int | tuple[int, int],
    seed: int | None = None,
    scale: Sequence[float] = (0.08, 1.0),
    ratio: Sequence[float] = (0.75, 4 / 3),
    second_seed: int | None = None,
) -> LabelDecoder:
    """FFCV-SSL's name: the crop boxes of `RandomResizedCrop`, int32 [B, 6]; see `LabelDecoder`."""
    return LabelDecoder(RandomResizedCrop(output_size, scale, ratio, seed, second_seed))


def LabelColorJitter(
    jitter_prob: float = 0.5,
    brightness: Amount = 0.8,
    contrast: Amount = 0.4,
    saturation: Amount = 0.4,
    hue: Amount = 0.2,
    seed: int | None = None,
) -> Label:
    """FFCV-SSL's name: appends the factors of `RandomColorJitter`; 1, 1, 1, 0 where not applied."""
    return Label(RandomColorJitter(jitter_prob, brightness, contrast, saturation, hue, seed))


def LabelSolarization(solarization_prob: float = 0.5, threshold: int = 128, seed: int | None = None) -> Label:
    """FFCV-SSL's name: appends 1 where `RandomSolarization` is applied, else 0."""
    return Label(RandomSolarization(solarization_prob, threshold, seed))


def LabelGrayscale(gray_prob: float = 0.2, seed: int | None = None) -> Label:
    """FFCV-SSL's name: appends 1 where `RandomGrayscale` is applied, else 0."""
    return Label(RandomGrayscale(gray_prob, seed))


def LabelGaussianBlur(
    blur_prob: float, kernel_size: int = 5, sigma: float | Sequence[float] = (0.1, 2.0), seed: int | None = None
) -> Label:
    """FFCV-SSL's name: appends the sigma of `GaussianBlur`, 0 where not applied."""
    return Label(GaussianBlur(blur_prob, kernel_size, sigma, seed))


def LabelTranslate(padding: int, fill: float | Sequence[float] = (128, 128, 128), seed: int | None = None) -> Label:
    """FFCV-SSL's name: appends how far `RandomTranslate` moves the picture, down and right in pixels."""
    return Label(RandomTranslate(padding, fill, seed))
