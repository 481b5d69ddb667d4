"""`ffcv bench`: what it counts, and what it says about it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from beton_files import damage
from command_line import assert_one_line_error, run
from datasets import write_photos
from ffcv import Loader, _core
from ffcv.cli import measure
from ffcv.cli.measure import LIMITS, Rate
from ffcv.reader import Reader
from ffcv.transforms import CenterCrop
from small_files import write_numbers

COUNT = 20


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos.beton", COUNT)


def test_every_work_is_measured_on_one_thread_and_on_all(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--workers", "3", "--seconds", "0.05", "--batch-size", "7", "--recipe", "simclr_cifar10", "--json")
    status, printed, _ = run(capsys, "bench", file, *arguments)
    assert status == 0
    summary, reader = json.loads(printed), Reader(file)
    sizes = reader.sizes(reader.column("image", "data_ptr"))
    assert summary["path"] == str(file)
    assert (summary["num_samples"], summary["measured_images"]) == (COUNT, COUNT)
    assert summary["measured_bytes"] == int(sizes.sum())
    assert (summary["kernels"], summary["batch_size"], summary["jpeg_share"]) == (_core.isa(), 7, 1.0)
    found = [(result["what"], result["threads"]) for result in summary["results"]]
    assert found == [(what, n) for what in ("read", "centre", "crop", "simclr", "recipe") for n in (1, 2, 3)]
    for result in summary["results"]:
        first, later = result["first_epoch"], result["later"]
        assert (first is not None) == (result["threads"] == 3)
        assert first is None or first["images"] == COUNT  # every image once, whatever the batch size
        assert later["images"] % COUNT in (7, 13, 0)  # whole batches: 7, 6 and 7 of the epoch whose first is not timed
        assert later["images_per_s"] > 0
        assert later["cpu_ms_per_image"] >= 0
        assert 0 <= later["threads_busy"] <= 1
        assert result["limit"] in LIMITS


def test_the_table_has_a_row_a_work(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, printed, _ = run(capsys, "bench", file, "--workers", "2", "--seconds", "0.05")
    assert status == 0
    lines = printed.splitlines()
    assert lines[0].startswith(f"{file}: measured 20 of 20 images, ")
    assert "100% JPEG, median " in lines[0]
    assert lines[0].endswith("; checksums")
    assert f"kernels {_core.isa()}, batches of 3, 0.05 s each" in lines[1]
    column = Reader(file).column("image")
    side = int(np.median(np.minimum(column["height"], column["width"])))
    titles = ("reading", f"centre crop at {side}", f"random crop at {side}", f"2 SimCLR views at {side}")
    rows = [line.split() for line in lines if line.strip().startswith(titles)]
    assert len(rows) == 4
    for row in rows:  # on one thread, on two, the first epoch, CPU ms, busy, limit
        assert row[-1] in LIMITS
        assert row[-2].endswith("%")
        assert all(float(number.replace(",", "")) >= 0 for number in row[-6:-2])
    assert "first epoch: on 2 threads, after the system was asked to drop the images from its page cache" in printed


def test_images_are_counted_once_a_batch(file: Path) -> None:
    loader = Loader(file, 8, drop_last=False, pipelines={"image": [CenterCrop((8, 8), 1.0)], "label": None})
    assert list(measure._counts(loader)) == [8, 8, 4]
    reader = Reader(file)
    epoch = measure._reading(reader, "image", np.arange(COUNT), 8, 2)
    assert list(epoch()) == [8, 8, 4]
    assert measure._time(epoch(), 2, 60.0).images == COUNT
    assert measure._time(measure._forever(epoch), 2, 0.0).images == 8  # ends with the batch in which the time is over


def test_what_limits_is_told_from_who_computes() -> None:
    assert Rate(100, 1.0, 1.9, 2, 0.0).limit == "CPU"
    assert Rate(100, 1.0, 1.0, 2, 0.0).limit == "others"
    assert Rate(100, 1.0, 1.0, 2, 0.5).limit == "waiting"
    rate = Rate(100, 2.0, 1.0, 2, 0.5)
    assert (rate.images_per_s, rate.cpu_ms_per_image, rate.threads_busy) == (50.0, 10.0, 0.25)


def test_of_large_files_the_first_images_are_measured(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(file)
    sizes = reader.sizes(reader.column("image", "data_ptr")).astype(int).cumsum()
    assert measure.most_of(reader, "image").tolist() == list(range(COUNT))
    monkeypatch.setattr(measure, "MANY_IMAGES", 6)
    monkeypatch.setattr(measure, "MANY_BYTES", 0)
    assert len(measure.most_of(reader, "image")) == 6
    monkeypatch.setattr(measure, "MANY_BYTES", int(sizes[9]))
    assert len(measure.most_of(reader, "image")) == 9
    monkeypatch.setattr(measure, "MOST_BYTES", int(sizes[3]))
    assert len(measure.most_of(reader, "image")) == 3
    monkeypatch.setattr(measure, "MOST_BYTES", 1)
    assert len(measure.most_of(reader, "image")) == 1


def test_what_cannot_be_measured_is_said(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = write_numbers(tmp_path / "numbers.beton", 3)
    status, _, error = run(capsys, "bench", numbers)
    assert_one_line_error(status, error, numbers, "has no image field but")
    damage(file, int(Reader(file).column("image")["data_ptr"][4]) + 300)
    status, printed, error = run(capsys, "bench", file, "--json", "--seconds", "0.05")
    assert_one_line_error(status, error, file, "checksum mismatch", "ffcv verify")
    assert printed == ""


def test_filesystems_that_cannot_sync_are_measured(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr("os.fsync", refuse)
    status, printed, error = run(capsys, "bench", file, "--workers", "1", "--seconds", "0.05", "--json")
    assert status == 0, error
    assert json.loads(printed)["measured_images"] == COUNT
