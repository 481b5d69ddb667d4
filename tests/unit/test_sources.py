"""What `ffcv write` converts, small: what is read, which labels, what is refused."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from command_line import assert_one_line_error, run
from ffcv.data import HuggingFaceSource, ImageFolder, Source, open_source
from ffcv.data.source import class_labels, expand
from ffcv.errors import SourceError
from ffcv.fields import IntField, RGBImageField
from ffcv.reader import Reader
from ffcv.writer import DatasetWriter
from source_files import COUNT, LABELS, csv_file, jpeg, parquet_file, tar_shards


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


def test_hugging_face_datasets_that_are_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(name: str, split: str | None) -> None:
        raise RuntimeError(f"Dataset scripts are no longer supported, but found {name}.py")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(SourceError, match="owls: cannot be opened by the package 'datasets': Dataset scripts are"):
        open_source("hf:owls")


def test_hugging_face_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(SourceError, match="nobody/nothing: needs the package 'datasets'"):
        HuggingFaceSource.load("nobody/nothing")


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
    ("", "names no dataset"),
    (":train", "names no dataset"),
):
    try:
        HuggingFaceSource.load(given)
        raise AssertionError(f"{given} was accepted")
    except SourceError as error:
        assert problem in str(error), error
for given, problem in (
    (DatasetDict(train=dataset), "expected one split"),
    (dataset.to_iterable_dataset(), "without streaming=True"),
):
    try:
        HuggingFaceSource(given)
        raise AssertionError(f"{given} was accepted")
    except SourceError as error:
        assert problem in str(error), error
for kind in ("numpy", "torch", "pandas"):
    source = HuggingFaceSource(dataset.with_format(kind))
    assert [source[i][0].data for i in range(2)] == [cell["bytes"] for cell in cells[:2]], kind
    assert source.labels == rows["label"], kind
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


def test_columns_of_what_is_no_table_are_refused(tmp_path: Path) -> None:
    for given in (beton_file(tmp_path), tar_shards(tmp_path), str(tmp_path / "images")):
        for columns in ({"image_column": "image"}, {"label_column": "label"}):
            with pytest.raises(SourceError, match="is no table, and has no columns to choose: --image-column and"):
                open_source(given, **columns)


def test_patterns(tmp_path: Path) -> None:
    for name in ("a-08.tar", "a-09.tar", "a-10.tar"):
        (tmp_path / name).touch()
    expected = [str(tmp_path / f"a-{number}.tar") for number in ("08", "09", "10")]
    assert expand(str(tmp_path / "a-{08..10}.tar")) == expected
    assert expand(str(tmp_path / "*.tar")) == expected
    for missing in ("a-{08..11}.tar", "*.csv", "none"):
        with pytest.raises(FileNotFoundError, match="no such folder or file"):
            expand(str(tmp_path / missing))
    with pytest.raises(FileNotFoundError, match=r"a-2\*: no such folder or file"):
        expand(str(tmp_path / "a-{0..2}*"))
    (tmp_path / "x.zip").touch()
    with pytest.raises(SourceError, match=r"x.zip: cannot be converted; give a folder with"):
        open_source(str(tmp_path / "x.zip"))


@pytest.mark.parametrize("name", ["x.tar", "x.parquet"])
def test_a_folder_that_could_be_two_sources_is_refused(tmp_path: Path, name: str) -> None:
    """An archive that was unpacked where it lies must not be taken for shards, which have no labels."""
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.jpg").write_bytes(jpeg(0))
    (tmp_path / name).touch()
    with pytest.raises(SourceError, match=r"has \.\w+ files and sub-folders, and either could be meant; give '"):
        open_source(str(tmp_path))
    (tmp_path / name).unlink()
    assert isinstance(open_source(str(tmp_path)), ImageFolder)


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
    assert "198 images of 1 class," in stdout
    for name in ("050.jpg", "150.jpg"):
        assert f"{folder / name}: damaged JPEG" in stderr
    assert "2 of 200 samples were left out" in stderr
    assert Reader(out).num_samples == 198
    assert run(capsys, "verify", out, "--decode")[0] == 0
    assert run(capsys, "write", folder.parent, out, "--on-error", "ignore")[0] == 2


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
