"""The writer: what it writes, and that it leaves nothing behind when it fails."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ffcv.errors import WriteError
from ffcv.fields import (
    BytesField,
    Field,
    FloatField,
    IntField,
    JSONField,
    NDArrayField,
    RGBImageField,
    TorchTensorField,
)
from ffcv.fields.base import pack_arguments
from ffcv.fields.decoders import BytesDecoder, NDArrayDecoder
from ffcv.format import DEFAULT_PAGE_SIZE, MIN_PAGE_SIZE, Section
from ffcv.reader import Reader
from ffcv.writer import DatasetWriter


def write(path: Path, fields: dict[str, Field], samples: Any, **options: Any) -> Reader:
    options = {"page_size": MIN_PAGE_SIZE, "num_workers": 1, **options}
    DatasetWriter(path, fields, **options).from_indexed_dataset(samples)
    return Reader(path)


def read_blobs(reader: Reader, name: str) -> list[bytes]:
    column = reader.metadata[name]
    return [reader.read(int(row["ptr"])).tobytes()[: int(row["size"])] for row in column]


class Numbers:
    """Samples of unequal size, some of which do what they are told to at a given index."""

    def __init__(self, length: int, fail_at: int | None = None, how: str = "raise") -> None:
        self.length, self.fail_at, self.how = length, fail_at, how

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        if index == self.fail_at:
            if self.how == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == "exit":
                sys.exit("no licence for this photograph")
            raise KeyError("no such photograph")
        return bytes([index % 256]) * (index * 7919 % 60_000), index


BLOB_AND_LABEL = {"blob": BytesField(), "label": IntField()}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_round_trip(data: st.DataObject, tmp_path: Path) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, max_side=3))
    dtype = data.draw(st.sampled_from([np.dtype(code) for code in ("b1", "u1", "<i8", ">u2", "<f2", "<f4", "<c8")]))
    fields = {
        "label": IntField(),
        "blob": BytesField(),
        "array": NDArrayField(dtype, shape),
        "value": FloatField(),
        "json": JSONField(),
        "image": RGBImageField(),
    }
    json_values = st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5)
    sample = st.tuples(
        st.integers(-(2**63), 2**63 - 1),
        st.binary(max_size=50),
        hnp.arrays(dtype, shape),
        st.floats(allow_nan=True),
        json_values,
        hnp.arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 4), st.just(3))),
    )
    samples = data.draw(st.lists(sample, min_size=1, max_size=8))
    reader = write(tmp_path / "x.beton", fields, samples)

    assert reader.field_names == list(fields)
    assert reader.metadata["label"].tolist() == [sample[0] for sample in samples]
    assert read_blobs(reader, "blob") == [sample[1] for sample in samples]
    decoder = NDArrayDecoder()
    decoder.bind(reader, "array")
    arrays = decoder.decode(reader.metadata["array"], reader.read)
    assert arrays.dtype == dtype.newbyteorder("=")
    assert arrays.tobytes() == np.array([sample[2] for sample in samples], dtype=arrays.dtype).tobytes()
    assert reader.metadata["value"].tobytes() == np.array([sample[3] for sample in samples]).tobytes()
    texts = BytesDecoder()
    texts.bind(reader, "json")
    assert JSONField.unpack(texts.decode(reader.metadata["json"], reader.read)) == [sample[4] for sample in samples]
    for row, sample in zip(reader.metadata["image"], samples, strict=True):
        stored = reader.read(int(row["data_ptr"])).reshape(row["height"], row["width"], 3)
        np.testing.assert_array_equal(stored, sample[5])


@pytest.mark.parametrize(("workers", "backend"), [(2, "process"), (3, "process"), (8, "process"), (8, "thread")])
def test_same_bytes_for_any_number_of_workers(tmp_path: Path, workers: int, backend: str) -> None:
    samples = Numbers(250)  # 7.5 MB: several pages
    write(tmp_path / "one.beton", BLOB_AND_LABEL, samples)
    DatasetWriter(
        tmp_path / "many.beton", BLOB_AND_LABEL, page_size=MIN_PAGE_SIZE, num_workers=workers, backend=backend
    ).from_indexed_dataset(samples, chunksize=7)
    assert (tmp_path / "one.beton").read_bytes() == (tmp_path / "many.beton").read_bytes()
    reader = Reader(tmp_path / "many.beton")
    assert read_blobs(reader, "blob") == [samples[i][0] for i in range(250)]
    table = reader.allocations[:250]  # without the sections
    pages = table["ptr"] // MIN_PAGE_SIZE
    assert len(np.unique(pages)) > 3
    assert (pages == (table["ptr"] + np.maximum(table["size"], 1) - 1) // MIN_PAGE_SIZE).all()


def test_all_allocations_of_a_sample_share_a_page(tmp_path: Path) -> None:
    samples = [(bytes(MIN_PAGE_SIZE // 2), bytes(MIN_PAGE_SIZE // 2 - i % 2)) for i in range(3)]
    reader = write(tmp_path / "x.beton", {"a": BytesField(), "b": BytesField()}, samples, checksums=False)
    pages = reader.allocations["ptr"].reshape(3, 2) // MIN_PAGE_SIZE
    np.testing.assert_array_equal(pages, [[1, 1], [2, 2], [3, 3]])
    assert read_blobs(reader, "a") + read_blobs(reader, "b") == [sample[0] for sample in samples] + [
        sample[1] for sample in samples
    ]


def test_empty_values_have_pointers_of_their_own(tmp_path: Path) -> None:
    samples = [(b"", b""), (b"ab", b""), (b"", b"c")]
    reader = write(tmp_path / "x.beton", {"a": BytesField(), "b": BytesField()}, samples, checksums=False)
    assert len(np.unique(reader.allocations["ptr"])) == 6
    assert read_blobs(reader, "a") == [b"", b"ab", b""]
    assert read_blobs(reader, "b") == [b"", b"", b"c"]


def test_bytes_decoder_leaves_nothing_of_other_samples(tmp_path: Path) -> None:
    reader = write(tmp_path / "x.beton", {"a": BytesField()}, [(b"\xff" * 9,), (b"",), (b"\x01",)])
    decoder = BytesDecoder()
    with pytest.raises(RuntimeError, match="not bound"):
        decoder.decode(reader.metadata["a"], reader.read)
    decoder.bind(reader, "a")
    assert decoder.decode(reader.metadata["a"][1:], reader.read).tolist() == [[0] * 9, [1] + [0] * 8]


def test_indices_order_and_shuffle(tmp_path: Path) -> None:
    samples = [(i,) for i in range(50)]
    DatasetWriter(tmp_path / "x.beton", {"i": IntField()}, num_workers=1).from_indexed_dataset(samples, [7, 3, 3])
    assert Reader(tmp_path / "x.beton").metadata["i"].tolist() == [7, 3, 3]
    given_indices = np.arange(50)
    state = np.random.get_state()
    np.random.seed(5)
    DatasetWriter(tmp_path / "x.beton", {"i": IntField()}, num_workers=1).from_indexed_dataset(
        samples, given_indices, shuffle_indices=True
    )
    np.random.set_state(state)
    written = Reader(tmp_path / "x.beton").metadata["i"]
    assert sorted(written.tolist()) == list(range(50)) != written.tolist()
    assert given_indices.tolist() == list(range(50))


def test_torch_tensors(tmp_path: Path) -> None:
    tensors = [torch.full((2, 3), i, dtype=torch.int16) for i in range(3)]
    reader = write(tmp_path / "x.beton", {"t": TorchTensorField(torch.int16, (2, 3))}, [(t,) for t in tensors])
    decoder = NDArrayDecoder()
    decoder.bind(reader, "t")
    assert torch.equal(torch.from_numpy(decoder.decode(reader.metadata["t"], reader.read)), torch.stack(tensors))


class PairField(Field):
    """A user's field: two allocations, signed pointers, and numbers that look like pointers but are none."""

    @property
    def metadata_type(self) -> np.dtype:
        return np.dtype([("second", "<i8"), ("key", "<u8"), ("first", "<u8")])

    @staticmethod
    def from_binary(binary: np.ndarray) -> PairField:
        assert binary[:4].tobytes() == b"pair"
        return PairField()

    def to_binary(self) -> Any:
        return pack_arguments(b"pair")

    def encode(self, destination: np.ndarray, value: Any, malloc: Any) -> None:
        for name, content in zip(("first", "second"), value, strict=True):
            destination[name], buffer = malloc(len(content))
            buffer[:] = np.frombuffer(content, np.uint8)
        destination["key"] = 2**63 + 5

    def get_decoder_class(self) -> type:
        return BytesDecoder


