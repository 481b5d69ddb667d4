"""What becomes of users' code that numba cannot compile."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ffcv.pipeline.compiler import Compiler

pytest.importorskip("numba", reason="numba is optional and not installed")


def imports(batch: Any) -> Any:
    import math

    return batch * math.floor(2.5)


def opens(batch: Any) -> Any:
    with np.errstate(over="ignore"):
        return batch * 2


def formats(batch: Any) -> Any:
    return batch * len(f"{2!r:>2}")


def builds(batch: Any) -> Any:
    return batch * {"a": 1, "b": "2"}.get("c", 2)


def masks(batch: Any) -> Any:
    """On which numba 0.68 fails without an error of its own."""
    grid, doubled = np.zeros((2, 2), np.int64), np.zeros((len(batch), 2, 2), np.int64)
    for i in range(len(batch)):
        doubled[i, grid == 0] = batch[i] * 2
    return doubled[:, 0, 0]


class Code:
    def __call__(self, batch: Any) -> Any:
        return batch * 2

    def method(self, batch: Any) -> Any:
        return batch * 2


def called(code: Callable[..., Any], batch: np.ndarray) -> tuple[Callable[..., Any], np.ndarray]:
    guarded = Compiler.guarded(code)
    return guarded, guarded(batch)


@pytest.mark.parametrize("code", [imports, opens, formats, builds, masks, Code(), Code().method])
def test_it_runs_as_plain_python_with_a_warning(code: Callable[..., Any]) -> None:
    batch = np.arange(3)
    with pytest.warns(UserWarning, match="numba cannot compile .*, which now runs as plain Python: "):
        guarded, result = called(code, batch)
    assert result.tolist() == [0, 2, 4]
    assert guarded(batch).tolist() == [0, 2, 4]  # and no further warning, which would be an error


@pytest.mark.filterwarnings("ignore:numba cannot compile builds")
def test_threads_that_meet_the_error_at_once_all_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Compiler, "num_threads", 2)
    monkeypatch.setattr(builds, "is_parallel", True, raising=False)
    guarded, found = Compiler.guarded(builds), []
    threads = [threading.Thread(target=lambda: found.append(guarded(np.arange(3)).tolist())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[0, 2, 4]] * 4
