"""One image through the core, without a file or a loader."""

import threading
import time
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


class EndlessSample:
    """One sample whose views take minutes, rendered in a thread until it is cancelled.

    Attributes:
        last: uint8 [1, 256, 256, 3]: the last view, `UNTOUCHED` until it is rendered.
        error: What ended the rendering.
    """

    UNTOUCHED = 99

    def __init__(self, renderer: _core.Renderer) -> None:
        self._renderer = renderer
        self._first = np.full((1, 256, 256, 3), self.UNTOUCHED, np.uint8)
        self.last = self._first.copy()
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._render, daemon=True)
        self.thread.start()
        while (self._first == self.UNTOUCHED).any():
            time.sleep(0.001)

    def _render(self) -> None:
        image = np.zeros(256 * 256 * 3, np.uint8)
        blurs = [(_core.OpCode.gaussian_blur, np.array([[2.0, 23.0]], np.float32))] * 50
        boxes = np.array([[0, 0, 256, 256]], np.int32)
        first, slow, last = (
            _core.View(boxes, None, 256, 256, ops, out, False, [1, 1, 1], [0, 0, 0])
            for ops, out in (([], self._first), (blurs, self._first.copy()), ([], self.last))
        )
        views = [first, *[slow] * 20_000, last]
        sizes = np.array([image.size], np.uint64)
        shapes = np.array([[256, 256]], np.int32)
        try:
            self._renderer.render(image, np.zeros(1, np.uint64), sizes, np.ones(1, np.uint8), shapes, views)
        except RuntimeError as error:
            self.error = error
