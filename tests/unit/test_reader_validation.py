"""Opening checks the whole structure: each damage is a one-line FormatError that names the file and what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import own_process
from ffcv import _core
from ffcv.errors import FormatError
from ffcv.fields import BytesField, EncodedImage, IntField, JSONField, NDArrayField, RGBImageField
from ffcv.fields.rgb_image import encode_jpeg
from ffcv.format import ALLOCATION, FIELD_DESCRIPTOR, FIRST_SECTION_ID, HEADER, MIN_PAGE_SIZE
from ffcv.reader import Reader
from ffcv.writer import DatasetWriter

PLAIN: Any = {"page_size": MIN_PAGE_SIZE, "num_workers": 1, "checksums": False}
NUM_FIELDS = 5
NUM_SAMPLES = 6
DESCRIPTORS_END = HEADER.itemsize + NUM_FIELDS * FIELD_DESCRIPTOR.itemsize


class File:
    """A small valid file, and views into its bytes through which a test damages it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
        images = [pixels, EncodedImage(encode_jpeg(pixels, 90), 4, 4)] * 3
        fields = {
            "image": RGBImageField(),
            "label": IntField(),
            "blob": BytesField(),
            "array": NDArrayField("float32", (2, 3)),
            "json": JSONField(),
        }
        samples = [(image, i, bytes(i), np.full((2, 3), i, np.float32), {"i": i}) for i, image in enumerate(images)]
        DatasetWriter(path, fields, **PLAIN).from_indexed_dataset(samples)
        self.metadata_type = Reader(path).metadata.dtype
        self.bytes = np.fromfile(path, dtype=np.uint8)

    @property
    def header(self) -> Any:
        return self.bytes[: HEADER.itemsize].view(HEADER)

    @property
    def descriptors(self) -> Any:
        return self.bytes[HEADER.itemsize : DESCRIPTORS_END].view(FIELD_DESCRIPTOR)

    @property
    def metadata(self) -> Any:
        return self.bytes[DESCRIPTORS_END:][: NUM_SAMPLES * self.metadata_type.itemsize].view(self.metadata_type)

    @property
    def table(self) -> Any:
        return self.bytes[int(self.header["alloc_table_ptr"][0]) :].view(ALLOCATION)

    def open(self) -> Reader:
        self.bytes.tofile(self.path)
        return Reader(self.path)


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path / "photos.beton")


def assert_refused(file: File, message: str) -> None:
    with pytest.raises(FormatError, match=message) as info:
        file.open()
    text = str(info.value)
    assert text.startswith(f"{file.path}: ")
    assert "\n" not in text


def test_the_undamaged_file_opens(file: File) -> None:
    reader = file.open()
    assert reader.num_samples == NUM_SAMPLES
    assert reader.field_names == ["image", "label", "blob", "array", "json"]
    assert reader.metadata["label"].tolist() == list(range(NUM_SAMPLES))
    assert reader.metadata.base is not None
    assert reader.file_name == reader.path == str(file.path)


