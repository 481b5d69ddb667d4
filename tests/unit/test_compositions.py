"""Label pipelines, masks, batch transforms, foreign functions, returned parameters: what loaders make of them."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ffcv.transforms as T
from core_render import render, render_batch
from datasets import InMemory, photo_samples, write_photos
from ffcv import DatasetWriter, Loader
from ffcv.fields import RGBImageField
from ffcv.fields.decoders import IntDecoder
from photos import as_array, photos
from torchvision_reference import v2

COUNT = 23
SIZE = (40, 56)


@pytest.fixture(autouse=True)
def _one_torch_thread() -> Iterator[None]:
    """Small tensors: threads that wait for busy cores take longer than the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def beton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("views") / "photos.beton", COUNT, write_mode="raw")


@pytest.fixture(scope="module")
def square_beton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("views") / "square.beton"
    jpegs = [photos()[i % len(photos())] for i in range(10)]
    images = [Image.open(io.BytesIO(jpeg)).convert("RGB").resize((48, 32)) for jpeg in jpegs]
    DatasetWriter(path, {"image": RGBImageField(write_mode="raw")}, num_workers=1).from_indexed_dataset(
        InMemory([(np.asarray(image),) for image in images])
    )
    return path


def only_batch(path: Path, pipelines: dict, **options: Any) -> Any:
    """The one batch with all samples, in order."""
    with_defaults: dict = {"batch_size": COUNT, "seed": 3, "num_workers": 2, "drop_last": False, **options}
    if "label" in Loader(path, batch_size=1, pipelines=dict.fromkeys(("image",))).reader.field_names:
        pipelines = {"label": None, **pipelines}
    return next(iter(Loader(path, pipelines=pipelines, **with_defaults)))


def views(**pipelines: list) -> dict:
    """Arguments for a loader with these views of the image field."""
    extra = {name: "image" for name in pipelines if name != "image"}
    return {"pipelines": {"image": None, **pipelines}, "custom_field_mapper": extra}


SEEDED: list[tuple[Any, Any]] = [
    (T.RandomColorJitter(0.7, 0.4, 0.3, 0.2, 0.1, seed=11), T.LabelColorJitter(0.7, 0.4, 0.3, 0.2, 0.1, seed=11)),
    (T.RandomSolarization(0.4, 90, seed=12), T.LabelSolarization(0.4, 90, seed=12)),
    (T.RandomGrayscale(0.4, seed=13), T.LabelGrayscale(0.4, seed=13)),
    (T.GaussianBlur(0.5, 5, seed=14), T.LabelGaussianBlur(0.5, 5, seed=14)),
    (T.RandomTranslate(9, (1, 2, 3), seed=15), T.LabelTranslate(9, (1, 2, 3), seed=15)),
]


def test_label_pipelines_state_what_the_images_underwent(beton: Path) -> None:
    arguments = views(
        view=[T.RandomResizedCrop(SIZE, seed=10), *(image for image, _ in SEEDED)],
        boxes=[T.LabelRandomResizedCrop(SIZE, 10, (0.08, 1.0), (0.75, 4 / 3))],
        labels=[
            T.LabelRandomResizedCrop(SIZE, 10, (0.08, 1.0), (0.75, 4 / 3)),
            *(label for _, label in SEEDED),
            T.ToTensor(),
        ],
    )
    batch = only_batch(beton, return_params=True, **arguments)
    params = batch.params["view"]
    assert batch.boxes.dtype == np.int32
    assert batch.labels.dtype == torch.float32
    assert batch.labels.shape == (COUNT, 6 + 4 + 1 + 1 + 1 + 2)
    np.testing.assert_array_equal(batch.boxes, np.stack(params["0:crop"], axis=1))
    np.testing.assert_array_equal(batch.labels[:, :6].numpy(), batch.boxes)
    expected = [
        *params["1:color_jitter"][:4],
        params["2:solarize"].applied,
        params["3:grayscale"].applied,
        params["4:gaussian_blur"].sigma,
        *params["5:translate"],
    ]
    np.testing.assert_array_equal(batch.labels[:, 6:].numpy(), np.stack(expected, axis=1).astype(np.float32))
    assert 0 < params["3:grayscale"].applied.sum() < COUNT
    sizes = [image.shape[1::-1] for image, _ in photo_samples(COUNT)]
    assert batch.boxes[:, :2].tolist() == [list(size) for size in sizes]


