"""`ffcv.libffcv.memcpy`, which users' decoders call."""

from typing import Any

import numpy as np
import pytest

from ffcv.libffcv import memcpy
from ffcv.pipeline.compiler import Compiler


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.float64, np.float32])
def test_all_bytes_arrive(dtype: Any, compiled: bool) -> None:
    source = np.random.default_rng(0).uniform(1, 255, (10, 9)).astype(dtype)
    dest = np.zeros((10, 9), dtype)
    Compiler.compile(memcpy)(source, dest)
    assert np.array_equal(source, dest)


def test_the_rest_of_a_longer_array_stays(compiled: bool) -> None:
    source, dest = np.arange(1, 5, dtype=np.uint8), np.full((2, 3), 9, np.uint8)
    source.flags.writeable = False  # as bytes of a file are
    Compiler.compile(memcpy)(source, dest)
    assert dest.tolist() == [[1, 2, 3], [4, 9, 9]]


def test_nothing_is_written_beyond_the_end(compiled: bool) -> None:
    with pytest.raises(ValueError, match="memcpy of 24 bytes into an array of 8: make it larger"):
        Compiler.compile(memcpy)(np.zeros(3), np.zeros(1))


def test_arrays_with_gaps_are_refused() -> None:
    with pytest.raises(ValueError, match="contiguous"):
        memcpy(np.zeros(4), np.zeros((4, 2))[:, 0])
