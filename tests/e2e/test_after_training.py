"""What is done with a trained encoder: judged, exported, reported on; from one short run on real digits."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

import two_processes
from ffcv import DatasetWriter
from ffcv.cli.main import main
from ffcv.fields import IntField, RGBImageField
from ffcv.ssl import config, evaluate, history, interrupt, methods, pictures, protocols, trained
from ffcv.ssl.backbones import ConvNet
from ffcv.ssl.config import ModelConfig
from ffcv.ssl.errors import ConfigError
from ffcv.ssl.probes import OnlineProbes
from ffcv.ssl.train import fit

pytestmark = pytest.mark.filterwarnings(
    # lightning-fabric, on machines with a GPU when the run is on the CPU
    "ignore:GPU available but not used"
)

SIDE = 16


def write_digits(path: Path, first: int, last: int) -> None:
    images, labels = load_digits(return_X_y=True)
    pixels = (images[first:last] * 15.9375).astype(np.uint8).reshape(-1, 8, 8).repeat(2, axis=1).repeat(2, axis=2)
    rgb = np.repeat(pixels[..., None], 3, axis=3)
    writer = DatasetWriter(str(path), {"image": RGBImageField("raw"), "label": IntField()}, num_workers=1)
    writer.from_indexed_dataset([(image, int(label)) for image, label in zip(rgb, labels[first:last], strict=True)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.beton (400 digits), test.beton (200) and the run of a small SimCLR on the former."""
    folder = tmp_path_factory.mktemp("digits")
    write_digits(folder / "train.beton", 0, 400)
    write_digits(folder / "test.beton", 400, 600)
    line = (
        f"--recipe simclr_digits --data.train {folder / 'train.beton'} --data.held_out 0.2 --logging.folder "
        f"{folder / 'run'} --views.size {SIDE} --model.width 8 --data.num_workers 1 --training.batch_size 64 "
        "--training.epochs 3 --training.accelerator cpu --training.precision 32-true --training.eval_every 2 "
        "--logging.progress false --optim.lr 0.01 --optim.warmup_epochs 1 --training.cpu_threads 1"
    )
    fit(config.parse(line.split()))
    return folder


def command(*arguments: object, capsys: pytest.CaptureFixture[str], fails: bool = False) -> str:
    """What the command prints: stdout, or stderr where it fails, as it then must."""
    capsys.readouterr()
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        assert bool(end.code) is fails, capsys.readouterr().err  # noqa: PT017
    printed = capsys.readouterr()
    return printed.err if fails else printed.out


def features(folder: Path) -> tuple[Any, Any, Any, Any]:
    """Features and labels of the training and the test file, as numpy arrays."""
    found = trained.load(folder / "run")
    arrays = []
    for name in ("train.beton", "test.beton"):
        part = evaluate.Part(str(folder / name), np.arange(400 if name == "train.beton" else 200))
        arrays += [t.numpy() for t in evaluate.extract(found.encoder, part, found.config, torch.device("cpu"))]
    return tuple(arrays)  # type: ignore[return-value]


def test_the_run_kept_its_online_figures(folder: Path) -> None:
    epochs = history.read(folder / "run").epochs
    layers = {f"probe_layer{i}_{measure}" for i in (1, 2) for measure in ("accuracy", "top5")}
    assert layers | {"probe_accuracy", "probe_top5", "online_knn_accuracy", "rank_me", "data_stall"} <= epochs.keys()
    assert np.isfinite(epochs["knn_accuracy"]).tolist() == [False, True, False]
    assert np.isfinite(epochs["val_probe_top5"]).tolist() == [False, True, False]
    assert (epochs["probe_top5"] > epochs["probe_accuracy"]).all()
    assert epochs["online_knn_accuracy"][-1] > 0.2
    assert (epochs["rank_me"] > 1).all()


