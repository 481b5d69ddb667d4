"""Batches: what they hold, in which order, and that the same seed gives the same ones."""

import gc
import hashlib
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets import InMemory, photo_samples
from ffcv import DatasetWriter, Loader, OrderOption
from ffcv.errors import DecodeError
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.decoders import IntDecoder
from ffcv.pipeline import PipelineSpec
from ffcv.transforms import (
    CenterCrop,
    GaussianBlur,
    NormalizeImage,
    RandomColorJitter,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomSolarization,
    Squeeze,
    ToTensor,
    ToTorchImage,
)
from ffcv.traversal_order import TraversalOrder

COUNT = 23
MEAN, STD = (123.7, 116.3, 103.5), (58.4, 57.1, 57.4)

CROP = [CenterCrop((8, 8), 1.0)]


def two_views(path: Path, **options: object) -> Loader:
    """SimCLR's two views, as users of FFCV-SSL write them."""

    def view(seed: int | None = None) -> list:
        return [
            RandomResizedCrop((48, 64), seed=seed),
            RandomHorizontalFlip(0.5),
            RandomColorJitter(0.8, 0.4, 0.4, 0.2, 0.1),
            RandomGrayscale(0.2),
            GaussianBlur(0.5, 5),
            RandomSolarization(0.2, 128),
            NormalizeImage(MEAN, STD, np.float32),
            ToTensor(),
            ToTorchImage(),
        ]

    settings: dict = {"batch_size": 5, "num_workers": 2, "order": OrderOption.RANDOM, "seed": 7, **options}
    return Loader(
        path,
        pipelines={"image": view(), "image2": view(), "label": [IntDecoder(), ToTensor(), Squeeze()]},
        custom_field_mapper={"image2": "image"},
        **settings,
    )


def digest(loader: Loader, epochs: int = 2) -> str:
    state = hashlib.sha256()
    for _ in range(epochs):
        for batch in loader:
            for element in batch:
                state.update(element.contiguous().numpy().tobytes())
    return state.hexdigest()


def test_a_batch_by_position_and_by_name(beton: Path) -> None:
    batch = next(iter(two_views(beton)))
    assert batch._fields == ("image", "label", "image2")
    image, label, image2 = batch
    assert image is batch.image
    assert image.shape == image2.shape == (5, 3, 48, 64)
    assert image.dtype == torch.float32
    assert image.is_contiguous(memory_format=torch.channels_last)
    assert label.shape == (5,)
    assert label.dtype == torch.int64
    assert not torch.equal(image, image2)


def test_same_seed_same_batches_whatever_the_threads(beton: Path) -> None:
    digests = {digest(two_views(beton, num_workers=workers)) for workers in (1, 2, 4)}
    digests.add(digest(two_views(beton, num_workers=2, batches_ahead=1)))
    print(f"two epochs of two views, seed 7: sha256 {digests}")
    assert len(digests) == 1
    assert digest(two_views(beton, seed=8)) not in digests


def test_a_sample_looks_the_same_in_any_batch(beton: Path) -> None:
    def by_label(**options: object) -> dict[int, bytes]:
        found = {}
        for batch in two_views(beton, drop_last=False, **options):
            for i, label in enumerate(batch.label.tolist()):
                found[label] = (
                    batch.image[i].contiguous().numpy().tobytes() + batch.image2[i].contiguous().numpy().tobytes()
                )
        return found

    reference = by_label()
    assert sorted(reference) == list(range(COUNT))
    assert by_label(batch_size=7) == reference
    assert by_label(order=OrderOption.SEQUENTIAL) == reference


def test_epochs_differ_and_can_be_named(beton: Path) -> None:
    loader = two_views(beton)
    first, second = ([batch.label.tolist() for batch in loader] for _ in range(2))
    assert first != second
    loader.set_epoch(1)
    assert [batch.label.tolist() for batch in loader] == second


def test_a_seeded_operation_repeats_in_both_views(beton: Path) -> None:
    tail = [ToTensor(), ToTorchImage()]
    loader = Loader(
        beton,
        batch_size=COUNT,
        pipelines={
            "image": [RandomResizedCrop((32, 32), seed=3), *tail],
            "same": [RandomResizedCrop((32, 32), seed=3), RandomHorizontalFlip(0.0), *tail],
            "other": [RandomResizedCrop((32, 32), seed=4), *tail],
        },
        custom_field_mapper={"same": "image", "other": "image"},
    )
    batch = next(iter(loader))
    assert torch.equal(batch.image, batch.same)
    assert not torch.equal(batch.image, batch.other)


def test_rendering_many_views_changes_none_of_them(beton: Path) -> None:
    crop, full = [RandomResizedCrop((40, 40))], [CenterCrop((24, 24), 1.0)]
    together = Loader(
        beton, 4, seed=1, pipelines={"image": crop, "b": PipelineSpec("image", transforms=full), "label": None}
    )
    alone = Loader(beton, 4, seed=1, pipelines={"image": crop, "label": None})
    for both, one in zip(together, alone, strict=True):
        np.testing.assert_array_equal(both.image, one.image)
        assert both.b.shape == (4, 24, 24, 3)


def test_a_list_of_all_batches_keeps_them_all(beton: Path) -> None:
    kept = [batch.image.clone() for batch in two_views(beton)]
    held = [batch.image for batch in two_views(beton)]
    assert len({image.data_ptr() for image in held}) == len(held)
    assert all(torch.equal(a, b) for a, b in zip(kept, held, strict=True))


