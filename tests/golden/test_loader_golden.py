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
from ffcv.fields import IntField, RGBImageField
from ffcv.random import RNG_VERSION, permute
from ffcv.transforms import RandomHorizontalFlip, RandomResizedCrop

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
    view = [RandomResizedCrop((32, 32)), RandomHorizontalFlip(0.5)]
    batches = Loader(path, 8, seed=5, shuffle=True, pipelines={"image": view})
    found["view"] = digest(np.concatenate([batch.image for batch in batches]))
    return found


def test_orders_and_views_are_those_of_the_release(tmp_path: Path) -> None:
    kept = json.loads(HASHES.read_text())
    assert compute(tmp_path) == kept[str(RNG_VERSION)]


if __name__ == "__main__":
    everything = json.loads(HASHES.read_text()) if HASHES.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        everything[str(RNG_VERSION)] = compute(Path(scratch))
    HASHES.write_text(json.dumps(everything, indent=1) + "\n")