def test_every_way_to_cut_the_file_is_found(file: File) -> None:
    whole = file.bytes.copy()
    sizes = {0, 1, 23, 24, 1000, DESCRIPTORS_END, whole.size // 2, whole.size - 24, whole.size - 1}
    for size in sorted(sizes | set(range(whole.size - 200, whole.size, 7))):
        file.bytes = whole[:size]
        assert_refused(file, "truncated|no allocation begins at byte")


def test_cut_in_half_says_truncated_and_what_to_do(file: File) -> None:
    file.bytes = file.bytes[: file.bytes.size // 2]
    assert_refused(file, "truncated: .* restore it from a copy or write it again with 'ffcv write'")


def test_other_files(tmp_path: Path) -> None:
    (tmp_path / "notes.beton").write_text("these are my notes, which have little to do with images")
    with pytest.raises(FormatError, match=r"notes.beton: not a .beton file of version 2: it begins with b'thes'"):
        Reader(tmp_path / "notes.beton")
    with pytest.raises(FileNotFoundError, match=r"none.beton: no such file; check the path, or write the file with"):
        Reader(tmp_path / "none.beton")
    with pytest.raises(FormatError, match="not a file; give the path"):
        Reader(tmp_path)


def test_a_file_that_may_not_be_read_is_named(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    file.open()

    def refuse(path: str) -> None:
        raise _core.ReadError("cannot be opened: Permission denied")

    monkeypatch.setattr(_core, "StorageFile", refuse)
    with pytest.raises(OSError, match=r"photos.beton: cannot be opened: Permission denied$") as info:
        file.open()
    assert str(info.value).startswith(f"{file.path}: ")


DAMAGES: dict[str, tuple[Callable[[File], Any], str]] = {
    "version": (lambda f: f.header.__setitem__("version", 3), "not a .beton file of version 2"),
    "page size zero": (lambda f: f.header.__setitem__("page_size", 0), "page size 0 is not a power of two"),
    "page size odd": (lambda f: f.header.__setitem__("page_size", 3 << 21), "is not a power of two"),
    "no fields": (lambda f: f.header.__setitem__("num_fields", 0), "declares no fields"),
    "too many fields": (lambda f: f.header.__setitem__("num_fields", 65535), "declares 65535 fields, which do not fit"),
    "more fields": (lambda f: f.header.__setitem__("num_fields", 6), "field 5 has the impossible name"),
    "too many samples": (lambda f: f.header.__setitem__("num_samples", 2**63), "samples of .* do not fit"),
    "one sample fewer": (lambda f: f.header.__setitem__("num_samples", 5), "is of a sample beyond the 5 declared"),
    "unfinished": (lambda f: f.header.__setitem__("alloc_table_ptr", 0), "unfinished: .* write it again"),
    "table beyond the end": (lambda f: f.header.__setitem__("alloc_table_ptr", 2**64 - 1), "truncated: its allocation"),
    "table too early": (
        lambda f: f.header.__setitem__("alloc_table_ptr", f.header["alloc_table_ptr"] - np.uint64(24)),
        "truncated or damaged: its pages end at byte [0-9]+, in the middle",
    ),
    "unknown type": (lambda f: f.descriptors["type_id"].__setitem__(1, 77), "'label' has the unknown type 77"),
    "custom type": (
        lambda f: f.descriptors["type_id"].__setitem__(1, 255),
        r"'label' is of a custom type: pass custom_fields=\{'label': YourField\}",
    ),
    "empty name": (lambda f: f.descriptors["name"].__setitem__(1, 0), "field 1 has the impossible name b''"),
    "name not ASCII": (lambda f: f.descriptors["name"][1].__setitem__(0, 200), "field 1 has the impossible name"),
    "same names": (
        lambda f: f.descriptors["name"].__setitem__(1, f.descriptors["name"][0]),
        "two fields are named 'image'",
    ),
    "dtype": (lambda f: f.descriptors["arguments"][3].__setitem__(slice(264, 275), 91), "field 'array': unknown dtype"),
    "shape": (lambda f: f.descriptors["arguments"][3].__setitem__(slice(8, 16), 0), "bytes expected, but 24 are"),
    "pointer before the pages": (lambda f: f.table["ptr"].__setitem__(3, 100), "allocation 3 lies outside the pages"),
    "pointer after the pages": (lambda f: f.table["ptr"].__setitem__(3, 2**64 - 8), "allocation 3 lies outside"),
    "size beyond the pages": (lambda f: f.table["size"].__setitem__(3, 2**64 - 8), "allocation 3 lies outside"),
    "sample beyond": (lambda f: f.table["sample_id"].__setitem__(3, 6), "allocation 3 is of a sample beyond the 6"),
    "another sample's array": (
        lambda f: f.metadata["array"].__setitem__(4, f.metadata["array"][3]),
        "'array': sample 4: points to byte [0-9]+, which belongs to another sample",
    ),
    "another sample's blob": (
        lambda f: f.metadata["blob"]["ptr"].__setitem__(5, f.metadata["blob"]["ptr"][4]),
        "'blob': sample 5: points to byte [0-9]+, which belongs to another sample",
    ),
    "overlap": (
        lambda f: f.table["size"].__setitem__(0, f.table["size"][0] + np.uint64(2)),
        "two allocations overlap at byte 2097201",
    ),
    "section twice": (lambda f: f.table["sample_id"].__setitem__(slice(0, 2), FIRST_SECTION_ID), "appears twice"),
    "image mode": (lambda f: f.metadata["image"]["mode"].__setitem__(2, 2), "'image': sample 2: image mode 2"),
    "image empty": (lambda f: f.metadata["image"]["width"].__setitem__(2, 0), "'image': sample 2: an image of 4 x 0"),
    "image too large": (
        lambda f: f.metadata["image"]["width"].__setitem__(2, 65535),
        "'image': sample 2: an image of 4 x 65535 pixels in mode 1 cannot have 48 bytes",
    ),
    "image pointer": (
        lambda f: f.metadata["image"]["data_ptr"].__setitem__(2, 12345),
        "'image': no allocation begins at byte 12345, where entry 2 points",
    ),
    "array pointer": (lambda f: f.metadata["array"].__setitem__(4, 2**64 - 1), "'array': no allocation begins at byte"),
    "blob size": (
        lambda f: f.metadata["blob"]["size"].__setitem__(3, 4),
        "'blob': sample 3: 4 bytes are declared, but 3 are allocated",
    ),
    "json pointer": (lambda f: f.metadata["json"]["ptr"].__setitem__(3, 7), "'json': no allocation begins at byte 7"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damages(file: File, name: str) -> None:
    damage, message = DAMAGES[name]
    damage(file)
    assert_refused(file, message)


def test_tables_are_checked_without_assertions_too(tmp_path: Path) -> None:
    path = tmp_path / "numbers.beton"  # where no field has pointers, which would have the table checked
    DatasetWriter(path, {"label": IntField()}, manifest={"a": 1}, **PLAIN).from_indexed_dataset([(1,)])
    content = np.fromfile(path, np.uint8)
    content[int(content[: HEADER.itemsize].view(HEADER)["alloc_table_ptr"][0]) :].view(ALLOCATION)["ptr"] = 10
    content.tofile(path)
    code = f"from ffcv.reader import Reader; Reader({str(path)!r})"
    result = own_process.run(code, PYTHONOPTIMIZE="1")
    assert "allocation 0 lies outside the pages" in result.stderr


def test_an_allocation_across_pages(tmp_path: Path) -> None:
    path = tmp_path / "x.beton"
    blobs = [(bytes(MIN_PAGE_SIZE - 10),), (bytes(100),)]
    DatasetWriter(path, {"b": BytesField()}, **PLAIN).from_indexed_dataset(blobs)
    content = np.fromfile(path, dtype=np.uint8)
    content[-48:].view(ALLOCATION)["size"][0] = MIN_PAGE_SIZE
    content.tofile(path)
    assert Reader(path).num_samples == 2
    content[-48:].view(ALLOCATION)["ptr"][1] = 2 * MIN_PAGE_SIZE - 5
    content[-48:].view(ALLOCATION)["size"][0] = 10
    content.tofile(path)
    with pytest.raises(FormatError, match="allocation 1 crosses from one page into the next"):
        Reader(path)


def test_empty_allocations_of_the_original_share_their_pointers(tmp_path: Path) -> None:
    path = tmp_path / "x.beton"
    blobs = [(b"",), (b"abc",), (b"",)]
    DatasetWriter(path, {"b": BytesField()}, **PLAIN).from_indexed_dataset(blobs)
    content = np.fromfile(path, dtype=np.uint8)
    table = content[-72:].view(ALLOCATION)
    metadata = content[HEADER.itemsize + FIELD_DESCRIPTOR.itemsize :][:48].view([("ptr", "<u8"), ("size", "<u8")])
    metadata["ptr"][0] = table["ptr"][0] = table["ptr"][1]  # an empty one where the next one begins
    metadata["ptr"][2] = table["ptr"][2] = 0  # the original's pointer for one that comes first of all
    content.tofile(path)
    reader = Reader(path)
    pointer = int(reader.metadata["b"]["ptr"][1])
    assert reader.sizes(np.array([pointer], np.uint64)).tolist() == [3]
    assert reader.read(pointer).tobytes() == b"abc"


def test_sizes(file: File) -> None:
    reader = file.open()
    pointers = reader.metadata["image"]["data_ptr"]
    sizes = reader.sizes(pointers[[4, 0, 1]])
    assert sizes.dtype == np.uint64
    assert sizes[:2].tolist() == [48, 48]
    assert sizes[2] > 100
    for unknown in (0, int(pointers[0]) + 1, 2**64 - 1):
        with pytest.raises(FormatError, match=f"no allocation begins at byte {unknown}"):
            reader.sizes(np.array([unknown], dtype=np.uint64))


def test_fingerprint_is_of_the_tables(file: File) -> None:
    first = file.open().fingerprint
    assert file.open().fingerprint == first
    assert len(first) == 32
    file.metadata["label"][0] = 99
    assert file.open().fingerprint != first


def test_unsorted_tables_are_read(file: File) -> None:
    before = file.open().sizes(file.open().metadata["array"]).tolist()
    file.table[:] = file.table[::-1].copy()
    reader = file.open()
    assert reader.sizes(reader.metadata["array"]).tolist() == before
    assert reader.read(int(reader.metadata["array"][5])).view("<f4").tolist() == [5.0] * 6


def test_a_table_of_more_rows_than_there_can_be(tmp_path: Path) -> None:
    """A hole of 24 GB at the end of a file of one number takes no memory."""
    path = tmp_path / "x.beton"
    DatasetWriter(path, {"i": IntField()}, **PLAIN).from_indexed_dataset([(1,)])
    os.truncate(path, path.stat().st_size + ALLOCATION.itemsize * 10**9)
    with pytest.raises(FormatError, match=r"1000000000 rows for 1 samples and 0 bytes of pages; the file is damaged"):
        Reader(path)


LITTLE_MEMORY = """
import resource, sys
import ffcv.reader, ffcv.errors
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
try:
    ffcv.reader.Reader(sys.argv[1])
except ffcv.errors.FormatError as error:
    print(error)
"""


def test_tables_and_sections_larger_than_memory(tmp_path: Path) -> None:
    """24 GB, all holes, behind a header or a row of the table that allows for it."""
    path = tmp_path / "x.beton"
    fields = {"b": BytesField()}
    DatasetWriter(path, fields, **{**PLAIN, "checksums": True}).from_indexed_dataset([(b"x",), (b"y",)])
    content = bytearray(path.read_bytes())
    place = int(Reader(path).header["alloc_table_ptr"])
    table = np.frombuffer(content, ALLOCATION, offset=place).copy()
    far = 24 << 30
    header = np.frombuffer(content, HEADER, 1).copy()
    header["alloc_table_ptr"] = far

    def opened(table: np.ndarray, size: int) -> str:
        with open(path, "wb") as file:
            file.write(header.tobytes() + content[HEADER.itemsize : place])
            file.seek(far)
            file.write(table.tobytes())
            file.truncate(far + size)
        run = subprocess.run(
            [sys.executable, "-c", LITTLE_MEMORY, path], capture_output=True, text=True, timeout=120, check=True
        )
        return run.stdout

    assert "no memory for its 24000000000 bytes from byte" in opened(table, ALLOCATION.itemsize * 10**9)
    table["size"][-1] = far - table["ptr"][-1]
    assert "the section of checksums has 37 bytes for 2 checksums" in opened(table, table.nbytes)
