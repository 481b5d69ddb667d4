"""Operations and decoders that users write, as FFCV documents them."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datasets import write_photos
from ffcv import DatasetWriter, Loader
from ffcv.fields import BytesField, IntField, NDArrayField
from ffcv.fields.basics import FloatDecoder, IntDecoder
from ffcv.fields.ndarray import NDArrayDecoder
from ffcv.pipeline import PipelineSpec
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.compiler import Compiler
from ffcv.pipeline.operation import Operation
from ffcv.pipeline.state import State
from ffcv.transforms import CenterCrop, RandomHorizontalFlip, ToTensor, ToTorchImage
from small_files import SHAPE, write_numbers

COUNT = 60


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_numbers(tmp_path_factory.mktemp("custom") / "numbers.beton", COUNT)


class Doubler(Operation):
    def declare_state_and_memory(self, previous_state: State) -> tuple[State, AllocationQuery]:
        query = AllocationQuery(previous_state.shape, previous_state.dtype, previous_state.device)
        return previous_state, query

    def generate_code(self) -> Callable:
        def double(batch: Any, destination: Any) -> Any:
            destination[:] = batch * 2
            return destination

        return double


class AddIndexAndCounter(Operation):
    def declare_state_and_memory(self, previous_state: State) -> tuple[State, AllocationQuery]:
        return replace(previous_state), AllocationQuery(previous_state.shape, previous_state.dtype)

    def generate_code(self) -> Callable:
        loop = Compiler.get_iterator()

        def add(batch: Any, destination: Any, indices: Any, counter: Any) -> Any:
            for i in loop(batch.shape[0]):
                destination[i] = batch[i] + 10 * indices[i] + 1000 * counter
            return destination

        add.is_parallel = True
        add.with_indices = True
        add.with_counter = True
        return add


def test_an_operation_with_memory(numbers: Path, compiled: bool) -> None:
    loader = Loader(numbers, 8, num_workers=2, pipelines={"value": [FloatDecoder(), Doubler(), ToTensor()]})
    indices, values, *_ = next(iter(loader))
    np.testing.assert_allclose(values.squeeze().numpy(), 2 * np.sin(np.arange(8)))
    assert indices.squeeze().tolist() == list(range(8))


def test_indices_and_the_counter(numbers: Path, compiled: bool) -> None:
    pipelines = {"index": [IntDecoder(), AddIndexAndCounter(), ToTensor()], "value": None, "array": None, "bytes": None}
    loader = Loader(numbers, 8, num_workers=2, drop_last=False, pipelines=pipelines)
    for _ in range(2):  # the counter begins anew in every epoch
        for number, (values,) in enumerate(loader):
            expected = 11 * np.arange(8 * number, min(8 * number + 8, COUNT)) + 1000 * number
            assert values.squeeze(1).tolist() == expected.tolist()


class Corner(Operation):
    """FFCV's guide to custom transforms: a quarter of each image."""

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, AllocationQuery]:
        height, width, channels = previous_state.shape
        shape = (height // 2, width // 2, channels)
        return replace(previous_state, shape=shape), AllocationQuery(shape, previous_state.dtype)

    def generate_code(self) -> Callable:
        def crop(images: Any, destination: Any) -> Any:
            for i in range(images.shape[0]):
                destination[i] = images[i, : destination.shape[1], : destination.shape[2]]
            return destination

        return crop


def test_an_operation_between_image_transforms(tmp_path: Path, compiled: bool) -> None:
    path = write_photos(tmp_path / "photos.beton", 6)
    decoder = CenterCrop((32, 48), 1.0)
    tail = [RandomHorizontalFlip(1.0), ToTensor(), ToTorchImage()]
    loader = Loader(
        path,
        3,
        pipelines={"image": [decoder, Corner(), *tail], "whole": PipelineSpec("image", transforms=[decoder])},
    )
    batch = next(iter(loader))
    expected = torch.from_numpy(batch.whole[:, :16, :24]).permute(0, 3, 1, 2).flip(3)
    assert torch.equal(batch.image, expected)
    decoder.output_size = (64, 64)  # progressive resolution reaches the operation
    assert next(iter(loader)).image.shape == (3, 3, 32, 32)


class TwoBuffers(Operation):
    def declare_state_and_memory(self, previous_state: State) -> tuple[State, list[AllocationQuery]]:
        query = AllocationQuery(previous_state.shape, previous_state.dtype)
        return previous_state, [query, AllocationQuery((3,), np.dtype(np.int32))]

    def generate_code(self) -> Callable:
        def run(batch: Any, destinations: Any) -> Any:
            destinations[1][:] = 1
            destinations[0][:] = batch + destinations[1].sum()
            return destinations[0]

        return run


def test_several_buffers(numbers: Path) -> None:
    loader = Loader(numbers, 4, pipelines={"index": [IntDecoder(), TwoBuffers(), ToTensor()]})
    assert next(iter(loader)).index.flatten().tolist() == [12, 13, 14, 15]


class OnTensors(Operation):
    """After ToTensor a batch is a torch tensor, and nothing is compiled."""

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, None]:
        assert not previous_state.jit_mode
        assert previous_state.dtype == torch.int64
        return replace(previous_state, dtype=torch.float32), None

    def generate_code(self) -> Callable:
        return lambda batch, _: batch.float() / 2


