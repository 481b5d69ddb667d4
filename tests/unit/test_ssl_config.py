"""The training configuration: recipes, overrides, round trip, and errors that say what to do."""

from __future__ import annotations

import pickle
import resource
from pathlib import Path

import pytest
import torch
from torch import nn

from ffcv.ssl import backbones, checkpoint, config, methods
from ffcv.ssl.config import ModelConfig, ViewConfig
from ffcv.ssl.errors import ConfigError


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
    "name", ["1e-3", "5E6", "+1e3", "1.5", "1.5e3", "2.e4", "1_0e3", "07", "on", "null", "2026-12-01", "a: b"]
)
def test_texts_that_look_like_something_else_survive_the_round_trip(name: str) -> None:
    """As a folder named after a learning rate."""
    parsed = config.parse(["--data.train", "X", "--logging.folder", name])
    assert parsed.logging.folder == name
    assert config.from_yaml(config.to_yaml(parsed)) == parsed


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--recipe resnet", "choose one of .*simclr_cifar10"),
        ("--data.train X --method simcrl", "unknown method 'simcrl': choose one of .*simclr"),
        ("--data.train X --optim.lrr 3", "did you mean --optim.lr"),
        ("--data.train X --lr 3", r"did you mean --optim\.lr,"),
        ("--data.train X --recipe simclr_cifar10 --recipe=byol_cifar10", "--recipe was given twice: choose one"),
        ("--data.train X --byol.momentum 0.9", "byol.momentum is an option of method byol, but the method is simclr"),
        (
            "--data.train X --recipe byol_cifar10 --method dino",
            "of method byol, but the method is dino: set --method byol",
        ),
        ("--data.train X --optim.name lion", "adamw.*sgd.*lars"),
        ("--data.train X --data.num_workers many", "data.num_workers"),
        ("--data.train X --training.batch_size 1", "training.batch_size must be 2 or more, got 1"),
        ("--data.train X --simclr.temperature 0", "temperature must be above 0"),
        ("--data.train X --views.flip 2", "views.flip is a probability"),
        (
            "--data.train X --views.size_schedule [[9,64],[3,96]]",
            r"must be \[\[epoch, side\], ...\] with epochs that rise",
        ),
        ("--data.train X --training.precision fp16", "32-true.*bf16-mixed.*16-mixed"),
        ("--data.train X --training.precision bf16-true", "32-true.*bf16-mixed.*16-mixed"),
        (
            "--data.train X --training.batch_size 32 --training.accumulate 3",
            "is no whole number: choose a multiple of 3",
        ),
        ("--data.train X --training.batch_size 8 --training.devices 8", "is one image, .* choose 16 or more"),
        ("--data.train X --optim.clip_norm 0", "optim.clip_norm must be above 0 or null"),
        ("--data.train X --dist.nodes 0", "dist.nodes must be above 0"),
        ("--data.train X --logging.checkpoint_every_steps -1", "checkpoint_every_steps must be 0 or more"),
        ("--data.train X --simclr.temperatur 1", "unrecognized arguments: .* did you mean --simclr.temperature"),
        ("--data.train X --model.depths [1,-1]", r"model\.depths must be numbers .*, got \[1, -1\]"),
        ("--data.train X --model.pretrained true", "convnet has no published weights"),
        ("--data.train X --model.small_images true", "convnet is for small images as it is"),
        ("--data.train X --seed -1", r"seed must be in \[0, 2\^63\), got -1"),
        (f"--data.train X --seed {10**30}", r"seed must be in \[0, 2\^63\)"),
        ("--data.train X --training.max_minutes -1", "training.max_minutes must be above 0 or null"),
        ("--data.train X --training.eval_every -1", "training.eval_every must be 0 or more"),
        ("--data.train X --optim.probe_lr -1", "optim.probe_lr must be 0 or more"),
        ("--data.train X --views.centre_ratio 2", "views.centre_ratio must be in"),
        ("", "data.train"),
    ],
)
def test_errors_are_one_line_and_helpful(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse(line)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", r"c\.yaml: expected options such as .*, got a list"),
        ("hello\n", r"c\.yaml: expected options such as .*, got a str"),
        ("method: [simclr\n", r"c\.yaml: not a YAML file \(.* line 1"),
        ("method: simcrl\n", "unknown method 'simcrl': choose one of .*simclr"),
        ("optimm:\n  lr: 1\n", r"'optimm\.lr' is not accepted; did you mean --optim\.lr,"),
        ("optim:\n  lrr: 1\n", r"'optim' does not accept option 'lrr'; did you mean --optim\.lr,"),
        ("simclr:\n  temp: 1\n", r"did you mean --simclr\.temperature,"),
        ("byol:\n  momentum: 0.9\n", r"byol\.momentum is an option of method byol, but the method is simclr"),
        ("optim: 5\n", r"optim: expected options such as 'optim: \{...\}', got 5"),
        ("optim:\n  name: lion\n", "adamw.*sgd.*lars"),
    ],
)
def test_mistakes_in_files_are_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        parse(f"--data.train X --config {tmp_path / 'c.yaml'}")
    assert "\n" not in str(caught.value)


