"""What several loaders, pipelines, threads and processes share: decoders, operations, batches, locks."""

import copy
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from datasets import InMemory
from ffcv import DatasetWriter, Loader
from ffcv._forks import ForkSafeLock, wait_at_forks
from ffcv.fields import BytesField, IntField, NDArrayField, RGBImageField
from ffcv.fields.decoders import BytesDecoder, IntDecoder, NDArrayDecoder, SimpleRGBImageDecoder
from ffcv.pipeline import PipelineSpec
from ffcv.pipeline.operation import Operation
from ffcv.pipeline.state import State
from ffcv.transforms import LabelDecoder, PadRGBImageDecoder, RandomResizedCrop, ToTensor

COUNT = 8


class Doubles(torch.nn.Module):
    def forward(self, batch: Any) -> Any:
        return 2 * batch


def write(path: Path, side: int, length: int, dtype: str) -> Path:
    fields = {
        "image": RGBImageField("raw"),
        "bytes": BytesField(),
        "array": NDArrayField(np.dtype(dtype), (4,)),
        "number": NDArrayField(np.dtype("<i2"), (2,)),
        "label": IntField(),
    }
    samples = [
        (
            np.full((side, side, 3), i, np.uint8),
            np.arange(length, dtype=np.uint8),
            np.full(4, i, dtype),
            np.full(2, -i, np.int16),
            i,
        )
        for i in range(COUNT)
    ]
    DatasetWriter(path, fields, num_workers=1).from_indexed_dataset(InMemory(samples))
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("sharing") / "small.beton", 32, 3, "<f4")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("sharing") / "large.beton", 48, 9, "<i4")


def test_one_dictionary_of_pipelines_for_two_loaders(small: Path, large: Path) -> None:
    """As scripts have it for training and validation; made before either is used."""
    pipelines = {
        "image": [SimpleRGBImageDecoder(), ToTensor()],
        "padded": [PadRGBImageDecoder(), ToTensor()],
        "box": [LabelDecoder(SimpleRGBImageDecoder())],
        "bytes": [BytesDecoder(), ToTensor()],
        "array": [NDArrayDecoder(), ToTensor()],
    }
    views = {"padded": "image", "box": "image"}
    loaders = [Loader(path, COUNT, pipelines=pipelines, custom_field_mapper=views) for path in (small, large)]
    for loader, side, length, dtype in zip(loaders, (32, 48), (3, 9), (torch.float32, torch.int32), strict=True):
        batch = next(iter(loader))
        assert batch.image.shape == batch.padded.shape == (COUNT, side, side, 3)
        assert batch.box[0].tolist() == [side, side, 0, 0, side, side]
        assert batch.bytes.shape == (COUNT, length)
        assert batch.array.dtype == dtype
        assert batch.array[:, 0].tolist() == list(range(COUNT))
        assert batch.image[:, 0, 0, 0].tolist() == list(range(COUNT))


def test_what_becomes_of_the_arguments_is_their_owners_business(small: Path) -> None:
    """Loaders that are made of a loader, by filtering or in another process, are made of what it was made of."""
    labels, indices = [IntDecoder()], np.arange(2, 7)
    spec = PipelineSpec("label", transforms=[Doubles()])
    pipelines: dict[str, Any] = {"image": None, "bytes": None, "array": None, "number": None, "label": labels}
    pipelines["double"] = spec
    loader = Loader(small, 2, pipelines=pipelines, indices=indices, drop_last=False)
    labels.append(ToTensor())
    indices[:] = 0
    spec.transforms = []
    pipelines["image"] = [SimpleRGBImageDecoder()]
    for other in (loader, pickle.loads(pickle.dumps(loader))):
        batch = next(iter(other))
        assert batch._fields == ("label", "double")
        assert isinstance(batch.label, np.ndarray)
        assert batch.label.flatten().tolist() == [2, 3]
        assert batch.double.flatten().tolist() == [4, 6]
    assert loader.filter("double", lambda value: value > 6).indices.tolist() == [4, 5, 6]


def test_one_decoder_for_two_fields(small: Path) -> None:
    decoder = NDArrayDecoder()
    pipelines = {"array": [decoder, ToTensor()], "number": [decoder, ToTensor()], "image": None}
    batch = next(iter(Loader(small, COUNT, pipelines=pipelines)))
    assert batch.array.tolist() == [[i] * 4 for i in range(COUNT)]
    assert batch.number.tolist() == [[-i] * 2 for i in range(COUNT)]


def test_output_size_stays_the_users(small: Path) -> None:
    """Also of a decoder inside a label decoder; only what is learned of a file is kept apart."""
    crop = RandomResizedCrop((16, 16), seed=1)
    pipelines = {"image": [crop, ToTensor()], "box": [LabelDecoder(crop)]}
    loader = Loader(small, COUNT, pipelines=pipelines, custom_field_mapper={"box": "image"})
    crop.output_size = (24, 24)
    assert next(iter(loader)).image.shape[1] == 24
    assert loader.plan.views[-1].decoder.transform.output_size == (24, 24)  # type: ignore[union-attr]