def test_custom_fields(tmp_path: Path) -> None:
    samples = [(i, (bytes([i]) * (i + 1), b"second")) for i in range(5)]
    DatasetWriter(tmp_path / "x.beton", {"i": IntField(), "pair": PairField()}, num_workers=2).from_indexed_dataset(
        samples
    )
    reader = Reader(tmp_path / "x.beton", custom_fields={"pair": PairField})
    for i, row in enumerate(reader.metadata["pair"]):
        assert reader.read(int(row["first"])).tobytes() == bytes([i]) * (i + 1)
        assert reader.read(int(row["second"])).tobytes() == b"second"
        assert row["key"] == 2**63 + 5


def test_integers_that_look_like_pointers_are_kept(tmp_path: Path) -> None:
    samples = [(2**62 + i, b"x" * 3) for i in range(9)]
    reader = write(tmp_path / "x.beton", {"i": IntField(), "b": BytesField()}, samples)
    assert reader.metadata["i"].tolist() == [2**62 + i for i in range(9)]


def test_manifest_is_a_section(tmp_path: Path) -> None:
    samples = [(bytes([i]), i) for i in range(4)]
    plain = write(tmp_path / "plain.beton", BLOB_AND_LABEL, samples)
    manifest = {"classes": ["cat", "d\N{LATIN SMALL LETTER O WITH DIAERESIS}g"]}
    reader = write(tmp_path / "x.beton", BLOB_AND_LABEL, samples, manifest=manifest)
    assert plain.read_section(Section.MANIFEST) is None
    content = reader.read_section(Section.MANIFEST)
    assert content is not None
    assert json.loads(content) == manifest
    np.testing.assert_array_equal(reader.metadata, plain.metadata)
    assert reader.fingerprint != plain.fingerprint
    numbers = write(tmp_path / "n.beton", {"i": IntField()}, [(1,)], manifest=manifest)
    assert json.loads(numbers.read_section(Section.MANIFEST) or b"") == manifest


