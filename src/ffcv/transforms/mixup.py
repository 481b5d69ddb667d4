"""Mixup (Zhang et al., 2018), as FFCV does it: each sample is mixed with the one before it in the batch.

Images and labels of one loader agree without a seed: both draw from the loader's mixup stream.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from ffcv.transforms.base import BatchTransform, SampleTransform
from ffcv.transforms.form import Form
from ffcv.transforms.tensors import send, tensor_of
from ffcv.transforms.validation import check_count, check_number, check_seed


class MixupParams(NamedTuple):
    weight: np.ndarray  # float [B], share of the sample itself, in [0, 1]


@functools.lru_cache(maxsize=16)
def _half_quantiles(alpha: float, steps: int = 8192) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the lower half's probability, and the Beta(alpha, alpha) quantiles (0..1/2) that they belong to."""
    if alpha < 1.0:  # the density has a pole at 0; in s = t^alpha it has none
        s = np.linspace(0.0, 0.5**alpha, steps)
        t = s ** (1.0 / alpha)
        density = (1.0 - t) ** (alpha - 1.0)
        cumulative = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) * np.diff(s))])
    else:
        t = np.linspace(0.0, 0.5, steps)
        density = (4.0 * t * (1.0 - t)) ** (alpha - 1.0)
        cumulative = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) * np.diff(t))])
    return cumulative / cumulative[-1], t


def symmetric_beta(u: np.ndarray, alpha: float) -> np.ndarray:
    """Beta(alpha, alpha) variates from uniforms in [0, 1), by inversion of a table."""
    cumulative, quantiles = _half_quantiles(float(alpha))
    lower = u < 0.5
    half = np.interp(2.0 * np.where(lower, u, 1.0 - u), cumulative, quantiles)
    return np.where(lower, half, 1.0 - half)


@dataclass(frozen=True)
class _Mixup(SampleTransform):
    """The weights that images and labels share.

    Attributes:
        alpha: Weights follow Beta(alpha, alpha); > 0.
        same_lambda: One weight for the whole batch (its first sample's) instead of one a sample.
        seed: None for the loader's mixup stream.
    """

    alpha: float
    same_lambda: bool
    seed: int | None = None

    family: ClassVar[str] = "mixup"
    draws: ClassVar[int] = 1
    shared: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_number("alpha", self.alpha, 0.0, low_open=True)
        check_seed("seed", self.seed)

    def sample(self, u: np.ndarray, samples: np.ndarray) -> MixupParams:
        weight = symmetric_beta(u[:, 0], self.alpha)
        return MixupParams(np.full_like(weight, weight[0]) if self.same_lambda and len(weight) else weight)


@dataclass(frozen=True)
class ImageMixup(_Mixup):
    """weight * image + (1 - weight) * the image before it in the batch; uint8 or float, arrays or tensors."""

    def apply(self, batch: Any, params: MixupParams) -> Any:
        x = tensor_of(batch)
        weight = send([params.weight], x.device)[0].view(-1, *[1] * (x.ndim - 1))
        mixed = torch.lerp(x.roll(1, 0).float(), x.float(), weight)
        mixed = (mixed if x.is_floating_point() else mixed.round()).to(x.dtype)
        return mixed.numpy() if isinstance(batch, np.ndarray) else mixed


@dataclass(frozen=True)
class LabelMixup(_Mixup):
    """Labels [B] or [B, 1] -> float32 [B, 3]: the label, the label before it in the batch, the weight of the first."""

    def apply(self, batch: Any, params: MixupParams) -> Any:
        labels = tensor_of(batch)
        if labels.numel() != len(batch):
            raise ValueError(f"LabelMixup takes one label a sample, [B] or [B, 1], got {list(labels.shape)}")
        labels = labels.reshape(len(batch)).float()
        weight = send([params.weight], labels.device)[0]
        table = torch.stack([labels, labels.roll(1, 0), weight], dim=1)
        return table.numpy() if isinstance(batch, np.ndarray) else table


class MixupToOneHot(BatchTransform):
    """What `LabelMixup` gives, [B, 3], as class weights, float32 [B, num_classes]; place it after `ToTensor`."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = check_count("num_classes", num_classes, 1)

    def after(self, form: Form) -> Form:
        form.check_tensor(self)
        return form

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        weights = torch.zeros(len(batch), self.num_classes, device=batch.device)
        for column, share in ((0, batch[:, 2]), (1, 1.0 - batch[:, 2])):
            weights.scatter_add_(1, batch[:, column : column + 1].long(), share[:, None].float())
        return weights

    def __repr__(self) -> str:
        return f"MixupToOneHot({self.num_classes})"
