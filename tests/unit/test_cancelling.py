"""Nobody waits for a sample that takes long: not the end of the process, not that of a loader."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core_render import EndlessSample
from datasets import write_photos
from ffcv import Loader, _core
from ffcv.transforms import CenterCrop

PATIENCE_S = 60  # only turns a hang into a failure


def test_a_cancelled_renderer_begins_no_further_view() -> None:
    renderer = _core.Renderer(1)
    passes = [renderer.another() for _ in range(2)]  # on the same threads, one after the other
    for each in passes:
        sample = EndlessSample(each)
        each.cancel()
        sample.thread.join(PATIENCE_S)
        assert str(sample.error) == "rendering was cancelled: nobody waits for it"
        assert (sample.last == sample.UNTOUCHED).all()


ENDING = """
import atexit

def at_the_end():  # registered before ffcv's own handler, so called after it
    sample.thread.join()
    print(sample.error)
    print((sample.last == sample.UNTOUCHED).all())

atexit.register(at_the_end)
import ffcv
from core_render import EndlessSample
sample = EndlessSample(ffcv._core.Renderer(1))
"""


def test_a_process_that_ends_begins_no_further_view() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", ENDING]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == ["rendering was cancelled: the process is ending", "True"]


class WaitingRenderer:
    """Stands for one whose sample takes for ever."""

    def __init__(self) -> None:
        self.begun, self.cancelled = threading.Event(), threading.Event()

    def another(self) -> WaitingRenderer:
        return self

    def render(self, *_arguments: Any) -> None:
        self.begun.set()
        self.cancelled.wait(PATIENCE_S)
        raise RuntimeError("rendering was cancelled")

    def cancel(self) -> None:
        self.cancelled.set()


@pytest.mark.parametrize("close", [lambda loader, iterator: iterator.close(), lambda loader, iterator: loader.close()])
def test_closing_cancels_what_is_being_rendered(tmp_path: Path, close: Callable[[Loader, Any], None]) -> None:
    loader = Loader(write_photos(tmp_path / "x.beton", 4), 2, pipelines={"image": [CenterCrop((16, 16), 1.0)]})
    renderer: Any = WaitingRenderer()
    loader._renderers[os.getpid()] = renderer
    iterator = iter(loader)
    assert renderer.begun.wait(PATIENCE_S)
    close(loader, iterator)
    assert renderer.cancelled.is_set()
    iterator._thread.join(PATIENCE_S)
    assert not iterator._thread.is_alive()
    with pytest.raises(StopIteration):  # the interruption is no error of anybody's
        next(iterator)


def test_dropping_an_iterator_cancels_what_it_renders(tmp_path: Path) -> None:
    loader = Loader(write_photos(tmp_path / "x.beton", 4), 2, pipelines={"image": [CenterCrop((16, 16), 1.0)]})
    renderer: Any = WaitingRenderer()
    loader._renderers[os.getpid()] = renderer
    iterator = iter(loader)
    assert renderer.begun.wait(PATIENCE_S)
    del iterator
    assert renderer.cancelled.wait(PATIENCE_S)