def test_progress_counts_every_sample(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    DatasetWriter(
        tmp_path / "x.beton", {"i": IntField()}, num_workers=1, on_progress=lambda *numbers: seen.append(numbers)
    ).from_indexed_dataset([(i,) for i in range(25)], chunksize=10)
    assert seen == [(10, 25), (20, 25), (25, 25)]


@pytest.mark.parametrize(("workers", "backend"), [(1, "process"), (2, "process"), (2, "thread")])
def test_a_failing_sample_is_named_and_nothing_is_left(tmp_path: Path, workers: int, backend: str) -> None:
    target = tmp_path / "x.beton"
    target.write_bytes(b"older")
    writer = DatasetWriter(target, BLOB_AND_LABEL, num_workers=workers, backend=backend)  # type: ignore[arg-type]
    with pytest.raises(WriteError, match=r"sample 33 \(index 33 of the dataset\): KeyError: 'no such photo") as info:
        writer.from_indexed_dataset(Numbers(80, fail_at=33), chunksize=10)
    assert info.value.sample_index == 33
    assert str(info.value).startswith(str(target))
    report = "".join(traceback.format_exception(info.value))
    assert 'raise KeyError("no such photograph")' in report
    assert target.read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["x.beton"]


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize("backend", ["process", "thread"])
def test_a_dataset_that_calls_for_an_exit_is_no_dead_worker(
    backend: Literal["process", "thread"], on_error: Literal["raise", "skip"], tmp_path: Path
) -> None:
    """Nor is it a bad sample to skip, or the end of the whole program."""
    writer = DatasetWriter(
        tmp_path / "x.beton",
        BLOB_AND_LABEL,
        num_workers=2,
        backend=backend,
        on_error=on_error,
    )
    sample = r"sample 33 \(index 33 of the dataset\): SystemExit: no licence for this photograph"
    with pytest.raises(WriteError, match=sample) as info:
        writer.from_indexed_dataset(Numbers(80, fail_at=33, how="exit"), chunksize=10)
    assert info.value.sample_index == 33
    assert os.listdir(tmp_path) == []


def test_an_exit_in_this_thread_is_one(tmp_path: Path) -> None:
    """It may also come from a signal's handler, whose file must not be said to have a bad sample."""
    writer = DatasetWriter(tmp_path / "x.beton", BLOB_AND_LABEL, num_workers=1, on_error="skip")
    with pytest.raises(SystemExit, match="no licence"):
        writer.from_indexed_dataset(Numbers(80, fail_at=33, how="exit"), chunksize=10)
    assert os.listdir(tmp_path) == []


def test_a_dying_worker_ends_the_write(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path / "x.beton", BLOB_AND_LABEL, num_workers=2)
    with pytest.raises(WriteError, match="a worker process died at one of the samples") as info:
        writer.from_indexed_dataset(Numbers(60, fail_at=45, how="die"), chunksize=10)
    assert info.value.sample_index is not None
    assert info.value.sample_index <= 45
    assert os.listdir(tmp_path) == []


def test_a_failing_callback_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    writer = DatasetWriter(tmp_path / "x.beton", BLOB_AND_LABEL, num_workers=2, on_progress=interrupt)
    with pytest.raises(KeyboardInterrupt):
        writer.from_indexed_dataset(Numbers(60), chunksize=5)
    assert os.listdir(tmp_path) == []


def test_what_a_killed_writer_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".x.beton.partial").write_bytes(b"left behind" * 1000)
    reader = write(tmp_path / "x.beton", {"i": IntField()}, [(3,)])
    assert reader.metadata["i"].tolist() == [3]
    assert os.listdir(tmp_path) == ["x.beton"]


