"""A file without samples, which ours never write, but others may."""

from pathlib import Path

import numpy as np
import pytest

from datasets import write_photos
from ffcv import Loader, OrderOption
from ffcv.format import HEADER
from ffcv.reader import Reader
from ffcv.transforms import CenterCrop, PadRGBImageDecoder


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    whole = write_photos(tmp_path / "whole.beton", 1)
    tables = HEADER.itemsize + Reader(whole).field_descriptors.nbytes
    content = bytearray(whole.read_bytes()[:tables])
    header = np.frombuffer(content, HEADER, 1)
    header["num_samples"], header["alloc_table_ptr"] = 0, tables
    path = tmp_path / "empty.beton"
    path.write_bytes(content)
    return path


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
