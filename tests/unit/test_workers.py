"""How many processes a write takes."""

from pathlib import Path

import pytest

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
