"""Changes to chosen samples only: poisoned images, replaced labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ffcv.transforms.base import SampleTransform
from ffcv.transforms.tensors import send, tensor_of
from ffcv.transforms.validation import check_range, is_number


class ChosenParams(NamedTuple):
    applied: np.ndarray  # bool [B]


class _Chosen(SampleTransform):
    """What changes the samples `indices` (positions in the dataset) alone."""

    def __init__(self, indices: Sequence[int] | np.ndarray) -> None:
        self.indices = np.unique(np.asarray(indices))
        if self.indices.size and not (np.issubdtype(self.indices.dtype, np.integer) and self.indices[0] >= 0):
            raise ValueError(f"indices must be positions in the dataset, integers >= 0, got {indices!r}")

    def sample(self, u: np.ndarray, samples: np.ndarray) -> ChosenParams:
        return ChosenParams(np.isin(samples, self.indices))


class Poison(_Chosen):
    """Blends a picture over the images `indices`: image * (1 - alpha) + mask * alpha.

    Args:
        mask: [H, W, 3], values in 0..255.
        alpha: [H, W], opacity in [0, 1].
        indices: Which samples, by their index in the dataset.
        clamp: Range of the result.

    Works on arrays or tensors [B, H, W, 3].
    """

    def __init__(
        self,
        mask: np.ndarray,
        alpha: np.ndarray,
        indices: Sequence[int] | np.ndarray,
        clamp: tuple[float, float] = (0, 255),
    ) -> None:
        super().__init__(indices)
        self.mask, self.alpha = _numbers("mask", mask), _numbers("alpha", alpha)
        if self.mask.ndim != 3 or self.mask.shape[2] != 3:
            raise ValueError(f"mask must be [H, W, 3], got {list(self.mask.shape)}")
        if not ((self.mask >= 0) & (self.mask <= 255)).all():
            raise ValueError("mask must hold numbers within 0..255")
        if self.alpha.shape != self.mask.shape[:2] or not ((self.alpha >= 0) & (self.alpha <= 1)).all():
            raise ValueError(f"alpha must be {list(self.mask.shape[:2])} within [0, 1], got {list(self.alpha.shape)}")
        self.clamp = check_range("clamp", clamp, 0, 255)

    def apply(self, batch: Any, params: ChosenParams) -> Any:
        if batch.shape[1:] != self.mask.shape:
            raise ValueError(f"mask is {list(self.mask.shape)}, but the images are {list(batch.shape[1:])}")
        result = tensor_of(batch).clone()
        rows, alpha, mask = send([np.flatnonzero(params.applied), self.alpha[..., None], self.mask], result.device)
        rows = rows.long()
        mixed = (result[rows].float() * (1.0 - alpha) + mask * alpha).clamp(*self.clamp)
        result[rows] = mixed.to(result.dtype)
        return result.numpy() if isinstance(batch, np.ndarray) else result

    def __repr__(self) -> str:
        height, width, _ = self.mask.shape
        return f"Poison({height}x{width} mask, {len(self.indices)} indices, clamp={self.clamp})"


def _numbers(name: str, values: Any) -> np.ndarray:
    try:
        return np.asarray(values, np.float32)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be an array of numbers, got {values!r}") from None


class ReplaceLabel(_Chosen):
    """Gives the samples `indices` (positions in the dataset) the label `new_label`.

    Args:
        indices: Which samples.
        new_label: Their label.
    """

    def __init__(self, indices: Sequence[int] | np.ndarray, new_label: int) -> None:
        super().__init__(indices)
        if not is_number(new_label):
            raise ValueError(f"new_label must be a number, got {new_label!r}")
        self.new_label = new_label

    def apply(self, batch: Any, params: ChosenParams) -> Any:
        result = batch.copy() if isinstance(batch, np.ndarray) else batch.clone()
        rows: Any = np.flatnonzero(params.applied)
        rows = rows if isinstance(batch, np.ndarray) else send([rows], batch.device)[0].long()
        result[rows] = self.new_label
        return result

    def __repr__(self) -> str:
        return f"ReplaceLabel({len(self.indices)} indices, {self.new_label})"