def test_labels_of_compositions_have_a_column_for_everything() -> None:
    sizes = np.tile(np.array([[40, 50]], np.int64), (9, 1))
    parts = [T.ColorJitter(0.4, 0.4, 0.2, 0.1), T.Blur(5)]
    for transform, columns in ((T.Compose(parts), 5), (T.RandomApply(parts), 6), (T.RandomChoice(parts), 6)):
        label = T.Label(transform)
        params = label.sample(np.random.default_rng(0).random((9, label.draws)), sizes)
        assert label.label(params).shape == (9, columns)


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


def test_every_transform_is_replayed_from_its_returned_parameters(beton: Path) -> None:
    operations = pipeline()
    batch = only_batch(beton, return_params=True, **views(view=[T.RandomResizedCrop(SIZE), *operations]))
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


def test_transforms_after_to_device_draw_the_same_and_give_the_same_pixels(beton: Path) -> None:
    operations = pipeline()[:7]
    native = only_batch(beton, **views(view=[T.RandomResizedCrop(SIZE), *operations]))
    places: list[list] = [
        [T.ToTensor(), *operations],
        [T.ToTensor(), T.ToTorchImage(), *operations],
        [T.ToTensor(), T.ToTorchImage(channels_last=False), T.ToDevice("cpu"), *operations],
        [operations[0], T.ToTensor(), T.ToTorchImage(), *operations[1:]],
    ]
    for place in places:
        batch = only_batch(beton, **views(view=[T.RandomResizedCrop(SIZE), *place]))
        shown = batch.view if batch.view.shape[-1] == 3 else batch.view.permute(0, 2, 3, 1)
        apart = np.abs(shown.numpy().astype(int) - native.view)
        assert apart.mean() <= 0.5
        assert np.quantile(apart, 0.999) <= 3  # a rounding may move a pixel to another level of equalize or posterize


def test_colours_and_normalisation_on_a_device_are_the_cores(beton: Path) -> None:
    mean, std = (123.7, 116.3, 103.5), (58.4, 57.1, 57.4)
    chain = [
        T.RandomColorJitter(0.8, 0.4, 0.4, 0.2, 0.1),
        T.RandomGrayscale(0.3),
        T.RandomSolarization(0.3, 128),
        T.NormalizeImage(mean, std, np.float32),
    ]
    start = [T.RandomResizedCrop(SIZE), T.RandomHorizontalFlip(0.5)]
    native = only_batch(beton, **views(view=[*start, *chain, T.ToTensor(), T.ToTorchImage()])).view
    place = [T.ToTensor(), T.ToTorchImage(), T.ToDevice("cpu")]
    tensors = only_batch(beton, **views(view=[*start, *place, *chain])).view
    assert native.dtype == tensors.dtype == torch.float32
    apart = (native - tensors).abs() * torch.tensor(std)[:, None, None]  # in 255ths
    assert apart.mean() <= 0.01
    assert apart.max() <= 3.01


def test_functions_and_modules_between_native_operations(beton: Path) -> None:
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
    loader = Loader(beton, **{**arguments, "pipelines": {**arguments["pipelines"], "label": None}}, **loader_options)
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


