"""`ffcv view`: the sheet shows the loader's pixels, and boxes where its parameters say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning_fabric import Fabric
from PIL import Image, ImageColor, ImageFont

import digits
from beton_files import damage, everything
from command_line import assert_one_line_error, run
from datasets import InMemory
from ffcv import DatasetWriter, Loader
from ffcv.cli import augment, captions, sheet
from ffcv.cli import view as view_command
from ffcv.cli.captions import caption
from ffcv.data.beton import read_manifest
from ffcv.fields import IntField, RGBImageField
from ffcv.reader import Reader
from ffcv.ssl import backbones, config, evaluate, methods
from ffcv.ssl.feed import Feed
from ffcv.transforms import NormalizeImage
from ffcv.transforms.color_jitter import ColorJitterParams
from ffcv.transforms.gaussian_blur import BlurParams
from small_files import write_numbers

HEIGHT, WIDTH, COUNT = 30, 40, 8


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Eight images of noise, 40 x 30, in dark colours that no box has."""
    rng = np.random.default_rng(0)
    images = [(rng.integers(0, 60, (HEIGHT, WIDTH, 3), np.uint8), i % 3) for i in range(COUNT)]
    path = tmp_path / "noise.beton"
    fields = {"image": RGBImageField("raw"), "label": IntField()}
    writer = DatasetWriter(path, fields, num_workers=1, manifest={"classes": ["cat", "dog"]})
    writer.from_indexed_dataset(InMemory(images))
    return path


class Drawn:
    """What the command gave to the sheet, and the sheet."""

    rows: Sequence[sheet.Row]
    sheet: sheet.Sheet
    heading: str


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    record = Drawn()

    def draw(heading: str, rows: Sequence[sheet.Row]) -> sheet.Sheet:
        record.heading, record.rows, record.sheet = heading, rows, sheet.Sheet(heading, rows)
        return record.sheet

    monkeypatch.setattr("ffcv.cli.view.Sheet", draw)
    return record


