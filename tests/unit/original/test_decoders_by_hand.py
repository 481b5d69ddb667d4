"""Decoders without a loader: `accept_globals`, then the function that `generate_code` gives."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffcv import DatasetWriter, Loader
from ffcv.errors import DecodeError
from ffcv.fields import RGBImageField
from ffcv.fields.decoders import (
    BytesDecoder,
    CenterCropRGBImageDecoder,
    FloatDecoder,
    IntDecoder,
    NDArrayDecoder,
    RandomResizedCropRGBImageDecoder,
    SimpleRGBImageDecoder,
)
from ffcv.memory_managers import OSCacheManager
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.compiler import Compiler
from ffcv.pipeline.operation import Operation
from ffcv.pipeline.state import State
from ffcv.reader import Reader
from ffcv.transforms import CornerCrop, PadRGBImageDecoder
from small_files import SHAPE

COUNT = 12


def by_hand(path: Path, field: str, decoder: Any) -> Callable[[Any, Any], np.ndarray]:
    """`code(indices, destination)` of a decoder, for a file."""
    reader = Reader(path)
    manager = OSCacheManager(reader)
    column = reader.metadata[field]
    decoder.accept_field(reader.fields[field])
    decoder.accept_globals(column, manager.compile_reader())
    code = Compiler.compile(decoder.generate_code())
    with manager.schedule_epoch(np.array([0, 1])) as context:
        return lambda indices, destination: code(np.array(indices, np.int64), destination, column, context.state)


def by_loader(path: Path, field: str, decoder: Any) -> np.ndarray:
    """All samples."""
    pipelines: dict[str, Any] = dict.fromkeys(Reader(path).field_names)
    return next(iter(Loader(path, COUNT, num_workers=1, pipelines=pipelines | {field: [decoder]})))[0]


@pytest.fixture(scope="module")
def one_size(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """COUNT images of noise, as pixels and as JPEGs."""
    folder = tmp_path_factory.mktemp("noise")
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 24, 40, 3), np.uint8)
    np.save(folder / "images.npy", images)
    paths = {mode: folder / f"{mode}.beton" for mode in ("raw", "jpg")}
    for mode, path in paths.items():
        field = RGBImageField(write_mode=mode)  # pyright: ignore
        DatasetWriter(path, {"image": field}, num_workers=1).from_indexed_dataset([(image,) for image in images])
    return paths | {"images": folder / "images.npy"}


def test_raw_images_are_those_that_were_written(one_size: dict[str, Path], compiled: bool) -> None:
    decode, images = by_hand(one_size["raw"], "image", SimpleRGBImageDecoder()), np.load(one_size["images"])
    destination = np.zeros((4, 24, 40, 3), np.uint8)
    result = decode([5, 2, 9], destination)
    assert np.shares_memory(result, destination)
    assert np.array_equal(result, images[[5, 2, 9]])
    assert not destination[3].any()


def test_jpegs_have_the_loaders_pixels(one_size: dict[str, Path], compiled: bool) -> None:
    result = by_hand(one_size["jpg"], "image", SimpleRGBImageDecoder())(
        range(COUNT), np.empty((COUNT, 24, 40, 3), np.uint8)
    )
    assert np.array_equal(result, by_loader(one_size["jpg"], "image", SimpleRGBImageDecoder()))


@pytest.mark.parametrize(
    "decoder",
    [CenterCropRGBImageDecoder((20, 30), 0.8), CornerCrop((20, 30), 0.5, "bottom_left"), PadRGBImageDecoder()],
)
def test_images_of_many_sizes(beton: Path, decoder: Any) -> None:
    expected = by_loader(beton, "image", decoder)
    memory = np.empty_like(expected), np.empty(0, np.uint8)  # the original's crops ask for two
    assert np.array_equal(by_hand(beton, "image", copy.copy(decoder))(range(COUNT), memory), expected)


@pytest.mark.parametrize(
    ("field", "decoder", "dtype", "shape"),
    [
        ("index", IntDecoder(), np.int64, (1,)),
        ("value", FloatDecoder(), np.float64, (1,)),
        ("array", NDArrayDecoder(), np.float32, SHAPE),
        ("bytes", BytesDecoder(), np.uint8, (4,)),
    ],
)
def test_values_that_are_no_images(numbers: Path, field: str, decoder: Any, dtype: Any, shape: Any) -> None:
    destination = np.empty((COUNT, *shape), dtype)
    result = by_hand(numbers, field, decoder)(range(COUNT), destination)
    assert np.array_equal(result, by_loader(numbers, field, type(decoder)()))
    assert np.shares_memory(result, destination)


class Borrowing(Operation):
    """A decoder of one's own, with the code of one of ours."""

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, AllocationQuery]:
        return previous_state, AllocationQuery((24, 40, 3), np.dtype(np.uint8))

    def generate_code(self) -> Callable[..., Any]:
        inner = SimpleRGBImageDecoder()
        inner.accept_globals(self.metadata, self.memory_read)
        return inner.generate_code()