def _held_out(path: str, rank: int) -> dict[str, torch.Tensor]:
    """Accuracies of a network with fixed weights whose running statistics differ between ranks."""
    settings = config.parse(
        ["--recipe", "simclr_digits", "--data.train", path, "--views.size", str(SIDE), "--data.num_workers", "1"]
    )
    torch.manual_seed(0)
    method = methods.load("simclr")(ConvNet(8, (1,)), settings.options).train()
    for module in method.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean += 0.1 * rank  # type: ignore[operator]
    probe = OnlineProbes(method.num_features, [], 10)
    figures = evaluate.held_out(method, probe, settings, torch.device("cpu"))
    assert method.training
    assert probe.training
    return {name: torch.tensor(value) for name, value in figures.items()}


def test_two_processes_share_the_held_out_images_and_judge_what_rank_0_saves(folder: Path, tmp_path: Path) -> None:
    path = str(folder / "train.beton")
    alone = _held_out(path, 0)
    assert list(alone) == ["knn_accuracy", "val_probe_accuracy", "val_probe_top5"]
    for figures in two_processes.run(functools.partial(_held_out, path), tmp_path):
        assert {name: float(value) for name, value in figures.items()} == {n: float(v) for n, v in alone.items()}


def _stopped_in_evaluation(path: str, rank: int) -> torch.Tensor:
    """How many of its 180 batches this rank saw, and whether there are figures; rank 1 gets a signal at its third."""
    seen = 0

    def encode(images: torch.Tensor) -> torch.Tensor:
        nonlocal seen
        seen += 1
        if rank == 1 and seen == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return images.mean((2, 3))

    settings = config.parse(
        ["--recipe", "simclr_digits", "--data.train", path, "--data.num_workers", "1", "--evaluation.batch_size", "1"]
    )
    method = methods.load("simclr")(ConvNet(8, (1,)), settings.options)
    method.backbone.forward = encode  # type: ignore[method-assign]
    probe, device = OnlineProbes(3, [], 10), torch.device("cpu")
    with interrupt.StopSignals() as signals:
        figures = signals.unless_stopped(
            lambda: evaluate.held_out(method, probe, settings, device, signals.watched)  # type: ignore[arg-type]
        )
    return torch.tensor([seen, figures is not None])


def test_a_signal_to_one_process_ends_the_evaluation_of_all(folder: Path, tmp_path: Path) -> None:
    for found in two_processes.run(functools.partial(_stopped_in_evaluation, str(folder / "train.beton")), tmp_path):
        assert found.tolist() == [interrupt.LOOK_EVERY, False]


def test_processes_may_have_different_numbers_of_batches(tmp_path: Path) -> None:
    for rank, seen in enumerate(two_processes.run(_watched, tmp_path)):
        assert seen.tolist() == list(range(16 + rank))


def _watched(rank: int) -> torch.Tensor:
    return torch.tensor(list(interrupt.StopSignals().watched(range(16 + rank))))


def test_knn_is_scikit_learns(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = command("eval", folder / "run", folder / "train.beton", "--val", folder / "test.beton", "--k", 7, "--json",
                   capsys=capsys)  # fmt: skip
    x, y, test, wanted = features(folder)
    reference = KNeighborsClassifier(7, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07))
    expected = reference.fit(x, y).score(test, wanted)
    summary = json.loads(said)
    assert summary["results"][0]["top1"] == pytest.approx(expected, abs=0.005)
    assert summary["results"][0]["top1"] > 0.5
    assert summary["results"][0]["top5"] > summary["results"][0]["top1"]
    assert (summary["train_labels"], summary["test_images"], summary["classes"]) == (400, 200, 10)


