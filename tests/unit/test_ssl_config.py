"""The training configuration: recipes, overrides, round trip, and errors that say what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ffcv.ssl import backbones, checkpoint, config, methods
from ffcv.ssl.config import ModelConfig


def parse(line: str) -> config.Config:
    return config.parse(line.split())


def test_recipe_then_overrides_in_order() -> None:
    parsed = parse("--recipe simclr_cifar10 --data.train X.beton --optim.lr 3e-3 --simclr.temperature=0.5")
    assert parsed.views.size == 32
    assert (parsed.optim.lr, parsed.options.temperature) == (3e-3, 0.5)
    assert parse("--recipe=simclr_digits --data.train X --data.label null").data.label is None


@pytest.mark.parametrize("recipe", config.recipes())
def test_every_recipe_is_complete_and_survives_the_round_trip(recipe: str, tmp_path: Path) -> None:
    parsed = parse(f"--recipe {recipe} --data.train X.beton --seed 3")
    (tmp_path / "config.yaml").write_text(config.to_yaml(parsed))
    assert parse(f"--config {tmp_path}/config.yaml") == parsed
    assert parsed.method in methods.names()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--recipe resnet", "choose one of .*simclr_cifar10"),
        ("--data.train X --method simcrl", "unknown method 'simcrl': choose one of .*simclr"),
        ("--data.train X --optim.lrr 3", "did you mean --optim.lr"),
        ("--data.train X --optim.name lion", "adamw.*sgd.*lars"),
        ("--data.train X --data.num_workers many", "data.num_workers"),
        ("--data.train X --training.batch_size 1", "training.batch_size must be 2 or more, got 1"),
        ("--data.train X --simclr.temperature 0", "temperature must be above 0"),
        ("--data.train X --views.flip 2", "views.flip is a probability"),
        ("", "data.train"),
    ],
)
def test_errors_are_one_line_and_helpful(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse(line)
    assert "\n" not in str(caught.value)


def test_missing_config_file() -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml: no such configuration file"):
        parse("--config nowhere.yaml")


def test_convnet_states_its_width() -> None:
    network = backbones.build(ModelConfig(width=8, depths=(1, 2)))
    assert network(torch.zeros(2, 3, 20, 28)).shape == (2, network.num_features) == (2, 16)


def test_unknown_backbone() -> None:
    with pytest.raises(ValueError, match="'resnet1000': 'convnet' is built in"):
        backbones.build(ModelConfig(backbone="resnet1000"))


def test_checkpoint_is_old_or_new_but_never_half(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    checkpoint.save(path, {"epoch": 1, "weights": {"a": torch.arange(3)}})
    with pytest.raises((AttributeError, TypeError, RuntimeError)):
        checkpoint.save(path, {"epoch": lambda: 2})
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]
    state = checkpoint.load(path)
    assert state["epoch"] == 1
    assert torch.equal(state["weights"]["a"], torch.arange(3))


def test_unreadable_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        checkpoint.load(tmp_path / "none.ckpt")
    path = tmp_path / "text.ckpt"
    path.write_text("hello")
    with pytest.raises(ValueError, match=r"text\.ckpt: not a readable checkpoint"):
        checkpoint.load(path)
    torch.save({"format": 99}, path)
    with pytest.raises(ValueError, match="format 99"):
        checkpoint.load(path)
