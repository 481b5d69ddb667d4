"""One image through the core, without a file or a loader."""

from collections.abc import Sequence

import numpy as np

from ffcv import _core


def render(
    image: np.ndarray,
    box: tuple[int, int, int, int],
    size: tuple[int, int],
    ops: Sequence[tuple[_core.OpCode, Sequence[float]]] = (),
    *,
    flip: bool = False,
    jpeg: np.ndarray | None = None,
    behind: bytes = b"",
    dtype: type = np.uint8,
    channels_first: bool = False,
    scale: Sequence[float] = (1, 1, 1),
    bias: Sequence[float] = (0, 0, 0),
    interpolation: str = "bilinear",
) -> np.ndarray:
    """Renders one view of `image` (uint8 [H, W, 3]; or of `jpeg`, then `image` only gives the size; `behind` it lie
    these bytes)."""
    shape = (1, 3, *size) if channels_first else (1, *size, 3)
    out = np.full(shape, 99, dtype)  # poison
    columns = [(code, np.array([parameters], np.float32)) for code, parameters in ops]
    view = _core.View(
        np.array([box], np.int32),
        np.array([flip], np.uint8),
        *size,
        columns,
        out,
        channels_first,
        scale,
        bias,
        interpolation=_core.Interpolation[interpolation],
    )
    data = np.ascontiguousarray(image).reshape(-1) if jpeg is None else jpeg
    errors = _core.Renderer(1).render(
        np.concatenate([data, np.frombuffer(behind, np.uint8)]),
        np.zeros(1, np.uint64),
        np.array([data.size], np.uint64),
        np.array([jpeg is None], np.uint8),
        np.array([image.shape[:2]], np.int32),
        [view],
        behind=np.array([len(behind)], np.uint64),
    )
    if errors:
        raise _core.DecodeError(errors[0][1])
    return out[0]


def render_batch(images: np.ndarray, ops: Sequence[tuple[_core.OpCode, np.ndarray]], threads: int = 2) -> np.ndarray:
    """Applies operations with their parameters, float32 [B, columns], to images, uint8 [B, H, W, 3]."""
    batch, height, width, _ = images.shape
    out = np.full_like(images, 99)  # poison
    boxes = np.tile(np.array([[0, 0, height, width]], np.int32), (batch, 1))
    view = _core.View(boxes, None, height, width, list(ops), out, False, [1, 1, 1], [0, 0, 0])
    step = height * width * 3
    errors = _core.Renderer(threads).render(
        np.ascontiguousarray(images).reshape(-1),
        np.arange(batch, dtype=np.uint64) * np.uint64(step),
        np.full(batch, step, np.uint64),
        np.ones(batch, np.uint8),
        np.tile(np.array([[height, width]], np.int32), (batch, 1)),
        [view],
    )
    assert not errors, errors
    return out