def test_help_names_recipes_methods_and_the_methods_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse("--method dino --help")
    assert not end.value.code
    printed = capsys.readouterr().out
    for word in (*methods.names(), *config.recipes(), "--dino.teacher_temperature", "--views.size_schedule"):
        assert word in printed


def test_missing_config_file() -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml: no such configuration file"):
        parse("--config nowhere.yaml")


def test_convnet_states_its_width() -> None:
    network = backbones.build(ModelConfig(width=8, depths=(1, 2)))
    assert network(torch.zeros(2, 3, 20, 28)).shape == (2, network.num_features) == (2, 16)


def test_group_normalised_convnet_sees_each_image_alone() -> None:
    network = backbones.build(ModelConfig(width=16, depths=(1, 1), norm="group"))
    images = torch.randn(4, 3, 16, 16)
    torch.testing.assert_close(network(images)[:1], network(images[:1]))


def test_unknown_backbone() -> None:
    with pytest.raises(ValueError, match=r"'covnet': 'convnet' is built in, .*near: .*convnet"):
        backbones.build(ModelConfig(backbone="covnet"))


def test_sides_that_a_backbone_does_not_take_are_named() -> None:
    import torchvision_reference  # noqa: F401  (timm imports torchvision)

    pytest.importorskip("timm", reason="the package timm is not installed")
    vit = backbones.build(ModelConfig(backbone="test_vit"))
    views = ViewConfig(size=64, size_schedule=((0, 64), (3, 60)), num_local=1, local_size=32)
    assert views.sides(3) == {64, 32}
    backbones.require_sides(vit, views.sides(3))
    with pytest.raises(ConfigError, match=r"takes no images of 60 x 60 pixels: .* divisible by patch size"):
        backbones.require_sides(vit, views.sides(4))
    network = backbones.build(ModelConfig())
    with pytest.raises(ConfigError, match="takes no images of 1 x 1 pixels"):
        backbones.require_sides(network, {32, 1})
    network = nn.Conv2d(3, 8, 3)
    network.num_features = 8
    with pytest.raises(ConfigError, match=r"makes \[1, 8, 30, 30\] of one image, not \[1, 8\]"):
        backbones.require_sides(network, {32})


