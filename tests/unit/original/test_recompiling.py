"""`loader.code` and `recompile=True`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ffcv import Loader
from ffcv.fields.basics import IntDecoder
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.operation import Operation
from ffcv.pipeline.state import State
from small_files import NUMBERS_ONLY

COUNT = 8


class Times(Operation):
    """Its code keeps what the factor was when it was made."""

    def __init__(self) -> None:
        self.factor = 1

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, AllocationQuery]:
        return previous_state, AllocationQuery(previous_state.shape, previous_state.dtype)

    def generate_code(self) -> Callable[..., Any]:
        factor = self.factor

        def times(batch: Any, destination: Any) -> Any:
            destination[:] = batch * factor
            return destination

        return times


def loader_with(path: Path, operation: Operation, recompile: bool) -> Loader:
    pipelines: dict[str, Any] = NUMBERS_ONLY | {"index": [IntDecoder(), operation]}
    return Loader(path, COUNT, num_workers=1, recompile=recompile, pipelines=pipelines)


def values_of(loader: Loader) -> list[int]:
    """Of the next epoch."""
    return next(iter(loader)).index.flatten().tolist()


@pytest.mark.parametrize("recompile", [False, True])
def test_code_is_made_anew_where_that_is_asked_for(numbers: Path, compiled: bool, recompile: bool) -> None:
    operation = Times()
    loader = loader_with(numbers, operation, recompile)
    assert values_of(loader) == list(range(COUNT))
    operation.factor = 3
    assert values_of(loader) == [i * (3 if recompile else 1) for i in range(COUNT)]


@pytest.mark.parametrize("recompile", [False, True])
def test_the_loaders_code_says_whether_it_was_made_anew(numbers: Path, recompile: bool) -> None:
    loader = loader_with(numbers, Times(), recompile)
    iter(loader)
    code = loader.code
    assert code is loader.plan
    iter(loader)
    assert (loader.code != code) == recompile
    assert str(loader.code) == str(code)
