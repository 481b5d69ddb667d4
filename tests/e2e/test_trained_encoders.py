"""Trained encoders: loaded from checkpoints, exported, and loaded elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from command_line import command
from digits import SIDE, configuration
from ffcv.ssl import config, history, trained
from ffcv.ssl.backbones import ConvNet
from ffcv.ssl.config import ModelConfig
from ffcv.ssl.errors import ConfigError
from ffcv.ssl.train import fit

pytestmark = pytest.mark.filterwarnings(
    # lightning-fabric, on machines with a GPU when the run is on the CPU
    "ignore:GPU available but not used"
)


def test_checkpoints_that_cannot_be_read_say_why(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "run" / "last.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    state = torch.load(folder / "run" / "last.ckpt", weights_only=True)
    later = {**state, "version": "9.0", "config": state["config"].replace("width: 8", "breadth: 8")}
    torch.save(later, tmp_path / "later.ckpt")
    torch.save({**state, "format": 99}, tmp_path / "format.ckpt")
    torch.save({"format": state["format"], "weights": 1}, tmp_path / "other.ckpt")
    for name, message in {
        "cut.ckpt": "not a readable checkpoint",
        "later.ckpt": r"written by ffcv-ssl 9\.0, which ffcv-ssl .* cannot read .*breadth.*; use that version",
        "format.ckpt": "checkpoint format 99",
        "other.ckpt": "not a checkpoint of 'ffcv train', it has format, weights",
    }.items():
        with pytest.raises(ConfigError, match=message):
            trained.load(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        trained.load(tmp_path)


def test_of_dino_the_teacher_is_kept(folder: Path, tmp_path: Path) -> None:
    line = (
        f"--recipe dino_cifar10 --data.train {folder / 'train.beton'} --data.num_workers 1 --logging.folder {tmp_path} "
        f"--views.size {SIDE} --views.local_size 8 --model.width 8 --dino.head [16,8] --dino.num_scores 12 "
        "--training.epochs 1 --training.batch_size 64 --training.accelerator cpu --training.precision 32-true "
        "--training.eval_every 1 --training.cpu_threads 1 --logging.progress false"
    )
    run = fit(config.parse(line.split()))
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["method"]
    images = torch.randn(3, 3, SIDE, SIDE)
    encoder = trained.load(tmp_path).encoder
    assert torch.equal(encoder(images), run.backbone.eval()(images))
    first = next(iter(encoder.state_dict()))
    assert torch.equal(encoder.state_dict()[first], state[f"teacher.network.0.{first}"])
    assert not torch.equal(encoder.state_dict()[first], state[f"backbone.{first}"])
    # The online probe learns on the student's features, and says nothing of the teacher's.
    assert not {"val_probe_accuracy", "val_probe_top5"} & history.read(tmp_path).epochs.keys()


def test_a_checkpoint_of_compiled_encoders_is_like_any_other(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without making machine code; what torch.compile wraps, and how the weights in it are called, is the same."""
    compiled: list[object] = []

    def front_end(function: Callable[..., object], **options: object) -> Callable[..., object]:
        compiled.append(function)
        return compile(function, backend="eager")

    compile = torch.compile
    monkeypatch.setattr(torch, "compile", front_end)
    train, test = folder / "train.beton", folder / "test.beton"
    dino = ("--views.local_size", "8", "--dino.head", "[16,8]", "--dino.num_scores", "12", "--training.epochs", "1")
    states, judged = [], []
    for value in ("false", "true"):
        run = fit(configuration(train, tmp_path / value, *dino, "--training.compile", value, recipe="dino_cifar10"))
        states.append(torch.load(tmp_path / value / "last.ckpt", weights_only=True)["method"])
        said = command("eval", tmp_path / value, train, "--val", test, "--k", 5, "--json", capsys=capsys)
        judged.append(json.loads(said)["results"][0]["top1"])
        images = torch.randn(3, 3, SIDE, SIDE)
        assert torch.equal(trained.load(tmp_path / value).encoder(images), run.backbone.eval().forward(images))
    assert len(compiled) == 2  # the encoder and its teacher
    assert list(states[0]) == list(states[1])
    torch.testing.assert_close(states[1], states[0], rtol=1e-3, atol=1e-4)
    assert judged[1] == pytest.approx(judged[0], abs=0.02)
    out = tmp_path / "encoder.safetensors"
    command("export", tmp_path / "true", out, capsys=capsys)
    assert list(trained.load(out).encoder.state_dict()) == list(trained.load(tmp_path / "false").encoder.state_dict())


def test_exported_weights_come_back(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from safetensors import safe_open

    out = tmp_path / "encoder.safetensors"
    said = command("export", folder / "run", out, capsys=capsys)
    found, again = trained.load(folder / "run"), trained.load(out)
    assert f"{found.num_features} features" in said
    images = torch.randn(3, 3, SIDE, SIDE)
    assert torch.equal(found.encoder(images), again.encoder(images))
    assert (again.config, again.epochs) == (found.config, 3)
    with safe_open(out, framework="pt") as file:
        metadata = file.metadata()
        plain = ConvNet(8, found.config.model.depths)
        plain.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    # Another memory layout, another order of sums.
    torch.testing.assert_close(plain.eval()(images), found.encoder(images))
    assert json.loads(metadata["input_size"]) == [3, SIDE, SIDE]
    assert json.loads(metadata["mean"]) == pytest.approx([v / 255 for v in found.config.views.mean], abs=1e-6)
    assert metadata["architecture"] == "convnet"
    out.write_bytes(out.read_bytes()[:100])
    with pytest.raises(ConfigError, match="not a readable safetensors file"):
        trained.load(out)


def test_timm_loads_what_was_exported_of_its_models(folder: Path, tmp_path: Path) -> None:
    import torchvision_reference  # noqa: F401  (makes torchvision, and with it timm, importable)

    timm = pytest.importorskip("timm", reason="timm is not installed")
    from ffcv.ssl.export import export

    found = trained.load(folder / "run")
    settings = config.Config(
        found.config.data,
        options=found.config.options,
        model=ModelConfig(backbone="test_resnet"),
        views=found.config.views,
    )
    encoder = timm.create_model("test_resnet", num_classes=0).eval()
    export(trained.Trained(encoder, settings, 1, tmp_path), tmp_path / "resnet.safetensors")
    theirs = timm.create_model(
        "test_resnet", num_classes=0, checkpoint_path=str(tmp_path / "resnet.safetensors")
    ).eval()
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(theirs(images), encoder(images))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of onnxscript and torch's exporter, about themselves
def test_onnx_gives_the_same_features(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    out = tmp_path / "encoder.onnx"
    said = command("export", folder / "run", out, capsys=capsys)
    assert "onnxruntime's outputs differ from torch's by" in said
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    encoder = trained.load(folder / "run").encoder
    for batch in (1, 5):
        images = torch.randn(batch, 3, SIDE, SIDE)
        (found,) = session.run(["features"], {"images": images.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), encoder(images).detach(), rtol=1e-4, atol=1e-4)
    assert session.get_modelmeta().custom_metadata_map["architecture"] == "convnet"
    with pytest.raises(ConfigError, match="ONNX files are for other programs"):
        trained.load(out)


def test_export_refuses_other_endings(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = command("export", folder / "run", tmp_path / "encoder.pt", capsys=capsys, fails=True)
    assert "must end in .safetensors or .onnx" in error
    assert list(tmp_path.iterdir()) == []
