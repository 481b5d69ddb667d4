"""Checksums: the algorithm, what they find, and files that have none."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from datasets import write_photos
from ffcv import Loader, _core
from ffcv._checksums import Checksums
from ffcv.errors import DecodeError, FormatError
from ffcv.fields import BytesField, IntField, NDArrayField
from ffcv.format import ALLOCATION, Section
from ffcv.loader import OrderOption
from ffcv.reader import Reader
from ffcv.transforms import CenterCrop
from ffcv.writer import DatasetWriter


def as_bytes(content: bytes) -> np.ndarray:
    return np.frombuffer(content, np.uint8)


def flip_byte(path: Path, position: int) -> None:
    with open(path, "r+b") as file:
        file.seek(position)
        value = file.read(1)[0]
        file.seek(position)
        file.write(bytes([value ^ 0x10]))


def test_crc32c_of_the_standard() -> None:
    # RFC 3720, appendix B.4, and the check value of the catalogue of CRC algorithms.
    assert _core.crc32c(as_bytes(b"123456789")) == 0xE3069283
    assert _core.crc32c(as_bytes(bytes(32))) == 0x8A9136AA
    assert _core.crc32c(as_bytes(b"\xff" * 32)) == 0x62A8AB43
    assert _core.crc32c(as_bytes(bytes(range(32)))) == 0x46DD794E
    assert _core.crc32c(as_bytes(b"")) == 0


@pytest.mark.parametrize("way", _core.crc32c_ways())
def test_crc32c_is_the_same_in_every_way_and_in_parts(way: str) -> None:
    rng = np.random.default_rng(0)
    pool = rng.integers(0, 256, 300_000, dtype=np.uint8)
    sizes = [*range(2100), 4095, 12287, 12288, 12297, 100_001, 262_144, 299_000]
    for size in sizes:
        start = int(rng.integers(0, 64))  # of no particular alignment
        before = int(rng.integers(0, 2**32))
        data = pool[start : start + size]
        assert _core.crc32c(data, before, way=way) == _core.crc32c(data, before, way="portable"), size
        cut = int(rng.integers(0, size + 1))
        whole = _core.crc32c(data[cut:], _core.crc32c(data[:cut], way=way), way=way)
        assert whole == _core.crc32c(data, way="portable"), (size, cut)


def test_crc32c_takes_the_fastest_way_and_knows_no_others() -> None:
    data = np.arange(1000, dtype=np.uint8)
    assert _core.crc32c_ways()[-1] == "portable"
    assert _core.crc32c(data) == _core.crc32c(data, way=_core.crc32c_ways()[0])
    with pytest.raises(ValueError, match="no such way"):
        _core.crc32c(data, way="guess")


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    path = tmp_path / "x.beton"
    samples = [(bytes([i]) * i, i) for i in range(20)]
    DatasetWriter(path, {"b": BytesField(), "i": IntField()}, num_workers=1).from_indexed_dataset(samples)
    return path


def test_every_allocation_has_one(blobs: Path) -> None:
    reader = Reader(blobs)
    assert reader.checksums is not None
    assert len(reader.allocations) == len(reader.checksums.rows) + 1
    assert reader.allocations[-1]["sample_id"] == Section.CHECKSUMS
    for i in range(20):
        assert reader.checksums.rows[i] == _core.crc32c(as_bytes(bytes([i]) * i))
    pointer = int(reader.metadata["b"]["ptr"][7])
    assert reader.read(pointer).tobytes() == b"\x07" * 7


def test_a_changed_sample_is_found_when_it_is_read(blobs: Path) -> None:
    pointers = Reader(blobs).metadata["b"]["ptr"]
    flip_byte(blobs, int(pointers[7]) + 3)
    reader = Reader(blobs)
    with pytest.raises(FormatError, match=r"x.beton: checksum mismatch: the 7 bytes at byte [0-9]+ .*ffcv verify"):
        reader.read(int(pointers[7]))
    assert reader.read(int(pointers[8])).tobytes() == b"\x08" * 8
    unverified = Reader(blobs, verify_checksums=False)
    assert unverified.checksums is None
    assert unverified.read(int(pointers[7])).tobytes() != b"\x07" * 7


def test_changed_tables_are_found_at_opening(blobs: Path) -> None:
    reader = Reader(blobs)
    label = reader._metadata_start + reader.metadata.dtype.fields["i"][1]  # type: ignore[index]
    padding = reader.data.size - len(reader.allocations) * ALLOCATION.itemsize - 1
    section = reader.sections[Section.CHECKSUMS][0]
    content = blobs.read_bytes()
    for position, message in (
        (label, "checksum mismatch in the header, the descriptors or the metadata"),
        (section + 4, "checksum mismatch in the section of checksums itself"),
        (section + 16, "the section of checksums has [0-9]+ bytes for"),
        (section + 30, "checksum mismatch in the section of checksums itself"),
    ):
        blobs.write_bytes(content)
        flip_byte(blobs, position)
        with pytest.raises(FormatError, match=message):
            Reader(blobs)
        assert Reader(blobs, verify_checksums=False).num_samples == 20
    blobs.write_bytes(content)
    flip_byte(blobs, padding)  # belongs to nobody
    assert Reader(blobs).num_samples == 20
    flip_byte(blobs, reader.data.size - 24 * 10)  # a row of the table says another sample
    with pytest.raises(FormatError):
        Reader(blobs)


def test_an_algorithm_of_the_future_is_passed_over(blobs: Path) -> None:
    section = Reader(blobs).sections[Section.CHECKSUMS][0]
    flip_byte(blobs, section)
    assert Reader(blobs).checksums is None


def test_files_without_checksums_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.beton"
    DatasetWriter(path, {"b": BytesField()}, num_workers=1, checksums=False).from_indexed_dataset([(b"abc",)])
    reader = Reader(path)
    assert reader.checksums is None
    assert reader.sections == {}
    flip_byte(path, int(reader.metadata["b"]["ptr"][0]))
    assert Reader(path).read(int(reader.metadata["b"]["ptr"][0])).tobytes() == b"qbc"


def test_sections_have_checksums_too(tmp_path: Path) -> None:
    path = tmp_path / "x.beton"
    fields = {"i": IntField()}
    DatasetWriter(path, fields, num_workers=1, manifest={"classes": ["cat"]}).from_indexed_dataset([(1,)])
    reader = Reader(path)
    assert reader.checksums is not None
    content = reader.read_section(Section.MANIFEST)
    assert content is not None
    assert reader.checksums.rows.tolist() == [_core.crc32c(as_bytes(content))]


def test_round_trip_of_the_section() -> None:
    checksums = Checksums(1, 2, np.array([3, 4], dtype=np.uint32))
    content = np.frombuffer(checksums.to_bytes(), np.uint8)
    assert content.size == Checksums.section_size(2)
    again = Checksums.from_bytes(content)
    assert again is not None
    assert (again.head, again.table, again.rows.tolist()) == (1, 2, [3, 4])
    for size in (0, 10, content.size - 1, content.size - 4):
        with pytest.raises(ValueError, match="section of checksums"):
            Checksums.from_bytes(content[:size])


@pytest.mark.parametrize("write_mode", ["jpg", "raw"])
def test_the_loader_refuses_changed_images(tmp_path: Path, write_mode: str) -> None:
    path = write_photos(tmp_path / "x.beton", 6, write_mode=write_mode)
    reader = Reader(path)
    row = reader.metadata["image"][4]
    size = int(reader.sizes(np.array([row["data_ptr"]], np.uint64))[0])
    loader = Loader(
        path, 6, num_workers=2, order=OrderOption.SEQUENTIAL, pipelines={"image": [CenterCrop((16, 16), 1.0)]}
    )
    assert len(list(loader)) == 1
    flip_byte(path, int(row["data_ptr"]) + size - 40)  # far from what a centre crop needs of raw pixels
    loader = Loader(path, 6, num_workers=2, pipelines={"image": [CenterCrop((16, 16), 1.0)]})
    with pytest.raises(DecodeError, match="sample 4, field 'image': checksum mismatch"):
        list(loader)


def flip_byte_unnoticed(path: Path, position: int) -> None:
    """As a disk or a network does it: size and times of the file stay."""
    before = path.stat()
    flip_byte(path, position)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(("write_mode", "every_time"), [("jpg", True), ("raw", False)])
def test_raw_pixels_are_compared_once_and_jpegs_at_every_read(
    tmp_path: Path, write_mode: str, every_time: bool
) -> None:
    path = write_photos(tmp_path / "x.beton", 6, write_mode=write_mode)
    first = int(Reader(path).metadata["image"]["data_ptr"][4]) + 40
    pipelines = {"image": [CenterCrop((16, 16), 1.0)]}
    loader = Loader(path, 6, num_workers=1, pipelines=pipelines)
    before = next(iter(loader)).image
    flip_byte_unnoticed(path, first)
    if every_time:
        with pytest.raises(DecodeError, match="sample 4, field 'image': checksum mismatch"):
            list(loader)
    else:
        assert np.array_equal(next(iter(loader)).image, before)  # far from the crop
    fresh = Loader(path, 6, num_workers=1, pipelines=pipelines)
    for _ in range(2):  # what was found to be damaged is not taken for verified
        with pytest.raises(DecodeError, match="sample 4, field 'image': checksum mismatch"):
            list(fresh)


def test_a_batch_of_both_compares_its_jpegs_only(tmp_path: Path) -> None:
    path = write_photos(tmp_path / "x.beton", 16, write_mode="proportion")
    images = Reader(path).metadata["image"]
    raw, jpeg = (int(np.flatnonzero(images["mode"] == mode)[0]) for mode in (1, 0))
    loader = Loader(path, 16, num_workers=1, pipelines={"image": [CenterCrop((16, 16), 1.0)]})
    before = next(iter(loader)).image
    flip_byte_unnoticed(path, int(images["data_ptr"][raw]))
    assert np.array_equal(next(iter(loader)).image, before)  # far from the crop
    flip_byte_unnoticed(path, int(images["data_ptr"][jpeg]) + 400)
    with pytest.raises(DecodeError, match=f"sample {jpeg}, field 'image': checksum mismatch"):
        list(loader)


@pytest.mark.parametrize("os_cache", [True, False])
def test_arrays_are_compared_once(tmp_path: Path, os_cache: bool) -> None:
    path = tmp_path / "x.beton"
    samples = [(np.full(10, i, np.int32),) for i in range(6)]
    writer = DatasetWriter(path, {"a": NDArrayField(np.dtype(np.int32), (10,))}, num_workers=1)
    writer.from_indexed_dataset(samples)
    place = int(Reader(path).metadata["a"][2])
    loader = Loader(path, 2, num_workers=1, os_cache=os_cache)
    list(loader)
    flip_byte_unnoticed(path, place)
    assert [batch.a[0, 0].item() for batch in loader] == [0, 18, 4]
    for _ in range(2):
        with pytest.raises(DecodeError, match="sample 2, field 'a': checksum mismatch"):
            list(Loader(path, 2, num_workers=1, os_cache=os_cache))
