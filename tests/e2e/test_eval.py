"""`ffcv eval`: a trained encoder judged on labelled images, against scikit-learn."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from beton_files import emptied
from command_line import command
from digits import SIDE, Digits, configuration, write
from ffcv.cli.main import main
from ffcv.fields import IntField, RGBImageField
from ffcv.reader import Reader
from ffcv.ssl import backbones, config, evaluate, protocols, trained
from ffcv.ssl.errors import ConfigError
from ffcv.ssl.train import fit
from ffcv.writer import DatasetWriter

pytestmark = pytest.mark.filterwarnings(
    # lightning-fabric, on machines with a GPU when the run is on the CPU
    "ignore:GPU available but not used"
)


def features(folder: Path) -> tuple[Any, Any, Any, Any]:
    """Features and labels of the training and the test file, as numpy arrays."""
    found = trained.load(folder / "run")
    arrays = []
    for name in ("train.beton", "test.beton"):
        part = evaluate.whole(str(folder / name))
        arrays += [t.numpy() for t in evaluate.extract(found.encoder, part, found.config, torch.device("cpu"))]
    return tuple(arrays)  # type: ignore[return-value]


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


@pytest.mark.parametrize(("options", "files"), [((), ["train"]), (("--data.val", "test.beton"), ["train", "test"])])
def test_each_files_header_is_read_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], files: list[str]
) -> None:
    opened: list[str] = []

    def reader(path: str) -> Reader:
        opened.append(Path(path).stem)
        return Reader(path)

    monkeypatch.setattr(evaluate, "Reader", reader)
    monkeypatch.chdir(folder)
    settings = configuration(Path("train.beton"), folder / "run", *options)
    train, test = evaluate.parts(settings)
    assert len(evaluate.read_labels(train, "label")) == (400 if options else 320)
    assert len(evaluate.read_labels(test, "label")) == (200 if options else 80)
    assert train.without("image") == test.without("image") == {"label": None}
    assert opened == files


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


def test_labels_that_training_images_do_not_have_are_said(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = Digits(20, skip=400)
    others.labels = others.labels + 5  # 5 to 14
    expected = int((others.labels[:20] > 9).sum())
    for val, note in (
        (write(tmp_path / "others.beton", others), f"note: {expected} of 20 test images have labels that no"),
        (folder / "test.beton", ""),
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main(["eval", str(folder / "run"), str(folder / "train.beton"), "--val", str(val)])
        assert not end.value.code
        error = capsys.readouterr().err
        assert error.startswith(note) if note else error == ""


def test_files_without_images_are_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, train, test = folder / "run", folder / "train.beton", folder / "test.beton"
    empty = emptied(train, tmp_path / "empty.beton")
    two = write(tmp_path / "two.beton", Digits(2))
    for arguments, message in (
        ((run, train, "--val", empty), f"{empty}: has no images to judge on: give others with --val FILE"),
        ((run, empty, "--val", test), f"{empty}: has no images to train on"),
        ((run, empty), f"{empty}: has no images to train on"),
        ((run, two), f"{two}: has no images to judge on"),  # a fifth of two is none
    ):
        assert message in command("eval", *arguments, capsys=capsys, fails=True)
    with pytest.raises(ConfigError, match=r"empty\.beton: has no images to train on"):
        fit(configuration(empty, tmp_path / "run", "--data.val", str(test)))


def test_fields_that_a_file_lacks_are_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In either file, and with this command's options."""
    run, train = folder / "run", folder / "train.beton"
    for fields, message in (
        (("image", "kind"), "has no field 'label' but image, kind: name the labels with --label"),
        (("photo", "label"), "has no field 'image' but photo, label: write it with that name"),
    ):
        path = tmp_path / f"{fields[0]}.beton"
        kinds = dict(zip(fields, (RGBImageField("raw"), IntField()), strict=True))
        DatasetWriter(path, kinds, num_workers=1).from_indexed_dataset(Digits(20))
        for arguments in ((path,), (train, "--val", path)):
            assert f"{path}: {message}" in command("eval", run, *arguments, capsys=capsys, fails=True)


def test_the_table_does_not_call_published_weights_random(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = trained.load(folder / "run")
    monkeypatch.setattr(backbones, "build", lambda _: found.encoder)
    model = config.ModelConfig(backbone="resnet18", pretrained=True)
    settings = replace(found.config, model=model)
    scores = evaluate.compare(found.encoder, evaluate.parts(settings), settings, torch.device("cpu"))
    assert list(scores) == ["raw pixels", "published weights", "trained"]


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