def test_an_operation_on_tensors(numbers: Path) -> None:
    loader = Loader(numbers, 4, pipelines={"index": [IntDecoder(), ToTensor(), OnTensors()]})
    assert next(iter(loader)).index.flatten().tolist() == [0, 0.5, 1, 1.5]


def test_what_numba_cannot_compile_runs_as_python(numbers: Path) -> None:
    pytest.importorskip("numba", reason="numba is optional and not installed")

    class Pythonic(Doubler):
        def generate_code(self) -> Callable:
            cache: dict = {}

            def double(batch: Any, destination: Any) -> Any:
                cache["seen"] = type(batch)  # no numba type
                destination[:] = batch * 2
                return destination

            return double

    loader = Loader(numbers, 4, pipelines={"index": [IntDecoder(), Pythonic(), ToTensor()]})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert next(iter(loader)).index.flatten().tolist() == [0, 2, 4, 6]
    assert any("numba cannot compile" in str(each.message) for each in caught)


class ArrayDecoder(Operation):
    """A decoder of a custom field: metadata of the whole file, and the function that reads an allocation."""

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, AllocationQuery]:
        dtype = np.dtype("<f4")
        return replace(previous_state, shape=SHAPE, dtype=dtype), AllocationQuery(SHAPE, dtype)

    def generate_code(self) -> Callable:
        read, loop = self.memory_read, Compiler.get_iterator()
        assert self.field.shape == SHAPE
        assert len(self.metadata) == COUNT

        def decode(indices: Any, destination: Any, metadata: Any, storage_state: Any) -> Any:
            for i in loop(indices.shape[0]):
                data = read(metadata[indices[i]], storage_state)
                destination[i] = data.view(np.float32)
            return destination

        return decode


class ArrayField(NDArrayField):
    @staticmethod
    def from_binary(binary: np.ndarray) -> "ArrayField":
        plain = NDArrayField.from_binary(binary)
        return ArrayField(plain.dtype, plain.shape)

    def get_decoder_class(self) -> Any:
        return ArrayDecoder


@pytest.mark.parametrize("os_cache", [True, False])
def test_a_custom_decoder_of_a_custom_field(numbers: Path, compiled: bool, os_cache: bool) -> None:
    loader = Loader(numbers, 7, custom_fields={"array": ArrayField}, shuffle=True, os_cache=os_cache, seed=1)
    seen = []
    for batch in loader:
        assert torch.equal(batch.array, batch.index.float().expand(-1, 7))
        seen += batch.index.flatten().tolist()
    assert len(set(seen)) == len(seen) == 56


class TextDecoder(Operation):
    def declare_state_and_memory(self, previous_state: State) -> tuple[State, AllocationQuery]:
        dtype = np.dtype("u1")
        return replace(previous_state, shape=(4,), dtype=dtype), AllocationQuery((4,), dtype)

    def generate_code(self) -> Callable:
        read = self.memory_read

        def decode(indices: Any, destination: Any, metadata: Any, storage_state: Any) -> Any:
            destination[:] = 0
            for i in range(indices.shape[0]):
                data = read(metadata[indices[i]], storage_state)
                destination[i, : data.shape[0]] = data
            return destination

        return decode


class TextField(BytesField):
    """Bytes whose metadata are the pointer alone."""

    @property
    def metadata_type(self) -> np.dtype:
        return np.dtype("<u8")

    @staticmethod
    def from_binary(binary: np.ndarray) -> "TextField":
        return TextField()

    def encode(self, destination: np.ndarray, value: bytes, malloc: Any) -> None:
        destination[...], buffer = malloc(len(value))
        buffer[:] = np.frombuffer(value, np.uint8)

    def check_metadata(self, column: np.ndarray, sizes: Any) -> None:
        sizes(column)

    def get_decoder_class(self) -> Any:
        return TextDecoder


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_a_custom_decoder_gets_empty_values(tmp_path: Path, compiled: bool, batch_size: int) -> None:
    texts = [b"ab", b"", b"cd", b"ef", b""]
    path = tmp_path / "texts.beton"
    DatasetWriter(path, {"text": TextField()}, num_workers=1).from_indexed_dataset([(text,) for text in texts])
    loader = Loader(path, batch_size, custom_fields={"text": TextField}, drop_last=False)
    assert [bytes(row).rstrip(b"\0") for batch in loader for row in batch.text] == texts