def test_backbones_of_timm_and_torchvision_by_name() -> None:
    import torchvision_reference  # noqa: F401  (timm imports torchvision)

    pytest.importorskip("timm", reason="the package timm is not installed")
    images = torch.randn(2, 3, 32, 32)
    vit = backbones.build(ModelConfig(backbone="test_vit"))
    assert vit(images).shape == (2, vit.num_features)
    assert vit(torch.randn(2, 3, 48, 48)).shape == (2, vit.num_features)
    resnet = backbones.build(ModelConfig(backbone="resnet18", small_images=True))
    assert resnet(images).shape == (2, 512)
    assert resnet.conv1.stride == (1, 1)
    shapes: list[torch.Size] = []
    resnet.layer1.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape))
    resnet(images)
    assert shapes == [(2, 64, 32, 32)]
    assert backbones.build(ModelConfig(backbone="regnet_y_400mf"))(images).shape == (2, 440)  # torchvision's alone
    with pytest.raises(ValueError, match=r"model\.small_images changes the stem of a ResNet"):
        backbones.build(ModelConfig(backbone="test_vit", small_images=True))


def test_further_layers_before_the_classifier_are_part_of_the_encoder() -> None:
    """timm's num_features is the width before them."""
    import torchvision_reference  # noqa: F401  (timm imports torchvision)

    pytest.importorskip("timm", reason="the package timm is not installed")
    network = backbones.build(ModelConfig(backbone="mobilenetv3_small_050"))
    backbones.require_sides(network, {64})
    assert network.num_features == 1024
    with pytest.raises(ConfigError, match=r"'squeezenet1_0' has no linear classifier to take off: choose a classifier"):
        backbones.build(ModelConfig(backbone="squeezenet1_0"))


def test_synchronised_normalisations_keep_their_activations() -> None:
    import torchvision_reference  # noqa: F401  (timm imports torchvision)

    pytest.importorskip("timm", reason="the package timm is not installed")
    torch.manual_seed(0)
    network = nn.Sequential(backbones.build(ModelConfig(backbone="test_efficientnet")), nn.BatchNorm1d(256)).eval()
    images = torch.randn(2, 3, 64, 64)
    before = network(images)
    backbones.synchronise_batchnorm(network)
    assert torch.equal(network(images), before)
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) > 2
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)


def test_sides_of_a_size_schedule() -> None:
    """The original's ramp: 160 to epoch 10, 224 from epoch 30, in steps of 32 between."""
    views = ViewConfig(size=224, size_schedule=((10, 160), (30, 224)))
    assert [views.size_at(epoch) for epoch in (0, 10, 14, 15, 16, 20, 24, 25, 26, 30, 99)] == [
        *(160, 160, 160, 192, 192, 192, 192, 192, 224, 224, 224)
    ]
    assert {ViewConfig(size=32).size_at(epoch) for epoch in range(9)} == {32}


def test_checkpoint_is_old_or_new_but_never_half(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    checkpoint.save(path, {"epoch": 1, "weights": {"a": torch.arange(3)}})
    with pytest.raises((AttributeError, TypeError, RuntimeError)):
        checkpoint.save(path, {"epoch": lambda: 2})
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]
    state = checkpoint.load(path)
    assert state["epoch"] == 1
    assert torch.equal(state["weights"]["a"], torch.arange(3))


def test_a_full_disk_is_named_and_costs_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    checkpoint.save(path, {"epoch": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(OSError, match=r"File too large \(not saved\): '.*/last\.ckpt'"):
            checkpoint.save(path, {"epoch": 2, "weights": torch.zeros(1 << 20)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]
    assert checkpoint.load(path)["epoch"] == 1


def test_unreadable_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        checkpoint.load(tmp_path / "none.ckpt")
    path = tmp_path / "text.ckpt"
    path.write_text("hello")
    with pytest.raises(ValueError, match=r"text\.ckpt: not a readable checkpoint"):
        checkpoint.load(path)
    # Without torch's advice to load it in the unsafe way.
    for unsafe in (b"method: simclr\n", pickle.dumps(Path("."), protocol=2)):
        path.write_bytes(unsafe)
        with pytest.raises(ValueError, match=r"text\.ckpt: not a readable checkpoint: something else") as caught:
            checkpoint.load(path)
        assert "weights" not in str(caught.value)
    torch.save({"format": 99}, path)
    with pytest.raises(ValueError, match="format 99"):
        checkpoint.load(path)
