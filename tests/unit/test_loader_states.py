"""States of the iteration that no loader has written."""

from pathlib import Path

import pytest

from ffcv import Loader, OrderOption, _core
from small_files import NUMBERS_ONLY, write_numbers


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epoch": -1, "samples_consumed": 0}, "the state's epoch must be at least 0, got -1"),
        ({"epoch": 1 << 40, "samples_consumed": 0}, "the state's epoch must be at most 4294967295, got 1099511627776"),
        ({"samples_consumed": -1}, "the state says -1 samples of epoch 0, which has 20"),
        ({"samples_consumed": 21}, "the state says 21 samples of epoch 0, which has 20"),
    ],
)
def test_numbers_that_no_state_has_are_named(tmp_path: Path, changed: dict[str, int], message: str) -> None:
    loader = Loader(write_numbers(tmp_path / "numbers.beton", 20), 5, pipelines=NUMBERS_ONLY)
    with pytest.raises(ValueError, match=message):
        loader.load_state_dict(loader.state_dict() | changed)
    assert len(list(loader)) == 4


def test_iterators_that_nobody_uses_are_no_epochs_in_whatever_order_they_go(tmp_path: Path) -> None:
    loader = Loader(write_numbers(tmp_path / "numbers.beton", 20), 5, pipelines=NUMBERS_ONLY)
    for first in (0, 1):
        iterators = [iter(loader), iter(loader)]
        assert loader.next_epoch == 2
        del iterators[first]
        iterators.clear()
        assert loader.next_epoch == 0
        assert (loader.state_dict()["epoch"], loader.state_dict()["samples_consumed"]) == (0, 0)
    unused, used = iter(loader), iter(loader)
    next(used)
    del unused
    assert (loader.state_dict()["epoch"], loader.state_dict()["samples_consumed"]) == (1, 5)
    assert len(list(used)) == 3
    assert loader.next_epoch == loader.state_dict()["epoch"] == 2


def test_an_iteration_that_cannot_begin_is_no_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = Loader(write_numbers(tmp_path / "numbers.beton", 20), 5, pipelines=NUMBERS_ONLY)
    state = loader.state_dict()
    with monkeypatch.context() as patched:
        patched.setattr(_core, "Renderer", None)  # as a system that gives no more threads
        with pytest.raises(TypeError):
            iter(loader)
    assert loader.state_dict() == state
    assert loader.next_epoch == 0


def test_a_quasi_random_order_of_other_groups_is_refused(tmp_path: Path) -> None:
    path = write_numbers(tmp_path / "numbers.beton", 20)
    first, other = (
        Loader(path, 5, order=OrderOption.QUASI_RANDOM, order_kwargs={"pages_in_flight": number}, seed=1)
        for number in (2, 4)
    )
    state = first.state_dict()
    with pytest.raises(ValueError, match="with pages_in_flight=2, but the loader has 4: pass order_kwargs="):
        other.load_state_dict(state)
    first.load_state_dict(state)
    with pytest.raises(ValueError, match=r"pages_in_flight must be a whole number at least 1, got 2\.5"):
        Loader(path, 5, order=OrderOption.QUASI_RANDOM, order_kwargs={"pages_in_flight": 2.5})


@pytest.mark.parametrize(
    "damaged", [{"parts": 2}, {"parts": 0, "samples_a_piece": 5}, {"parts": 2, "samples_a_piece": 0}]
)
def test_parts_that_are_none_are_refused(tmp_path: Path, damaged: dict[str, int]) -> None:
    loader = Loader(write_numbers(tmp_path / "numbers.beton", 20), 5, order=OrderOption.SEQUENTIAL_CONTIGUOUS)
    with pytest.raises(ValueError, match=r"the state's (parts|samples_a_piece) must be a whole number at least 1"):
        loader.load_state_dict(loader.state_dict() | {"order_state": damaged})
