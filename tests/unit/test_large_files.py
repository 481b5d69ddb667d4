"""Files far larger than memory: what opening them reads and takes, and what writing them takes."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from datasets import InMemory
from ffcv._file_bytes import FileBytes
from ffcv.fields import BytesField, IntField, RGBImageField
from ffcv.reader import Reader
from ffcv.writer import DatasetWriter

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from opening import IMAGE_BYTES, write_sparse_file


class Numbers:
    """Many samples, of which nothing is kept."""

    def __len__(self) -> int:
        return 300_000

    def __getitem__(self, index: int) -> tuple[int]:
        return (index,)


def test_writing_takes_few_bytes_a_sample(tmp_path: Path) -> None:
    """The order and the metadata, 8 bytes each: no list of all the work."""

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    writer = DatasetWriter(tmp_path / "x.beton", {"i": IntField()}, num_workers=1, on_progress=stop)
    tracemalloc.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            writer.from_indexed_dataset(Numbers())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40 * len(Numbers())


IMAGES = 200_000
BLOCKS = 16 << 20
"""What opening takes beside what it keeps: tables are checked in blocks."""


@pytest.mark.parametrize("table_in_memory", [0, 64 << 20])
def test_opening_reads_the_tables_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table_in_memory: int) -> None:
    path = tmp_path / "x.beton"
    write_sparse_file(path, IMAGES)
    assert path.stat().st_size > IMAGES * IMAGE_BYTES  # 20 GB, nearly all of it a hole
    monkeypatch.setattr("ffcv.reader.TABLE_IN_MEMORY", table_in_memory)
    read = FileBytes._read
    amounts: list[int] = []

    def counted(self: FileBytes, start: int, out: np.ndarray) -> None:
        amounts.append(out.nbytes)
        read(self, start, out)

    monkeypatch.setattr(FileBytes, "_read", counted)
    tracemalloc.start()
    try:
        reader = Reader(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reader.num_samples == IMAGES
    assert reader.checksums is not None
    kept = reader.allocations.nbytes + reader.checksums.rows.nbytes
    assert kept == 28 * IMAGES + 24
    metadata = reader.metadata.nbytes if table_in_memory else 0
    assert peak < kept + metadata + BLOCKS
    assert sum(amounts) < 2 * (kept + reader.metadata.nbytes)


@pytest.mark.parametrize("left_out", ["blob", "image"])
def test_a_mapped_table_that_shrinks_is_no_signal(tmp_path: Path, left_out: str) -> None:
    """In a process of its own: a SIGBUS would end it. Another seed makes the views anew, which ask for all sizes."""
    path = tmp_path / "x.beton"
    fields = {"image": RGBImageField(), "blob": BytesField(), "label": IntField()}
    sample = np.zeros((2, 2, 3), np.uint8), b"x", 1
    DatasetWriter(path, fields, num_workers=1).from_indexed_dataset(InMemory([sample] * 1000))
    code = f"""
import os
import ffcv.pipeline.source, ffcv.reader
from ffcv import Loader
ffcv.reader.TABLE_IN_MEMORY = ffcv.pipeline.source.TABLE_IN_MEMORY = 0
loader = Loader({str(path)!r}, 4, num_workers=1, pipelines={{{left_out!r}: None}})
state = loader.state_dict()
os.truncate({str(path)!r}, 4000)
try:
    loader.load_state_dict(state | {{"seed": 5}})
except ValueError as error:
    print("caught", type(error).__name__)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "caught FormatError\n"), result.stderr
