"""The ways to make a loader that FFCV's and FFCV-SSL's documentation shows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datasets import InMemory, write_photos
from ffcv import DatasetWriter
from ffcv.fields import IntField, NDArrayField
from ffcv.fields.decoders import FloatDecoder, IntDecoder, NDArrayDecoder, RandomResizedCropRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.pipeline import PipelineSpec
from ffcv.reader import Reader
from ffcv.transforms import RandomHorizontalFlip, Squeeze, ToTensor, ToTorchImage
from ffcv.traversal_order import Sequential, TraversalOrder
from small_files import content, write_numbers

COUNT = 60


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_numbers(tmp_path_factory.mktemp("original") / "numbers.beton", COUNT)


def test_fields_without_pipelines_get_their_decoders(numbers: Path) -> None:
    loader = Loader(fname=str(numbers), batch_size=6, num_workers=2, drop_last=False)
    assert len(loader) == 10
    for index, value, array, raw in loader:
        assert torch.equal(torch.sin(index.double()), value)
        assert torch.equal(array, index.float().expand(-1, 7))
        for i, row in zip(index.flatten().tolist(), raw, strict=True):
            assert row[: i % 5].tolist() == content(i).tolist()
            assert not row[i % 5 :].any()


def test_disabled_fields_are_left_out(numbers: Path) -> None:
    pipelines = {"value": [FloatDecoder(), ToTensor()], "index": None, "array": None, "bytes": None}
    batch = next(iter(Loader(numbers, 8, pipelines=pipelines)))
    assert len(batch) == 1
    np.testing.assert_allclose(batch[0].squeeze().numpy(), np.sin(np.arange(8)))


@pytest.mark.parametrize("order", list(OrderOption))
@pytest.mark.parametrize("drop_last", [True, False])
def test_every_order_gives_every_sample_once(numbers: Path, order: OrderOption, drop_last: bool) -> None:
    loader = Loader(numbers, 8, order=order, drop_last=drop_last)
    epochs = [torch.cat([batch[0].flatten() for batch in loader]).tolist() for _ in range(3)]
    for epoch in epochs:
        assert len(epoch) == (56 if drop_last else 60)
        assert len(set(epoch)) == len(epoch)
    shuffled = order in (OrderOption.RANDOM, OrderOption.QUASI_RANDOM)
    assert (epochs[0] != epochs[1]) == shuffled
    assert len(loader) == (7 if drop_last else 8)


def test_filter_gives_dataset_indices(numbers: Path) -> None:
    even = Loader(numbers, 4, indices=np.arange(20, 50), order=OrderOption.RANDOM, seed=5).filter(
        "index", lambda value: value[0] % 2 == 0
    )
    assert even.indices.tolist() == list(range(20, 50, 2))
    assert {i for batch in even for i in batch.index.flatten().tolist()} <= set(even.indices.tolist())
    again = even.filter("value", lambda value: value >= 0)
    assert all(np.sin(i) >= 0 for i in again.indices)
    assert set(again.indices) <= set(even.indices)
    with pytest.raises(ValueError, match="did you mean 'index'"):
        even.filter("indx", lambda value: True)


def test_filter_on_a_field_that_is_left_out_of_the_batches(numbers: Path) -> None:
    loader = Loader(numbers, 4, pipelines={"index": None, "array": None, "bytes": None}, indices=range(10, 20))
    assert loader.filter("index", lambda value: value[0] >= 15).indices.tolist() == list(range(15, 20))


@pytest.mark.parametrize("spelling", ["PipelineSpec", "custom_field_mapper"])
@pytest.mark.parametrize("field", ["label", "image", "image2"])
def test_filter_beside_further_views(tmp_path: Path, spelling: str, field: str) -> None:
    path = write_photos(tmp_path / "photos.beton", 6)
    first, second = ([RandomResizedCropRGBImageDecoder((size, size)), ToTensor()] for size in (8, 16))
    if spelling == "PipelineSpec":
        loader = Loader(path, 4, pipelines={"image": first, "image2": PipelineSpec("image", second[0], second[1:])})
    else:
        mapper = {"image2": "image"}
        loader = Loader(path, 4, pipelines={"image": first, "image2": second}, custom_field_mapper=mapper)
    seen = []
    assert loader.filter(field, lambda value: seen.append(value) or len(seen) > 2).indices.tolist() == [2, 3, 4, 5]
    if field == "label":
        assert [value.item() for value in seen] == Reader(path).metadata["label"].tolist()
    else:
        assert {value.shape[0] for value in seen} == {8 if field == "image" else 16}


def test_the_readers_tables_have_the_originals_names(numbers: Path, tmp_path: Path) -> None:
    reader = Reader(numbers)
    assert reader.metadata["f0"].tolist() == reader.metadata["index"].tolist() == list(range(COUNT))
    np.testing.assert_array_equal(reader.metadata["f1"], np.sin(np.arange(COUNT)))
    assert reader.metadata.dtype.names == ("index", "value", "array", "bytes")
    assert len(reader.alloc_table) == 2 * COUNT  # an array and bytes, empty ones too, of each sample
    assert len(reader.allocations) > 2 * COUNT  # with our sections
    assert reader.alloc_table["sample_id"].max() == COUNT - 1

    fields = {"f1": IntField(), "f0": IntField()}  # names of the file's own come first
    DatasetWriter(tmp_path / "f.beton", fields, num_workers=1).from_indexed_dataset(InMemory([(1, 2), (3, 4)]))
    assert Reader(tmp_path / "f.beton").metadata["f1"].tolist() == [1, 3]


def test_a_reader_takes_the_originals_argument_names(numbers: Path) -> None:
    handlers: dict[str, Any] = {"index": IntField, "array": NDArrayField}
    reader = Reader(fname=numbers, custom_handlers=handlers)
    assert reader.handlers.keys() == {"index", "value", "array", "bytes"}
    assert Reader(numbers, handlers).num_samples == reader.num_samples == COUNT
    with pytest.raises(ValueError, match="custom_fields and custom_handlers are two names of one argument"):
        Reader(numbers, handlers, custom_handlers=handlers)
    with pytest.raises(ValueError, match=r"Reader needs the path of a \.beton file"):
        Reader()


def test_an_iterator_may_be_made_twice(numbers: Path) -> None:
    loader = Loader(numbers, 8, order=OrderOption.RANDOM, seed=3)
    first, second = iter(loader), iter(loader)  # two epochs at once
    assert next(first).index.tolist() != next(second).index.tolist()


def test_an_order_class_with_arguments(numbers: Path) -> None:
    class EveryNth(TraversalOrder):
        def __init__(self, loader: Loader, step: int = 1) -> None:
            super().__init__(loader)
            self.step = step

        def sample_order(self, epoch: int) -> list[int]:
            return list(self.indices[:: self.step] + epoch)

    loader = Loader(numbers, 2, order=EveryNth, order_kwargs={"step": 12})
    assert len(loader) == 2
    assert [batch.index.flatten().tolist() for batch in loader] == [[0, 12], [24, 36]]
    assert [batch.index.flatten().tolist() for batch in loader] == [[1, 13], [25, 37]]
    assert next(iter(Loader(numbers, 2, order=Sequential))).index.flatten().tolist() == [0, 1]

    class Outside(TraversalOrder):
        def sample_order(self, epoch: int) -> np.ndarray:
            return np.arange(58, 62)

    with pytest.raises(IndexError, match=r"the order gave sample 61, but the file has samples 0\.\.59"):
        list(Loader(numbers, 2, order=Outside))


def test_views_in_both_spellings(tmp_path: Path) -> None:
    path = write_photos(tmp_path / "photos.beton", 8)

    def pipeline(seed: int) -> list:
        return [RandomResizedCropRGBImageDecoder((32, 32)), RandomHorizontalFlip(0.5, seed), ToTensor(), ToTorchImage()]

    label = [IntDecoder(), ToTensor(), Squeeze()]
    common = {"batch_size": 4, "num_workers": 1, "seed": 9, "order": OrderOption.QUASI_RANDOM}
    mapped = Loader(
        path,
        custom_field_mapper={"image2": "image"},
        pipelines={"image": pipeline(1), "label": label, "image2": pipeline(2)},
        **common,
    )
    specified = Loader(
        path,
        pipelines={
            "image": pipeline(1),
            "label": PipelineSpec("label", decoder=label[0], transforms=label[1:]),
            "image2": PipelineSpec("image", transforms=pipeline(2)),
        },
        **common,
    )
    for (image, label_1, image2), other in zip(mapped, specified, strict=True):
        assert torch.equal(image, other.image)
        assert torch.equal(label_1, other.label)
        assert torch.equal(image2, other.image2)
        assert not torch.equal(image, image2)


@pytest.mark.parametrize("channels_last", [True, False])
def test_arrays_of_any_number_of_channels_become_torchs(tmp_path: Path, channels_last: bool) -> None:
    """Boards, spectral bands, ...: [H, W, C]."""
    path, boards = tmp_path / "boards.beton", np.random.default_rng(0).integers(0, 9, (6, 3, 4, 12), np.uint8)
    field = NDArrayField(boards.dtype, boards.shape[1:])
    DatasetWriter(path, {"board": field}, num_workers=1).from_indexed_dataset(InMemory([(each,) for each in boards]))
    loader = Loader(path, 6, pipelines={"board": [NDArrayDecoder(), ToTensor(), ToTorchImage(channels_last)]})
    board = next(iter(loader)).board
    assert torch.equal(board, torch.from_numpy(boards).permute(0, 3, 1, 2))
    assert board.is_contiguous() != channels_last