def test_two_writers_of_one_file(tmp_path: Path) -> None:
    class Nested:
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> tuple[int]:
            write(tmp_path / "x.beton", {"i": IntField()}, [(0,)])
            return (index,)

    with pytest.raises(WriteError, match="another process is writing this file"):
        write(tmp_path / "x.beton", {"i": IntField()}, Nested())
    assert os.listdir(tmp_path) == []


def test_sample_larger_than_a_page(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=r"sample 1 takes 2097153 bytes, .* set page_size=4194304"):
        write(tmp_path / "x.beton", {"b": BytesField()}, [(b"x",), (bytes(MIN_PAGE_SIZE + 1),)])
    assert os.listdir(tmp_path) == []
    exact = write(tmp_path / "x.beton", {"b": BytesField()}, [(b"x",), (bytes(MIN_PAGE_SIZE),), (b"y",)])
    assert [len(blob) for blob in read_blobs(exact, "b")] == [1, MIN_PAGE_SIZE, 1]


def test_pages_grow_with_the_samples(tmp_path: Path) -> None:
    sizes = [1, DEFAULT_PAGE_SIZE - 1, 5, 2 * DEFAULT_PAGE_SIZE + 1, 7, 3 * DEFAULT_PAGE_SIZE]
    for name, workers in (("one.beton", 1), ("two.beton", 2)):
        DatasetWriter(tmp_path / name, {"b": BytesField()}, num_workers=workers).from_indexed_dataset(
            [(bytes([i]) * size,) for i, size in enumerate(sizes)], chunksize=1
        )
    reader = Reader(tmp_path / "one.beton")
    assert reader.page_size == 4 * DEFAULT_PAGE_SIZE
    for i, (blob, size) in enumerate(zip(read_blobs(reader, "b"), sizes, strict=True)):
        assert blob == bytes([i]) * size
    assert (tmp_path / "one.beton").read_bytes() == (tmp_path / "two.beton").read_bytes()
    small = write(tmp_path / "small.beton", {"b": BytesField()}, [(b"x",)], page_size=None)
    assert small.page_size == DEFAULT_PAGE_SIZE


@pytest.mark.parametrize(("workers", "backend"), [(1, "process"), (2, "process"), (2, "thread")])
def test_skipping_failing_samples(tmp_path: Path, workers: int, backend: Any) -> None:
    class Flawed(Numbers):
        def __getitem__(self, index: int) -> tuple[Any, Any]:
            blob, number = super().__getitem__(index)
            # The second failure comes after the first field has been stored.
            return blob, "seven" if index == 7 else number

    writer = DatasetWriter(tmp_path / "x.beton", BLOB_AND_LABEL, num_workers=workers, backend=backend, on_error="skip")
    writer.from_indexed_dataset(Flawed(30, fail_at=11), chunksize=4)
    assert [index for index, _ in writer.skipped] == [7, 11]
    assert "whole number" in writer.skipped[0].error
    assert writer.skipped[1].error == "KeyError: 'no such photograph'"
    reader = Reader(tmp_path / "x.beton")
    kept = [i for i in range(30) if i not in (7, 11)]
    assert reader.metadata["label"].tolist() == kept
    assert read_blobs(reader, "blob") == [Numbers(30)[i][0] for i in kept]
    assert len(reader.allocations) == 28 + 2
    assert json.loads(reader.read_section(Section.MANIFEST) or b"")["skipped"]["count"] == 2


def test_skipping_everything_is_an_error(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path / "x.beton", {"i": IntField()}, num_workers=1, on_error="skip")
    with pytest.raises(WriteError, match=r"all 2 samples failed, the first \(index 0\) with: TypeError: IntField"):
        writer.from_indexed_dataset([("x",), ("y",)])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([(1, 2)], r"one value per field, \['i'\], as a tuple; got 2 values"),
        ([5], "as a tuple; got a int"),
        ([("x",)], "IntField stores a whole number of 64 bits, got str 'x'"),
    ],
)
def test_samples_of_the_wrong_form(tmp_path: Path, samples: Any, message: str) -> None:
    with pytest.raises(WriteError, match=message):
        write(tmp_path / "x.beton", {"i": IntField()}, samples)
    assert os.listdir(tmp_path) == []
