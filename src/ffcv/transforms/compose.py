"""Transforms made of transforms: sequences, chances, choices. They stay data: masks over what their parts lower to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ffcv.transforms.base import ImageTransform, Op, only
from ffcv.transforms.validation import check_probability, check_seed, is_number


class ApplyParams(NamedTuple):
    applied: np.ndarray  # bool [B]
    parts: tuple[Any, ...]  # the parameters of each transform


class ChoiceParams(NamedTuple):
    choice: np.ndarray  # int64 [B], index of the transform
    parts: tuple[Any, ...]  # the parameters of each transform, chosen or not


@dataclass(frozen=True)
class _Composition(ImageTransform):
    """What all compositions share: their parts, and the draws that the parts take."""

    transforms: Sequence[ImageTransform]

    own_draws: ClassVar[int] = 0

    def __post_init__(self) -> None:
        parts = (self.transforms,) if isinstance(self.transforms, ImageTransform) else self.transforms
        if not isinstance(parts, Sequence) or not parts or not all(isinstance(t, ImageTransform) for t in parts):
            raise ValueError(f"transforms must be a list of image transforms, at least one, got {self.transforms!r}")
        if any(part.seed is not None for part in parts):
            kind = type(self).__name__
            raise ValueError(f"transforms draw from {kind}'s stream: give the seed to {kind} instead of its parts")
        check_seed("seed", self.seed)
        object.__setattr__(self, "transforms", tuple(parts))

    @property
    def draws(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.own_draws + sum(part.draws for part in self.transforms)

    def _sample_parts(self, u: np.ndarray, sizes: np.ndarray) -> tuple[Any, ...]:
        params, start = [], self.own_draws
        for part in self.transforms:
            params.append(part.sample(u[:, start : start + part.draws], sizes))
            start += part.draws
        return tuple(params)

    def _lower_parts(self, parts: Sequence[Any]) -> list[Op]:
        return [op for part, params in zip(self.transforms, parts, strict=True) for op in part.lower(params)]

    def label(self, params: Any) -> np.ndarray:
        own, parts = self._split(params)
        tables = [part.label(p) for part, p in zip(self.transforms, parts, strict=True)]
        return np.concatenate(own + tables, axis=1)

    def _split(self, params: Any) -> tuple[list[np.ndarray], Sequence[Any]]:
        """The composition's own columns, [B, 1] each, and the parameters of its parts."""
        return [params[0][:, None]], params.parts


@dataclass(frozen=True)
class Compose(_Composition):
    """Several image transforms, one after another (torchvision's `Compose`). Its parameters are theirs, as a tuple."""

    seed: int | None = None
    family: ClassVar[str] = "compose"

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> tuple[Any, ...]:
        return self._sample_parts(u, sizes)

    def lower(self, params: tuple[Any, ...]) -> list[Op]:
        return self._lower_parts(params)

    def _split(self, params: tuple[Any, ...]) -> tuple[list[np.ndarray], Sequence[Any]]:
        return [], params


@dataclass(frozen=True)
class RandomApply(_Composition):
    """All of `transforms`, in order, with probability `p`, else nothing (torchvision's `RandomApply`)."""

    p: float = 0.5
    seed: int | None = None

    family: ClassVar[str] = "apply"
    own_draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probability("p", self.p)

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> ApplyParams:
        return ApplyParams(u[:, 0] < self.p, self._sample_parts(u, sizes))

    def lower(self, params: ApplyParams) -> list[Op]:
        return only(params.applied, self._lower_parts(params.parts)) if params.applied.any() else []


@dataclass(frozen=True)
class RandomChoice(_Composition):
    """One of `transforms` for each sample (torchvision's `RandomChoice`).

    Attributes:
        transforms: Image transforms; put a `Compose` for a sequence.
        p: Their weights, >= 0; None for equal ones.
    """

    p: Sequence[float] | None = None
    seed: int | None = None

    family: ClassVar[str] = "choice"
    own_draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = [1.0] * len(self.transforms) if self.p is None else list(np.ravel(np.asarray(self.p)))
        ok = len(weights) == len(self.transforms) and all(is_number(w) and w >= 0 for w in weights) and sum(weights) > 0
        if not ok:
            raise ValueError(f"p must be None or one weight >= 0 for each of {len(self.transforms)}, got {self.p!r}")
        object.__setattr__(self, "p", tuple(float(weight / sum(weights)) for weight in weights))

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> ChoiceParams:
        bounds = np.cumsum(self.p)[:-1]  # type: ignore[arg-type] - __post_init__ made it a tuple
        return ChoiceParams(np.searchsorted(bounds, u[:, 0], side="right"), self._sample_parts(u, sizes))

    def lower(self, params: ChoiceParams) -> list[Op]:
        chosen = [(params.choice == i) for i in range(len(self.transforms))]
        parts = zip(chosen, self.transforms, params.parts, strict=True)
        return [op for rows, part, p in parts if rows.any() for op in only(rows, part.lower(p))]
