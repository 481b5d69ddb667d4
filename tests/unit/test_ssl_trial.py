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


@pytest.mark.parametrize(("minutes", "epochs"), [(2, 40), (1, 20), (0.001, 1), (60, 100)])
def test_else_as_many_as_fit_with_a_fifth_to_spare(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: float, epochs: int
) -> None:
    settings = configuration(digits, tmp_path, "--training.epochs", "100", "--training.max_minutes", "0.5")
    images = len(evaluate.parts(settings)[0])
    tried: list[Config] = []

    def fit(config: Config) -> SimpleNamespace:
        tried.append(config)
        return SimpleNamespace(images_per_s=images * 100 / 240)

    monkeypatch.setattr(trial, "fit", fit)
    monkeypatch.setattr(trial.time, "monotonic", lambda: 0.0)
    assert trial.epochs_within(settings, minutes).epochs == epochs
    assert [config.training.max_minutes for config in tried] == [None]


def test_it_tries_few_images_of_those_to_train_on(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = configuration(digits, tmp_path, "--data.val", str(digits), "--training.batch_size", "8")
    tried: list[int] = []

    def fit(config: Config) -> SimpleNamespace:
        tried.append(len(evaluate.parts(config)[0]))
        return SimpleNamespace(images_per_s=1.0)

    monkeypatch.setattr(trial, "fit", fit)
    trial.epochs_within(settings, 1)
    assert 80 <= tried[0] <= 81 < len(evaluate.parts(settings)[0])
