"""What verifying checksums costs, in CPU time of an epoch.

    python benchmarks/checksums.py                  the photographs of ../shared/data, or scikit-learn's two

`first`: an epoch in which nothing has been verified yet, over later ones of the same loader (which still verify JPEGs).
`later`: those, over a loader of the same file without checksums; where nothing is verified any more, this is the noise.

The files are in the page cache, longer side 512. The three kinds of epochs take turns, with the same crops, on one
thread; each time is the least over the turns: what else runs on a machine only ever adds to it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ffcv import DatasetWriter, Loader, OrderOption
from ffcv.fields import Field, NDArrayField, RGBImageField
from ffcv.transforms import RandomHorizontalFlip, RandomResizedCrop, ToTensor, ToTorchImage
from options import new_parser
from workloads import prepare

CROP = [RandomResizedCrop((224, 224)), RandomHorizontalFlip(0.5), ToTensor(), ToTorchImage()]


def write(path: Path, field: Field, values: Sequence[object], checksums: bool) -> Path:
    dataset = [(value,) for value in values]
    DatasetWriter(path, {"x": field}, num_workers=1, checksums=checksums).from_indexed_dataset(dataset)
    return path


def loader_of(path: Path, pipeline: list | None) -> Loader:
    pipelines = None if pipeline is None else {"x": pipeline}
    return Loader(path, 50, order=OrderOption.RANDOM, seed=0, num_workers=1, drop_last=False, pipelines=pipelines)


def epoch(loader: Loader) -> float:
    """CPU seconds of the loader's first epoch, again."""
    loader.set_epoch(0)
    start = time.process_time()
    for _ in loader:
        pass
    return time.process_time() - start


def compare(verified: Loader, unverified: Loader, turns: int) -> tuple[float, float, float]:
    """CPU seconds of an epoch in which everything is verified, a later one, and one from a file without checksums."""
    times = []
    for _ in range(1 + turns):
        verified.plan.source.extents.verified[:] = False  # as in a new loader
        times.append((epoch(verified), epoch(verified), epoch(unverified)))
    first, later, without = np.min(times[1:], axis=0)  # the first turn finds no memory to use again
    return first, later, without


def main() -> None:
    parser = new_parser(__doc__, data=True, images=250, turns=25)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = prepare(arguments.data, folder, 512, arguments.images).files[: arguments.images]
        from PIL import Image

        pixels = [np.asarray(Image.open(file)) for file in files]
        jpegs = [Image.open(file) for file in files]
        arrays = [np.resize(image, (224, 224, 3)).astype(np.float32) for image in pixels]
        cases: dict[str, tuple[Field, Sequence[object], list | None]] = {
            "JPEG, one crop of 224": (RGBImageField("jpg"), jpegs, CROP),
            "raw image, one crop of 224": (RGBImageField("raw"), pixels, CROP),
            "half of either": (RGBImageField("proportion", compress_probability=0.5), pixels, CROP),
            "array of 224 x 224 x 3 float32": (NDArrayField(np.dtype(np.float32), (224, 224, 3)), arrays, None),
        }
        print("| | first | later | us an image, later |\n|---|---|---|---|")
        for number, (name, (field, values, pipeline)) in enumerate(cases.items()):
            paths = [write(folder / f"{number}-{on}.beton", field, values, on) for on in (True, False)]
            with loader_of(paths[0], pipeline) as verified, loader_of(paths[1], pipeline) as unverified:
                first, later, without = compare(verified, unverified, arguments.turns)
            each = later / len(values) * 1e6
            print(f"| {name} | {first / later - 1:+.1%} | {later / without - 1:+.1%} | {each:.0f} |", flush=True)


if __name__ == "__main__":
    main()
