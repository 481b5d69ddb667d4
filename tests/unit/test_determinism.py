"""The determinism matrix: what may change without changing a bit.

`pytest tests/unit/test_determinism.py -s` prints it.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffcv import Loader, OrderOption
from ffcv.fields.basics import IntDecoder
from ffcv.transforms import (
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

COUNT, GLOBAL_BATCH, EPOCH = 53, 24, 1

pytestmark = pytest.mark.filterwarnings("ignore:the last global batch has")  # of 5 samples for 8 ranks


def view(*more: Any) -> list:
    first = [RandomResizedCrop((40, 40)), RandomHorizontalFlip(0.5), RandomColorJitter(0.8, 0.4, 0.4, 0.2, 0.1)]
    last = [NormalizeImage((123, 116, 103), (58, 57, 57), np.float32), ToTensor(), ToTorchImage()]
    return [*first, RandomGrayscale(0.2), *more, *last]


def loader_of(path: Path, world_size: int = 1, rank: int = 0, **options: Any) -> Loader:
    settings = {
        "batch_size": GLOBAL_BATCH // world_size,
        "order": OrderOption.RANDOM,
        "seed": 7,
        "num_workers": 2,
        "drop_last": False,
        "pipelines": {"image": view(), "image2": view(RandomSolarization(0.5)), "label": LABEL},
        "custom_field_mapper": {"image2": "image"},
        "rank": rank,
        "world_size": world_size,
    }
    loader = Loader(path, **(settings | options))
    loader.set_epoch(EPOCH)
    return loader


LABEL = [IntDecoder(), ToTensor(), Squeeze(1)]
Samples = list[tuple[int, str]]


def hashes(batch: Any) -> Samples:
    """(sample, hash of its two views), in the batch's order."""
    found = []
    for index, one, two in zip(batch.label.tolist(), batch.image, batch.image2, strict=True):
        pixels = one.contiguous().numpy().tobytes() + two.contiguous().numpy().tobytes()
        found.append((index, hashlib.blake2b(pixels, digest_size=8).hexdigest()))
    return found


def flat(parts: Iterable[Samples]) -> Samples:
    return [sample for part in parts for sample in part]


def epoch_of(path: Path, world_size: int = 1, state: dict | None = None, **options: Any) -> list[Samples]:
    """The global batches of an epoch, put together from all ranks."""
    parts = []
    for rank in range(world_size):
        with loader_of(path, world_size, rank, **options) as loader:
            if state is not None:
                loader.load_state_dict(state)
            parts.append([hashes(batch) for batch in loader])
    return [flat(part[i] for part in parts if i < len(part)) for i in range(max(map(len, parts)))]


def settings() -> Iterator[tuple[str, dict[str, Any]]]:
    for threads in (1, 2, 4, 8):
        yield f"threads {threads}", {"num_workers": threads}
    for world_size in (1, 2, 3, 4, 8):
        yield f"ranks {world_size}", {"world_size": world_size}
        yield (
            f"ranks {world_size}, os_cache=False, threads 4",
            {
                "world_size": world_size,
                "os_cache": False,
                "num_workers": 4,
            },
        )
    yield "batches_ahead 1", {"batches_ahead": 1}
    yield "on_error replace", {"on_error": "replace"}


def test_the_matrix(beton: Path) -> None:
    reference = epoch_of(beton)
    assert [len(batch) for batch in reference] == [24, 24, 5]
    by_sample = dict(flat(reference))
    assert len(set(by_sample.values())) == COUNT
    lines = []
    for name, options in settings():
        same = epoch_of(beton, **options) == reference
        lines.append(f"{name:45} global batches {'the same' if same else 'DIFFER'}")
    for batch_size in (1, 5, 7, 50, 64):
        same = flat(epoch_of(beton, batch_size=batch_size)) == flat(reference)
        lines.append(f"{f'batch size {batch_size}':45} samples and order {'the same' if same else 'DIFFER'}")
    for order in (OrderOption.SEQUENTIAL, OrderOption.QUASI_RANDOM):
        same = dict(flat(epoch_of(beton, order=order))) == by_sample
        lines.append(f"{f'order {order.name}':45} every sample {'the same' if same else 'DIFFERS'}")
    lines += resume_lines(beton, reference)
    print("\n" + "\n".join(lines))
    assert not [line for line in lines if "DIFFER" in line]


def resume_lines(beton: Path, reference: list[Samples]) -> list[str]:
    lines = []
    following = loader_of(beton)
    following.set_epoch(EPOCH + 1)
    next_epoch = flat(hashes(batch) for batch in following)
    running = loader_of(beton, batch_size=8)
    iterator = iter(running)
    for step in range(1, len(running) + 1):
        next(iterator)
        state = running.state_dict()
        left = flat(reference)[8 * step :]
        for world_size, options in (
            (1, {"batch_size": 8}),
            (3, {"batch_size": 5, "os_cache": False}),
            *((ranks, {"batch_size": 16 // ranks}) for ranks in (2, 4, 8)),
        ):
            same = flat(epoch_of(beton, world_size, state, **options)) == (left or next_epoch)
            name = f"resumed after step {step} onto {world_size} ranks"
            what = "the rest" if left else "the next epoch"
            lines.append(f"{name:45} {what} {'the same' if same else 'DIFFERS'}")
    iterator.close()
    return lines


def test_other_seeds_and_epochs_differ(beton: Path) -> None:
    reference = dict(flat(epoch_of(beton)))
    other_seed = dict(flat(epoch_of(beton, seed=8)))
    loader = loader_of(beton)
    loader.set_epoch(0)
    other_epoch = dict(sample for batch in loader for sample in hashes(batch))
    for other in (other_seed, other_epoch):
        assert other.keys() == reference.keys()
        assert sum(other[key] == reference[key] for key in reference) == 0
