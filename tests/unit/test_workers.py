"""How many processes a write takes, and which process may have them."""

import os
import threading
from pathlib import Path

import pytest

import own_process
from datasets import InMemory
from ffcv import DatasetWriter, _workers
from ffcv.fields import IntField
from ffcv.reader import Reader


@pytest.mark.parametrize(("samples", "expected"), [(1, 0), (3, 3), (40, 8)])
def test_no_more_than_there_is_work_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, samples: int, expected: int
) -> None:
    made: list[_workers._Worker] = []
    make = _workers._Worker.__init__
    monkeypatch.setattr(
        _workers._Worker, "__init__", lambda self, *arguments: (make(self, *arguments), made.append(self))[0]
    )
    path = tmp_path / "numbers.beton"
    writer = DatasetWriter(path, {"i": IntField()}, num_workers=1 if samples == 1 else 8)
    writer.from_indexed_dataset(InMemory([(i,) for i in range(samples)]), chunksize=2)
    assert Reader(path).metadata["i"].tolist() == list(range(samples))
    assert len(made) == expected


def test_no_more_threads_than_there_is_work_for(tmp_path: Path) -> None:
    path, alive = tmp_path / "numbers.beton", list[int]()

    class Counting(InMemory):
        def __getitem__(self, index: int) -> tuple[int]:
            alive.append(sum(thread.name.endswith("(_encode_queue)") for thread in threading.enumerate()))
            return super().__getitem__(index)

    writer = DatasetWriter(path, {"i": IntField()}, num_workers=5000, backend="thread")
    writer.from_indexed_dataset(Counting([(i,) for i in range(3)]))
    assert Reader(path).metadata["i"].tolist() == [0, 1, 2]
    assert max(alive) <= 3


def test_a_worker_of_a_pool_may_not_start_others(tmp_path: Path) -> None:
    path = tmp_path / "numbers.beton"
    result = own_process.run(f"""
        import multiprocessing
        from ffcv import DatasetWriter
        from ffcv.fields import IntField
        def write(workers):
            DatasetWriter({str(path)!r}, {{"i": IntField()}}, num_workers=workers).from_indexed_dataset([(1,), (2,)])
        with multiprocessing.get_context("fork").Pool(1) as pool:
            pool.apply(write, (1,))
            pool.apply(write, (2,))
    """)
    assert result.stderr.splitlines()[-1].endswith("may not start others: write with num_workers=1"), result.stderr
    assert Reader(path).metadata["i"].tolist() == [1, 2]
    assert os.listdir(tmp_path) == [path.name]
