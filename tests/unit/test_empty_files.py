"""A file without samples, which ours never write, but others may."""

from pathlib import Path

import pytest

from beton_files import emptied
from datasets import write_photos
from ffcv import Loader, OrderOption
from ffcv.transforms import CenterCrop, PadRGBImageDecoder


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    return emptied(write_photos(tmp_path / "whole.beton", 1), tmp_path / "empty.beton")


@pytest.mark.parametrize("order", list(OrderOption))
@pytest.mark.parametrize("os_cache", [True, False])
def test_it_makes_a_loader_without_batches(empty: Path, order: OrderOption, os_cache: bool) -> None:
    for pipeline in ([], [CenterCrop((8, 8), 1)], [PadRGBImageDecoder()]):
        loader = Loader(empty, 2, drop_last=False, order=order, os_cache=os_cache, pipelines={"image": pipeline})
        assert (len(loader), list(loader)) == (0, [])
        assert loader.filter("label", lambda label: True).indices.tolist() == []
        with pytest.raises(IndexError, match="sample 0 of a file of 0"):
            loader[0]
        other = Loader(empty, 2, drop_last=False, order=order, pipelines={"image": pipeline})
        other.load_state_dict(loader.state_dict())
        assert list(other) == []


def test_whole_batches_of_it_are_refused(empty: Path) -> None:
    with pytest.raises(ValueError, match="there are no samples at all: the file is empty"):
        Loader(empty, 2)
