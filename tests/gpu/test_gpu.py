"""What needs a CUDA device: the same pixels as on the CPU, copies beside computing, a training run.

python -m pytest tests/gpu          skipped as a whole where torch finds no GPU
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ffcv.transforms as T
from datasets import write_photos
from ffcv import Loader, OrderOption
from ffcv.reader import Reader
from ffcv.ssl import config, methods
from ffcv.ssl.backbones import ConvNet
from ffcv.ssl.train import fit
from ffcv.transforms.base import ImageDecoder
from ffcv.transforms.decoded_crop import DecodedCrop
from torchvision_cases import CASES, draw

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
TRANSFORMS = {name: case.transform for name, case in CASES.items()} | {"GaussianNoise": T.GaussianNoise(sigma=0.1)}
SIMCLR = (
    T.RandomHorizontalFlip(0.5),
    T.RandomColorJitter(0.8, 0.4, 0.4, 0.2, 0.1),
    T.RandomGrayscale(0.2),
    T.RandomSolarization(0.2, 128),
    T.GaussianBlur(0.5, 23, (0.1, 2.0)),
)


def pictures(count: int = 16, height: int = 96, width: int = 128) -> torch.Tensor:
    """uint8 [count, 3, height, width]: noise, smooth gradients, constant colours."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 3, height, width))
    ramp = np.linspace(0, 255, height * width).reshape(height, width)
    images[1::3] = (ramp + rng.integers(0, 256, (len(images[1::3]), 3, 1, 1))) % 256
    images[2::3] = rng.integers(0, 256, (len(images[2::3]), 3, 1, 1))
    return torch.from_numpy(images.astype(np.uint8))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_give_the_cpus_pixels(name: str) -> None:
    transform, images = TRANSFORMS[name], pictures()
    params = draw(transform, np.tile(np.array([[96, 128]]), (len(images), 1)))
    transform = DecodedCrop(transform) if isinstance(transform, ImageDecoder) else transform
    expected = transform.apply_torch(images, params)
    result = transform.apply_torch(images.cuda(), params)
    assert result.is_cuda
    apart = (result.cpu().int() - expected.int()).abs().double()
    print(f"{name}: mean {apart.mean():.2e}, maximum {int(apart.max())}")
    assert apart.mean() <= 1e-3
    assert apart.max() <= 1


@pytest.mark.parametrize("name", [name for name, each in TRANSFORMS.items() if not isinstance(each, ImageDecoder)])
def test_transforms_do_not_wait_for_the_gpu(name: str) -> None:
    transform, images = TRANSFORMS[name], pictures().cuda()
    params = draw(transform, np.tile(np.array([[96, 128]]), (len(images), 1)))
    transform.apply_torch(images, params)  # the first call loads kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        transform.apply_torch(images, params)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def batches(path: Path, device: str, **options: Any) -> list[Any]:
    """All of a loader whose augmentations follow ToDevice, on the CPU."""
    tail = [T.ToTensor(), T.ToDevice(device), T.ToTorchImage(), *SIMCLR, T.NormalizeImage(MEAN, STD, np.float32)]
    with Loader(
        path,
        4,
        order=OrderOption.RANDOM,
        seed=3,
        num_workers=4,
        return_params=True,
        pipelines={"image": [T.RandomResizedCrop((64, 64)), *tail]},
        **options,
    ) as loader:
        return [(batch.image, batch.label, batch.params) for batch in loader]


def test_a_pipeline_after_todevice_is_the_same_there(tmp_path: Path) -> None:
    path = write_photos(tmp_path / "photos.beton", 24)
    for (there, label, params), (here, same_label, same_params) in zip(
        batches(path, "cuda"), batches(path, "cpu"), strict=True
    ):
        assert there.is_cuda
        assert there.shape == (4, 3, 64, 64)
        apart = (there.cpu() - here).abs() * 58.0
        assert apart.mean() <= 1e-2
        assert apart.max() <= 1.1
        assert torch.equal(label.cpu(), same_label)
        for step, values in params["image"].items():
            for ours, theirs in zip(values, same_params["image"][step], strict=True):
                np.testing.assert_array_equal(ours, theirs)


def copying(path: Path, device: str, **options: Any) -> Loader:
    pipeline = [T.CenterCrop((64, 64), 1.0), T.ToTensor(), T.ToDevice(device), T.ToTorchImage()]
    options = {"num_workers": 4, "seed": 3, "order": OrderOption.RANDOM} | options
    return Loader(path, 2, pipelines={"image": pipeline}, **options)


def test_batches_that_are_kept_stay_as_they_were(tmp_path: Path) -> None:
    """All of an epoch held at once, while the consumer's stream lags behind and slots are used again."""
    path = write_photos(tmp_path / "photos.beton", 48)
    loader = copying(path, "cuda", batches_ahead=2)
    for _ in range(3):
        kept = []
        for batch in loader:
            torch.cuda._sleep(1_000_000)
            kept.append(batch.image)
        reference = copying(path, "cpu")
        reference.set_epoch(loader.next_epoch - 1)
        for there, here in zip(kept, reference, strict=True):
            assert torch.equal(there.cpu(), here.image)


