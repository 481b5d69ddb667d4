"""States of the iteration that no loader has written."""

from pathlib import Path

import pytest

from ffcv import Loader
from small_files import NUMBERS_ONLY, write_numbers


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epoch": -1, "samples_consumed": 0}, "the state's epoch must be at least 0, got -1"),
        ({"epoch": 1 << 40, "samples_consumed": 0}, "the state's epoch must be at most 4294967295, got 1099511627776"),
        ({"samples_consumed": -1}, "the state's samples_consumed must be at least 0, got -1"),
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
