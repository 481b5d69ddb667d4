"""Orders and views of each release, as hashes: changing one is a deliberate act.

Whoever means to change a random stream or an order raises `ffcv.random.RNG_VERSION`, says so in CHANGELOG.md, and adds
the new hashes with `PYTHONPATH=tests python tests/golden/test_loader_golden.py`.
"""

import hashlib
import json
import tempfile
from pathlib import Path

import numpy as np

from datasets import InMemory
from ffcv import DatasetWriter, Loader, OrderOption
from ffcv.fields import BytesField, IntField, RGBImageField
from ffcv.random import RNG_VERSION, permute
from ffcv.reader import Reader
from ffcv.transforms import (
    CenterCrop,
    GaussianBlur,
    RandomColorJitter,
    RandomErasing,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomSolarization,
    RandomTranslate,
    Rotate,
)

VIEWS = {
    "view": [RandomResizedCrop((32, 32)), RandomHorizontalFlip(0.5)],
    "colours": [
        RandomResizedCrop((32, 32)),
        RandomColorJitter(0.8, 0.4, 0.4, 0.2, 0.1),
        RandomGrayscale(0.2),
        RandomSolarization(0.2, 128),
    ],
    "blur": [CenterCrop((48, 48), 1.0), GaussianBlur(0.5, 9, (0.1, 2.0))],
    "geometry": [CenterCrop((48, 48), 1.0), Rotate(0.5, 0.3), RandomErasing(0.5), RandomTranslate(5)],
}
HASHES = Path(__file__).with_name("loader_hashes.json")


def digest(array: np.ndarray) -> str:
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).hexdigest()


def compute(folder: Path) -> dict[str, str]:
    """Raw images made by arithmetic, so that no library takes part."""
    y, x = np.mgrid[:60, :80]
    images = [np.stack([x * 3 + i, y * 4, x + y * i], axis=2).astype(np.uint8) for i in range(40)]
    path = folder / "golden.beton"
    writer = DatasetWriter(path, {"image": RGBImageField("raw"), "label": IntField()}, num_workers=1)
    writer.from_indexed_dataset(InMemory([(image, i) for i, image in enumerate(images)]))
    found = {"permute": digest(permute(1, 2, 3, 10**9, np.arange(1000)))}
    for order in OrderOption:
        loader = Loader(path, 8, seed=5, order=order, pipelines={"image": None})
        found[order.name] = digest(np.concatenate([batch.label.numpy() for _ in range(2) for batch in loader]))
    for name, view in VIEWS.items():
        batches = Loader(path, 8, seed=5, shuffle=True, pipelines={"image": view})
        found[name] = digest(np.concatenate([batch.image for batch in batches]))
    for rank in range(2):
        options: dict = {"rank": rank, "world_size": 2, "drop_last": False, "pipelines": {"image": None}}
        loader = Loader(path, 3, seed=5, order=OrderOption.SEQUENTIAL_CONTIGUOUS, **options)
        found[f"SEQUENTIAL_CONTIGUOUS, rank {rank} of 2"] = digest(np.concatenate([batch.label for batch in loader]))
    return found | compute_pages(folder)


def compute_pages(folder: Path) -> dict[str, str]:
    """Eight samples on each of eight pages, in the file's order and not."""
    path = folder / "pages.beton"
    writer = DatasetWriter(path, {"bytes": BytesField(), "label": IntField()}, page_size=1 << 21, num_workers=1)
    writer.from_indexed_dataset(InMemory([(np.zeros(250_000, np.uint8), i) for i in range(64)]))
    assert len(np.unique(Reader(path).metadata["bytes"]["ptr"] // np.uint64(1 << 21))) == 8
    options: dict = {"order": OrderOption.QUASI_RANDOM, "order_kwargs": {"pages_in_flight": 3}, "drop_last": False}
    found = {}
    for name, indices in (("pages", None), ("pages of indices", [*range(60, 3, -2), *range(1, 64, 2)])):
        loader = Loader(path, 8, seed=5, indices=indices, pipelines={"bytes": None}, **options)
        found[name] = digest(np.concatenate([batch.label for _ in range(2) for batch in loader]))
    return found


def test_orders_and_views_are_those_of_the_release(tmp_path: Path) -> None:
    kept = json.loads(HASHES.read_text())
    assert compute(tmp_path) == kept[str(RNG_VERSION)]


if __name__ == "__main__":
    everything = json.loads(HASHES.read_text()) if HASHES.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        everything[str(RNG_VERSION)] = compute(Path(scratch))
    HASHES.write_text(json.dumps(everything, indent=1) + "\n")
