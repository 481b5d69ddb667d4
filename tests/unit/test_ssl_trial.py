"""How many epochs fit into a given time."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from digits import configuration, write
from ffcv.ssl import evaluate, trial
from ffcv.ssl.config import Config


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "digits.beton")


def test_with_time_enough_it_is_the_configured_epochs(digits: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    found = trial.epochs_within(configuration(digits, folder, "--training.epochs", "3"), minutes=1e6)
    assert found.epochs == 3
    assert found.images_per_s > 0
    assert not folder.exists()  # the trial is not the run


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """What the trials train, which takes 30 s; their second epoch sees 100 images/s."""
    configs: list[Config] = []
    clock = iter([0.0, 30.0])
    monkeypatch.setattr(trial, "fit", configs.append)
    monkeypatch.setattr(trial.time, "monotonic", lambda: next(clock))
    books = SimpleNamespace(epochs={"images_per_s": [1.0, 100.0]})
    monkeypatch.setattr(trial.history, "read", lambda folder: books)
    return configs


@pytest.mark.parametrize(("minutes", "epochs"), [(2, 30), (1, 10), (0.6, 2), (0.1, 1), (60, 100)])
def test_else_as_many_as_fit_with_a_fifth_to_spare(
    digits: Path, tmp_path: Path, tried: list[Config], minutes: float, epochs: int
) -> None:
    line = ("--training.epochs", "100", "--training.max_minutes", "0.5", "--evaluation.labels_per_class", "20")
    settings = configuration(digits, tmp_path, *line)
    assert len(evaluate.parts(settings)[0]) == 240
    found = trial.epochs_within(settings, minutes)
    assert found.epochs == epochs
    assert found.minutes == pytest.approx(max(1e-3 / 60, minutes - 0.5))
    assert found.images_per_s == 100
    only = tried[0]
    assert (only.training.max_minutes, only.evaluation.labels_per_class) == (None, None)


def test_it_tries_few_images_of_those_to_train_on(digits: Path, tmp_path: Path, tried: list[Config]) -> None:
    settings = configuration(digits, tmp_path, "--data.val", str(digits), "--training.batch_size", "8")
    trial.epochs_within(settings, 1)
    assert 80 <= len(evaluate.parts(tried[0])[0]) <= 81 < len(evaluate.parts(settings)[0])
