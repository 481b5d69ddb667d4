"""Batch transforms, foreign functions, tensors, returned parameters: what loaders make of chains of operations."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ffcv.transforms as T
from core_render import render, render_batch
from datasets import InMemory, photo_samples
from ffcv import DatasetWriter, Loader
from ffcv.fields import RGBImageField
from ffcv.transforms.decoded_crop import DecodedCrop
from photo_loaders import only_batch, views
from photos import as_array, photos
from torchvision_reference import v2

COUNT = 23

SIZE = (40, 56)

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def square_beton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("views") / "square.raw_beton"
    jpegs = [photos()[i % len(photos())] for i in range(10)]
    images = [Image.open(io.BytesIO(jpeg)).convert("RGB").resize((48, 32)) for jpeg in jpegs]
    DatasetWriter(path, {"image": RGBImageField(write_mode="raw")}, num_workers=1).from_indexed_dataset(
        InMemory([(np.asarray(image),) for image in images])
    )
    return path


def pipeline() -> list:
    colours = T.RandomApply([T.ColorJitter(0.4, 0.4, 0.2, 0.1), T.Blur(5)], p=0.7)
    tones = T.RandomChoice([T.Equalize(1.0), T.Posterize(3, 1.0), T.Autocontrast(1.0), T.AdjustSharpness(2.0, 1.0)])
    shapes = [T.RandomAffine(20, (0.1, 0.1)), T.RandomRotation(15, "bilinear"), T.RandomErasing(0.5), T.Cutout(8)]
    return [
        T.RandomHorizontalFlip(0.5),
        *shapes,
        colours,
        tones,
        T.GaussianNoise(sigma=0.05, p=0.5),
        T.RandAugment(),
        T.TrivialAugmentWide(),
        T.RandomVerticalFlip(),
        T.RandomTranslate(4),
        T.RandomInvert(0.2),
        T.RandomSolarization(0.2),
        T.RandomGrayscale(0.2),
    ]


def test_every_transform_is_replayed_from_its_returned_parameters(raw_beton: Path) -> None:
    operations = pipeline()
    batch = only_batch(raw_beton, return_params=True, **views(view=[T.RandomResizedCrop(SIZE), *operations]))
    params = batch.params["view"]
    assert list(params) == [f"{i}:{t.family}" for i, t in enumerate([T.RandomResizedCrop(1), *operations])]

    boxes = T.RandomResizedCrop.boxes(params["0:crop"])
    sources = [image for image, _ in photo_samples(COUNT)]
    images = np.stack(
        [
            # the box, cut from the full image: its pixels are all that the crop needs
            render(np.ascontiguousarray(source[t : t + h, left : left + w]), (0, 0, h, w), SIZE)
            for source, (t, left, h, w) in zip(sources, boxes, strict=True)
        ]
    )
    through_core, through_torch = images, torch.from_numpy(images).permute(0, 3, 1, 2)
    for transform, record in zip(operations, list(params.values())[1:], strict=True):
        step_in_torch = transform.apply_torch(torch.from_numpy(through_core).permute(0, 3, 1, 2), record)
        through_core = render_batch(through_core, transform.lower(record))
        apart = np.abs(step_in_torch.permute(0, 2, 3, 1).numpy().astype(int) - through_core)
        assert apart.max() <= 3, transform
        assert apart.mean() <= 0.5, transform
        through_torch = transform.apply_torch(through_torch, record)
    np.testing.assert_array_equal(through_core, batch.view)


def test_transforms_after_to_device_draw_the_same_and_give_the_same_pixels(raw_beton: Path) -> None:
    operations = pipeline()[:7]
    native = only_batch(raw_beton, **views(view=[T.RandomResizedCrop(SIZE), *operations]))
    places: list[list] = [
        [T.ToTensor(), *operations],
        [T.ToTensor(), T.ToTorchImage(), *operations],
        [T.ToTensor(), T.ToTorchImage(channels_last=False), T.ToDevice("cpu"), *operations],
        [operations[0], T.ToTensor(), T.ToTorchImage(), *operations[1:]],
    ]
    for place in places:
        batch = only_batch(raw_beton, **views(view=[T.RandomResizedCrop(SIZE), *place]))
        shown = batch.view if batch.view.shape[-1] == 3 else batch.view.permute(0, 2, 3, 1)
        apart = np.abs(shown.numpy().astype(int) - native.view)
        assert apart.mean() <= 0.5
        assert np.quantile(apart, 0.999) <= 3  # a rounding may move a pixel to another level of equalize or posterize


def test_colours_and_normalisation_on_a_device_are_the_cores(raw_beton: Path) -> None:
    mean, std = (123.7, 116.3, 103.5), (58.4, 57.1, 57.4)
    chain = [
        T.RandomColorJitter(0.8, 0.4, 0.4, 0.2, 0.1),
        T.RandomGrayscale(0.3),
        T.RandomSolarization(0.3, 128),
        T.NormalizeImage(mean, std, np.float32),
    ]
    start = [T.RandomResizedCrop(SIZE), T.RandomHorizontalFlip(0.5)]
    native = only_batch(raw_beton, **views(view=[*start, *chain, T.ToTensor(), T.ToTorchImage()])).view
    place = [T.ToTensor(), T.ToTorchImage(), T.ToDevice("cpu")]
    tensors = only_batch(raw_beton, **views(view=[*start, *place, *chain])).view
    assert native.dtype == tensors.dtype == torch.float32
    apart = (native - tensors).abs() * torch.tensor(std)[:, None, None]  # in 255ths
    assert apart.mean() <= 0.01
    assert apart.max() <= 3.01


def test_functions_and_modules_between_native_operations(raw_beton: Path) -> None:
    seen: dict[str, Any] = {}

    def darken(images: np.ndarray) -> np.ndarray:
        seen["array"] = (type(images), images.dtype, images.shape)
        return images // 2

    def count(images: torch.Tensor) -> torch.Tensor:
        seen["tensor"] = (type(images), images.shape)
        return images

    start = [T.RandomResizedCrop(SIZE), T.RandomHorizontalFlip(0.5)]
    rest = [T.RandomColorJitter(0.8, 0.4, 0.4, 0.2, 0.1), T.RandomAffine(20)]
    arguments = views(
        before=start,
        array=[*start, T.BatchFunction(darken), *rest],
        tensor=[*start, T.ToTensor(), T.ToTorchImage(), v2.RandomInvert(1.0), T.BatchFunction(count), *rest],
    )
    loader_options: dict = {"seed": 5, "batch_size": COUNT, "drop_last": False, "return_params": True}
    loader = Loader(
        raw_beton, **{**arguments, "pipelines": {**arguments["pipelines"], "label": None}}, **loader_options
    )
    batch = next(iter(loader))
    assert seen["array"] == (np.ndarray, np.uint8, (COUNT, *SIZE, 3))
    assert seen["tensor"] == (torch.Tensor, (COUNT, 3, *SIZE))
    assert "BatchFunction(darken) -> python: ColorJitter" in str(loader.plan)
    for name, change in (("array", lambda x: x // 2), ("tensor", lambda x: 255 - x)):
        crop, flip, jitter, affine = batch.params[name].values()
        boxes = T.RandomResizedCrop.boxes(crop)
        images = np.stack(
            [
                render(s, tuple(box), SIZE, flip=f)
                for (s, _), box, f in zip(photo_samples(COUNT), boxes, flip.applied, strict=True)
            ]
        )
        expected = render_batch(change(images), [*rest[0].lower(jitter), *rest[1].lower(affine)])
        shown = batch.tensor.permute(0, 2, 3, 1).numpy() if name == "tensor" else batch.array
        assert isinstance(batch.array, np.ndarray)
        assert np.abs(shown.astype(int) - expected).max() <= 3


@pytest.mark.parametrize("first", [True, False])
def test_users_code_may_change_the_size(raw_beton: Path, first: bool) -> None:
    """What is drawn behind it is drawn for the images that it returns."""

    def enlarged(images: torch.Tensor) -> torch.Tensor:
        height, width = (2, 3) if first else (1, 2)
        return images.repeat_interleave(2, height).repeat_interleave(2, width)

    operations: list[Any] = [
        T.RandomErasing(1.0, seed=1),
        T.RandomRotation(40, seed=2),
        T.Cutout(30, seed=3),
        T.RandomResizedCrop((16, 24), seed=4),
        T.RandomTranslate(3, seed=5),
    ]
    start = [T.ToTensor(), *([T.ToTorchImage()] if first else [])]
    small = T.CenterCrop((SIZE[0] // 2, SIZE[1] // 2), 1.0)
    batch = only_batch(
        raw_beton,
        return_params=True,
        **views(
            plain=[small, *start],
            view=[small, *start, T.BatchFunction(enlarged), *operations],
            large=[T.CenterCrop(SIZE, 1.0), *start, *operations],
        ),
    )
    names, expected = list(batch.params["view"]), list(batch.params["large"].values())
    assert names == list(batch.params["large"])
    shown = enlarged(batch.plain)
    for operation, record, other in zip(operations, list(batch.params["view"].values())[1:], expected[1:], strict=True):
        np.testing.assert_array_equal(np.stack(record), np.stack(other))
        transform = DecodedCrop(operation) if isinstance(operation, T.RandomResizedCrop) else operation
        images = shown if first else shown.permute(0, 3, 1, 2)
        images = transform.apply_torch(images, record)
        shown = images if first else images.permute(0, 2, 3, 1)
    assert torch.equal(batch.view, shown)


def test_ffcvs_crop_of_decoded_images(square_beton: Path) -> None:
    assert T.RandomResizedCrop((0.1, 1), (0.75, 1.3), 24) == T.RandomResizedCrop(24, (0.1, 1), (0.75, 1.3))
    assert T.RandomResizedCrop(scale=(0.1, 1), ratio=(0.75, 1.3), size=24).output_size == (24, 24)
    crop = T.RandomResizedCrop((0.1, 1), (0.75, 1.3), 24)
    native = only_batch(square_beton, {"image": [T.SimpleRGBImageDecoder(), crop]}, return_params=True)
    assert native.image.shape == (10, 24, 24, 3)
    late = only_batch(square_beton, {"image": [T.SimpleRGBImageDecoder(), T.ToTensor(), crop, T.Cutout(20)]})
    assert late.image.shape == (10, 24, 24, 3)
    tensors = torch.from_numpy(only_batch(square_beton, {"image": [T.SimpleRGBImageDecoder()]}).image)
    resized = DecodedCrop(crop).apply_torch(tensors.permute(0, 3, 1, 2), native.params["image"]["0:crop"])
    assert np.abs(resized.permute(0, 2, 3, 1).numpy().astype(int) - native.image).max() <= 1


@pytest.mark.parametrize("interpolation", ["bilinear", "area"])
def test_the_size_of_a_late_crop_may_change_between_epochs(square_beton: Path, interpolation: str) -> None:
    crop = T.RandomResizedCrop(24, interpolation=interpolation)
    pipeline = [T.SimpleRGBImageDecoder(), T.ToTensor(), crop, T.Cutout(8)]
    loader = Loader(square_beton, 10, pipelines={"image": pipeline}, num_workers=1)
    for size, shown in ((24, (24, 24)), (16, (16, 16)), ([9, 12], (9, 12))):
        crop.output_size = size
        assert next(iter(loader)).image.shape == (10, *shown, 3)


def test_padded_images_and_corner_crops(raw_beton: Path) -> None:
    sources = [image for image, _ in photo_samples(COUNT)]
    corners = {name: [T.CornerCrop(16, 0.5, name)] for name in ("top_left", "top_right", "bottom_left", "bottom_right")}
    batch = only_batch(
        raw_beton,
        **views(
            padded=[T.PadRGBImageDecoder()], flipped=[T.PadRGBImageDecoder(), T.RandomHorizontalFlip(1.0)], **corners
        ),
    )
    height, width = max(s.shape[0] for s in sources), max(s.shape[1] for s in sources)
    for i, source in enumerate(sources):
        h, w = source.shape[:2]
        expected = np.zeros((height, width, 3), np.uint8)
        expected[:h, :w] = source
        np.testing.assert_array_equal(batch.padded[i], expected)
        np.testing.assert_array_equal(batch.flipped[i], expected[:, ::-1])
        side = min(h, w) // 2
        for name in corners:
            top, left = h - side if "bottom" in name else 0, w - side if "right" in name else 0
            np.testing.assert_array_equal(getattr(batch, name)[i], render(source, (top, left, side, side), (16, 16)))


def test_decoded_jpegs_give_the_pixels_in_the_box() -> None:
    jpeg = photos()[0]
    whole = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
    params = T.RandomResizedCrop((31, 33)).sample(
        np.random.default_rng(0).random((5, 22)), np.array([whole.shape[:2]] * 5)
    )
    for top, left, height, width in T.RandomResizedCrop.boxes(params).tolist():
        cut = np.ascontiguousarray(whole[top : top + height, left : left + width])
        ours = render(whole, (top, left, height, width), (31, 33), jpeg=as_array(jpeg))
        np.testing.assert_array_equal(ours, render(cut, (0, 0, height, width), (31, 33)))
