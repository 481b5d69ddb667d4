"""Pipelines that give labels: what images underwent, mixtures, masks, and crops that know of each other."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ffcv.transforms as T
from datasets import photo_samples
from ffcv import Loader
from ffcv.fields.decoders import IntDecoder
from photo_loaders import only_batch, views

COUNT = 23

SIZE = (40, 56)

pytestmark = pytest.mark.usefixtures("one_torch_thread")

SEEDED: list[tuple[Any, Any]] = [
    (T.RandomColorJitter(0.7, 0.4, 0.3, 0.2, 0.1, seed=11), T.LabelColorJitter(0.7, 0.4, 0.3, 0.2, 0.1, seed=11)),
    (T.RandomSolarization(0.4, 90, seed=12), T.LabelSolarization(0.4, 90, seed=12)),
    (T.RandomGrayscale(0.4, seed=13), T.LabelGrayscale(0.4, seed=13)),
    (T.GaussianBlur(0.5, 5, seed=14), T.LabelGaussianBlur(0.5, 5, seed=14)),
    (T.RandomTranslate(9, (1, 2, 3), seed=15), T.LabelTranslate(9, (1, 2, 3), seed=15)),
]


def test_label_pipelines_state_what_the_images_underwent(raw_beton: Path) -> None:
    arguments = views(
        view=[T.RandomResizedCrop(SIZE, seed=10), *(image for image, _ in SEEDED)],
        boxes=[T.LabelRandomResizedCrop(SIZE, 10, (0.08, 1.0), (0.75, 4 / 3))],
        labels=[
            T.LabelRandomResizedCrop(SIZE, 10, (0.08, 1.0), (0.75, 4 / 3)),
            *(label for _, label in SEEDED),
            T.ToTensor(),
        ],
    )
    batch = only_batch(raw_beton, return_params=True, **arguments)
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


@pytest.mark.parametrize("name", ["ColorJitter", "Solarization", "Grayscale", "GaussianBlur", "Translate"])
def test_the_same_arguments_say_the_same(name: str) -> None:
    image, label = getattr(T, f"Random{name}", None) or getattr(T, name), getattr(T, f"Label{name}")
    required = {"GaussianBlur": {"blur_prob": 0.5}, "Translate": {"padding": 3}}.get(name, {})
    assert label(**required, seed=1).transform == image(**required, seed=1)


def test_the_size_of_a_label_decoder_may_be_assigned(raw_beton: Path) -> None:
    erasing = T.RandomErasing(1.0, seed=11)
    decoders = [T.RandomResizedCrop(8, seed=10), T.LabelRandomResizedCrop(8, seed=10)]
    arguments = views(view=[decoders[0], erasing], label=[decoders[1], T.Label(erasing)])
    with Loader(raw_beton, COUNT, return_params=True, **arguments) as loader:
        next(iter(loader))
        for decoder in decoders:
            decoder.output_size = SIZE
        batch = next(iter(loader))
    boxes = np.stack(batch.params["view"]["1:erasing"], axis=1)
    np.testing.assert_array_equal(batch.label[:, 6:], boxes)
    assert boxes.max() > 8


def test_labels_of_compositions_have_a_column_for_everything() -> None:
    sizes = np.tile(np.array([[40, 50]], np.int64), (9, 1))
    parts = [T.ColorJitter(0.4, 0.4, 0.2, 0.1), T.Blur(5)]
    for transform, columns in ((T.Compose(parts), 5), (T.RandomApply(parts), 6), (T.RandomChoice(parts), 6)):
        label = T.Label(transform)
        params = label.sample(np.random.default_rng(0).random((9, label.draws)), sizes)
        assert label.label(params).shape == (9, columns)


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


def test_a_second_seed_names_the_other_views_crops(raw_beton: Path) -> None:
    batch = only_batch(
        raw_beton,
        **views(
            first=[T.LabelRandomResizedCrop(8, 1, (0.05, 0.2), (0.75, 4 / 3))],
            second=[T.LabelRandomResizedCrop(8, 7, (0.05, 0.2), (0.75, 4 / 3), second_seed=1)],
        ),
    )
    _, _, t1, l1, h1, w1 = batch.first.T
    _, _, t2, l2, h2, w2 = batch.second.T
    assert ((t1 >= t2 + h2) | (t2 >= t1 + h1) | (l1 >= l2 + w2) | (l2 >= l1 + w1)).all()


def test_seeds_may_be_numpys(raw_beton: Path) -> None:
    def images(number: Any) -> np.ndarray:
        crop = T.RandomResizedCrop(SIZE, (0.05, 0.2), seed=number(5), second_seed=number(6))
        return only_batch(raw_beton, **views(view=[crop, T.RandomHorizontalFlip(0.5, number(7))])).view

    expected = images(int)
    for number in (np.int64, np.uint8, np.uint64):
        np.testing.assert_array_equal(images(number), expected)


def test_mixup_agrees_between_images_and_labels(raw_beton: Path) -> None:
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
    batch = next(iter(Loader(raw_beton, COUNT, seed=3, **arguments)))
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


def test_mixup_takes_one_label_a_sample() -> None:
    mixup = T.LabelMixup(0.5, True)
    params = mixup.sample(np.zeros((4, 1)), np.arange(4))
    assert mixup.apply(np.zeros((4, 1)), params).shape == (4, 3)
    with pytest.raises(ValueError, match=r"one label a sample, \[B\] or \[B, 1\], got \[4, 2\]"):
        mixup.apply(np.zeros((4, 2)), params)


def test_poison_and_replaced_labels_touch_the_chosen_samples_only(raw_beton: Path) -> None:
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
    batch = next(iter(Loader(raw_beton, COUNT - 3, seed=3, indices=range(2, COUNT), **arguments)))
    for i, sample in enumerate(range(2, COUNT - 1)):
        poisoned = (batch.plain[i] * 0.75 + 50).astype(np.uint8) if sample in chosen else batch.plain[i]
        np.testing.assert_array_equal(batch.image[i].numpy(), poisoned)
        assert batch.label[i] == (99 if sample in chosen else sample)


def test_masks_have_exact_counts_and_blocks(raw_beton: Path) -> None:
    random_mask, block_mask = T.RandomMask((14, 12), 0.75), T.BlockMask(14, 0.4)
    arguments = views(random=[random_mask, T.ToTensor()], blocks=[block_mask])
    loader = Loader(raw_beton, COUNT, seed=3, **arguments)
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
def test_operations_in_the_wrong_place(raw_beton: Path, operations: list, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        Loader(raw_beton, 4, pipelines={"image": operations, "label": None})
