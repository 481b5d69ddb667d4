"""Everything that `ffcv write` converts, small: what is read, which labels, what is refused."""

from __future__ import annotations

import importlib.util
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from command_line import assert_one_line_error, run
from ffcv.data import HuggingFaceSource, Source, open_source
from ffcv.data.source import class_labels, expand
from ffcv.errors import SourceError, WriteError
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.rgb_image import encode_jpeg
from ffcv.reader import Reader
from ffcv.writer import DatasetWriter

COUNT = 9


def jpeg(i: int) -> bytes:
    y, x = np.mgrid[: 20 + i, :30]
    return encode_jpeg(np.stack([y * 5, x * 5, y + i], axis=2).astype(np.uint8), 90)


LABELS = [i % 3 for i in range(COUNT)]
NAMES = [("ant", "bee", "cat")[label] for label in LABELS]


def write_tar(path: Path, samples: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in samples.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def tar_shards(folder: Path) -> str:
    for shard in range(3):
        numbers = range(3 * shard, 3 * shard + 3)
        samples = {f"d/{i:04d}.{s}": c for i in numbers for s, c in (("jpg", jpeg(i)), ("cls", b"%d" % LABELS[i]))}
        write_tar(folder / f"train-{shard:02d}.tar", samples)
    return str(folder / "train-{00..02}.tar")


def csv_file(folder: Path) -> str:
    (folder / "images").mkdir()
    for i in range(COUNT):
        (folder / "images" / f"{i}.jpg").write_bytes(jpeg(i))
    rows = [f"images/{i}.jpg,{NAMES[i]}" for i in range(COUNT)]
    (folder / "list.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    return str(folder / "list.csv")


def parquet_file(folder: Path) -> str:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow (the [parquet] extra) is not installed")
    import pyarrow.parquet as parquet  # pyright: ignore[reportMissingImports]

    images = [{"bytes": jpeg(i), "path": f"{i}.jpg"} for i in range(COUNT)]
    table = pyarrow.table({"image": images, "label": LABELS, "note": ["x"] * COUNT})
    parquet.write_table(table, folder / "a.parquet", row_group_size=4)
    return str(folder / "a.parquet")


def beton_file(folder: Path) -> str:
    path = folder / "in.beton"
    writer = DatasetWriter(path, {"image": RGBImageField(), "label": IntField()}, num_workers=1)
    writer.from_indexed_dataset(open_source(csv_file(folder)))
    return str(path)


SOURCES: dict[str, Callable[[Path], str]] = {
    "WebDataset": tar_shards,
    "CSV": csv_file,
    "Parquet": parquet_file,
    "beton": beton_file,
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_keeps_its_jpegs(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    out = tmp_path / "out.beton"
    status, stdout, stderr = run(capsys, "write", SOURCES[kind](tmp_path), out, "--workers", "3")
    assert status == 0, stderr
    assert f"{COUNT} images" in stdout
    reader = Reader(out)
    assert reader.metadata["label"].tolist() == LABELS
    for i, row in enumerate(reader.metadata["image"]):
        assert reader.read(int(row["data_ptr"])).tobytes() == jpeg(i)
    assert run(capsys, "verify", out, "--decode")[0] == 0


def test_names_become_classes(tmp_path: Path) -> None:
    source = open_source(csv_file(tmp_path))
    assert source.classes == ["ant", "bee", "cat"]
    assert source.manifest() == {"source": "list.csv", "classes": ["ant", "bee", "cat"]}
    assert class_labels(["3", " 1", "-2"], "x") == ([3, 1, -2], None)
    with pytest.raises(SourceError, match="x: row 1 has no label"):
        class_labels(["a", ""], "x")


def test_csv_forms(tmp_path: Path) -> None:
    csv_file(tmp_path)
    for text, labels in (
        ("images/0.jpg\nimages/1.jpg\n", None),
        ("images/0.jpg,5\nimages/1.jpg,7\n", [5, 7]),
        ("label,filename\n5,images/0.jpg\n7,images/1.jpg\n", [5, 7]),
        ("id,path\n5,images/0.jpg\n", None),
    ):
        (tmp_path / "x.csv").write_text(text)
        source = open_source(str(tmp_path / "x.csv"))
        assert source[0][0].data == jpeg(0)
        assert list(source.fields(RGBImageField())) == (["image"] if labels is None else ["image", "label"])
        if labels is not None:
            assert [source[i][1] for i in range(2)] == labels
    (tmp_path / "x.csv").write_text("id,where,kind\n5,images/0.jpg,u\n")
    source = open_source(str(tmp_path / "x.csv"), image_column="where", label_column="kind")
    assert source.classes == ["u"]
    for text, message in (
        ("", "has no rows"),
        ("path,label\n", "has a header, but no rows"),
        ("path,label\nimages/0.jpg\n", "row 0 has only 1 columns"),
    ):
        (tmp_path / "x.csv").write_text(text)
        with pytest.raises(SourceError, match=message):
            open_source(str(tmp_path / "x.csv"))
    (tmp_path / "x.csv").write_text("path,label\nimages/none.jpg,1\n")
    with pytest.raises(SourceError, match=r"images/none.jpg: No such file or directory"):
        open_source(str(tmp_path / "x.csv"))[0]


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
    ):
        with pytest.raises(SourceError, match=message):
            open_source(str(write_tar(tmp_path / "x.tar", samples)))
    (tmp_path / "x.tar").write_bytes(b"no tar file" * 100)
    with pytest.raises(SourceError, match="not an uncompressed tar file"):
        open_source(str(tmp_path / "x.tar"))


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


class ClassLabel:
    names: tuple[str, ...] = ("ant", "bee", "cat")


class ImageFeature:
    pass


ImageFeature.__name__ = "Image"  # duck-typed by name, as the package's own


class Rows:
    """What of `datasets.Dataset` is used."""

    features: dict[str, Any] = {"picture": ImageFeature(), "kind": ClassLabel(), "id": object()}  # noqa: RUF012

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, key: int | str) -> Any:
        if key == "kind":
            return LABELS
        assert isinstance(key, int)
        cells = ({"bytes": jpeg(key), "path": None}, jpeg(key), Image.open(io.BytesIO(jpeg(key))))
        return {"picture": cells[key % 3], "kind": LABELS[key], "id": key}


def test_hugging_face_by_its_interface() -> None:
    source = HuggingFaceSource(Rows())
    assert len(source) == COUNT
    assert source.classes == ["ant", "bee", "cat"]
    assert [source[i][1] for i in range(COUNT)] == LABELS
    assert source[3][0].data == jpeg(3)
    assert source[4][0].data == jpeg(4)
    assert isinstance(source[5][0], Image.Image)
    with pytest.raises(SourceError, match="no column 'photo'; it has picture, kind, id"):
        HuggingFaceSource(Rows(), image_column="photo")


def test_hugging_face_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(SourceError, match="nobody/nothing: needs the package 'datasets'"):
        HuggingFaceSource.load("nobody/nothing")


def _lacks(package: str) -> bool:
    return importlib.util.find_spec(package) is None


# In a process of its own: tests/datasets.py hides the package.
SAVE = """
import glob, sys
sys.path = [path for path in sys.path if not path.endswith("tests")]
try:
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Image
except ImportError:
    sys.exit(77)
from ffcv.cli.main import main
from ffcv.data import HuggingFaceSource
from ffcv.errors import SourceError
folder, out, *jpegs = sys.argv[1:]
features = Features({"image": Image(), "label": ClassLabel(names=["ant", "bee", "cat"])})
cells = [{"bytes": open(jpeg, "rb").read(), "path": None} for jpeg in jpegs]
rows = {"image": cells, "label": [i % 3 for i in range(len(jpegs))]}
dataset = Dataset.from_dict(rows, features=features)
dataset.save_to_disk(folder)

DatasetDict(train=dataset, test=dataset.select([1])).save_to_disk(folder + "-splits")
assert HuggingFaceSource.load(folder + "-splits:test").labels == [1]
dataset.save_to_disk(folder + "-damaged")
open(glob.glob(folder + "-damaged/*.arrow")[0], "r+b").truncate(300)
for given, problem in (
    (folder + "-splits", "has the splits train, test"),
    (folder + "-splits:none", "has the splits train, test"),
    (folder + ":train", "has no splits"),
    (folder + "-damaged", "cannot be opened by the package 'datasets'"),
):
    try:
        HuggingFaceSource.load(given)
        raise AssertionError(f"{given} was accepted")
    except SourceError as error:
        assert problem in str(error), error
main(["write", folder, out])
"""


def test_hugging_face_itself(tmp_path: Path) -> None:
    csv_file(tmp_path)
    jpegs = [str(tmp_path / "images" / f"{i}.jpg") for i in range(COUNT)]
    out = tmp_path / "x.beton"
    command = [sys.executable, "-c", SAVE, str(tmp_path / "hf"), str(out), *jpegs]
    environment = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if result.returncode == 77:
        pytest.skip("the package 'datasets' (the [huggingface] extra) is not installed")
    assert result.returncode == 0, result.stderr
    reader = Reader(out)
    assert reader.metadata["label"].tolist() == LABELS
    for i, row in enumerate(reader.metadata["image"]):
        assert reader.read(int(row["data_ptr"])).tobytes() == jpeg(i)


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


def test_patterns(tmp_path: Path) -> None:
    for name in ("a-08.tar", "a-09.tar", "a-10.tar"):
        (tmp_path / name).touch()
    expected = [str(tmp_path / f"a-{number}.tar") for number in ("08", "09", "10")]
    assert expand(str(tmp_path / "a-{08..10}.tar")) == expected
    assert expand(str(tmp_path / "*.tar")) == expected
    for missing in ("a-{08..11}.tar", "*.csv", "none"):
        with pytest.raises(FileNotFoundError, match="no such folder or file"):
            expand(str(tmp_path / missing))
    (tmp_path / "x.zip").touch()
    with pytest.raises(SourceError, match=r"x.zip: cannot be converted; give a folder with"):
        open_source(str(tmp_path / "x.zip"))


def test_one_percent_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "photos" / "cat"
    folder.mkdir(parents=True)
    for i in range(200):
        (folder / f"{i:03d}.jpg").write_bytes(jpeg(i % 9) if i not in (50, 150) else jpeg(0)[:300])
    out = tmp_path / "x.beton"
    status, _, stderr = run(capsys, "write", folder.parent, out)
    assert_one_line_error(status, stderr, folder / "050.jpg", "damaged JPEG", "replace it or remove it")
    assert not out.exists()
    status, stdout, stderr = run(capsys, "write", folder.parent, out, "--on-error", "skip")
    assert status == 0
    assert "198 images of 1 classes" in stdout
    for name in ("050.jpg", "150.jpg"):
        assert f"{folder / name}: damaged JPEG" in stderr
    assert "2 of 200 samples were left out" in stderr
    assert Reader(out).num_samples == 198
    assert run(capsys, "verify", out, "--decode")[0] == 0
    assert run(capsys, "write", folder.parent, out, "--on-error", "ignore")[0] == 2


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
    if not _lacks("webdataset"):
        pytest.skip("the package 'webdataset' is installed")
    with pytest.raises(WriteError, match="from_webdataset needs the package webdataset"):
        DatasetWriter(tmp_path / "x.beton", {"i": IntField()}).from_webdataset(["x.tar"], to_tuples)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["parquet", "csv", "Hugging Face"])
def test_labels_are_never_left_out_in_silence(tmp_path: Path, kind: str) -> None:
    def labelled(labels: list[Any], column: str | None = None) -> Source:
        if kind == "parquet":
            pyarrow = pytest.importorskip("pyarrow", reason="pyarrow (the [parquet] extra) is not installed")
            import pyarrow.parquet as parquet  # pyright: ignore[reportMissingImports]

            images = [{"bytes": jpeg(i), "path": None} for i in range(len(labels))]
            parquet.write_table(pyarrow.table({"image": images, "label": labels}), tmp_path / "a.parquet")
            return open_source(str(tmp_path / "a.parquet"), label_column=column)
        if kind == "csv":
            rows = "".join(f"{i}.jpg,{'' if label is None else label}\n" for i, label in enumerate(labels))
            (tmp_path / "a.csv").write_text("path,label\n" + rows)
            return open_source(str(tmp_path / "a.csv"), label_column=column)
        features = {"image": type("Image", (), {"decode": False})(), "label": type("Value", (), {})()}
        table = type("Table", (list,), {"features": features, "__getitem__": lambda self, key: labels})
        return HuggingFaceSource(table(), label_column=column)

    assert labelled([1, 2]).labels == [1, 2]  # type: ignore[attr-defined]
    assert labelled(["b", "a"]).labels == [1, 0]  # type: ignore[attr-defined]
    with pytest.raises(SourceError, match="row 1 has no label"):
        labelled([1, None])
    with pytest.raises(SourceError, match="no column 'nope'"):
        labelled([1, 2], "nope")
    if kind != "csv":
        for wrong in ([1.5, 2.5], [[1], [2]]):
            with pytest.raises(SourceError, match="but labels are whole numbers or names"):
                labelled(wrong)


def test_parquet_labels_of_other_kinds(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow (the [parquet] extra) is not installed")
    import pyarrow.parquet as parquet  # pyright: ignore[reportMissingImports]

    path = str(tmp_path / "a.parquet")
    for labels, numbers in ((pyarrow.array(["y", "x"]).dictionary_encode(), [1, 0]), ([True, False], [1, 0])):
        parquet.write_table(pyarrow.table({"image": [jpeg(0), jpeg(1)], "label": labels}), path)
        assert open_source(path).labels == numbers  # type: ignore[attr-defined]
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


def test_csv_with_an_unknown_header(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    csv_file(tmp_path)
    path, out = tmp_path / "x.csv", tmp_path / "x.beton"
    path.write_text("img,lbl\n" + "".join(f"images/{i}.jpg,{i}\n" for i in range(COUNT)))
    for options in ((), ("--on-error", "skip")):
        status, _, stderr = run(capsys, "write", path, out, *options)
        assert_one_line_error(status, stderr, path, "which column is the path?", "img, lbl", "--image-column")
    assert not out.exists()
    status, stdout, stderr = run(capsys, "write", path, out, "--image-column", "img")
    assert status == 0
    assert "x.csv: no labels: none of the columns lbl was taken; choose one with --label-column" in stderr
    assert "no labels" in stdout
    assert run(capsys, "write", path, out, "--image-column", "img", "--label-column", "lbl")[2].count("no labels") == 0
    assert Reader(out).metadata["label"].tolist() == list(range(COUNT))


def test_tables_say_that_no_column_was_taken_for_labels(tmp_path: Path) -> None:
    rows = Rows()
    rows.features = {"picture": ImageFeature(), "id": object(), "score": object()}
    assert list(HuggingFaceSource(rows).remarks) == [
        "no labels: none of the columns id, score was taken; choose one with --label-column"
    ]
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow (the [parquet] extra) is not installed")
    import pyarrow.parquet as parquet  # pyright: ignore[reportMissingImports]

    parquet.write_table(pyarrow.table({"image": [jpeg(0)], "score": [0.5]}), tmp_path / "a.parquet")
    source = open_source(str(tmp_path / "a.parquet"))
    assert list(source.remarks) == ["no labels: none of the columns score was taken; choose one with --label-column"]
    assert list(open_source(parquet_file(tmp_path)).remarks) == []


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