def opened(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


def cut(picture: np.ndarray, place: sheet.Place) -> np.ndarray:
    return picture[place.top : place.top + place.height, place.left : place.left + place.width]


def simclr_batch(file: Path, indices: list[int], views: int, seed: int, epoch: int) -> Any:
    """The same views and their parameters, from a loader of this test's own."""
    reader = Reader(file)
    pipelines = augment.simclr(augment.side_of(reader, "image"), views).pipelines
    names = ["image", *(f"image{i}" for i in range(2, views + 1))]
    loader = Loader(
        file,
        len(indices),
        seed=seed,
        indices=indices,
        return_params=True,
        drop_last=False,
        custom_field_mapper=dict.fromkeys(names[1:], "image"),
        pipelines={
            "label": None,
            **{
                name: [step for step in pipeline if not isinstance(step, NormalizeImage)]
                for name, pipeline in zip(names, pipelines, strict=True)
            },
        },
    )
    loader.set_epoch(epoch)
    return next(iter(loader))


def test_views_are_the_loaders_pixels_and_boxes_its_parameters(
    file: Path, tmp_path: Path, drawn: Drawn, capsys: pytest.CaptureFixture[str]
) -> None:
    out, indices = tmp_path / "sheet.png", [5, 0, 7]
    status, printed, error = run(capsys, "view", file, out, "--indices", "5,0", "--indices", "7", "--epoch", "3")
    assert (status, error) == (0, "")
    assert printed.startswith(f"{out}: ")
    assert "3 of 8 samples; 2 SimCLR views at 30; seed 0, epoch 3" in printed
    picture = opened(out)
    *views, params = simclr_batch(file, indices, 2, seed=0, epoch=3)
    times = sheet.PICTURE // WIDTH
    for row in range(3):
        whole = cut(picture, drawn.sheet.pictures[row])
        assert whole.shape == (HEIGHT * times, WIDTH * times, 3)
        for number, view in enumerate(views):
            expected = view[row].permute(1, 2, 0).numpy()
            enlarged = expected.repeat(sheet.VIEW // 30, axis=0).repeat(sheet.VIEW // 30, axis=1)
            np.testing.assert_array_equal(cut(picture, drawn.sheet.views[row][number]), enlarged)
            crop = params["image" if number == 0 else "image2"]["0:crop"]
            coloured = (whole == ImageColor.getrgb(sheet.COLOURS[number])).all(axis=2)
            rows, columns = np.flatnonzero(coloured.any(axis=1)), np.flatnonzero(coloured.any(axis=0))
            assert (rows[0], rows[-1] + 1) == (crop.top[row] * times, (crop.top + crop.height)[row] * times)
            assert (columns[0], columns[-1] + 1) == (crop.left[row] * times, (crop.left + crop.width)[row] * times)
            first = drawn.rows[row].views[number].text[0]
            assert first == [f"view {number + 1}: {caption(params['image' if number == 0 else 'image2'], row)[0]}"]
    assert [row.picture.text for row in drawn.rows] == [
        ["5: label 2", "40 x 30, raw"],
        ["0: cat", "40 x 30, raw"],
        ["7: dog", "40 x 30, raw"],
    ]


def test_boxes_of_large_pictures_shrink_with_them() -> None:
    pixels = np.zeros((200, 320, 3), np.uint8)
    picture = sheet.Picture(pixels, 2000, 3200, [])
    drawn = np.asarray(sheet.draw_boxes(picture, [sheet.Box(500, 1000, 1000, 2000)], sheet.PICTURE, sheet._font(13)))
    coloured = (drawn == ImageColor.getrgb(sheet.COLOURS[0])).all(axis=2)
    rows, columns = np.flatnonzero(coloured.any(axis=1)), np.flatnonzero(coloured.any(axis=0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (50, 149, 100, 299)


def test_boxes_of_a_pixel_can_be_drawn() -> None:
    picture = sheet.Picture(np.zeros((1, 320, 3), np.uint8), 10, 3200, [])
    drawn = sheet.draw_boxes(picture, [sheet.Box(0, 0, 1, 1), sheet.Box(9, 3199, 1, 1)], 320, sheet._font(13))
    assert drawn.size == (320, 1)


def test_epochs_and_seeds_have_other_views(
    file: Path, tmp_path: Path, drawn: Drawn, capsys: pytest.CaptureFixture[str]
) -> None:
    found = set()
    for options in (("--seed", "0"), ("--seed", "1"), ("--epoch", "1"), ("--epoch", "0")):
        assert run(capsys, "view", file, tmp_path / "x.png", "--samples", "2", *options)[0] == 0
        found.add(b"".join(view.pixels.tobytes() for row in drawn.rows for view in row.views))
    assert len(found) == 3


def test_a_recipes_views_are_those_of_its_training(
    tmp_path: Path, drawn: Drawn, capsys: pytest.CaptureFixture[str]
) -> None:
    file = digits.write(tmp_path / "digits.beton")
    line = ("--recipe", "simclr_digits", "--data.train", str(file), "--seed", "4", "--data.num_workers", "1")
    settings = config.parse([*line, "--training.batch_size", "16"])
    method = methods.load("simclr")(backbones.build(settings.model), settings.options)
    feed = Feed(settings, method, evaluate.parts(settings)[0], Fabric(accelerator="cpu", devices=1))
    feed._loader.set_epoch(2)
    options = ("--recipe", "simclr_digits", "--seed", "4", "--epoch", "2", "--indices", "0,17,123")
    assert run(capsys, "view", file, tmp_path / "x.png", *options)[0] == 0
    assert "simclr_digits, 2 views; seed 4, epoch 2" in drawn.heading
    mean, std = np.array(settings.views.mean), np.array(settings.views.std)
    for index, row in zip((0, 17, 123), drawn.rows, strict=True):
        trained = feed._loader[index]
        for name, view in zip(("image", "image2"), row.views, strict=True):
            pixels = getattr(trained, name).permute(1, 2, 0).numpy() * std + mean
            np.testing.assert_array_equal(np.rint(pixels), view.pixels)
    feed.close()


@pytest.mark.parametrize(("recipe", "options", "views"), [
    ("dino_cifar10", (), 4), ("dino_cifar10", ("--views", "3"), 3), ("simclr_cifar10", ("--views", "5"), 5),
    ("supervised_cifar10", (), 1),
])  # fmt: skip
def test_a_sheet_has_as_many_views_as_the_recipe_or_as_asked_for(
    file: Path,
    tmp_path: Path,
    drawn: Drawn,
    capsys: pytest.CaptureFixture[str],
    recipe: str,
    options: tuple,
    views: int,
) -> None:
    assert run(capsys, "view", file, tmp_path / "x.png", "--samples", "1", "--recipe", recipe, *options)[0] == 0
    assert [len(row.views) for row in drawn.rows] == [views]


def test_plain_sheets_have_the_images_alone(
    file: Path, tmp_path: Path, drawn: Drawn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "view", file, tmp_path / "x.png", "--plain")[0] == 0
    picture, column = opened(tmp_path / "x.png"), Reader(file).column("image")
    assert len(drawn.sheet.pictures) == COUNT
    assert drawn.sheet.views == [[]] * COUNT
    times = sheet.ALONE // WIDTH
    for index, place in enumerate(drawn.sheet.pictures):
        stored = Reader(file).read(int(column["data_ptr"][index])).reshape(HEIGHT, WIDTH, 3)
        np.testing.assert_array_equal(cut(picture, place), stored.repeat(times, axis=0).repeat(times, axis=1))


def test_files_with_every_kind_of_field(tmp_path: Path, drawn: Drawn, capsys: pytest.CaptureFixture[str]) -> None:
    file = everything(tmp_path / "x.beton")
    status, _, error = run(capsys, "view", file, tmp_path / "x.jpg", "--samples", "3", "--field", "image")
    assert (status, error) == (0, "")
    with Image.open(tmp_path / "x.jpg") as picture:
        assert (picture.format, picture.size) == ("JPEG", drawn.sheet.image.size)
    assert [row.picture.text[0] for row in drawn.rows] == ["0: cat", "2: cat", "5: dog"]


def test_class_names_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Millions of them take seconds."""
    file, read = everything(tmp_path / "x.beton"), []
    monkeypatch.setattr(view_command, "read_manifest", lambda reader: read.append(reader) or read_manifest(reader))
    assert run(capsys, "view", file, tmp_path / "x.png", "--plain")[0] == 0
    assert len(read) == 1


def test_what_cannot_be_drawn_is_said(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers, out = write_numbers(tmp_path / "numbers.beton", 3), tmp_path / "x.png"
    cases: list[tuple[tuple[Any, ...], tuple[Any, ...]]] = [
        ((numbers, out), (numbers, "has no image field but", "ffcv info")),
        ((file, out, "--field", "label"), (file, "--field label: no such image field", "image fields: image")),
        ((file, out, "--indices", "3,8"), (file, "--indices 8: its samples are 0 to 7")),
        ((file, out, "--indices", ""), (file, "--indices names no sample; its samples are 0 to 7")),
        ((file, out, "--indices", "-1"), (file, "--indices -1: its samples are 0 to 7")),
        ((file, tmp_path / "x.txt"), (tmp_path / "x.txt", ".png, .jpg or .webp; got '.txt'")),
        ((file, tmp_path / "none" / "x.png"), ("its directory does not exist", "mkdir -p")),
        ((file, out, "--recipe", "simclr_cifar"), ("unknown recipe 'simclr_cifar'", "simclr_cifar10")),
        ((tmp_path / "none.beton", out), ("no such file",)),
    ]
    for arguments, parts in cases:
        status, _, error = run(capsys, "view", *arguments)
        assert_one_line_error(status, error, *parts)
        assert not out.exists()
    assert run(capsys, "view", file, out, "--epoch", str(1 << 32))[0] == 2
    for options in (("--plain", "--views", "2"), ("--samples", "2", "--indices", "1")):
        status, _, error = run(capsys, "view", file, out, *options)
        assert status == 2
        assert "Invalid value for --" in error


def test_a_sheet_too_large_for_its_format_is_said(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many, out = ",".join("0" * 60), tmp_path / "x.webp"
    status, _, error = run(capsys, "view", file, out, "--indices", many)
    assert_one_line_error(status, error, f"{out}: a sheet of ", "cannot be written as WEBP", "write a .png, or fewer")
    assert not out.exists()
    assert run(capsys, "view", file, out, "--indices", "0")[0] == 0


@pytest.mark.parametrize("options", [(), ("--plain",)])
def test_a_sample_that_cannot_be_decoded_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    file = everything(tmp_path / "x.beton")
    damage(file, int(Reader(file).column("image")["data_ptr"][4]) + 300)
    status, _, error = run(capsys, "view", file, tmp_path / "x.png", *options)
    assert_one_line_error(status, error, f"{file}: sample 4, field 'image': checksum", "--indices", "verify")
    assert run(capsys, "view", file, tmp_path / "x.png", "--indices", "0,1,2,3,5", *options)[0] == 0


def test_recipes_name_the_extra_that_they_need(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "jsonargparse", None)
    status, _, error = run(capsys, "view", file, tmp_path / "x.png", "--recipe", "simclr_cifar10")
    assert_one_line_error(status, error, "ffcv view --recipe needs jsonargparse: pip install 'ffcv-ssl[train]'")
    assert run(capsys, "view", file, tmp_path / "x.png")[0] == 0


def test_captions_name_what_changed_a_view_and_nothing_else() -> None:
    def row(*values: float) -> list[np.ndarray]:
        return [np.array([value]) for value in values]

    unchanged = {"1:color_jitter": ColorJitterParams(*row(1, 1, 1, 0, 5)), "2:gaussian_blur": BlurParams(*row(0))}
    changed = {
        "1:color_jitter": ColorJitterParams(*row(1.25, 1, 0.5, -0.1, 5)),
        "2:gaussian_blur": BlurParams(*row(1.5)),
    }
    assert captions.caption(unchanged, 0) == []
    assert captions.caption(changed, 0) == ["brightness 1.25", "saturation 0.50", "hue -36°", "blur 1.50 px"]


def test_long_names_are_cut_and_phrases_wrapped() -> None:
    font = sheet._font(13)
    lines = sheet.wrap(["flipped", "brightness 1.00", "contrast 1.00", "x" * 200], font, 180)
    assert all(font.getlength(line) <= 180 for line in lines)
    assert lines[0].startswith("flipped, brightness")
    assert lines[-1].endswith("x...")


def test_fonts_of_old_pillows_write_what_they_can(
    file: Path, tmp_path: Path, drawn: Drawn, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bitmap = ImageFont.load_default_imagefont() if hasattr(ImageFont, "load_default_imagefont") else None
    if bitmap is None:
        pytest.skip("this Pillow has no name for its bitmap font")

    def load_default(*size: float) -> Any:
        if size:
            raise TypeError("load_default() takes 0 positional arguments")
        return bitmap

    monkeypatch.setattr(ImageFont, "load_default", load_default)
    assert run(capsys, "view", file, tmp_path / "x.png", "--samples", "2")[0] == 0
    assert sheet.wrap(["日本語", "é" * 300], bitmap, 100)[0] == "???,"
    assert len(drawn.sheet.pictures) == 2
