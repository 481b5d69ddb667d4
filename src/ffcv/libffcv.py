"""The function of the original's library that users' own decoders call."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["memcpy"]


def memcpy(source: Any, dest: Any) -> None:
    """Copies all bytes of `source` to the beginning of `dest`, and leaves what follows there as it is.

    Plain enough for `Compiler.compile(memcpy)`, to be called from code that numba compiles.

    Args:
        source: Array of any shape and dtype, contiguous (C order).
        dest: Likewise, of as many bytes or more.

    Raises:
        ValueError: `dest` is too small, or one of them is not contiguous.
    """
    if not (source.flags.c_contiguous and dest.flags.c_contiguous):
        raise ValueError("memcpy copies between contiguous arrays: assign instead, dest[...] = source")
    if source.nbytes > dest.nbytes:
        raise ValueError(f"memcpy of {source.nbytes} bytes into an array of {dest.nbytes}: make it larger")
    content = source.reshape(-1).view(np.uint8)
    dest.reshape(-1).view(np.uint8)[: content.size] = content
