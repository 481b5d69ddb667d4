"""Every method trains from a real `.beton`; one with a teacher resumes to the bit."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ffcv.fields import IntField, RGBImageField
from ffcv.ssl import config, methods
from ffcv.ssl.errors import ConfigError
from ffcv.ssl.train import fit
from ffcv.writer import DatasetWriter

pytestmark = pytest.mark.filterwarnings(
    # lightning-fabric, on machines with a GPU when the run is on the CPU
    "ignore:GPU available but not used"
)

SMALL = {
    "barlow": ["--barlow.projector", "[16, 8]"],
    "byol": ["--byol.projector", "[16, 8]", "--byol.hidden", "16"],
    "dino": ["--dino.head", "[16, 8]", "--dino.num_scores", "12"],
    "lejepa": ["--lejepa.projector", "[16, 8]", "--lejepa.num_directions", "8"],
    "mocov3": ["--mocov3.projector", "[16, 8]", "--mocov3.hidden", "16"],
    "nnclr": ["--nnclr.projector", "[16, 8]", "--nnclr.hidden", "16", "--nnclr.queue", "20"],
    "simclr": ["--simclr.projector", "[16, 8]"],
    "simsiam": ["--simsiam.projector", "[16, 8]", "--simsiam.hidden", "4"],
    "supervised": [],
    "swav": ["--swav.projector", "[16, 8]", "--swav.num_prototypes", "12"],
    "vicreg": ["--vicreg.projector", "[16, 8]"],
}


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 images of 16x16 random pixels in four classes."""
    path = tmp_path_factory.mktemp("data") / "noise.beton"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    writer = DatasetWriter(str(path), {"image": RGBImageField("raw"), "label": IntField()}, num_workers=1)
    writer.from_indexed_dataset([(image, i % 4) for i, image in enumerate(pixels)])
    return path


def configuration(noise: Path, folder: Path, name: str, *extra: str) -> config.Config:
    return config.parse(
        [
            *("--recipe", f"{name}_cifar10", "--data.train", str(noise), "--logging.folder", str(folder)),
            *("--data.num_workers", "1", "--data.held_out", "0.2", "--views.size", "16", "--views.local_size", "8"),
            *("--model.width", "8", "--model.depths", "[1]", "--training.batch_size", "16", "--training.epochs", "1"),
            *("--training.accelerator", "cpu", "--training.precision", "32-true", "--training.eval_every", "1"),
            *("--logging.progress", "false", "--optim.warmup_epochs", "0", *SMALL[name], *extra),
        ]
    )


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_method_is_here() -> None:
    assert sorted(SMALL) == methods.names()


@pytest.mark.parametrize("name", SMALL)
def test_every_method_trains_and_moves_its_weights(name: str, noise: Path, tmp_path: Path) -> None:
    settings = configuration(noise, tmp_path, name)
    run = fit(settings)
    steps = rows(tmp_path / "steps.csv")
    assert len(steps) == 2  # 32 images, batches of 16
    assert all(math.isfinite(float(row["loss"])) for row in steps)
    assert 0 < float(steps[-1]["feature_spread"]) <= 1
    assert rows(tmp_path / "epochs.csv")[0]["knn_accuracy"] != ""
    torch.manual_seed(settings.seed)
    method: Any = methods.load(name)
    from ffcv.ssl import backbones

    fresh = method(backbones.build(settings.model), settings.options)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["method"]
    assert list(saved) == list(fresh.state_dict())
    still = [
        key
        for key, parameter in fresh.named_parameters()
        if parameter.requires_grad and torch.equal(parameter, saved[key])
    ]
    # Their last layers keep still for the first hundredth of the training, here the first step, then move.
    assert still == []
    assert run.backbone is not None


@pytest.mark.parametrize("name", ["dino", "nnclr"])
def test_resuming_restores_teacher_centre_and_queue(name: str, noise: Path, tmp_path: Path) -> None:
    """One epoch, then a resumed second one, against two epochs at once."""
    extra = ("--training.epochs", "2", "--training.eval_every", "0", "--logging.checkpoint_every", "1")
    whole = configuration(noise, tmp_path / "whole", name, *extra)
    fit(whole)
    halted = replace(
        whole,
        logging=replace(whole.logging, folder=str(tmp_path / "halted")),
        training=replace(whole.training, max_minutes=1e-9),
    )
    fit(halted)
    path = tmp_path / "halted" / "last.ckpt"
    assert torch.load(path, weights_only=True)["epoch"] == 1
    torch.manual_seed(123)
    fit(replace(halted, resume="auto", training=whole.training))
    expected, found = (torch.load(tmp_path / n / "last.ckpt", weights_only=True)["method"] for n in ("whole", "halted"))
    assert {"dino": "centre", "nnclr": "queue.rows"}[name] in expected
    assert any(key.startswith("teacher.") for key in expected) is (name == "dino")
    assert list(expected) == list(found)
    assert [key for key in expected if not torch.equal(expected[key], found[key])] == []
    assert rows(tmp_path / "whole" / "steps.csv") == rows(tmp_path / "halted" / "steps.csv")


@pytest.mark.parametrize(
    ("name", "extra", "message"),
    [
        ("supervised", ["--data.label", "null"], r"needs labels: name their field with --data\.label"),
        ("supervised", ["--supervised.num_classes", "3"], "set --supervised.num_classes to 4 or more"),
        ("vicreg", ["--views.num_local", "2"], "VICReg takes no local views"),
    ],
)
def test_what_does_not_fit_stops_before_training(
    name: str, extra: list[str], message: str, noise: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        fit(configuration(noise, tmp_path / "run", name, *extra))
    assert not (tmp_path / "run").exists()
