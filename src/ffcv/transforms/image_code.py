"""Image decoders called by hand: the core renders what the original's generated code would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ffcv import _core
from ffcv._by_hand import Code, MemoryRead, room_for

if TYPE_CHECKING:
    from ffcv.transforms.base import ImageDecoder

_NOTHING = np.empty(0, np.uint8)


class ImageCode(Code):
    """Decodes into uint8 [B, height, width, 3], with the loader's pixels; in one thread.

    Args:
        decoder: Knows its output size, and draws nothing.
        read: The function that reads memory.
    """

    def __init__(self, decoder: ImageDecoder, read: MemoryRead) -> None:
        self._decoder, self._read = decoder, read

    def __call__(
        self, batch_indices: NDArray[np.integer], destination: Any, metadata: NDArray[Any], storage_state: Any
    ) -> NDArray[np.uint8]:
        decoder, rows = self._decoder, metadata[batch_indices]
        height, width = decoder.output_size
        out = room_for((len(rows), height, width, 3), np.dtype(np.uint8), destination)
        if not out.flags.c_contiguous:
            raise ValueError("the destination must be contiguous (C order): decode into another array, then copy")
        contents = [self._read(pointer, storage_state) for pointer in rows["data_ptr"].astype(np.uint64)]
        sizes = np.array([content.size for content in contents], np.uint64)
        shapes = np.stack([rows["height"], rows["width"]], axis=1).astype(np.int64)
        boxes = decoder.boxes(decoder.sample(np.empty((len(rows), 0)), shapes))
        interpolation = _core.Interpolation[decoder.interpolation]
        view = _core.View(boxes, None, height, width, [], out, False, [1.0] * 3, [0.0] * 3, decoder.pad, interpolation)
        errors = _core.Renderer(1).render(
            np.concatenate([_NOTHING, *contents]),
            np.cumsum(sizes, dtype=np.uint64) - sizes,
            sizes,
            np.ascontiguousarray(rows["mode"]),
            shapes.astype(np.int32),
            [view],
        )
        if errors:
            position, message = errors[0]
            raise _core.DecodeError(f"sample {batch_indices[position]}: {message}")
        return out
