"""Feeding a GPU: what the loader delivers to it, what augmenting there takes, and whether training waits.

    python benchmarks/gpu.py                        photographs of ../shared/data, or scikit-learn's two
    python benchmarks/gpu.py --parts deliver stage  some of it
    python benchmarks/gpu.py --json FILE

deliver: images/s of two SimCLR views of 224 pixels (P2 of benchmarks/views.py) that arrive in the GPU's memory, as
    float32 and as bfloat16, nothing else running on it.
stage: the same views with everything after crop and flip behind ToDevice: images/s of the loader as a whole, and
    milliseconds of the GPU for a batch (CUDA events) in its operations.
train: SimCLR with a ResNet-50 (bf16, batch 256): images/s and the share of the time that the GPU waits for data, in
    each epoch but the first.
"""

from __future__ import annotations

import csv
import io
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
import ffcv.transforms as T
from ffcv import DatasetWriter, Loader, OrderOption, _core
from ffcv.cores import available_cores
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.rgb_image import EncodedImage
from ffcv.ssl import config
from ffcv.ssl.train import fit
from options import new_parser
from workloads import MEAN, STD, read_photos

BATCH = 256
COLOUR = (T.RandomColorJitter(0.8, 0.4, 0.4, 0.2, 0.1), T.RandomGrayscale(0.2))
BLUR = T.GaussianBlur(0.5, 23, (0.1, 2.0))


def prepare(data: Path | None, path: Path, count: int, longer_side: int = 512) -> None:
    """A `.beton` of `count` JPEGs of `longer_side` and quality 90, each photograph as often as needed."""
    jpegs = []
    for photo in read_photos(data):
        image = Image.open(io.BytesIO(photo)).convert("RGB")
        image.thumbnail((longer_side, longer_side))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=90)
        jpegs.append(EncodedImage(buffer.getvalue(), image.height, image.width))

    class Repeated:
        def __len__(self) -> int:
            return count

        def __getitem__(self, index: int) -> tuple[EncodedImage, int]:
            return jpegs[index % len(jpegs)], index % 10

    fields = {"image": RGBImageField("jpg"), "label": IntField()}
    DatasetWriter(path, fields, num_workers=1).from_indexed_dataset(Repeated())


def loader(path: Path, view: list[Any], solarize_at: int) -> Loader:
    """Two such views of each image, the second solarised as well, at that place of its pipeline."""
    second = [*view[:solarize_at], T.RandomSolarization(0.2, 128), *view[solarize_at:]]
    return Loader(
        path,
        BATCH,
        order=OrderOption.RANDOM,
        seed=0,
        pipelines={"image": view, "image2": second, "label": None},
        custom_field_mapper={"image2": "image"},
    )


def rate(batches: Loader) -> float:
    """Source images/s that arrive, of the second epoch."""
    for _ in batches:
        pass
    torch.cuda.synchronize()
    begin, images = time.perf_counter(), 0
    for batch in batches:
        images += len(batch[0])
    torch.cuda.synchronize()
    return images / (time.perf_counter() - begin)


def deliver(path: Path) -> dict[str, float]:
    figures = {}
    pixels = [T.RandomResizedCrop((224, 224)), T.RandomHorizontalFlip(0.5), *COLOUR]
    for name, dtype in (("float32", np.float32), ("bfloat16", torch.bfloat16)):
        normalize, move = T.NormalizeImage(MEAN, STD, dtype), T.ToDevice("cuda")
        for where, tail in (
            (f"{name} from the core", [T.ToTensor(), normalize, T.ToTorchImage(), move]),
            (f"uint8 from the core, {name} on the GPU", [T.ToTensor(), move, T.ToTorchImage(), normalize]),
        ):
            with loader(path, [*pixels, *tail], len(pixels)) as batches:
                figures[f"{where}, images/s"] = rate(batches)
    return figures


def stage(path: Path) -> dict[str, float]:
    last = T.NormalizeImage(MEAN, STD, np.float32)
    crop = [T.RandomResizedCrop((224, 224)), T.RandomHorizontalFlip(0.5), T.ToTensor(), T.ToDevice("cuda")]
    figures = {}
    for name, operations in (("colour", COLOUR), ("colour and blur", (*COLOUR, BLUR))):
        view = [*crop, T.ToTorchImage(), *operations, last]
        with loader(path, view, len(view) - 1) as batches:
            figures[f"{name} on the GPU, images/s"] = rate(batches)
    images = torch.randint(0, 256, (BATCH, 3, 224, 224), dtype=torch.uint8, device="cuda")
    sizes = np.full((BATCH, 2), 224)
    for name, transform in (("jitter", COLOUR[0]), ("gray", COLOUR[1]), ("blur 23", BLUR)):
        u = _core.uniforms(0, 0, 0, np.arange(BATCH), max(1, transform.draws))[:, : transform.draws]
        params = transform.sample(u, sizes)
        figures[f"{name}, ms a batch of {BATCH}"] = milliseconds(lambda t=transform, p=params: t.apply_torch(images, p))
    figures[f"normalise, ms a batch of {BATCH}"] = milliseconds(lambda: last(images))
    return figures


def milliseconds(work: Any, times: int = 20) -> float:
    """Median of the GPU's time for `work`."""
    taken = []
    for _ in range(times):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        end.synchronize()
        taken.append(begin.elapsed_time(end))
    return float(np.median(taken[2:]))


def train(path: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "recipe": "simclr_imagenet_rn50",
            "data.train": path,
            "data.held_out": 0,
            "logging.folder": folder,
            "logging.progress": "false",
            "training.batch_size": BATCH,
            "training.epochs": 4,
            "training.eval_every": 0,
        }
        fit(config.parse([word for name, value in options.items() for word in (f"--{name}", str(value))]))
        with (Path(folder) / "epochs.csv").open() as file:
            rows = list(csv.DictReader(file))[1:]
    figures = {f"{name}, epochs 2 to 4": float(np.mean([float(row[name]) for row in rows])) for name in ("data_stall",)}
    return figures | {"images/s, epochs 2 to 4": float(np.mean([float(row["images_per_s"]) for row in rows]))}


PARTS = {"deliver": deliver, "stage": stage, "train": train}


def main() -> None:
    parser = new_parser(__doc__, data=True, images=8192)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--json", type=Path, help="where to save the figures")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("torch finds no GPU here")
    results: dict[str, Any] = {"GPU": torch.cuda.get_device_name(), "CPU cores": available_cores()}
    print(results)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photos.beton"
        prepare(arguments.data, path, arguments.images)
        for part in arguments.parts:
            results[part] = PARTS[part](path)
            for name, figure in results[part].items():
                print(f"{part}: {name}: {figure:,.3g}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