@pytest.mark.parametrize("protocol", ["linear", "logreg"])
def test_linear_protocols_come_out_where_scikit_learn_does(
    protocol: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = command("eval", folder / "run", folder / "train.beton", "--val", folder / "test.beton", "--protocol",
                   protocol, "--json", capsys=capsys)  # fmt: skip
    x, y, test, wanted = features(folder)
    mean, std = x.mean(0), x.std(0)
    best = max(
        LogisticRegression(C=c, max_iter=2000).fit((x - mean) / std, y).score((test - mean) / std, wanted)
        for c in (0.01, 0.1, 1.0)
    )
    assert json.loads(said)["results"][0]["top1"] == pytest.approx(best, abs=0.05)


def test_without_val_the_images_that_training_held_out_are_judged(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = command("eval", folder / "run", folder / "train.beton", "--k", 5, "--json", capsys=capsys)
    found = trained.load(folder / "run" / "last.ckpt")
    train, test = (
        evaluate.extract(found.encoder, part, found.config, torch.device("cpu"))
        for part in evaluate.parts(found.config)
    )
    expected = protocols.knn(
        protocols.Labelled(train[0][None], train[1]),
        protocols.Labelled(test[0][None], test[1]),
        protocols.Options(k=(5,)),
    )
    assert json.loads(said)["results"][0]["top1"] == expected[0].top1
    assert json.loads(said)["test_images"] == 80


def test_judging_on_images_that_the_encoder_saw_is_said(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, test = folder / "train.beton", folder / "test.beton"
    line = (
        f"--recipe simclr_digits --data.train {train} --data.val {test} --logging.folder {tmp_path} "
        f"--views.size {SIDE} --model.width 8 --data.num_workers 1 --training.batch_size 64 --training.epochs 1 "
        "--training.eval_every 0 --training.accelerator cpu --logging.progress false --training.cpu_threads 1"
    )
    fit(config.parse(line.split()))
    for arguments, noted in (((), True), (("--val", test), False)):
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main(["eval", str(tmp_path), str(train), *map(str, arguments)])
        assert not end.value.code
        assert ("note: the encoder was trained on all images of this file" in capsys.readouterr().err) is noted


def test_few_labels_and_crops(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("eval", folder / "run", folder / "train.beton", "--val", folder / "test.beton", "--few-shot", 0.1)
    table = command(*arguments, "--protocol", "logreg", "--crops", 2, capsys=capsys)
    assert "40 labels" in table
    assert "top-5 %" in table
    said = [command(*arguments, "--seed", seed, "--json", capsys=capsys) for seed in (0, 0, 1)]
    assert said[0] == said[1]
    assert json.loads(said[0])["results"] != json.loads(said[2])["results"]


def test_penalty_and_rate_are_chosen_without_the_test_images() -> None:
    """Other test labels change the accuracy, never what is chosen."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(1, 60, 8, generator=generator), torch.arange(60) % 3
    x[0, :, 0] += y
    test = torch.randn(1, 30, 8, generator=generator)
    for protocol in (protocols.linear, protocols.logreg):
        settings = [
            protocol(protocols.Labelled(x, y), protocols.Labelled(test, labels), protocols.Options(epochs=5))[0].setting
            for labels in (torch.arange(30) % 3, torch.zeros(30, dtype=torch.int64))
        ]
        assert settings[0] == settings[1]


@pytest.mark.parametrize("name", protocols.PROTOCOLS)
def test_protocols_work_with_one_label_a_class_and_with_one_class(name: str) -> None:
    x = torch.eye(4)[None]
    for labels in (torch.arange(4), torch.zeros(4, dtype=torch.int64)):
        data = protocols.Labelled(x, labels)
        result = protocols.protocol(name)(data, data, protocols.Options(k=(1,), epochs=20))[0]
        assert (result.top1, result.top5) == (1.0, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--protocol", "svm"], "unknown protocol 'svm': choose one of knn, linear, logreg"),
        (["--few-shot", "2"], "--few-shot is a share"),
        (["--crops", "1"], "--crops is 0 or more, for linear and logreg"),
        (["--label", "target"], "has no field 'target' but image, label"),
        (["--val", "nowhere.beton"], "nowhere.beton: no such file"),
        (["--device", "toaster"], "no device 'toaster' here"),
    ],
)
def test_eval_says_what_is_wrong(
    arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = command("eval", folder / "run", folder / "train.beton", *arguments, capsys=capsys, fails=True)
    assert message in error
    assert error.count("\n") == 1


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


def test_the_report_is_one_file_with_everything(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.html"
    command("report", folder / "run", "--out", out, "--images", 60, capsys=capsys)
    text = out.read_text()
    for heading in (
        "simclr · convnet",
        "3 of 3 epochs",
        "data stall",
        "k-NN, held-out",
        "RankMe",
        "Of 60 held-out images",
        "Nearest neighbours",
        "epochs: 3",
        torch.__version__,
    ):
        assert heading in text
    # Loss, three accuracies, collapse, throughput; each is sound XML.
    svgs = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(svgs) == 6
    assert all(ET.fromstring(svg).tag.endswith("svg") for svg in svgs)
    # The map and 8 queries with 5 neighbours; nothing is fetched from elsewhere.
    sources = re.findall(r'src="([^"]{0,30})', text)
    assert len(sources) == 1 + 8 * 6
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r'(src|href)="(http|//)', text)


def test_the_sheet_shows_the_nearest(folder: Path) -> None:
    found = trained.load(folder / "run")
    sample = pictures.draw_sample(found, 50, 0, torch.device("cpu"))
    assert set(sample.part.indices) <= set(evaluate.parts(found.config)[1].indices)
    for row in pictures.nearest(sample.unit, 8, 5, seed=0):
        query, *others = row.images
        cosine = (sample.unit @ sample.unit[query]).numpy()
        expected = [i for i in np.argsort(-cosine) if i != query][:5]
        np.testing.assert_allclose(cosine[others], cosine[expected], rtol=1e-5)
        np.testing.assert_allclose(row.cosines, cosine[expected], rtol=1e-5)


def test_principal_components_are_scikit_learns() -> None:
    from sklearn.decomposition import PCA

    x = np.random.default_rng(0).normal(size=(40, 6)) * [5, 3, 1, 1, 1, 1]
    points, shares = pictures.principal_components(torch.from_numpy(x))
    reference = PCA(2).fit(x)
    np.testing.assert_allclose(np.abs(points), np.abs(reference.transform(x)), atol=1e-6)
    np.testing.assert_allclose(shares, reference.explained_variance_ratio_, atol=1e-6)


def test_umap_is_drawn_where_it_is_installed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    umap = SimpleNamespace(UMAP=lambda **_: SimpleNamespace(fit_transform=lambda x: x[:, :2]))
    monkeypatch.setitem(sys.modules, "umap", umap)
    command("report", folder / "run", "--out", tmp_path / "r.html", "--images", 30, capsys=capsys)
    assert "UMAP of the features" in (tmp_path / "r.html").read_text()


def test_a_run_without_labels_data_or_checkpoint_is_reported(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without labels there are no accuracies, no colours and no class names; without data, a sentence."""
    data = tmp_path / "unlabelled.beton"
    data.write_bytes((folder / "test.beton").read_bytes())
    line = (
        f"--recipe simclr_digits --data.train {data} --data.label null --logging.folder {tmp_path / 'run'} "
        f"--views.size {SIDE} --model.width 8 --data.num_workers 1 --training.batch_size 64 --training.epochs 1 "
        "--training.accelerator cpu --logging.progress false --training.cpu_threads 1"
    )
    fit(config.parse(line.split()))
    command("report", tmp_path / "run", capsys=capsys)
    text = (tmp_path / "run" / "report.html").read_text()
    assert "linear probe" not in text
    assert "Nearest neighbours" in text
    assert 'class="same' not in text
    error = command("eval", tmp_path / "run", data, "--label", "none", capsys=capsys, fails=True)
    assert "name the labels with --label" in error
    for damage in (lambda: data.write_bytes(data.read_bytes()[:1000]), data.unlink):
        damage()
        command("report", tmp_path / "run", capsys=capsys)
        text = (tmp_path / "run" / "report.html").read_text()
        assert f"No pictures of the features: {data}: " in text
        assert "<svg" in text
    (tmp_path / "run" / "epochs.csv").write_text("")
    assert "no epoch has been finished" in command("report", tmp_path / "run", capsys=capsys, fails=True)
    assert "missing; give the --logging.folder" in command("report", tmp_path, capsys=capsys, fails=True)


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("matplotlib", ["report", "."], "ffcv report needs matplotlib: pip install 'ffcv-ssl[report]'"),
        ("jsonargparse", ["eval", "a", "b"], "ffcv eval needs jsonargparse: pip install 'ffcv-ssl[train]'"),
    ],
)
def test_missing_packages_are_named(
    module: str,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert message in command(*arguments, capsys=capsys, fails=True)
