"""What is refused: arguments, calls, orders and names that cannot be meant, and what the errors say."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler

from datasets import InMemory
from ffcv import DatasetWriter, Loader, OrderOption
from ffcv.fields import IntField
from ffcv.fields.decoders import BytesDecoder, IntDecoder, SimpleRGBImageDecoder
from ffcv.transforms import (
    CenterCrop,
    NormalizeImage,
    RandomGrayscale,
)
from ffcv.traversal_order import TraversalOrder

COUNT = 23


CROP = [CenterCrop((8, 8), 1.0)]

NORMALIZE = NormalizeImage((123.7, 116.3, 103.5), (58.4, 57.1, 57.4), np.float32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"fname": "other.beton"}, "two names of one argument"),
        (
            {"pipelines": {"image": CROP, "label": [BytesDecoder()]}},
            "BytesDecoder does not fit field 'label', whose decoder is IntDecoder",
        ),
        ({"sampler": BatchSampler(range(8), 4, False)}, "BatchSampler gives batches"),
        ({"sampler": [1, 2, 3, 4], "order_kwargs": {"x": 1}}, "sampler= decides the order"),
        (
            {
                "return_params": True,
                "custom_field_mapper": {"params": "image"},
                "pipelines": {"image": CROP, "params": CROP},
            },
            "the view 'params' has the name of what return_params",
        ),
        ({"pipelines": {"imagee": []}}, "no field 'imagee', did you mean 'image'"),
        ({"custom_field_mapper": {"b": "nothing"}}, "no field 'nothing'"),
        ({"indices": [0, COUNT]}, r"indices must be within 0\.\.22, got 0\.\.23"),
        (
            {"pipelines": {"image": None, "label": [CenterCrop((8, 8), 1.0)]}},
            "CenterCrop does not fit field 'label', no image",
        ),
        ({"pipelines": {"image": [IntDecoder()]}}, "IntDecoder does not fit field 'image', an image"),
        (
            {"pipelines": {"image": [CenterCrop((8, 8), 1.0), NORMALIZE, RandomGrayscale(0.1)]}},
            "Grayscale works on pixels in 0..255; put it before NormalizeImage",
        ),
        ({"pipelines": {"image": [CenterCrop((8, 8), 1.0), CenterCrop((8, 8), 1.0)]}}, "must come first"),
        ({"distributed": True}, "nothing says which rank this is"),
        (
            {"custom_fields": {"lable": IntField}},
            r"custom_fields: the file has no field 'lable', did you mean 'label'\?",
        ),
        ({"indices": np.ones(COUNT, bool)}, r"got a mask: pass np\.flatnonzero\(mask\)"),
        ({"indices": [], "pipelines": {"image": CROP}}, "there are no samples at all"),
        ({"sampler": [1, 2, 3, 4], "shuffle": True}, "shuffle and sampler each decide the order"),
        ({"pad": True, "pipelines": {"image": CROP}}, "drop_last=True leaves it out: pass drop_last=False"),
        (
            {"indices": [1, 2], "rank": 0, "world_size": 3, "seed": 0, "pipelines": {"image": CROP}},
            "so that nothing remains: use at most 2 ranks, or drop_last=False",
        ),
    ],
)
def test_bad_arguments_say_what_is_wrong(beton: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Loader(beton, **{"batch_size": 4, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 4.0}, "batch_size must be a whole number, got 4.0"),
        ({"num_workers": "2"}, "num_workers must be a whole number"),
        ({"batches_ahead": None}, "batches_ahead must be a whole number"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"custom_field_mapper": {"b": 3}}, "'b' must be the name of a field, got 3"),
        ({"pipelines": [CROP]}, "pipelines must be a dictionary by name, got list"),
        ({"sampler": iter([1, 2, 3, 4])}, "indices anew every epoch"),
        ({"sampler": 5}, "indices anew every epoch"),
        ({"num_workers": OrderOption.RANDOM}, r"num_workers must be .*: pass the order by name, order=\.\.\."),
        ({"rank": "0", "world_size": 2}, "rank must be a whole number, got '0'"),
        ({"pipelines": {"image": [SimpleRGBImageDecoder]}}, "SimpleRGBImageDecoder is a class: put an instance"),
        ({"custom_fields": {"label": IntDecoder}}, "'label' must be the subclass of Field that wrote it, got <class"),
    ],
)
def test_arguments_of_wrong_types_say_what_is_wrong(beton: Path, options: dict, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Loader(beton, **{"batch_size": 4, "pipelines": {"image": CROP}, **options})


def test_bad_calls_say_what_is_wrong(beton: Path) -> None:
    loader = Loader(beton, 4, pipelines={"image": CROP}, seed=1)
    state = loader.state_dict()
    calls: list[tuple[type[Exception], str, Callable[[], object]]] = [
        (TypeError, "the index of one sample must be a whole number", lambda: loader[1.5]),  # type: ignore[index]
        (TypeError, "epoch must be a whole number", lambda: loader.set_epoch(0.5)),  # type: ignore[arg-type]
        (ValueError, "epoch must be at least 0", lambda: loader.set_epoch(-1)),
        (ValueError, "epoch must be at most 4294967295", lambda: loader.set_epoch(1 << 32)),
        (TypeError, "a state of a Loader is a dictionary", lambda: loader.load_state_dict(None)),  # type: ignore[arg-type]
        (
            ValueError,
            "24 samples of epoch 0, which has 23",
            lambda: loader.load_state_dict(state | {"samples_consumed": 24}),
        ),
        (ValueError, "-1 samples of epoch 0", lambda: loader.load_state_dict(state | {"samples_consumed": -1})),
        (
            ValueError,
            r"no field 'lable', did you mean 'label'\? \(it has 'image', 'label'\)",
            lambda: loader.filter("lable", bool),
        ),
    ]
    for error, message, call in calls:
        with pytest.raises(error, match=message):
            call()


def test_names_that_cannot_be_attributes_are_said(tmp_path: Path) -> None:
    path = tmp_path / "names.beton"
    fields = {"class": IntField(), "label": IntField(), "_x": IntField()}
    DatasetWriter(path, fields, num_workers=1).from_indexed_dataset(InMemory([(i, i + 10, i + 20) for i in range(4)]))
    with pytest.warns(UserWarning, match="cannot be the name of an attribute") as warned:
        batch = next(iter(Loader(path, 4)))
    assert batch._fields == ("_0", "label", "_2")
    assert batch[0].flatten().tolist() == [0, 1, 2, 3]
    said = [str(warning.message) for warning in warned]
    assert ["'class'" in said[0], "batch._0" in said[0], "batch[2]" in said[1]] == [True] * 3


def test_orders_that_are_none_say_so(beton: Path) -> None:
    class Fractions(TraversalOrder):
        def sample_order(self, epoch: int) -> np.ndarray:
            return np.arange(8) + 0.5

    with pytest.raises(TypeError, match="the order must give dataset indices, whole numbers, but gave float64"):
        list(Loader(beton, 4, pipelines={"image": CROP}, order=Fractions))

    class Pairs(TraversalOrder):
        def sample_order(self, epoch: int) -> np.ndarray:
            return np.zeros((8, 2), np.int64)

    with pytest.raises(TypeError, match=r"but gave int64 \[\[0, 0\], "):
        list(Loader(beton, 4, pipelines={"image": CROP}, order=Pairs))

    class Short:
        def __len__(self) -> int:
            return 12

        def __iter__(self) -> Iterator[int]:
            yield from range(8)

    with pytest.raises(ValueError, match="epoch 0 has 8 samples, but said that it has 12"):
        list(Loader(beton, 4, pipelines={"image": CROP}, sampler=Short()))

    mask = [True, False] * 4
    for none in ([0.0, 1.5] * 4, mask, np.array(mask), torch.tensor(mask)):  # a mask would give samples 0 and 1
        with pytest.raises(TypeError, match="sampler must give dataset indices, whole numbers, but gave"):
            list(Loader(beton, 4, pipelines={"image": CROP}, sampler=none))


def test_wrong_types_say_what_is_wrong(beton: Path) -> None:
    with pytest.raises(TypeError, match="no operation of ffcv"):
        Loader(beton, 4, pipelines={"image": [CenterCrop((8, 8), 1.0), len]})
    with pytest.raises(TypeError, match="order must be"):
        Loader(beton, 4, order="random")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="needs images of one size"):
        Loader(beton, 4)
    with pytest.raises(FileNotFoundError, match="missing"):
        Loader("missing.beton", 4)
