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