def test_seeded_crops_stay_apart_where_possible() -> None:
    sizes = np.tile(np.array([(400, 300), (64, 500), (33, 31)], np.int64), (20_000, 1))
    crop = T.RandomResizedCrop(8, (0.05, 0.3), seed=1, second_seed=2)
    from ffcv import _core

    own, other = (_core.uniforms(seed, 5, 0, np.arange(len(sizes)), crop.draws) for seed in (1, 2))
    a = crop.sample(np.concatenate([own, other], axis=1), sizes)
    b = T.RandomResizedCrop(8, (0.05, 0.3), seed=2).sample(other, sizes)
    boxes = T.RandomResizedCrop.boxes(a)
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= sizes).all()
    apart = (
        (a.top >= b.top + b.height)
        | (b.top >= a.top + a.height)
        | (a.left >= b.left + b.width)
        | (b.left >= a.left + a.width)
    )
    assert apart.mean() > 0.995
    centre = (a.top + a.height / 2)[apart][::3] / 400
    assert centre.min() < 0.1
    assert centre.max() > 0.9, "free places on all sides are used"
    huge = T.RandomResizedCrop(8, (0.9, 1.0), seed=1, second_seed=2)
    boxes = T.RandomResizedCrop.boxes(huge.sample(np.concatenate([own, other], axis=1), sizes))
    plain = T.RandomResizedCrop(8, (0.9, 1.0), seed=1).sample(own, sizes)
    np.testing.assert_array_equal(boxes, T.RandomResizedCrop.boxes(plain))


def test_a_second_seed_names_the_other_views_crops(beton: Path) -> None:
    batch = only_batch(
        beton,
        **views(
            first=[T.LabelRandomResizedCrop(8, 1, (0.05, 0.2), (0.75, 4 / 3))],
            second=[T.LabelRandomResizedCrop(8, 7, (0.05, 0.2), (0.75, 4 / 3), second_seed=1)],
        ),
    )
    _, _, t1, l1, h1, w1 = batch.first.T
    _, _, t2, l2, h2, w2 = batch.second.T
    assert ((t1 >= t2 + h2) | (t2 >= t1 + h1) | (l1 >= l2 + w2) | (l2 >= l1 + w1)).all()


def test_ffcvs_crop_of_decoded_images(square_beton: Path) -> None:
    assert T.RandomResizedCrop((0.1, 1), (0.75, 1.3), 24) == T.RandomResizedCrop(24, (0.1, 1), (0.75, 1.3))
    assert T.RandomResizedCrop(scale=(0.1, 1), ratio=(0.75, 1.3), size=24).output_size == (24, 24)
    crop = T.RandomResizedCrop((0.1, 1), (0.75, 1.3), 24)
    native = only_batch(square_beton, {"image": [T.SimpleRGBImageDecoder(), crop]}, return_params=True)
    assert native.image.shape == (10, 24, 24, 3)
    late = only_batch(square_beton, {"image": [T.SimpleRGBImageDecoder(), T.ToTensor(), crop, T.Cutout(20)]})
    assert late.image.shape == (10, 24, 24, 3)
    tensors = torch.from_numpy(only_batch(square_beton, {"image": [T.SimpleRGBImageDecoder()]}).image)
    from ffcv.transforms.decoded_crop import DecodedCrop

    resized = DecodedCrop(crop).apply_torch(tensors.permute(0, 3, 1, 2), native.params["image"]["0:crop"])
    assert np.abs(resized.permute(0, 2, 3, 1).numpy().astype(int) - native.image).max() <= 1


