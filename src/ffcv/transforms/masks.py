"""Patch masks for masked methods (MAE, BEiT, I-JEPA, ...): views of an image field that hold no pixels.

Loader(..., custom_field_mapper={"mask": "image"}, pipelines={"mask": [RandomMask((14, 14), 0.75), ToTensor()]})
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from ffcv.transforms.base import ArrayDecoder
from ffcv.transforms.validation import MOST_DRAWS, check_count, check_number, check_range, check_seed, check_size


class MaskParams(NamedTuple):
    mask: np.ndarray  # bool [B, h, w], True where a patch is masked


def _check_draws(mask: RandomMask | BlockMask) -> None:
    if mask.draws > MOST_DRAWS:
        raise ValueError(
            f"grid must have at most {MOST_DRAWS} patches (with the draws of all blocks, if any), got {mask.grid!r}"
        )


def _lowest(priority: np.ndarray, count: int) -> np.ndarray:
    """bool, True for the `count` lowest of each row of [B, n]."""
    ranks = np.argsort(np.argsort(priority, axis=1, kind="stable"), axis=1, kind="stable")
    return ranks < count


@dataclass(frozen=True)
class RandomMask(ArrayDecoder):
    """Masks patches at random, always int(ratio * h * w) of them (MAE: He et al., 2022).

    Attributes:
        grid: (h, w) in patches, or one number for both.
        ratio: Share of masked patches, in [0, 1].
    """

    grid: int | Sequence[int] = (14, 14)
    ratio: float = 0.75
    seed: int | None = None

    family: ClassVar[str] = "random_mask"

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", check_size("grid", self.grid))
        check_number("ratio", self.ratio, 0.0, 1.0)
        check_seed("seed", self.seed)
        _check_draws(self)

    @property
    def draws(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return math.prod(self.grid)  # type: ignore[arg-type] - __post_init__ made it a pair

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> MaskParams:
        mask = _lowest(u, int(self.ratio * u.shape[1]))
        return MaskParams(mask.reshape(-1, *self.grid))  # type: ignore[misc]

    def array(self, params: MaskParams) -> np.ndarray:
        return params.mask


@dataclass(frozen=True)
class BlockMask(ArrayDecoder):
    """Masks rectangular blocks of patches, always int(ratio * h * w) patches (after BEiT: Bao et al., 2022).

    Blocks are placed one after another until enough is masked; the last one is thinned out at random to the exact
    count, and patches at random fill up what `num_blocks` blocks leave.

    Attributes:
        grid: (h, w) in patches, or one number for both.
        ratio: Share of masked patches, in [0, 1].
        block_area: Range of one block's share of the grid, within (0, 1].
        aspect: Range of a block's height / width, drawn evenly on a log scale.
        num_blocks: Most blocks, >= 1.
    """

    grid: int | Sequence[int] = (14, 14)
    ratio: float = 0.4
    block_area: Sequence[float] = (0.08, 0.2)
    aspect: Sequence[float] = (0.3, 1 / 0.3)
    num_blocks: int = 16
    seed: int | None = None

    family: ClassVar[str] = "block_mask"

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", check_size("grid", self.grid))
        check_number("ratio", self.ratio, 0.0, 1.0)
        object.__setattr__(self, "block_area", check_range("block_area", self.block_area, 0.0, 1.0, low_open=True))
        object.__setattr__(self, "aspect", check_range("aspect", self.aspect, 0.0, math.inf, low_open=True))
        object.__setattr__(self, "num_blocks", check_count("num_blocks", self.num_blocks, 1))
        check_seed("seed", self.seed)
        _check_draws(self)

    @property
    def draws(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return 4 * self.num_blocks + math.prod(self.grid)  # type: ignore[arg-type]

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> MaskParams:
        rows, columns = self.grid  # type: ignore[misc]
        blocks, noise = u[:, : 4 * self.num_blocks].reshape(-1, self.num_blocks, 4), u[:, 4 * self.num_blocks :]
        area = rows * columns * (self.block_area[0] + (self.block_area[1] - self.block_area[0]) * blocks[..., 0])
        low, high = math.log(self.aspect[0]), math.log(self.aspect[1])
        aspect = np.exp(low + (high - low) * blocks[..., 1])
        height = np.clip(np.rint(np.sqrt(area * aspect)), 1, rows)[..., None]
        width = np.clip(np.rint(np.sqrt(area / aspect)), 1, columns)[..., None]
        top = np.floor(blocks[..., 2:3] * (rows - height + 1))
        left = np.floor(blocks[..., 3:] * (columns - width + 1))
        y, x = np.arange(rows), np.arange(columns)
        covered = ((y >= top) & (y < top + height))[..., :, None] & ((x >= left) & (x < left + width))[..., None, :]
        first = np.where(covered.any(axis=1), covered.argmax(axis=1), self.num_blocks).reshape(len(u), -1)
        mask = _lowest(first + noise, int(self.ratio * rows * columns))
        return MaskParams(mask.reshape(-1, rows, columns))

    def array(self, params: MaskParams) -> np.ndarray:
        return params.mask
