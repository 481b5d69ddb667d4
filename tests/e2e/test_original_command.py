"""The original's training command, through examples/train_ssl.py."""

from __future__ import annotations

import csv
import importlib.util
import math
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ffcv.fields import IntField, RGBImageField
from ffcv.ssl import config
from ffcv.writer import DatasetWriter

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "train_ssl.py"
VERBATIM = (
    "--config-file examples/rn50_configs/rn50_baseline.yaml --data.train_dataset=TRAIN.beton "
    "--data.val_dataset=VAL.beton --data.num_workers=10 --data.in_memory=1 --logging.folder FOLDER "
    "--training.batch_size 32 --training.epochs 100 --model.remove_head 0 --model.mlp 8192-8192-8192 --model.fc 0 "
    "--model.proj_relu 0 --training.loss simclr --dist.use_submitit 0 --training.optimizer adamw "
    "--training.base_lr 0.0005 0"
)
"""Of the original's README, on one line after `python examples/train_ssl.py`."""


@pytest.fixture(scope="module")
def script() -> Any:
    specification = importlib.util.spec_from_file_location("train_ssl", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["train_ssl"] = module
    specification.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def parsed(script: Any, line: str, gpus: int = 0) -> config.Config:
    values, _ = script.read(shlex.split(line))
    return config.parse(script.translate(values, gpus))


def test_the_verbatim_command_in_our_terms(script: Any) -> None:
    _, ignored = script.read(shlex.split(VERBATIM))
    assert ignored == []
    c = parsed(script, VERBATIM, gpus=8)
    assert (c.method, c.model.backbone, c.options.projector) == ("simclr", "resnet50", (8192, 8192, 8192))
    assert c.options.temperature == 0.5
    assert (c.data.train, c.data.val, c.data.num_workers, c.data.os_cache) == ("TRAIN.beton", "VAL.beton", 10, True)
    # 32 images a device, and the learning rate for 256 images a step; both as in the original.
    assert (c.training.epochs, c.training.devices, c.training.batch_size) == (100, 8, 256)
    assert (c.optim.name, c.optim.lr, c.optim.weight_decay, c.optim.warmup_epochs) == ("adamw", 0.0005, 1e-4, 10)
    assert c.optim.final_ratio == 0.001
    assert [c.views.size_at(epoch) for epoch in (0, 70, 78, 85, 99)] == [160, 160, 192, 192, 192]
    assert (c.views.size, c.views.centre_ratio, c.views.scale) == (256, 0.875, (0.08, 1.0))
    assert (c.views.blur, c.views.second_blur, c.views.solarize, c.views.second_solarize) == (1.0, 0.0, 0.0, 0.2)
    assert (c.logging.folder, c.resume) == ("FOLDER", "auto")


REQUIRED = "--data.train_dataset T --data.in_memory 1 --logging.folder F "


def test_defaults_are_the_originals(script: Any) -> None:
    c = parsed(script, REQUIRED)
    assert (c.training.epochs, c.training.batch_size, c.training.devices) == (30, 512, 1)
    assert c.options.projector == (2048, 512)
    assert [c.views.size_at(epoch) for epoch in (10, 20, 30)] == [64, 128, 224]
    assert (c.logging.checkpoint_every, c.evaluation.batch_size, c.data.val) == (5, 256, None)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("--training.loss vicreg --vicreg.std_coeff 10", {"variance": 5.0, "invariance": 25.0, "covariance": 1.0}),
        ("--training.loss barlow --barlow.lambd 0.1 --model.mlp 64-64-32", {"off_diagonal": 0.1}),
        ("--training.loss byol --byol.momentum_teacher 0.9", {"momentum": 0.9, "hidden": 2048}),
        ("--training.loss supervised --training.label_smoothing 0.2", {"smoothing": 0.2}),
        ("--model.remove_head 1", {"projector": ()}),
        ("--model.mlp 64-32 --model.mlp_coeff 0.5", {"projector": (32, 32)}),
    ],
)
def test_every_loss_has_its_options(script: Any, line: str, found: dict[str, Any]) -> None:
    options = parsed(script, REQUIRED + line).options
    assert {name: getattr(options, name) for name in found} == found


@pytest.mark.parametrize(
    ("line", "sides"),
    [
        ("--resolution.start_ramp 0 --resolution.end_ramp 0", {0: 64, 1: 224}),
        ("--resolution.end_ramp 5", {5: 64, 10: 64, 11: 224}),
    ],
)
def test_a_ramp_that_ends_where_it_starts_is_a_step(script: Any, line: str, sides: dict[int, int]) -> None:
    """As in the original's get_resolution: the smallest side up to start_ramp, whatever end_ramp is."""
    views = parsed(script, REQUIRED + line).views
    assert {epoch: views.size_at(epoch) for epoch in sides} == sides


