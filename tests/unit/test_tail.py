"""What follows rendering: where operations may stand, and that they see the axes, values and memory they expect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ffcv.transforms as T
from ffcv import Loader
from ffcv.fields.decoders import IntDecoder
from ffcv.pipeline.operation import Operation
from torchvision_reference import v2

COUNT = 6
CROP = T.CenterCrop((16, 24), 1.0)
MEAN, STD = (0.0, 100.0, 200.0), (1.0, 2.0, 3.0)

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def loader_of(path: Path, *operations: Any, **more: Any) -> Loader:
    pipelines = {"image": [*operations], "label": None}
    return Loader(path, COUNT, num_workers=1, seed=3, **{"pipelines": pipelines, **more})


def batch(path: Path, *operations: Any) -> Any:
    with loader_of(path, *operations) as loader:
        return next(iter(loader)).image


def same(images: Any) -> Any:
    return images


ARRAY, TENSOR, PERMUTED = [CROP], [CROP, T.ToTensor()], [CROP, T.ToTensor(), T.ToTorchImage()]


@pytest.mark.parametrize(
    ("operations", "message"),
    [
        (
            [*ARRAY, v2.RandomInvert(1.0), T.ToTensor()],
            r"RandomInvert\(\) works on tensors, .* put ToTensor\(\) before",
        ),
        ([*ARRAY, T.ToTorchImage()], r"ToTorchImage.* works on tensors, .* put ToTensor\(\) before it"),
        ([*PERMUTED, T.ToTorchImage()], r"which has happened before it: put it once"),
        ([*ARRAY, T.ToDevice("cpu"), T.ToTensor()], r"ToDevice\(cpu\) works on tensors, .* put ToTensor\(\) before it"),
        ([*ARRAY, T.Convert(torch.float16), T.ToTensor()], r"Convert\(torch.float16\) works on tensors"),
        ([*TENSOR, T.Convert(np.float16)], r"Convert\(.*float16.*\) works on numpy arrays, but the batch is a tensor"),
        ([*TENSOR, T.View(np.int8)], r"View\(.*int8.*\) works on numpy arrays"),
        (
            [*ARRAY, T.Cutout(3), T.ImageMixup(0.5, True), T.NormalizeImage(MEAN, STD, torch.bfloat16), T.ToTensor()],
            "numpy has no bfloat16",
        ),
        ([*ARRAY, T.MixupToOneHot(3)], r"MixupToOneHot\(3\) works on tensors"),
        ([*PERMUTED, v2.ToDtype(torch.float32, scale=True), T.ColorJitter(0.4)], "0..255; put it before ToDtype"),
        ([*PERMUTED, v2.Compose([v2.ToDtype(torch.float32, scale=True)]), T.Invert()], "put it before ToDtype"),
        ([*PERMUTED, T.Convert(torch.float32), v2.Normalize(MEAN, STD), T.Invert()], "put it before Normalize"),
    ],
)
def test_what_cannot_work_fails_when_the_loader_is_made(raw_beton: Path, operations: list, message: str) -> None:
    with pytest.raises(ValueError, match=f"pipeline 'image': .*{message}"):
        loader_of(raw_beton, *operations)


def test_labels_need_to_tensor_too(raw_beton: Path) -> None:
    with pytest.raises(ValueError, match=r"pipeline 'label': ToDevice\(cpu\) works on tensors"):
        Loader(raw_beton, 4, pipelines={"image": None, "label": [IntDecoder(), T.ToDevice("cpu")]})


def test_a_module_never_gets_an_array(raw_beton: Path) -> None:
    """What a function returns is known only when it is there."""
    with pytest.raises(
        TypeError, match=r"RandomInvert\(\) works on tensors, got a numpy array: put ToTensor\(\) before it"
    ):
        batch(raw_beton, CROP, T.BatchFunction(same), v2.RandomInvert(1.0))


def test_a_module_of_ones_own_before_to_tensor_gets_the_array(raw_beton: Path) -> None:
    """As in the original, whose own test does so."""

    class Identity(torch.nn.Module):
        def forward(self, images: np.ndarray) -> np.ndarray:
            assert type(images) is np.ndarray
            return images

    np.testing.assert_array_equal(batch(raw_beton, CROP, Identity()), batch(raw_beton, CROP))
    assert torch.equal(batch(raw_beton, CROP, Identity(), T.ToTensor()), batch(raw_beton, *TENSOR))
    with pytest.raises(TypeError, match=r"Conv2d\(\) was given a numpy array \(put ToTensor\(\) before it"):
        batch(raw_beton, CROP, torch.nn.Conv2d(3, 3, 1))


def test_image_modules_before_to_torch_image_are_warned_of(raw_beton: Path) -> None:
    with pytest.warns(
        UserWarning, match=r"RandomHorizontalFlip\(\) takes images \[B, 3, H, W\].* put ToTorchImage\(\)"
    ):
        loader_of(raw_beton, *TENSOR, v2.RandomHorizontalFlip(1.0))

    class Permutes(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.permute(0, 3, 1, 2)

    assert batch(raw_beton, *TENSOR, Permutes()).shape == (COUNT, 3, 16, 24)  # warnings are errors here


@pytest.mark.parametrize("size", [(3, 40), (40, 3), (3, 3), (5, 7)])
@pytest.mark.parametrize("permuted", [False, True])
def test_normalisation_finds_the_channels(raw_beton: Path, size: tuple[int, int], permuted: bool) -> None:
    start = [T.CenterCrop(size, 1.0), T.ToTensor(), *([T.ToTorchImage()] if permuted else [])]
    normalize = T.NormalizeImage(MEAN, STD, np.float32)
    with loader_of(raw_beton, *start, normalize) as folded:
        assert "python" not in str(folded.plan)
    assert torch.equal(batch(raw_beton, *start, T.BatchFunction(same), normalize), batch(raw_beton, *start, normalize))


def test_normalisation_follows_a_function_that_permutes(raw_beton: Path) -> None:
    normalize = T.NormalizeImage(MEAN, STD, np.float32)
    permuting = T.BatchFunction(lambda images: images.permute(0, 3, 1, 2))
    expected = batch(raw_beton, *PERMUTED, normalize)
    assert torch.equal(batch(raw_beton, *TENSOR, permuting, normalize), expected)


def test_normalisation_alone_says_when_it_cannot_know() -> None:
    normalize = T.NormalizeImage(MEAN, STD, np.float32)
    with pytest.raises(ValueError, match=r"both axes may be the channels'"):
        normalize(torch.zeros(2, 3, 8, 3))
    with pytest.raises(ValueError, match=r"\[2, 4, 8, 4\]: neither is that"):
        normalize(torch.zeros(2, 4, 8, 4))


@pytest.mark.parametrize("type_", ["float16", torch.float16, np.float16])
def test_normalisation_takes_torchs_dtypes(raw_beton: Path, type_: Any) -> None:
    normalize = T.NormalizeImage(MEAN, STD, type_)
    for operations in ([*ARRAY, normalize, T.ToTensor()], [*TENSOR, T.BatchFunction(same), normalize]):
        assert batch(raw_beton, *operations).dtype == torch.float16


class Mirrors(Operation):
    def declare_state_and_memory(self, previous_state: Any) -> Any:
        return previous_state, None

    def generate_code(self) -> Any:
        return lambda images, destination: images[:, :, ::-1]


@pytest.mark.filterwarnings("ignore:numba cannot compile")
@pytest.mark.parametrize("foreign", [T.BatchFunction(lambda images: images[:, :, ::-1]), Mirrors()])
@pytest.mark.parametrize("after", [[T.ToTensor()], [T.Invert(1.0), T.ToTensor()], [T.ImageMixup(0.5, True)]])
def test_arrays_that_torch_cannot_share(raw_beton: Path, foreign: Any, after: list) -> None:
    mirrored = np.asarray(batch(raw_beton, CROP, foreign, *after))
    plain = np.asarray(batch(raw_beton, CROP, *after))
    np.testing.assert_array_equal(mirrored, plain[:, :, ::-1])


def test_read_only_arrays_are_copied_without_a_warning(raw_beton: Path) -> None:
    repeat = T.BatchFunction(lambda images: np.broadcast_to(images[:1], images.shape))
    images = batch(raw_beton, CROP, repeat, T.Invert(1.0), T.ToTensor())  # warnings are errors here
    assert torch.equal(images, images[:1].expand_as(images))
    assert torch.equal(batch(raw_beton, CROP, repeat, T.ToTensor()), 255 - images)


class Half(T.NormalizeImage):
    def __call__(self, batch: Any) -> Any:
        return super().__call__(batch) / 2


@pytest.mark.parametrize("before", [[], [T.BatchFunction(same)]])  # the core would normalise, or `at` would
def test_what_a_derived_operation_does_anew_is_done(raw_beton: Path, before: list) -> None:
    arguments = (MEAN, STD, np.float32)
    halves = batch(raw_beton, *PERMUTED, *before, Half(*arguments))
    assert torch.equal(halves, batch(raw_beton, *PERMUTED, *before, T.NormalizeImage(*arguments)) / 2)


def test_a_function_must_return_the_batch(raw_beton: Path) -> None:
    def forgotten(batch: np.ndarray) -> None:
        batch[:] = 0

    with pytest.raises(TypeError, match=r"BatchFunction\(forgotten\) returned None; .* must return the batch"):
        batch(raw_beton, CROP, T.BatchFunction(forgotten))


def test_values_that_are_no_pixels_are_warned_of(raw_beton: Path) -> None:
    class Scales(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images / 255.0

    for foreign in (Scales(), T.BatchFunction(lambda images: images / 255.0)):
        with pytest.warns(UserWarning, match=r"Invert\(.*\) works on pixels in 0\.\.255, but the first batch holds 0"):
            batch(raw_beton, *PERMUTED, foreign, T.Invert(1.0))
    kept = batch(raw_beton, *PERMUTED, v2.ToDtype(torch.float32), T.Invert(1.0))  # warnings are errors here
    assert torch.equal(kept, batch(raw_beton, CROP, T.Invert(1.0), T.ToTensor(), T.ToTorchImage()).float())
    back = batch(
        raw_beton, *PERMUTED, v2.ToDtype(torch.float32, scale=True), v2.ToDtype(torch.uint8, scale=True), T.Invert(1.0)
    )
    assert torch.equal(back.float(), kept)


def test_the_plan_shows_all_arguments_and_what_is_handed_out(raw_beton: Path) -> None:
    views = {
        "plain": [T.CenterCrop(8, 0.875), T.RandomSolarization(0.3, 99)],
        "last": [T.CenterCrop(8, 1.0), T.ToTensor(), T.ToTorchImage()],
        "first": [T.PadRGBImageDecoder(), T.ToTensor(), T.ToTorchImage(channels_last=False)],
        "boxes": [T.LabelDecoder(T.CenterCrop(8, 0.5))],
        "poisoned": [T.CenterCrop(8, 1.0), T.Poison(np.zeros((8, 8, 3)), np.zeros((8, 8)), [1])],
    }
    pipelines = {"image": None, "label": [IntDecoder(), T.ReplaceLabel([1, 2], 0)], **views}
    loader = Loader(raw_beton, 2, custom_field_mapper=dict.fromkeys(views, "image"), pipelines=pipelines)
    lines = dict(line.split(": ", 1) for line in str(loader.plan).splitlines()[1:])
    plain = f"core: decode image -> {views['plain'][0]!r} -> {views['plain'][1]!r} -> uint8 [B, H, W, 3]"
    assert lines["plain"] == plain
    assert "ratio=0.875" in plain
    assert "threshold=99" in plain
    assert lines["last"].endswith("uint8 [B, 3, H, W], channels last in memory")
    assert lines["first"] == "core: decode image -> PadRGBImageDecoder() -> uint8 [B, 3, H, W]"
    assert lines["boxes"] == f"numpy: LabelDecoder({views['boxes'][0].decoder!r}) of image"
    assert lines["poisoned"].endswith("python: Poison(8x8 mask, 1 indices, clamp=(0.0, 255.0))")
    assert lines["label"].endswith("python: ReplaceLabel(2 indices, 0)")


UNSEEDED: list[tuple[Any, list]] = [
    (T.LabelRandomResizedCrop(8), []),
    (T.LabelDecoder(T.CenterCrop(8, 1.0)), [T.LabelColorJitter(0.5, 0.4)]),
    (T.LabelRandomResizedCrop(8, 1), [T.LabelGrayscale(0.1, seed=2), T.LabelGaussianBlur(0.5)]),
    (T.LabelRandomResizedCrop(8, 1), [T.Label(T.RandomApply([T.Invert()]))]),
]


@pytest.mark.parametrize(("decoder", "labels"), UNSEEDED)
def test_labels_of_draws_need_the_images_seed(raw_beton: Path, decoder: Any, labels: list) -> None:
    mapper = {"boxes": "image"}
    with pytest.raises(ValueError, match=r"pipeline 'boxes': .* needs the seed of the operation that it describes"):
        Loader(raw_beton, 4, custom_field_mapper=mapper, pipelines={"image": None, "boxes": [decoder, *labels]})


def test_labels_without_draws_need_no_seed(raw_beton: Path) -> None:
    pipelines = {"image": None, "label": None, "boxes": [T.LabelDecoder(T.CenterCrop(8, 1.0))]}
    boxes = next(iter(Loader(raw_beton, COUNT, custom_field_mapper={"boxes": "image"}, pipelines=pipelines))).boxes
    assert boxes.shape == (COUNT, 6)
