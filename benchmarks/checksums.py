"""What verifying checksums costs: CPU time of an epoch from a file with checksums over one from the same file without.

    python benchmarks/checksums.py                  the photographs of ../shared/data, or scikit-learn's two

Both files are in the page cache, longer side 512. `first` is a loader's first epoch, `later` the epochs after it. Turns
alternate; the figures are medians over turns, on one thread.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ffcv import DatasetWriter, Loader
from ffcv.fields import Field, NDArrayField, RGBImageField
from ffcv.transforms import RandomHorizontalFlip, RandomResizedCrop, ToTensor, ToTorchImage
from options import new_parser
from workloads import prepare

CROP = [RandomResizedCrop((224, 224)), RandomHorizontalFlip(0.5), ToTensor(), ToTorchImage()]
EPOCHS = 3


def write(path: Path, field: Field, values: Sequence[object], checksums: bool) -> Path:
    dataset = [(value,) for value in values]
    DatasetWriter(path, {"x": field}, num_workers=1, checksums=checksums).from_indexed_dataset(dataset)
    return path


def epochs(path: Path, pipeline: list | None) -> tuple[float, float]:
    """CPU seconds of a new loader's first epoch, and of a later one."""
    pipelines = None if pipeline is None else {"x": pipeline}
    with Loader(path, 50, shuffle=True, seed=0, num_workers=1, drop_last=False, pipelines=pipelines) as loader:
        times = []
        for _ in range(1 + EPOCHS):
            start = time.process_time()
            for _ in loader:
                pass
            times.append(time.process_time() - start)
    return times[0], statistics.median(times[1:])


def main() -> None:
    parser = new_parser(__doc__, data=True, images=250, turns=9)
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
        print("| | first epoch | later ones | us an image, later |\n|---|---|---|---|")
        for number, (name, (field, values, pipeline)) in enumerate(cases.items()):
            paths = [write(folder / f"{number}-{on}.beton", field, values, on) for on in (True, False)]
            turns = [[epochs(path, pipeline) for path in paths] for _ in range(arguments.turns)]
            first, later = (statistics.median(w[i] / wo[i] - 1 for w, wo in turns) for i in (0, 1))
            each = statistics.median(w[1] for w, _ in turns) / len(values) * 1e6
            print(f"| {name} | {first:+.1%} | {later:+.1%} | {each:.0f} |", flush=True)


if __name__ == "__main__":
    main()
