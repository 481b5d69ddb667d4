"""What every method learns from 10,000 CIFAR-10 images (JPEG) in five minutes on two cores.

    python benchmarks/ssl_cifar.py                             every method, seed 0; writes benchmarks/results/*.json
    python benchmarks/ssl_cifar.py --methods byol dino --seed 1
    python benchmarks/ssl_cifar.py --tune --epochs 8           judged on images of the training set, not of the test set

Each method trains with its recipe METHOD_cifar10 on the first 1,000 training images of every class, in a process of
its own with two computing threads, for five minutes at most: a short trial, which counts, says how many of the recipe's
epochs fit. The k-NN and the linear probe learn on the features of
those 10,000 images with their labels and are judged on the archive's 5,000 test images, which nothing else looks at:
the recipes were tuned with --tune, where 2,000 other training images take their place. 'random' is the same network
before training, judged in the same way; 'gain' is in points of the linear probe. CPU seconds are the training
process's with its loader's threads, without the evaluation.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from rich.console import Console
from rich.table import Table

from ffcv.cli.write import WriteOptions, write
from ffcv.ssl import backbones, config, evaluate, methods
from ffcv.ssl.train import fit
from ffcv.ssl.trial import epochs_within
from options import new_parser

ARCHIVE = Path(__file__).parents[2] / "shared" / "data" / "cifar10-jpeg.zip"
PARTS = {
    "train": ("train", slice(0, 1000)),
    "tune": ("train", slice(1000, 1200)),
    "all": ("train", slice(None)),
    "test": ("test", slice(None)),
}


@dataclass(frozen=True)
class Row:
    """One method's result; accuracies 0..1, times in seconds."""

    method: str
    recipe: str
    seed: int
    epochs: int
    cpu_s: float
    wall_s: float
    knn: float
    linear: float
    random_knn: float
    random_linear: float
    spread: float

    @property
    def gain(self) -> float:
        """Points of the linear probe over random initialisation."""
        return 100 * (self.linear - self.random_linear)


def prepare(archive: Path, folder: Path, part: str) -> Path:
    """The part's images as a `.beton` file in `folder`."""
    root, chosen = PARTS[part]
    with zipfile.ZipFile(archive) as images:
        names = sorted(name for name in images.namelist() if name.startswith(f"{root}/") and name.endswith(".jpg"))
        for kind in sorted({Path(name).parent.name for name in names}):
            for name in [n for n in names if Path(n).parent.name == kind][chosen]:
                target = folder / part / kind / Path(name).name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(images.read(name))
    write(str(folder / part), folder / f"{part}.beton", WriteOptions())
    return folder / f"{part}.beton"


def train_one(method: str, train: Path, val: Path, arguments: argparse.Namespace) -> Row:
    """Trains in this process and judges what came out."""
    recipe = f"{method}_cifar10"
    with tempfile.TemporaryDirectory() as folder:
        settings = config.parse(
            [
                *("--recipe", recipe, "--data.train", str(train), "--data.val", str(val)),
                *("--data.num_workers", "1", "--training.cpu_threads", str(arguments.threads)),
                *("--training.eval_every", "0", "--training.accelerator", "cpu"),
                *("--seed", str(arguments.seed)),
                *("--logging.folder", folder, "--logging.progress", "false"),
                *arguments.options,
            ]
        )
        wall, cpu = time.perf_counter(), time.process_time()
        epochs, minutes = arguments.epochs, arguments.minutes
        if epochs is None:
            settings = epochs_within(settings, minutes).config
        else:
            settings = replace(settings, training=replace(settings.training, epochs=epochs, max_minutes=minutes))
        run = fit(settings)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        last = (Path(folder) / "epochs.csv").read_text().splitlines()
        spread = dict(zip(last[0].split(","), last[-1].split(","), strict=True))["feature_spread"]
        torch.manual_seed(arguments.seed)  # as `fit` does: the weights that the training began with
        untrained = backbones.channels_last(backbones.build(settings.model))
        trained, random = (evaluate.assess(e, run.parts, settings, run.device) for e in (run.backbone, untrained))
    accuracies = (trained.knn, trained.linear, random.knn, random.linear)
    return Row(method, recipe, arguments.seed, run.epochs, round(cpu, 1), round(wall, 1), *accuracies, float(spread))


def table(rows: list[Row]) -> Table:
    """The rows as a table."""
    headings = ("method", "epochs", "CPU s", "wall s", "k-NN %", "linear %", "random k-NN %", "random linear %", "gain")
    result = Table()
    for heading in headings:
        result.add_column(heading, justify="left" if heading == "method" else "right")
    for r in rows:
        shares = (r.knn, r.linear, r.random_knn, r.random_linear)
        cells = (str(r.epochs), f"{r.cpu_s:.0f}", f"{r.wall_s:.0f}", *(f"{100 * share:.1f}" for share in shares))
        result.add_row(r.method, *cells, f"{r.gain:+.1f}")
    return result


def main() -> None:
    """Runs the methods one after the other."""
    parser = new_parser(__doc__)
    parser.add_argument("--data", type=Path, default=ARCHIVE, help="zip of train/CLASS/N.jpg and test/CLASS/N.jpg")
    parser.add_argument("--methods", nargs="+", default=methods.names(), choices=methods.names(), metavar="METHOD")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="instead of the recipe's, or of as many as fit")
    parser.add_argument("--minutes", type=float, default=5, help="most to train one method for (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="that torch computes with (%(default)s)")
    parser.add_argument("--tune", action="store_true", help="judge on other training images, not on the test images")
    parser.add_argument("--out", type=Path, help="JSON (benchmarks/results/DATE-ssl-cifar-seed-N.json)")
    parser.add_argument("--one", nargs=2, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="of 'ffcv train', for all methods")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(asdict(train_one(arguments.methods[0], *arguments.one, arguments))))
        return
    if not arguments.data.is_file():
        sys.exit(f"{arguments.data}: no such archive; give one with --data")

    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        files = [
            str(prepare(arguments.data, Path(scratch), part))
            for part in ("train", "tune" if arguments.tune else "test")
        ]
        for method in arguments.methods:
            command = [sys.executable, __file__, "--one", *files, "--methods", method, *_same(arguments)]
            result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            rows.append(Row(**json.loads(result.stdout.splitlines()[-1])))
            print(f"{method}: gain {rows[-1].gain:+.1f}", flush=True)
    Console(width=120).print(table(rows))
    if not arguments.tune:
        stem = f"{date.today()}-ssl-cifar-seed-{arguments.seed}.json"
        path = arguments.out or Path(__file__).parent / "results" / stem
        path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
        print(path)


def _same(arguments: argparse.Namespace) -> list[str]:
    """The arguments that a method's own process needs."""
    epochs = ("--epochs", str(arguments.epochs)) if arguments.epochs else ()
    options = ("--options", *arguments.options) if arguments.options else ()
    same = ("--seed", str(arguments.seed), "--minutes", str(arguments.minutes), "--threads", str(arguments.threads))
    return [*same, *epochs, *options]


if __name__ == "__main__":
    main()