def test_sgd_has_plain_momentum(script: Any) -> None:
    optim = parsed(script, REQUIRED + "--training.optimizer sgd --training.momentum 0.8").optim
    assert (optim.name, optim.momentum, optim.nesterov) == ("sgd", 0.8, False)
    assert parsed(script, REQUIRED).optim.nesterov  # as before: runs with AdamW that were begun then can go on


def test_a_cluster(script: Any) -> None:
    c = parsed(
        script, REQUIRED + "--dist.use_submitit 1 --dist.nodes 2 --dist.ngpus 4 --dist.timeout 60 --dist.partition p"
    )
    assert (c.dist.use_submitit, c.dist.nodes, c.dist.gpus_per_node) == (1, 2, 4)
    assert (c.dist.timeout_min, c.dist.partition) == (60, "p")
    assert c.training.batch_size == 8 * 512
    assert c.training.sync_batchnorm


def test_the_file_gives_way_to_the_command_line_and_dead_options_are_named(script: Any, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("lr: {lr: 1.7}\ntraining: {epochs: 7, optimizer: sgd, use_blurpool: 0}\n")
    line = f"{REQUIRED} --config-file {tmp_path}/c.yaml --training.epochs 9 --model.fc 1"
    values, ignored = script.read(shlex.split(line))
    assert (values["training.epochs"], values["training.optimizer"]) == (9, "sgd")
    assert ignored == ["lr.lr", "model.fc"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--training.epoch 3", r"no option 'training\.epoch'; did you mean training\.epochs"),
        ("--training.eval_only 1", "evaluate a trained encoder with 'ffcv eval"),
        ("--config-file nowhere.yaml", r"nowhere\.yaml: no such configuration file"),
        ("--resolution.min_res 300", r"min_res is above --resolution\.max_res"),
        ("--logging.folder=", r"--logging\.folder is required"),
        ("--model.mlp 2048-", r"--model\.mlp is widths such as 2048-512, got '2048-'"),
    ],
)
def test_mistakes_are_named(script: Any, line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        script.translate(script.read(shlex.split(REQUIRED + line))[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", r"c\.yaml: expected sections of options"),
        ("training: 5", r"c\.yaml: expected sections of options"),
        ("[x", r"c\.yaml: not a YAML file: .* line 1"),
        ("training: {epochs: many}", r"c\.yaml: training\.epochs must be of type int, got 'many'"),
        ("training: {epochs: [3]}", r"c\.yaml: training\.epochs must be of type int, got \[3\]"),
        ("training: {loss: simcrl}", r"training\.loss is one of simclr, vicreg, .*, got 'simcrl'"),
    ],
)
def test_mistakes_in_the_file_are_named(script: Any, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        script.read(shlex.split(f"{REQUIRED} --config-file {tmp_path}/c.yaml"))


def test_help_names_every_option(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        script.read(["--help"])
    text = capsys.readouterr().out
    assert [name for name in script.OPTIONS if f"--{name} " not in text] == []


def test_the_verbatim_command_trains(tmp_path: Path) -> None:
    """On noise, with a small encoder and small views, for one epoch; nothing else is changed."""
    for name in ("TRAIN", "VAL"):
        pixels = np.random.default_rng(len(name)).integers(0, 256, (64, 40, 40, 3), dtype=np.uint8)
        writer = DatasetWriter(tmp_path / f"{name}.beton", {"image": RGBImageField("raw"), "label": IntField()})
        writer.from_indexed_dataset([(image, i % 4) for i, image in enumerate(pixels)])
    line = VERBATIM.replace("TRAIN.beton", f"{tmp_path}/TRAIN.beton").replace("VAL.beton", f"{tmp_path}/VAL.beton")
    line = line.replace("FOLDER", f"{tmp_path}/run").replace("8192-8192-8192", "32-16")
    small = "--training.epochs 1 --model.arch convnet --resolution.min_res 32 --resolution.max_res 32 "
    command = [sys.executable, str(SCRIPT), *shlex.split(f"{line} {small} --validation.resolution 32")]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("ffcv train --method=simclr --model.backbone=convnet")
    with (tmp_path / "run" / "steps.csv").open(newline="") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)
    state = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert "backbone.layers.0.weight" in state["method"]
    saved = config.parse(["--config", str(tmp_path / "run" / "config.yaml")])
    assert (saved.training.epochs, saved.views.size) == (1, 32)
    assert (tmp_path / "run" / "epochs.csv").is_file()