def test_a_subclass_of_a_field_and_its_decoder(numbers: Path) -> None:
    class Decoder(NDArrayDecoder):
        pass

    class Same(NDArrayField):
        pass

    loader = Loader(numbers, 5, custom_fields={"array": Same, "index": IntField}, pipelines={"array": [Decoder()]})
    assert next(iter(loader)).array[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_mistakes_are_named(numbers: Path) -> None:
    class NoState(Doubler):
        def declare_state_and_memory(self, previous_state: State) -> Any:
            return None

    class NoResult(Doubler):
        def generate_code(self) -> Callable:
            return lambda batch, destination: None

    for operation, message in ((NoState(), "must return \\(State"), (NoResult(), "must return the batch")):
        loader = Loader(numbers, 4, pipelines={"index": [IntDecoder(), ToTensor(), operation]})
        with pytest.raises(TypeError, match=message):
            next(iter(loader))
    with pytest.raises(ValueError, match="jit_mode is for numpy arrays"):
        State(jit_mode=True, device=torch.device("cuda"), shape=(1,), dtype=np.uint8)


def test_operations_may_hand_on_several_arrays(numbers: Path) -> None:
    """As a rotation that returns its angles: the next operation is given the tuple."""

    class WithIndex(OnTensors):
        def generate_code(self) -> Callable:
            def run(batch: Any, _: Any, indices: Any) -> Any:
                return batch.float(), torch.from_numpy(indices)

            run.with_indices = True
            return run

    class HalveFirst(Operation):
        def declare_state_and_memory(self, previous_state: State) -> tuple[State, AllocationQuery]:
            assert (previous_state.shape, previous_state.dtype) == ((1,), torch.float32)
            return previous_state, AllocationQuery(previous_state.shape, previous_state.dtype)

        def generate_code(self) -> Callable:
            return lambda batch, destination: (torch.div(batch[0], 2, out=destination), batch[1])

    loader = Loader(numbers, 4, pipelines={"index": [IntDecoder(), ToTensor(), WithIndex(), HalveFirst()]})
    halves, indices = next(iter(loader)).index
    assert halves.flatten().tolist() == [0, 0.5, 1, 1.5]
    assert indices.tolist() == [0, 1, 2, 3]
    assert [part.tolist() for part in loader[3].index] == [[1.5], 3]
    assert loader.filter("index", lambda value: value[1] < 5 and value[0].shape == (1,)).indices.tolist() == [*range(5)]


def test_memory_is_asked_for_in_every_epoch(numbers: Path, compiled: bool) -> None:
    class Repeat(Operation):
        times = 1
        made = 0

        def declare_state_and_memory(self, previous_state: State) -> tuple[State, AllocationQuery]:
            shape = (self.times,)
            return replace(previous_state, shape=shape), AllocationQuery(shape, previous_state.dtype)

        def generate_code(self) -> Callable:
            self.made += 1

            def repeat(batch: Any, destination: Any) -> Any:
                destination[:] = batch
                return destination

            return repeat

    operation = Repeat()
    loader = Loader(numbers, 4, pipelines={"index": [IntDecoder(), operation]})
    for times, made in ((1, 1), (3, 2), (3, 2)):
        operation.times = times
        assert {batch.index.shape for batch in loader} == {(4, times)}
        assert operation.made == made


class LengthDecoder(Operation):
    """No subclass of the field's own decoder."""

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, AllocationQuery]:
        dtype = np.dtype("<i8")
        return replace(previous_state, shape=(1,), dtype=dtype), AllocationQuery((1,), dtype)

    def generate_code(self) -> Callable:
        def decode(indices: Any, destination: Any, metadata: Any, storage_state: Any) -> Any:
            for i in range(len(indices)):
                destination[i] = metadata[indices[i]]["size"]
            return destination

        return decode


def test_a_pipeline_names_its_decoder(numbers: Path, compiled: bool) -> None:
    """The default decoder was put in front of it."""
    loader = Loader(numbers, 8, pipelines={"bytes": PipelineSpec("bytes", decoder=LengthDecoder())})
    assert next(iter(loader)).bytes.flatten().tolist() == [0, 1, 2, 3, 4, 0, 1, 2]


def test_what_begins_a_list_and_is_not_the_fields_decoder_follows_it(numbers: Path, compiled: bool) -> None:
    """As in the original; code of a decoder that gets there is named."""
    loader = Loader(numbers, 4, pipelines={"index": [Doubler()]})
    assert next(iter(loader)).index.flatten().tolist() == [0, 2, 4, 6]
    loader = Loader(numbers, 4, pipelines={"bytes": [LengthDecoder()]})
    given = r"LengthDecoder is given \(batch, destination\), but takes \(indices.*PipelineSpec\(field, decoder="
    with pytest.raises(TypeError, match=given):
        next(iter(loader))


def test_the_compiler_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Compiler, "num_threads", 1)
    monkeypatch.setattr(Compiler, "is_enabled", True)
    assert Compiler.get_iterator() is range
    Compiler.set_num_threads(4)
    assert Compiler.num_threads == 4
    Compiler.set_num_threads(-1)
    assert Compiler.num_threads >= 1
    Compiler.set_enabled(False)

    def code(x: int) -> int:
        return x + 1

    assert Compiler.compile(code) is code
    assert Compiler.get_iterator() is range