def test_memory_returns_when_the_batch_goes(beton: Path) -> None:
    loader = two_views(beton, batches_ahead=1, batch_size=1)
    addresses = set()
    for _ in range(4):
        for batch in loader:
            addresses.add(batch.image.data_ptr())
            del batch
    assert len(addresses) <= 8  # waiting, in the making, in use; of 92 batches


def test_the_last_batch(beton: Path) -> None:
    assert [len(batch.label) for batch in two_views(beton)] == [5] * 4
    assert [len(batch.label) for batch in two_views(beton, drop_last=False)] == [5] * 4 + [3]
    assert len(two_views(beton)) == 4
    assert len(two_views(beton, drop_last=False)) == 5
    assert [len(b.label) for b in two_views(beton, drop_last=False, batch_size=22)] == [22, 1]


def test_indices_and_sequential_order(beton: Path) -> None:
    loader = two_views(beton, indices=[9, 2, 5], order=OrderOption.SEQUENTIAL, batch_size=3)
    assert next(iter(loader)).label.tolist() == [9, 2, 5]
    assert loader.indices.tolist() == [9, 2, 5]
    assert loader.reader.num_samples == COUNT


def test_an_order_of_ones_own(beton: Path) -> None:
    class Backwards(TraversalOrder):
        def sample_order(self, epoch: int) -> np.ndarray:
            return self.indices[::-1]

    assert next(iter(two_views(beton, order=Backwards))).label.tolist() == [22, 21, 20, 19, 18]


def test_resolution_may_change_between_epochs(beton: Path) -> None:
    decoder = RandomResizedCrop((32, 32))
    loader = Loader(beton, 4, pipelines={"image": [decoder, ToTensor(), ToTorchImage()]})
    assert next(iter(loader)).image.shape[-1] == 32
    decoder.output_size = (48, 48)
    assert next(iter(loader)).image.shape[-1] == 48


def test_default_pipelines_of_a_file_of_one_size(tmp_path: Path) -> None:
    images = [np.full((8, 10, 3), i, np.uint8) for i in range(4)]
    path = tmp_path / "plain.beton"
    fields = {"image": RGBImageField("raw"), "label": IntField()}
    DatasetWriter(path, fields, num_workers=1).from_indexed_dataset(InMemory([(im, i) for i, im in enumerate(images)]))
    batch = next(iter(Loader(path, 4)))
    assert torch.equal(batch.image, torch.from_numpy(np.stack(images)))
    assert batch.label.tolist() == [[0], [1], [2], [3]]


def test_torch_modules_and_printing_the_plan(beton: Path) -> None:
    class Halve(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 0.5

    plain = [CenterCrop((16, 16), 1.0), NormalizeImage((0, 0, 0), (1, 1, 1), np.float32), ToTensor(), ToTorchImage()]
    loader = Loader(beton, 4, pipelines={"image": [*plain, Halve()], "b": plain}, custom_field_mapper={"b": "image"})
    batch = next(iter(loader))
    assert torch.equal(batch.image, batch.b * 0.5)
    assert "-> float32 [B, 3, H, W], channels last in memory -> python: Halve()" in str(loader.plan)


def wait_for_threads(count: int) -> int:
    for _ in range(200):
        gc.collect()
        alive = sum(thread.name == "ffcv-loader" for thread in threading.enumerate())
        if alive <= count:
            return alive
        time.sleep(0.02)
    return alive


def test_dropping_an_iterator_stops_its_thread(beton: Path) -> None:
    before = wait_for_threads(0)
    loader = two_views(beton, batch_size=1)
    iterator = iter(loader)
    next(iterator)
    del iterator
    assert wait_for_threads(before) == before
    iterator = iter(loader)
    next(iterator)
    iterator.close()
    assert wait_for_threads(before) == before
    with pytest.raises(StopIteration):
        next(iterator)


def test_a_corrupt_image_raises_in_the_consumer_and_names_the_sample(beton: Path, tmp_path: Path) -> None:
    content = bytearray(beton.read_bytes())
    starts = [i for i in range(len(content)) if content[i : i + 3] == b"\xff\xd8\xff"]
    assert len(starts) == COUNT
    content[starts[6] + 700 : starts[6] + 900] = b"\xff\xd9" * 100
    damaged = tmp_path / "damaged.beton"
    damaged.write_bytes(content)
    with pytest.raises(DecodeError, match=r"damaged\.beton: sample 6, field 'image'"):
        for _ in two_views(damaged, order=OrderOption.SEQUENTIAL):
            pass


def test_an_exception_of_a_users_module_reaches_the_consumer(beton: Path) -> None:
    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("my own bug")

    loader = Loader(beton, 4, pipelines={"image": [CenterCrop((16, 16), 1.0), ToTensor(), Broken()]})
    with pytest.raises(RuntimeError, match="my own bug"):
        next(iter(loader))


def test_a_specification_without_transforms_and_a_sampler_without_shuffling(beton: Path) -> None:
    spec = PipelineSpec("image", CROP[0], transforms=None)
    loader = Loader(beton, 2, pipelines={"image": spec}, sampler=[5, 3], shuffle=False)
    assert next(iter(loader)).label.flatten().tolist() == [5, 3]


def test_photo_samples_have_different_sizes() -> None:
    assert len({image.shape for image, _ in photo_samples(COUNT)}) > 5  # or the tests above would test little