def test_one_operation_for_two_loaders(small: Path, large: Path) -> None:
    class Names(Operation):
        """Writes what field it was told of into the batch, when its code is made."""

        def declare_state_and_memory(self, previous_state: State) -> tuple[State, None]:
            return previous_state, None

        def generate_code(self) -> Callable:
            itemsize = self.field.numpy_dtype.itemsize if isinstance(self.field, NDArrayField) else 0

            def code(batch: Any, destination: None) -> Any:
                return np.full(len(batch), itemsize)

            return code

    operation = Names()
    pipelines = {"array": [NDArrayDecoder(), operation], "number": [NDArrayDecoder(), operation], "image": None}
    pipelines["label"] = [IntDecoder(), operation]
    batch = next(iter(Loader(small, COUNT, pipelines=pipelines)))
    assert (batch.array[0], batch.number[0], batch.label[0]) == (4, 2, 0)


class Pictures(torch.utils.data.Dataset):
    def __init__(self, path: Path) -> None:
        self.path = path

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        return next(iter(Loader(self.path, COUNT, pipelines={"image": None}, num_workers=1)))


@pytest.mark.filterwarnings("ignore:.second view. cannot be the name of an attribute")
@pytest.mark.parametrize("options", [{}, {"return_indices": True, "return_params": True}])
def test_batches_can_be_pickled_saved_and_copied(small: Path, tmp_path: Path, options: dict) -> None:
    view = {"image": [RandomResizedCrop((8, 8)), ToTensor()]}
    view["second view"] = PipelineSpec("image", transforms=[ToTensor()])
    batch = next(iter(Loader(small, COUNT, pipelines=view | {"bytes": None}, **options)))
    torch.save(batch, tmp_path / "batch.pt")
    others = [
        pickle.loads(pickle.dumps(batch)),
        torch.load(tmp_path / "batch.pt", weights_only=False),
        copy.copy(batch),
        copy.deepcopy(batch),
    ]
    for other in others:
        assert type(other) is type(batch)
        assert other._fields == batch._fields
        assert torch.equal(other.image, batch.image)
        assert torch.equal(other.label, batch.label)
    assert batch._replace(label=None)._fields == batch._fields


def test_batches_come_through_worker_processes(small: Path) -> None:
    with torch.random.fork_rng():
        plain = torch.utils.data.DataLoader(
            Pictures(small), batch_size=None, num_workers=1, multiprocessing_context="spawn"
        )
        assert [batch.label.flatten().tolist() for batch in plain] == [list(range(COUNT))] * 2


def in_a_fork(work: Callable[[], bool]) -> bool:
    """What `work` returns in a forked process; False where it ends otherwise, or hangs."""
    child = os.fork()
    if child == 0:
        done = threading.Event()
        watch = threading.Timer(60, lambda: done.is_set() or os._exit(3))
        watch.daemon = True
        watch.start()
        try:
            os._exit(0 if work() else 1)
        except BaseException:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_lock_that_is_held_at_a_fork_is_free_in_the_child(small: Path) -> None:
    loader = Loader(small, 4, num_workers=1, pipelines={"image": [SimpleRGBImageDecoder(), ToTensor()]})
    list(loader)
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with loader._slots._lock:
            held.set()
            release.wait(120)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    assert in_a_fork(lambda: len(list(loader)) == 2)
    release.set()
    thread.join()
    lock = ForkSafeLock()
    with lock:  # its holder itself forks inside
        child = os.fork()
    if child == 0:
        with lock:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_fork_waits_for_threads_that_are_about_to_end() -> None:
    """As the system's thread unwinds its stack, it holds a lock of libgcc's, which a child would find held for ever."""
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    task = Path("/proc/self/task", str(thread.native_id))
    if not task.exists():
        pytest.skip("this system does not show a process's threads")
    wait_at_forks(cast(threading.Thread, SimpleNamespace(is_alive=lambda: False, native_id=thread.native_id)))
    threading.Timer(0.2, ended.set).start()
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert ended.is_set()
    assert not task.exists()


def test_parallel_operations_work_in_a_fork() -> None:
    """numba ends a process that was forked after its threads had been made; in a process of its own for that reason."""
    pytest.importorskip("numba", reason="numba is optional and not installed")
    code = """
        import os, sys, tempfile, threading
        from pathlib import Path
        sys.path.insert(0, "tests")
        from ffcv import Loader
        from ffcv.fields.basics import IntDecoder
        from ffcv.pipeline.allocation_query import AllocationQuery
        from ffcv.pipeline.compiler import Compiler
        from ffcv.pipeline.operation import Operation
        from small_files import NUMBERS_ONLY, write_numbers

        class AddOne(Operation):
            def declare_state_and_memory(self, state):
                return state, AllocationQuery(state.shape, state.dtype)

            def generate_code(self):
                loop = Compiler.get_iterator()

                def code(batch, destination):
                    for i in loop(len(batch)):
                        destination[i] = batch[i] + 1
                    return destination

                code.is_parallel = True
                return code

        with tempfile.TemporaryDirectory() as folder:
            path = write_numbers(Path(folder) / "numbers.beton", 20)
            pipelines = NUMBERS_ONLY | {"index": [IntDecoder(), AddOne()]}
            loader = Loader(path, 10, num_workers=2, pipelines=pipelines)

            def values():
                return [int(x) for batch in loader for x in batch.index.ravel()]

            assert values() == list(range(1, 21))
            child = os.fork()
            if child == 0:
                watch = threading.Timer(60, lambda: os._exit(3))
                watch.daemon = True
                watch.start()
                os._exit(0 if values() == list(range(1, 21)) else 1)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            assert values() == list(range(1, 21))
    """
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=240, cwd=root
    )
    assert (result.returncode, result.stdout) == (0, "0\n"), result.stderr
