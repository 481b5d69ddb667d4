"""Accuracy against wall time on a GPU: a ResNet-18 on all 50,000 training images of CIFAR-10 (JPEG).

    python benchmarks/ssl_gpu.py                                the recipe simclr_cifar10_rn18, seed 0
    python benchmarks/ssl_gpu.py --recipe NAME --options --optim.lr 0.1
    python benchmarks/ssl_gpu.py --train train.beton --val test.beton --json FILE

Wall time is that of the whole training, from its first import of data to the last checkpoint: compiling, evaluations
and checkpoints included. The encoder is then judged on the archive's 5,000 test images by the protocols of `ffcv eval`.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from ffcv.cli.eval import EvalOptions, summarise
from ffcv.cores import available_cores
from ffcv.ssl import config
from ffcv.ssl.train import fit
from options import new_parser
from ssl_cifar import ARCHIVE, prepare

PROTOCOLS = {"knn": EvalOptions("knn"), "linear": EvalOptions("linear", crops=4)}


def measure(arguments: argparse.Namespace, train: Path, val: Path, folder: Path) -> dict[str, Any]:
    """Trains and judges; accuracies 0..1."""
    begin = time.perf_counter()
    settings = config.parse(
        [
            *("--recipe", arguments.recipe, "--data.train", str(train), "--data.val", str(val)),
            *("--seed", str(arguments.seed), "--logging.folder", str(folder), "--logging.progress", "false"),
            *arguments.options,
        ]
    )
    run = fit(settings)
    wall_s = time.perf_counter() - begin
    with (folder / "epochs.csv").open() as file:
        epochs = list(csv.DictReader(file))
    curve = [
        {name: float(row[name]) for name in ("epoch", "loss", "knn_accuracy", "val_probe_accuracy")}
        for row in epochs
        if row["knn_accuracy"]
    ]
    results: dict[str, Any] = {
        "GPU": torch.cuda.get_device_name(run.device),
        "CPU cores": available_cores(),
        "torch": torch.__version__,
        "recipe": arguments.recipe,
        "options": arguments.options,
        "seed": arguments.seed,
        "epochs": run.epochs,
        "wall_s": wall_s,
        "train_s": run.train_s,
        "images_per_s": run.images_per_s,
        "data_stall": sum(float(row["wait_s"]) for row in epochs) / sum(float(row["seconds"]) for row in epochs),
        "curve": curve,
    }
    save(results, arguments.json)
    for name, options in PROTOCOLS.items():
        begin = time.perf_counter()
        judged = summarise(folder, train, EvalOptions(**{**vars(options), "val": val}))
        results[name] = judged["results"]
        results[f"{name}_s"] = time.perf_counter() - begin
        save(results, arguments.json)
    return results


def save(results: dict[str, Any], path: Path | None) -> None:
    """What is known so far."""
    if path is not None:
        path.write_text(json.dumps(results, indent=1) + "\n")


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--data", type=Path, default=ARCHIVE, help="zip of train/CLASS/N.jpg and test/CLASS/N.jpg")
    parser.add_argument("--train", type=Path, help=".beton of the training images, instead of --data")
    parser.add_argument("--val", type=Path, help=".beton of the test images")
    parser.add_argument("--recipe", default="simclr_cifar10_rn18")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="that keeps the run; --options --resume auto goes on with it")
    parser.add_argument("--json", type=Path, help="where to save the figures")
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="of 'ffcv train'")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("torch finds no GPU here")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        train, val = arguments.train, arguments.val
        if train is None or val is None:
            if not arguments.data.is_file():
                sys.exit(f"{arguments.data}: no such archive; give one with --data, or --train and --val")
            train, val = (prepare(arguments.data, folder, part) for part in ("all", "test"))
        results = measure(arguments, train, val, arguments.folder or folder / "run")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