def test_the_consumer_may_use_a_stream_of_its_own(tmp_path: Path) -> None:
    path = write_photos(tmp_path / "photos.beton", 24)
    expected = [batch.image.double().sum().item() for batch in copying(path, "cpu")]
    with torch.cuda.stream(torch.cuda.Stream()):
        sums = []
        for batch in copying(path, "cuda"):
            torch.cuda._sleep(1_000_000)
            sums.append(batch.image.double().sum())  # the batch is dropped while this is still waiting
    torch.cuda.synchronize()
    assert [value.item() for value in sums] == expected


def test_memory_does_not_grow(tmp_path: Path) -> None:
    path = write_photos(tmp_path / "photos.beton", 24)
    loader = copying(path, "cuda")

    def epochs(count: int) -> int:
        for _ in range(count):
            for batch in loader:
                batch.image.sum()
        torch.cuda.synchronize()
        return torch.cuda.memory_reserved()

    assert epochs(20) == epochs(2)
    for _ in range(20):  # dropped in the middle of an epoch
        next(iter(copying(path, "cuda")))
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() < 64 << 20


def test_a_failing_stage_reaches_the_consumer(tmp_path: Path) -> None:
    path = write_photos(tmp_path / "photos.beton", 24)

    class Fails(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no good")

    pipeline = [T.CenterCrop((64, 64), 1.0), T.ToTensor(), T.ToDevice("cuda"), T.ToTorchImage(), Fails()]
    with Loader(path, 4, pipelines={"image": pipeline}) as loader, pytest.raises(RuntimeError, match="no good"):
        next(iter(loader))


def test_one_sample_is_complete_when_it_is_handed_out(tmp_path: Path) -> None:
    """Large ones, asked for one after the other, so that their page-locked memory is used again at once."""
    path = write_photos(tmp_path / "photos.beton", 12)
    pipeline = [T.CenterCrop((1024, 1024), 1.0), T.ToTensor()]
    with (
        Loader(path, 2, num_workers=4, pipelines={"image": pipeline}) as here,
        Loader(path, 2, num_workers=4, pipelines={"image": [*pipeline, T.ToDevice("cuda")]}) as there,
    ):
        for _ in range(5):
            kept = []
            for index in range(12):
                torch.cuda._sleep(2_000_000)
                kept.append(there[index].image)
            for index, image in enumerate(kept):
                assert torch.equal(image.cpu(), here[index].image)


class Pair(torch.nn.Module):
    """What some augmentations return: several tensors."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        torch.cuda._sleep(20_000_000)
        return images.double() + 1, {"twice": images.double() * 2}


def test_tensors_inside_of_elements_are_handed_over_too(tmp_path: Path) -> None:
    path = write_photos(tmp_path / "photos.beton", 24)
    pipeline = [T.CenterCrop((64, 64), 1.0), T.ToTensor(), T.ToDevice("cuda"), Pair()]
    options = {"num_workers": 4, "seed": 3, "order": OrderOption.RANDOM}
    expected = [batch.image.double().permute(0, 2, 3, 1).sum().item() for batch in copying(path, "cpu")]
    with torch.cuda.stream(torch.cuda.Stream()):
        sums = []
        for batch in Loader(path, 2, pipelines={"image": pipeline}, **options):
            torch.cuda._sleep(1_000_000)
            plus_one, rest = batch.image
            sums.append((plus_one.sum() - plus_one.numel(), rest["twice"].sum() / 2))
            del batch, plus_one, rest
    torch.cuda.synchronize()
    assert [one.item() for one, _ in sums] == expected
    assert [two.item() for _, two in sums] == expected


@pytest.mark.parametrize("policy", ["skip", "replace"])
def test_bad_samples_beside_todevice(tmp_path: Path, policy: str) -> None:
    """A batch is made again without them, while copies of the first attempt may be under way."""
    path = write_photos(tmp_path / "photos.beton", 24)
    reader = Reader(path)
    for sample in (3, 10, 11):
        start = int(reader.metadata["image"]["data_ptr"][sample])
        content = bytearray(path.read_bytes())
        content[start + 300 : start + 500] = b"\xff\xd9" * 100
        path.write_bytes(content)

    def images(device: str) -> list[torch.Tensor]:
        loader = copying(path, device, on_error=policy, return_indices=True)
        found = [batch.image for _ in range(3) for batch in loader]
        assert set(loader.bad_samples.messages) == {3, 10, 11}
        return [image.cpu() for image in found]

    here, there = images("cpu"), images("cuda")
    assert len(here) == len(there)
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))


def test_an_iterator_begins_after_what_its_user_has_begun(tmp_path: Path) -> None:
    """Weights of a module of the pipeline are still being written when the loop starts."""
    path = write_photos(tmp_path / "photos.beton", 24)
    weight = torch.zeros(1, device="cuda")

    class Scale(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images * weight

    pipeline = [T.CenterCrop((64, 64), 1.0), T.ToTensor(), T.ToDevice("cuda"), Scale()]
    loader = Loader(path, 2, pipelines={"image": pipeline}, num_workers=4)
    for value in range(1, 5):
        torch.cuda._sleep(500_000_000)
        weight.fill_(value)
        scaled = next(iter(loader)).image
        with Loader(path, 2, pipelines={"image": pipeline[:2]}) as plain:
            assert torch.equal(scaled.cpu(), next(iter(plain)).image.float() * value)


def test_streams_are_made_once(tmp_path: Path) -> None:
    path = write_photos(tmp_path / "photos.beton", 24)
    loader = copying(path, "cuda")
    list(loader)
    streams = dict(loader._streams._streams)
    for one, two in zip(loader, loader, strict=True):  # two iterators share it
        assert one.image.is_cuda
        assert two.image.is_cuda
    assert loader._streams._streams == streams
    assert len(streams) == 1


def test_a_sampler_leaves_the_gpus_generators_alone(tmp_path: Path) -> None:
    path = write_photos(tmp_path / "photos.beton", 24)
    before = torch.cuda.get_rng_state()
    sampler = torch.utils.data.RandomSampler(range(24))
    list(copying(path, "cuda", order=None, sampler=sampler))
    assert torch.equal(before, torch.cuda.get_rng_state())


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_cuda_without_a_number_is_the_users_current_device(tmp_path: Path) -> None:
    path = write_photos(tmp_path / "photos.beton", 24)
    with torch.cuda.device(1):
        loader = copying(path, "cuda")
        found = [batch.image for batch in loader]
        assert loader[0].image.device == torch.device("cuda", 1)
    assert {image.device for image in found} == {torch.device("cuda", 1)}
    expected = [batch.image for batch in copying(path, "cpu")]
    assert all(torch.equal(a.cpu(), b) for a, b in zip(found, expected, strict=True))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_views_on_two_devices(tmp_path: Path) -> None:
    path = write_photos(tmp_path / "photos.beton", 24)
    views = {
        name: [T.CenterCrop((64, 64), 1.0), T.ToTensor(), T.ToDevice(f"cuda:{index}")]
        for index, name in enumerate(("image", "other"))
    }
    loader = Loader(path, 2, pipelines=views, custom_field_mapper={"other": "image"}, num_workers=4)
    for batch in [batch for _ in range(3) for batch in loader]:
        assert [batch.image.get_device(), batch.other.get_device()] == [0, 1]
        assert torch.equal(batch.image.cpu(), batch.other.cpu())


def settings(path: Path, folder: Path, *more: str) -> config.Config:
    return config.parse(
        [
            *("--recipe", "simclr_cifar10", "--data.train", str(path), "--logging.folder", str(folder)),
            *("--model.backbone", "resnet18", "--model.small_images", "true", "--training.batch_size", "16"),
            *("--training.epochs", "2", "--training.eval_every", "1", "--logging.progress", "false"),
            *more,
        ]
    )


@pytest.mark.parametrize("name", methods.names())
def test_no_step_waits_for_the_device(name: str) -> None:
    """The second forward pass: the first may set things up."""
    kind = methods.load(name)
    options: dict[str, Any] = {"swav": {"queue": 64, "queue_share": 0.0}, "nnclr": {"queue": 64}}
    torch.manual_seed(0)
    method = kind(ConvNet(8, (1,)), kind.Options(**options.get(name, {}))).cuda()
    views = [torch.randn(8, 3, 32, 32, device="cuda") for _ in range(1 if name == "supervised" else 2)]
    labels = torch.arange(8, device="cuda")
    for mode in ("default", "error"):
        torch.cuda.set_sync_debug_mode(mode)
        try:
            method(views, labels).terms["loss"].backward()
            method.after_step(0, 10)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_training_with_a_gradient_scaler_and_evaluation(tmp_path: Path) -> None:
    """16-mixed, which the CPU has not."""
    path = write_photos(tmp_path / "photos.beton", 48)
    extra = ("--training.precision", "16-mixed", "--training.eval_every", "1", "--data.label", "label")
    fit(settings(path, tmp_path / "run", *extra))
    saved = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert saved["scaler"]["scale"] > 0
    assert {v.dtype for v in saved["method"].values() if v.is_floating_point()} == {torch.float32}


@pytest.mark.parametrize("compiled", ["false", "true"])
def test_training_runs_and_goes_on(tmp_path: Path, compiled: str) -> None:
    path = write_photos(tmp_path / "photos.beton", 48)
    chosen = settings(path, tmp_path / "run", "--training.compile", compiled, "--data.label", "label")
    run = fit(chosen)
    assert run.device.type == "cuda"
    rows = (tmp_path / "run" / "epochs.csv").read_text().splitlines()
    last = dict(zip(rows[0].split(","), rows[-1].split(","), strict=True))
    assert math.isfinite(float(last["loss"]))
    assert 0 <= float(last["data_stall"]) <= 1
    longer = replace(chosen, training=replace(chosen.training, epochs=2), resume="auto")
    assert fit(longer).epochs == 2