class OwnImageField(RGBImageField):
    def get_decoder_class(self) -> type:
        return Borrowing

    @staticmethod
    def from_binary(binary: Any) -> RGBImageField:
        return OwnImageField()


def test_an_operation_may_give_the_loader_such_code(one_size: dict[str, Path], tmp_path: Path, compiled: bool) -> None:
    images, path = np.load(one_size["images"]), tmp_path / "own.beton"
    DatasetWriter(path, {"image": OwnImageField()}, num_workers=1).from_indexed_dataset([(each,) for each in images])
    loader = Loader(path, COUNT, num_workers=1, custom_fields={"image": OwnImageField})
    assert np.array_equal(next(iter(loader)).image, images)


def test_a_random_crop_cannot_be_drawn_by_hand(beton: Path) -> None:
    with pytest.raises(TypeError, match=r"RandomResizedCrop.* only ffcv\.Loader"):
        by_hand(beton, "image", RandomResizedCropRGBImageDecoder((8, 8)))


def test_images_of_one_size_are_asked_for(beton: Path) -> None:
    with pytest.raises(TypeError, match="images of one size"):
        by_hand(beton, "image", SimpleRGBImageDecoder())


@pytest.mark.parametrize("decoder", [SimpleRGBImageDecoder(), IntDecoder()])
def test_code_needs_to_be_told_of_the_file(decoder: Any) -> None:
    with pytest.raises(RuntimeError, match=rf"call {type(decoder).__name__}.accept_globals\("):
        decoder.generate_code()


def test_arrays_need_their_field(numbers: Path) -> None:
    with pytest.raises(TypeError, match="the field is a IntField"):
        NDArrayDecoder().accept_field(Reader(numbers).fields["index"])


@pytest.mark.parametrize(
    ("destination", "error", "message"),
    [
        (np.empty((2, 24, 40, 3), np.float32), TypeError, "an array of uint8, got float32"),
        ([1, 2], TypeError, "an array of uint8, got list"),
        (np.empty((2, 24, 39, 3), np.uint8), ValueError, r"uint8 \[2, 24, 40, 3\] .* got \[2, 24, 39, 3\]"),
        (np.empty((1, 24, 40, 3), np.uint8), ValueError, r"got \[1, 24, 40, 3\]"),
        (np.empty((2, 40, 24, 3), np.uint8).transpose(0, 2, 1, 3), ValueError, "contiguous"),
    ],
)
def test_destinations_that_do_not_fit(
    one_size: dict[str, Path], destination: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        by_hand(one_size["raw"], "image", SimpleRGBImageDecoder())([0, 1], destination)


def test_a_damaged_image_is_named(one_size: dict[str, Path], tmp_path: Path) -> None:
    damaged = bytearray(one_size["jpg"].read_bytes())
    pointer = int(Reader(one_size["jpg"]).metadata["image"]["data_ptr"][7])
    damaged[pointer : pointer + 20] = bytes(20)
    path = tmp_path / "damaged.beton"
    path.write_bytes(damaged)
    with pytest.raises(DecodeError, match="sample 7: "):
        by_hand(path, "image", SimpleRGBImageDecoder())([6, 7], np.empty((2, 24, 40, 3), np.uint8))
