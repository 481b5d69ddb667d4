"""How many epochs fit into a given time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from digits import configuration, write
from ffcv.ssl import evaluate, trial
from ffcv.ssl.config import Config


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "digits.beton")


def test_with_time_enough_it_is_the_configured_epochs(digits: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    settings = configuration(digits, folder, "--training.epochs", "3", "--views.size_schedule", "[[0, 8], [1, 16]]")
    found = trial.epochs_within(settings, minutes=1e6)
    training = replace(settings.training, max_minutes=found.config.training.max_minutes)
    assert found.config == replace(settings, training=training)
    assert 0 < 1e6 - cast(float, training.max_minutes) < 10
    assert found.images_per_s > 0
    assert not folder.exists()  # the trial is not the run


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """What the trials train, which take 30 s in all; their second epoch sees 100 images/s, of 8 pixels 400."""
    configs: list[Config] = []
    clock = iter([0.0, 30.0])

    def read(folder: Path) -> SimpleNamespace:
        return SimpleNamespace(epochs={"images_per_s": [1.0, 400.0 if configs[-1].views.size_at(1) == 8 else 100.0]})

    monkeypatch.setattr(trial, "fit", configs.append)
    monkeypatch.setattr(trial.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(trial.history, "read", read)
    return configs


@pytest.mark.parametrize(("minutes", "epochs"), [(2, 33), (1, 11), (0.6, 2), (0.1, 1), (60, 100)])
def test_else_as_many_as_fit_with_a_tenth_to_spare(
    digits: Path, tmp_path: Path, tried: list[Config], minutes: float, epochs: int
) -> None:
    line = ("--training.epochs", "100", "--training.max_minutes", "0.5", "--evaluation.labels_per_class", "20")
    settings = configuration(digits, tmp_path, *line)
    assert len(evaluate.parts(settings)[0]) == 240
    found = trial.epochs_within(settings, minutes)
    assert found.config.training.epochs == epochs
    assert found.config.training.max_minutes == pytest.approx(max(1e-3 / 60, minutes - 0.5))
    assert found.images_per_s == pytest.approx(100)
    (only,) = tried
    assert (only.training.max_minutes, only.evaluation.labels_per_class) == (None, None)


@pytest.mark.parametrize(
    ("minutes", "epochs", "schedule"),  # an epoch of 8 pixels takes 0.6 s, one of 16 pixels 2.4 s
    [(60, 20, ((14, 8), (15, 16))), (0.85, 18, ((13, 8), (14, 16))), (0.61, 6, ((4, 8), (5, 16)))],
)
def test_sizes_change_in_proportion(
    digits: Path, tmp_path: Path, tried: list[Config], minutes: float, epochs: int, schedule: tuple
) -> None:
    line = ("--training.epochs", "20", "--views.size_schedule", "[[14, 8], [15, 16]]")
    found = trial.epochs_within(configuration(digits, tmp_path, *line), minutes)
    assert (found.config.training.epochs, found.config.views.size_schedule) == (epochs, schedule)
    assert [config.views.size_at(1) for config in tried] == [8, 16]
    seconds = sum({8: 0.6, 16: 2.4}[found.config.views.size_at(epoch)] for epoch in range(epochs))
    assert found.images_per_s == pytest.approx(epochs * 240 / seconds)


def test_a_size_that_was_not_tried_counts_as_the_slowest(digits: Path, tmp_path: Path, tried: list[Config]) -> None:
    line = ("--training.epochs", "8", "--views.size_schedule", "[[0, 8], [4, 264]]")
    found = trial.epochs_within(configuration(digits, tmp_path, *line), 0.75)  # 13.5 s: 0.6 and five times 2.4
    sides = [found.config.views.size_at(epoch) for epoch in range(found.config.training.epochs)]
    assert sides == [8, 96, 192, 264, 264, 264]
    assert 96 not in {config.views.size_at(1) for config in tried}


def test_it_tries_few_images_of_those_to_train_on(digits: Path, tmp_path: Path, tried: list[Config]) -> None:
    settings = configuration(digits, tmp_path, "--data.val", str(digits), "--training.batch_size", "8")
    trial.epochs_within(settings, 1)
    assert 80 <= len(evaluate.parts(tried[0])[0]) <= 81 < len(evaluate.parts(settings)[0])
