"""WebDataset shards and Parquet files: forms, damage, order."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from command_line import assert_one_line_error, run
from ffcv.data import open_source
from ffcv.errors import SourceError, WriteError
from ffcv.fields import EncodedImage, IntField, RGBImageField
from ffcv.reader import Reader
from ffcv.writer import DatasetWriter
from source_files import COUNT, LABELS, jpeg, lacks, parquet_file, png, tar_shards, write_tar


def test_shards_of_other_forms(tmp_path: Path) -> None:
    image = {"a.png": png(), "a.json": b'{"label": "owl"}', "b.png": png(), "b.json": b'{"label": "elk"}'}
    source = open_source(str(write_tar(tmp_path / "x.tar", image)))
    assert (source.classes, [source[i][1] for i in range(2)]) == (["elk", "owl"], [1, 0])
    unlabelled = open_source(str(write_tar(tmp_path / "x.tar", {"a.jpg": jpeg(0), "b.JPG": jpeg(1)})))
    assert [unlabelled[i][0].data for i in range(2)] == [jpeg(0), jpeg(1)]
    for samples, message in (
        ({"a.txt": b"x"}, "sample 'a' has no image, only txt"),
        ({}, "has no samples"),
        ({"a.jpg": jpeg(0), "a.cls": b"1", "b.jpg": jpeg(1)}, "sample 'b' has no label, though others have"),
        ({"a.jpg": jpeg(0), "a.json": b'{"label": [1, 2]}'}, r"sample 'a' has the label \[1, 2\]"),
        ({"a.jpg": jpeg(0), "a.json": b'{"label": 2.0}'}, r"sample 'a' has the label 2.0"),
        ({"a.jpg": jpeg(0), "a.json": b"[1]"}, r"sample 'a' has the label \[1\], but labels are"),
    ):
        with pytest.raises(SourceError, match=message):
            open_source(str(write_tar(tmp_path / "x.tar", samples)))
    (tmp_path / "x.tar").write_bytes(b"no tar file" * 100)
    with pytest.raises(SourceError, match="not an uncompressed tar file"):
        open_source(str(tmp_path / "x.tar"))


def test_shards_with_links(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard = write_tar(tmp_path / "x.tar", {"d/a.jpg": jpeg(0), "d/a.cls": b"1"})
    with tarfile.open(shard, "a") as archive:
        for name, kind, target in (
            ("d/b.jpg", tarfile.LNKTYPE, "d/a.jpg"),  # as tar stores files that are the same one on the disk
            ("d/b.cls", tarfile.LNKTYPE, "d/a.cls"),
            ("d/c.jpg", tarfile.SYMTYPE, "a.jpg"),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
    source = open_source(str(shard))
    assert [(source[i][0].data, source[i][1]) for i in range(len(source))] == [(jpeg(0), 1)] * 2
    status, _, error = run(capsys, "write", shard, tmp_path / "x.beton")
    assert (status, "x.tar: members passed over, as they are links or devices: 1, first d/c.jpg" in error) == (0, True)


def test_samples_without_images_follow_on_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = {"README.txt": b"x", "a.jpg": jpeg(0), "a.cls": b"owl", "lost.cls": b"elk", "b.jpg": jpeg(1)}
    shard = write_tar(tmp_path / "x.tar", {**samples, "b.cls": b"ant"})
    out = tmp_path / "x.beton"
    status, _, error = run(capsys, "write", shard, out)
    assert_one_line_error(status, error, f"{shard}: sample 'README' has no image, only txt", "--on-error skip")
    assert not out.exists()
    status, printed, error = run(capsys, "write", shard, out, "--on-error", "skip")
    assert (status, "2 images of 2 classes" in printed) == (0, True)
    for line in (
        "skipped sample 0: ",
        "sample 'README' has no image",
        "skipped sample 2: ",
        "2 of 4 samples were left",
    ):
        assert line in error
    reader = Reader(out)
    assert reader.metadata["label"].tolist() == [1, 0]
    assert [reader.read(int(row["data_ptr"])).tobytes() for row in reader.metadata["image"]] == [jpeg(0), jpeg(1)]
    assert run(capsys, "write", shard, out, "--select", "1:2")[0] == 0  # which has no bad sample


def test_parquet_columns_and_damage(tmp_path: Path) -> None:
    path = Path(parquet_file(tmp_path))
    source = open_source(str(path), label_column="note")
    assert source.classes == ["x"]
    with pytest.raises(SourceError, match="no column 'photo'"):
        open_source(str(path), image_column="photo")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(SourceError, match="not a Parquet file"):
        open_source(str(path))


def to_tuples(samples: Any) -> Iterator[tuple[Image.Image, int]]:
    for sample in samples:
        if sample["cls"] != b"2":
            yield Image.open(io.BytesIO(sample["jpg"])), int(sample["cls"])


# webdataset 1.0 leaves its shards to the garbage collector, which warns of open files.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize("workers", [1, 2])
def test_from_webdataset(tmp_path: Path, workers: int) -> None:
    pytest.importorskip("webdataset", reason="the package 'webdataset' is not installed")
    tar_shards(tmp_path)
    shards = sorted(str(path) for path in tmp_path.glob("*.tar"))
    fields = {"image": RGBImageField(), "label": IntField()}
    writer = DatasetWriter(tmp_path / "x.beton", fields, num_workers=workers)
    writer.from_webdataset(shards, to_tuples)
    reader = Reader(tmp_path / "x.beton")
    assert reader.metadata["label"].tolist() == [label for label in LABELS if label != 2]
    assert reader.metadata["image"]["height"].tolist() == [20 + i for i in range(COUNT) if LABELS[i] != 2]
    with pytest.raises(ValueError, match="the shards have no samples"):
        writer.from_webdataset(shards, lambda samples: iter(()))


def test_from_webdataset_without_the_package(tmp_path: Path) -> None:
    if not lacks("webdataset"):
        pytest.skip("the package 'webdataset' is installed")
    with pytest.raises(WriteError, match="from_webdataset needs the package webdataset"):
        DatasetWriter(tmp_path / "x.beton", {"i": IntField()}).from_webdataset(["x.tar"], to_tuples)
    assert os.listdir(tmp_path) == []


def test_parquet_labels_of_other_kinds(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow (the [parquet] extra) is not installed")
    import pyarrow.parquet as parquet  # pyright: ignore[reportMissingImports]

    path = str(tmp_path / "a.parquet")
    for labels, numbers in ((pyarrow.array(["y", "x"]).dictionary_encode(), [1, 0]), ([True, False], [1, 0])):
        parquet.write_table(pyarrow.table({"image": [jpeg(0), jpeg(1)], "label": labels}), path)
        assert open_source(path).labels == numbers  # type: ignore[attr-defined]
    images, texts = pyarrow.array([jpeg(0), jpeg(1)], "binary_view"), pyarrow.array(["y", "x"], "string_view")
    parquet.write_table(pyarrow.table({"image": images, "label": texts}), path)
    source = open_source(path)
    assert [source[i] for i in range(2)] == [(EncodedImage(jpeg(0), 20, 30), 1), (EncodedImage(jpeg(1), 21, 30), 0)]
    parquet.write_table(pyarrow.table({"image": [jpeg(0)], "label": [1]}), path)
    with pytest.raises(SourceError, match="column 'image' holds binary"):
        open_source(path, label_column="image")


def test_shards_that_end_too_early_are_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {f"{i}.jpg": jpeg(i) for i in range(3)})
    content = path.read_bytes()
    with tarfile.open(path) as archive:
        last = archive.getmembers()[-1]
    path.write_bytes(content[: last.offset_data + -(-last.size // 512) * 512])  # some writers leave the end out
    assert len(open_source(str(path))) == 3
    for size in (last.offset + 100, last.offset_data, last.offset_data + last.size - 1):
        path.write_bytes(content[:size])
        with pytest.raises(SourceError, match="not an uncompressed tar file, or damaged"):
            open_source(str(path))
    path.write_bytes(content[: last.offset] + b"x" * 512 + content[last.offset + 512 :])
    with pytest.raises(SourceError, match="no end of the archive at byte"):
        open_source(str(path))
    path.write_bytes(content + content)  # by `cat`
    with pytest.raises(SourceError, match=r"more follows the archive's end at byte \d+: if archives were joined"):
        open_source(str(path))


def test_parquet_files_of_different_columns(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow (the [parquet] extra) is not installed")
    import pyarrow.parquet as parquet  # pyright: ignore[reportMissingImports]

    image = [jpeg(0), jpeg(1)]
    parquet.write_table(pyarrow.table({"image": image, "label": [1, 2]}), tmp_path / "a.parquet")
    for other, problem in (
        ({"image": image, "kind": [1, 2]}, "b.parquet: column 'label': no such column"),
        ({"picture": image, "label": [1, 2]}, "b.parquet: column 'image': no such column"),
        ({"image": image, "label": ["x", "y"]}, "b.parquet: column 'label': string, but in .* it holds int64"),
    ):
        parquet.write_table(pyarrow.table(other), tmp_path / "b.parquet")
        with pytest.raises(SourceError, match=problem):
            open_source(str(tmp_path))


def test_parquet_damage_inside_names_the_file(tmp_path: Path) -> None:
    path = Path(parquet_file(tmp_path))
    content = bytearray(path.read_bytes())
    content[4:60] = bytes(value ^ 0xFF for value in content[4:60])  # the first column chunk's header
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"a.parquet: row group 0, with row 0: damaged \(.*\); fetch the file again"):
        open_source(str(path))[0]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize("workers", [1, 2])
def test_from_webdataset_names_the_shard_and_the_sample(tmp_path: Path, workers: int) -> None:
    pytest.importorskip("webdataset", reason="the package 'webdataset' is not installed")
    tar_shards(tmp_path)
    bad = write_tar(tmp_path / "train-01.tar", {"a.jpg": jpeg(0), "a.cls": b"1", "b.jpg": b"no image", "b.cls": b"1"})
    shards = sorted(str(path) for path in tmp_path.glob("*.tar"))
    fields = {"image": RGBImageField(), "label": IntField()}
    writer = DatasetWriter(tmp_path / "x.beton", fields, num_workers=workers)
    with pytest.raises(WriteError, match=rf"shard 1 \(.*\): {bad}: sample 1 of the shard: UnidentifiedIm") as info:
        writer.from_webdataset(shards, to_tuples)
    assert info.value.sample_index is None
    skipping = DatasetWriter(tmp_path / "x.beton", fields, num_workers=workers, on_error="skip")
    with pytest.raises(ValueError, match=r"on_error='skip' goes with from_indexed_dataset.*warn_and_continue"):
        skipping.from_webdataset(shards, to_tuples)
    assert not (tmp_path / "x.beton").exists()


def test_a_shard_is_opened_again_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from ffcv.data import shards

    def flawed(shard: str, pipeline: Any) -> Iterator[tuple[int]]:
        yield (0,)
        if next(failures, False):
            raise OSError("the network is down")
        yield (1,)

    failures = iter([True])
    monkeypatch.setattr(shards, "_open", flawed)
    samples = shards.ShardSamples(["a.tar"], to_tuples, [0, 2])
    assert samples[0] == (0,)
    with pytest.raises(SourceError, match=r"a.tar: sample 1 of the shard: OSError: the network is down"):
        samples[1]
    assert samples[1] == (1,)


@pytest.mark.parametrize(("now", "which"), [(1, "fewer"), (3, "more")])
def test_a_shard_that_gives_another_number_of_samples_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: int, which: str
) -> None:
    from ffcv.data import shards

    numbers = iter([2, 1, now, 1])  # two shards are counted, then read
    monkeypatch.setattr(shards, "_open", lambda shard, pipeline: iter([(i,) for i in range(next(numbers))]))
    writer = DatasetWriter(tmp_path / "x.beton", {"i": IntField()}, num_workers=1)
    with pytest.raises(WriteError, match=f"a.tar: gave {which} samples than when they were counted"):
        writer.from_webdataset(["a.tar", "b.tar"], to_tuples)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("workers", [1, 3])
def test_shuffled_parquet_reads_each_row_group_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    source: Any = open_source(parquet_file(tmp_path))
    from ffcv.data import parquet

    reads: list[int] = []
    read_group = parquet.ParquetSource._read_group

    def counted(self: Any, number: int, inside: int) -> Any:
        reads.append(inside)
        return read_group(self, number, inside)

    monkeypatch.setattr(parquet.ParquetSource, "_read_group", counted)
    order = [8, 0, 4, 1, 7, 2, 5, 3, 6]
    fields = source.fields(RGBImageField())
    writer = DatasetWriter(tmp_path / "x.beton", fields, num_workers=workers, backend="thread")
    writer.from_indexed_dataset(source, order, chunksize=1)
    assert sorted(reads) == [0, 1, 2]
    assert Reader(tmp_path / "x.beton").metadata["label"].tolist() == [LABELS[i] for i in order]
    monkeypatch.setattr(parquet, "KEPT_BYTES", 0)  # one group is kept at least
    reads.clear()
    bounded: Any = open_source(str(tmp_path / "a.parquet"))
    assert [bounded[i][1] for i in (0, 1, 5, 6, 0)] == [LABELS[i] for i in (0, 1, 5, 6, 0)]
    assert reads == [0, 1, 0]
