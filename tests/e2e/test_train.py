"""Training from a real `.beton`: it learns, resumes to the bit, and stops with a sentence when it must."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from digits import configuration, rows, write
from ffcv.cli.main import main
from ffcv.errors import FfcvError
from ffcv.ssl import config, evaluate
from ffcv.ssl.errors import ConfigError, DivergedError
from ffcv.ssl.train import fit

pytestmark = pytest.mark.filterwarnings(
    # lightning-fabric, on machines with a GPU when the run is on the CPU
    "ignore:GPU available but not used"
)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "digits.beton")


def test_the_loss_falls_and_the_books_are_kept(digits: Path, tmp_path: Path) -> None:
    settings = configuration(digits, tmp_path, "--training.epochs", "6", "--training.eval_every", "3")
    run = fit(settings)
    steps, epochs = rows(tmp_path / "steps.csv"), rows(tmp_path / "epochs.csv")
    assert [int(row["step"]) for row in steps] == list(range(6 * 5))  # 240 images, batches of 48
    assert float(epochs[-1]["loss"]) < float(epochs[0]["loss"]) - 0.3
    assert float(epochs[-1]["probe_accuracy"]) > 0.2
    assert [row["knn_accuracy"] != "" for row in epochs] == [False, False, True, False, False, True]
    assert run.images_per_s > 0
    assert config.parse(["--config", str(tmp_path / "config.yaml")]) == settings
    scores = evaluate.compare(run.backbone, settings, run.device)
    assert list(scores) == ["raw pixels", "random initialisation", "trained"]
    assert all(0.1 < s.knn <= 1 and 0.1 < s.linear <= 1 for s in scores.values())


def test_resume_refuses_another_run(digits: Path, tmp_path: Path) -> None:
    fit(configuration(digits, tmp_path, "--training.epochs", "1"))
    with pytest.raises(ConfigError, match=r"training\.epochs=1 \(now 3\)"):
        fit(configuration(digits, tmp_path, "--resume", str(tmp_path / "last.ckpt")))


def test_divergence_stops_with_the_step_and_the_rate(digits: Path, tmp_path: Path) -> None:
    settings = configuration(digits, tmp_path, "--optim.name", "sgd", "--optim.lr", "1e30")
    with pytest.raises(DivergedError, match=r"the loss is nan at step \d+ with learning rate \d"):
        fit(settings)
    assert len(rows(tmp_path / "steps.csv")) >= 1


def test_a_file_without_labels_trains_without_probes(digits: Path, tmp_path: Path) -> None:
    fit(configuration(digits, tmp_path, "--training.epochs", "1", "--data.label", "null"))
    assert "probe_accuracy" not in rows(tmp_path / "epochs.csv")[0]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--data.train", "nowhere.beton"], "nowhere.beton: no such file; make one with 'ffcv write"),
        (["--data.label", "target"], "has no field 'target' but image, label: set --data.label"),
        (["--training.batch_size", "512"], "240 training images are less than one batch"),
        (["--resume", "nowhere.ckpt"], "nowhere.ckpt: no such checkpoint"),
        (["--model.backbone", "resnet1000"], "unknown backbone 'resnet1000'"),
    ],
)
def test_errors_name_what_to_do(digits: Path, tmp_path: Path, extra: list[str], message: str) -> None:
    with pytest.raises((FfcvError, FileNotFoundError), match=message):
        fit(configuration(digits, tmp_path / "run", *extra))
    assert not (tmp_path / "run" / "last.ckpt").exists()


def test_the_command_ends_with_a_table(digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = (
        f"train --recipe simclr_digits --data.train {digits} --logging.folder {tmp_path} --model.width 8 "
        "--training.epochs 1 --training.batch_size 64 --training.accelerator cpu --logging.progress false "
        "--evaluation.draws 2 --evaluation.labels_per_class 5 --views.size 16 --data.held_out 0.3"
    )
    try:
        main(line.split())
    except SystemExit as end:
        assert not end.code  # noqa: PT017
    printed = capsys.readouterr().out
    for word in ("images/s", "raw pixels", "random initialisation", "trained", "linear probe"):
        assert word in printed


def test_the_command_prints_one_line_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["train", "--recipe", "simclr_digits", "--data.train", str(tmp_path / "nowhere.beton")])
    assert end.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "nowhere.beton: no such file" in error


def test_training_stops_in_time(digits: Path, tmp_path: Path) -> None:
    fit(configuration(digits, tmp_path, "--training.max_minutes", "1e-6"))
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 1
    fit(configuration(digits, tmp_path, "--resume", "auto"))
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 3
