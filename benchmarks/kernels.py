"""CPU milliseconds of each primitive on one core, at 224x224x3, for every instruction set that this machine has.

    python benchmarks/kernels.py                # best of 7 turns
    python benchmarks/kernels.py --only blur    # those whose name contains a text

Each row is the whole path of one raw image through the core (copy into planes, the operation, packing as uint8), less
the path without the operation.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from ffcv import _core
from ffcv._core import OpCode
from options import new_parser

SIDE = 224
BATCH = 100

OPERATIONS: dict[str, tuple[OpCode, Sequence[float]]] = {
    "brightness": (OpCode.color_jitter, (1.2, 1, 1, 0, 0)),
    "contrast": (OpCode.color_jitter, (1, 1.2, 1, 0, 0)),
    "saturation": (OpCode.color_jitter, (1, 1, 1.2, 0, 0)),
    "hue": (OpCode.color_jitter, (1, 1, 1, 0.1, 0)),
    "color jitter, all four": (OpCode.color_jitter, (1.2, 1.2, 1.2, 0.1, 0)),
    "grayscale": (OpCode.grayscale, (1,)),
    "solarize": (OpCode.solarize, (1, 128)),
    "blur, kernel 23, sigma 2": (OpCode.gaussian_blur, (2.0, 23)),
    "blur, kernel 23, sigma 1": (OpCode.gaussian_blur, (1.0, 23)),
}

# The size of the image, the operation if any, and the type of the output.
PATHS: dict[str, tuple[tuple[int, int], tuple[OpCode, Sequence[float]] | None, type]] = {
    "copy + pack uint8": ((SIDE, SIDE), None, np.uint8),
    "normalise + pack float32": ((SIDE, SIDE), None, np.float32),
    "normalise + pack float16": ((SIDE, SIDE), None, np.float16),
    "crop 350x300 -> 224": ((300, 350), None, np.uint8),
    **{name: ((SIDE, SIDE), op, np.uint8) for name, op in OPERATIONS.items()},
}


def milliseconds(size: tuple[int, int], op: tuple[OpCode, Sequence[float]] | None, dtype: type, turns: int) -> float:
    """Best time of one image, in ms."""
    height, width = size
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8).reshape(-1)
    ops = [(op[0], np.tile(np.array([op[1]], np.float32), (BATCH, 1)))] if op else []
    boxes = np.tile(np.array([[0, 0, height, width]], np.int32), (BATCH, 1))
    out = np.empty((BATCH, SIDE, SIDE, 3), dtype)
    view = _core.View(boxes, None, SIDE, SIDE, ops, out, False, [0.01] * 3, [-1.0] * 3)
    renderer = _core.Renderer(1)
    offsets, sizes = np.zeros(BATCH, np.uint64), np.full(BATCH, image.size, np.uint64)
    modes, shapes = np.ones(BATCH, np.uint8), np.tile(np.array([size], np.int32), (BATCH, 1))
    times = []
    for _ in range(turns + 1):
        start = time.process_time()  # other work on the machine does not count
        renderer.render(image, offsets, sizes, modes, shapes, [view])
        times.append(time.process_time() - start)
    return min(times[1:]) / BATCH * 1000


def main() -> None:
    arguments = new_parser(__doc__, turns=7, only=True).parse_args()

    from rich.console import Console
    from rich.table import Table

    levels = [level for level in ("v2", "v3", "v4", "v4_vnni", "baseline") if _core.select_isa(level)]
    table = Table("CPU ms an image", *levels)
    rows: dict[str, list[str]] = {}
    for level in levels:
        _core.select_isa(level)
        plain = milliseconds((SIDE, SIDE), None, np.uint8, arguments.turns)
        for name, (size, op, dtype) in PATHS.items():
            if arguments.only in name:
                whole = milliseconds(size, op, dtype, arguments.turns)
                rows.setdefault(name, []).append(f"{whole - plain if op else whole:.3f}")
    for name, row in rows.items():
        table.add_row(name, *row)
    Console().print(table)


if __name__ == "__main__":
    main()