def test_padded_images_and_corner_crops(beton: Path) -> None:
    sources = [image for image, _ in photo_samples(COUNT)]
    corners = {name: [T.CornerCrop(16, 0.5, name)] for name in ("top_left", "top_right", "bottom_left", "bottom_right")}
    batch = only_batch(
        beton,
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


def test_mixup_agrees_between_images_and_labels(beton: Path) -> None:
    start = [T.CenterCrop(SIZE, 1.0)]
    arguments: dict = {
        "pipelines": {
            "image": [*start, T.ImageMixup(0.5, False), T.ToTensor()],
            "plain": start,
            "label": [IntDecoder(), T.LabelMixup(0.5, False), T.ToTensor()],
            "classes": [IntDecoder(), T.LabelMixup(0.5, False), T.ToTensor(), T.MixupToOneHot(COUNT)],
        },
        "custom_field_mapper": {"plain": "image", "classes": "label"},
    }
    batch = next(iter(Loader(beton, COUNT, seed=3, **arguments)))
    weight = batch.label[:, 2]
    assert len(torch.unique(weight)) == COUNT
    assert torch.equal(batch.label[:, 0].long(), torch.arange(COUNT))
    assert torch.equal(batch.label[:, 1].long(), torch.arange(COUNT).roll(1))
    plain = batch.plain.astype(np.float64)
    share = weight.double().numpy()[:, None, None, None]
    expected = share * plain + (1 - share) * np.roll(plain, 1, axis=0)
    assert np.abs(batch.image.numpy() - expected).max() <= 0.51
    assert torch.allclose(batch.classes.sum(1), torch.ones(COUNT))
    assert torch.allclose(batch.classes[torch.arange(COUNT), torch.arange(COUNT)], weight)
    same = T.ImageMixup(0.5, True).sample(np.random.default_rng(0).random((5, 1)), np.arange(5)).weight
    assert len(set(same)) == 1


def test_poison_and_replaced_labels_touch_the_chosen_samples_only(beton: Path) -> None:
    mask, alpha = np.full((*SIZE, 3), 200.0), np.full(SIZE, 0.25)
    chosen = [3, 17, 4]
    arguments: dict = {
        "pipelines": {
            "image": [T.CenterCrop(SIZE, 1.0), T.Poison(mask, alpha, chosen), T.ToTensor()],
            "plain": [T.CenterCrop(SIZE, 1.0)],
            "label": [IntDecoder(), T.ReplaceLabel(chosen, 99), T.ToTensor(), T.Squeeze()],
        },
        "custom_field_mapper": {"plain": "image"},
    }
    batch = next(iter(Loader(beton, COUNT - 3, seed=3, indices=range(2, COUNT), **arguments)))
    for i, sample in enumerate(range(2, COUNT - 1)):
        poisoned = (batch.plain[i] * 0.75 + 50).astype(np.uint8) if sample in chosen else batch.plain[i]
        np.testing.assert_array_equal(batch.image[i].numpy(), poisoned)
        assert batch.label[i] == (99 if sample in chosen else sample)


def test_masks_have_exact_counts_and_blocks(beton: Path) -> None:
    random_mask, block_mask = T.RandomMask((14, 12), 0.75), T.BlockMask(14, 0.4)
    arguments = views(random=[random_mask, T.ToTensor()], blocks=[block_mask])
    loader = Loader(beton, COUNT, seed=3, **arguments)
    first, second = next(iter(loader)), next(iter(loader))
    assert first.random.dtype == torch.bool
    assert first.random.shape == (COUNT, 14, 12)
    assert (first.random.sum(dim=(1, 2)) == int(0.75 * 14 * 12)).all()
    assert (first.blocks.sum(axis=(1, 2)) == int(0.4 * 14 * 14)).all()
    assert not torch.equal(first.random, second.random)

    def borders(masks: np.ndarray) -> float:
        return np.mean(masks[:, 1:] != masks[:, :-1]) + np.mean(masks[:, :, 1:] != masks[:, :, :-1])

    scattered = T.RandomMask(14, 0.4)
    u = np.random.default_rng(0).random((500, scattered.draws))
    v = np.random.default_rng(0).random((500, block_mask.draws))
    none = np.zeros((500, 2))
    share = scattered.sample(u, none).mask.mean(axis=0)
    assert np.abs(share - 0.4).max() < 0.12
    assert borders(block_mask.sample(v, none).mask) < 0.5 * borders(scattered.sample(u, none).mask)


@pytest.mark.parametrize(
    ("operations", "error", "message"),
    [
        ([T.CenterCrop(8, 1.0), T.LabelGrayscale(0.1)], ValueError, "must follow LabelRandomResizedCrop"),
        ([T.RandomMask(14), T.LabelGrayscale(0.1)], ValueError, "needs LabelRandomResizedCrop"),
        ([T.RandomMask(14), T.RandomGrayscale(0.1)], ValueError, "the pipeline holds no images"),
        ([T.CenterCrop(8, 1.0), lambda x: x], TypeError, "wrap a plain function in BatchFunction"),
        ([T.CenterCrop(8, 1.0), T.Cutout(9)], ValueError, "crop_size must be at most the view's shorter side 8, got 9"),
        ([T.CenterCrop(8, 1.0), T.ToTensor(), T.Cutout(9)], ValueError, "crop_size must be at most"),
    ],
)
def test_operations_in_the_wrong_place(beton: Path, operations: list, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        Loader(beton, 4, pipelines={"image": operations, "label": None})


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
