"""What an image takes in the core, without Python: CPU ms in one thread, for each instruction set.

    python benchmarks/core.py                       the photographs of ../shared/data, or scikit-learn's two
    python benchmarks/core.py --workloads P1 P4 --turns 100

The core's calls for the first batches of each workload of views.py are recorded, then repeated. Of each batch the least
time counts, because other work on a machine only ever adds to it. To compare two versions, run it in their checkouts in
turns.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from ffcv import Loader, _core
from ffcv.pipeline.steps import BatchKey
from options import new_parser
from systems import ours
from workloads import BATCH_SIZE, WORKLOADS, prepare

BATCHES = 5


class Recorder:
    """Stands in for a `_core.Renderer`, and keeps what it is asked for."""

    def __init__(self, renderer: _core.Renderer) -> None:
        self._renderer = renderer
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def render(self, *arguments: Any, **options: Any) -> Any:
        self.calls.append((arguments, options))
        return self._renderer.render(*arguments, **options)


def record(loader: Loader) -> Recorder:
    """The first batches; the calls keep their memory."""
    maker, order = loader._maker(), loader.traversal_order.sample_order(0)
    recorder: Any = Recorder(maker.renderer)
    for number in range(min(BATCHES, len(loader))):
        samples = order[number * BATCH_SIZE : (number + 1) * BATCH_SIZE]
        maker.plan.render(maker.plan.prepare(BatchKey(samples, 0, number)), recorder, maker.slots.allocate)
    return recorder


def ms_an_image(recorder: Recorder, turns: int) -> float:
    renderer = _core.Renderer(1)
    least = [float("inf")] * len(recorder.calls)
    for _ in range(turns):
        for i, (arguments, options) in enumerate(recorder.calls):
            began = time.process_time()
            renderer.render(*arguments, **options)
            least[i] = min(least[i], time.process_time() - began)
    return 1000 * sum(least) / sum(len(arguments[1]) for arguments, _ in recorder.calls)


def main() -> None:
    from rich.console import Console
    from rich.table import Table

    parser = new_parser(__doc__, data=True, images=BATCHES * BATCH_SIZE, turns=40)
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS), choices=list(WORKLOADS))
    arguments = parser.parse_args()
    levels = [level for level in ("v2", "v3", "v4", "v4_vnni", "baseline") if _core.select_isa(level)]
    table = Table("CPU ms an image", *levels)
    with tempfile.TemporaryDirectory() as folder:
        source = prepare(arguments.data, Path(folder), 512, arguments.images)
        for workload in arguments.workloads:
            with ours.loader(workload, source, threads=1) as loader:
                recorder = record(loader)
                row = []
                for level in levels:
                    assert _core.select_isa(level)
                    row.append(f"{ms_an_image(recorder, arguments.turns):.3f}")
                table.add_row(workload, *row)
    Console().print(table)


if __name__ == "__main__":
    main()
