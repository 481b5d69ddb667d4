"""From images to a trained encoder: writes a .beton file, trains SimCLR on it, and says what was learned.

    make demo                 scikit-learn's handwritten digits: 1,797 images, 10 labels a class
    make demo DATA=FOLDER     your images, one sub-folder a class, all labels

A fixed share of the images is held out: the encoder never sees them, and every accuracy is measured on them alone.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

# Before torch is imported: threads that wait sleep, so that a busy machine slows the demo down but does not stall it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from ffcv import DatasetWriter, Loader
from ffcv.data.folder import ImageFolder
from ffcv.errors import OUR_ERRORS, FfcvError
from ffcv.fields import IntField, RGBImageField
from ffcv.ssl import config, evaluate, views
from ffcv.ssl.config import Config
from ffcv.ssl.train import fit
from ffcv.ssl.trial import epochs_within
from ffcv.transforms import ToTensor

SIZE = 32  # pixels: side of the digits as written; photographs are kept up to four times as long
console = Console(highlight=False, soft_wrap=True)


class Digits:
    """scikit-learn's 8x8 digits, scaled up. They are real scans: https://archive.ics.uci.edu/dataset/80"""

    def __init__(self) -> None:
        from sklearn.datasets import load_digits

        images, self.labels = load_digits(return_X_y=True)
        self.images = (images.reshape(-1, 8, 8) * (255 / 16)).round().astype(np.uint8)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        image = Image.fromarray(self.images[index]).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        return image.convert("RGB"), int(self.labels[index])


def main() -> None:
    """Runs the demo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="FOLDER", help="images with one sub-folder a class")
    parser.add_argument("--out", default="demo", metavar="FOLDER", help="where results go (%(default)s)")
    parser.add_argument("--minutes", type=float, help="most to train for (3; with --data 5)")
    parser.add_argument("--epochs", type=int, help="passes over the images (the recipe's, or what fits)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    try:
        demo(arguments)
    except (*OUR_ERRORS, OSError) as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        sys.exit(1)


def demo(arguments: argparse.Namespace) -> None:
    """Write, look, train, compare."""
    out = Path(arguments.out)
    data = ImageFolder(arguments.data) if arguments.data else Digits()
    out.mkdir(parents=True, exist_ok=True)
    beton = out / "images.beton"
    write(data, beton)

    settings = configure(arguments, beton, len(data))
    train, held_out = evaluate.parts(settings)
    console.print(
        f"1. wrote {beton}: {len(data):,} images, {beton.stat().st_size / 2**20:.1f} MiB; {len(train):,} to "
        f"train on, {len(held_out):,} held out (drawn with seed {settings.seed})"
    )
    picture = out / "views.png"
    draw_views(settings, picture)
    console.print(f"2. drew augmented views: {picture} (left: the image; then five views of it)")

    minutes = arguments.minutes or (5 if arguments.data else 3)
    settings = fit_into(settings, minutes, arguments.epochs)
    epochs = settings.training.epochs
    console.print(f"3. training {settings.method}: {epochs} epochs, seed {settings.seed}, two views an image")
    run = fit(settings)
    console.print(
        f"   trained {run.epochs} of {epochs} epochs in {run.train_s / 60:.1f} minutes at "
        f"{run.images_per_s:,.0f} images/s; wrote {run.checkpoint}"
    )
    console.print("4. comparing what the representations know about the classes")
    scores = evaluate.compare(run.backbone, run.parts, settings, run.device)
    console.print(evaluate.table(scores, run.parts, settings, run.images_per_s))
    console.print(f"augmented views: {picture.resolve()}")


def write(data: Digits | ImageFolder, path: Path) -> None:
    """Converts a dataset of (image, label). Small JPEG files are kept as they are; large images are shrunk."""
    fields = {"image": RGBImageField("jpg", max_resolution=4 * SIZE, jpeg_quality=95), "label": IntField()}
    DatasetWriter(path, fields, backend="thread").from_indexed_dataset(data)


def configure(arguments: argparse.Namespace, beton: Path, number: int) -> Config:
    """The recipe that fits the data, with a batch that leaves several steps in an epoch."""
    recipe, held_out = ("simclr_cifar10", 0.2) if arguments.data else ("simclr_digits", 0.3)
    settings = config.parse(
        [
            *("--recipe", recipe, "--data.train", str(beton), "--data.held_out", str(held_out)),
            *("--logging.folder", str(beton.parent / "run"), "--logging.overwrite", "true"),
            *("--seed", str(arguments.seed)),
        ]
    )
    batch = settings.training.batch_size
    while batch > number * (1 - held_out) / 4:
        batch //= 2
    if batch < 4:
        raise FfcvError(f"{arguments.data}: {number} images are too few to learn from; give it 20 or more")
    return replace(settings, training=replace(settings.training, batch_size=batch))


def fit_into(settings: Config, minutes: float, epochs: int | None) -> Config:
    """The recipe's epochs, or as many as a short trial says will fit into `minutes`.

    Should the machine become slower afterwards, training stops at the end of an epoch.
    """
    training = settings.training
    if epochs is not None:
        return replace(settings, training=replace(training, epochs=epochs, max_minutes=minutes))
    shorter, rate = epochs_within(settings, minutes)
    if (epochs := shorter.training.epochs) < training.epochs:
        console.print(f"   {rate:,.0f} images/s: {epochs} of the recipe's {training.epochs} epochs fit in time")
    return shorter


def draw_views(settings: Config, path: Path, rows: int = 8, columns: int = 5, cell: int = 96) -> None:
    """A sheet of images (left) and their random views, as training sees them before normalising."""
    indices = evaluate.parts(settings)[0].indices
    chosen = indices[np.linspace(0, len(indices) - 1, rows).astype(int)]
    names = [f"view{i}" for i in range(columns)]
    loader = Loader(
        settings.data.train,
        rows,
        seed=settings.seed,
        indices=chosen,
        pipelines={
            "image": [*views.centre(settings.views)[:1], ToTensor()],
            "label": None,
            **{name: [*views.distort(settings.views), ToTensor()] for name in names},
        },
        custom_field_mapper=dict.fromkeys(names, "image"),
    )
    batch = next(iter(loader))
    gap = 4
    sheet = Image.new("RGB", ((columns + 1) * (cell + gap) + 2 * gap, rows * (cell + gap)), "white")
    for column, view in enumerate(batch):
        for row, pixels in enumerate(view.numpy()):
            image = Image.fromarray(pixels).resize((cell, cell), Image.Resampling.NEAREST)
            sheet.paste(image, (column * (cell + gap) + 2 * gap * (column > 0), row * (cell + gap)))
    sheet.save(path)


if __name__ == "__main__":
    main()
