"""Killed, terminated and interrupted runs: resumed, they leave what the uninterrupted run leaves, to the bit."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

import digits
import dying_runs
from ffcv.ssl.interrupt import EXIT_STATUS

EXTRA = (
    *("--logging.checkpoint_every_steps", "2", "--training.eval_every", "2", "--model.depths", "[1]"),
    *("--views.size_schedule", "[[0, 16], [1, 32], [2, 24]]", "--evaluation.draws", "1"),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return digits.write(tmp_path_factory.mktemp("data") / "digits.beton")


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 15 steps that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    assert dying_runs.run(digits.arguments(data, folder, *EXTRA)) == 0
    return folder


def assert_same_run(expected: Path, found: Path) -> None:
    """The same rows of steps, byte for byte; the same rows of epochs but for the times; the same checkpoint."""
    assert (found / "steps.csv").read_bytes() == (expected / "steps.csv").read_bytes()
    for ours, theirs in zip(digits.rows(found / "epochs.csv"), digits.rows(expected / "epochs.csv"), strict=True):
        timed = {"seconds", "wait_s", "data_stall", "images_per_s"}
        assert {k: v for k, v in ours.items() if k not in timed} == {k: v for k, v in theirs.items() if k not in timed}
    states = [torch.load(folder / "last.ckpt", weights_only=True) for folder in (expected, found)]
    for state in states:
        del state["config"]
    digits.assert_same(*states)


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_random_steps(seed: int, data: Path, whole: Path, tmp_path: Path) -> None:
    """SIGKILL after three random steps, which may lie on, before and behind checkpoints and the ends of epochs."""
    arguments = digits.arguments(data, tmp_path, *EXTRA, "--resume", "auto")
    for step in sorted(random.Random(seed).sample(range(14), 3)):
        assert dying_runs.run(arguments, step, dying_runs.kill) == -9
    assert dying_runs.run(arguments) == 0
    assert_same_run(whole, tmp_path)


def test_killed_while_saving(data: Path, whole: Path, tmp_path: Path) -> None:
    arguments = digits.arguments(data, tmp_path, *EXTRA, "--resume", "auto")
    assert dying_runs.run(arguments, 6, dying_runs.kill_while_saving) == -9
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["step"] == 6
    assert len(list(tmp_path.glob("*.tmp"))) == 1  # as large as a checkpoint
    assert dying_runs.run(arguments) == 0
    assert_same_run(whole, tmp_path)
    assert list(tmp_path.glob("*.tmp")) == []


def test_a_signal_saves_at_the_step_boundary(data: Path, whole: Path, tmp_path: Path) -> None:
    """SIGTERM after step 6 (of 0 to 14, between checkpoints): step 7, which has the news, is the last."""
    arguments = digits.arguments(data, tmp_path, *EXTRA, "--resume", "auto")
    assert dying_runs.run(arguments, 6, dying_runs.terminate, tmp_path / "errors") == EXIT_STATUS == 75
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["step"] == 8
    message = (tmp_path / "errors").read_text()
    assert "stopped by SIGTERM after 8 steps" in message
    assert "--resume auto" in message
    assert dying_runs.run(arguments) == 0
    assert_same_run(whole, tmp_path)


def test_a_signal_does_not_wait_for_the_evaluation(data: Path, whole: Path, tmp_path: Path) -> None:
    """SIGUSR2 while the second epoch is evaluated: the resumed run evaluates it."""
    arguments = digits.arguments(data, tmp_path, *EXTRA, "--resume", "auto")
    assert dying_runs.run(arguments, 8, dying_runs.interrupt_evaluation, tmp_path / "errors") == EXIT_STATUS
    assert "stopped by SIGUSR2 after 10 steps" in (tmp_path / "errors").read_text()
    assert len(digits.rows(tmp_path / "epochs.csv")) == 1
    assert dying_runs.run(arguments) == 0
    assert "knn_accuracy" in digits.rows(tmp_path / "epochs.csv")[1]
    assert_same_run(whole, tmp_path)


def test_killed_in_the_evaluation(data: Path, whole: Path, tmp_path: Path) -> None:
    """SIGKILL while the second epoch is evaluated: its steps are not made again."""
    last = ("--logging.checkpoint_every_steps", "0", "--logging.checkpoint_every", "9", "--resume", "auto")
    arguments = digits.arguments(data, tmp_path, *EXTRA, *last)
    assert dying_runs.run(arguments, 8, dying_runs.kill_in_evaluation) == -9
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["step"] == 10
    assert dying_runs.run(arguments) == 0
    assert float(digits.rows(tmp_path / "epochs.csv")[1]["seconds"]) == 0  # of those that it did not make
    assert_same_run(whole, tmp_path)


def test_a_signal_during_setup_is_noted(data: Path, whole: Path, tmp_path: Path) -> None:
    """SIGTERM while the network is made: the first step, which has the news, is the last."""
    arguments = digits.arguments(data, tmp_path, *EXTRA, "--resume", "auto")
    assert dying_runs.run(arguments, -1, dying_runs.terminate, tmp_path / "errors") == EXIT_STATUS
    assert "stopped by SIGTERM after 1 step:" in (tmp_path / "errors").read_text()
    assert dying_runs.run(arguments) == 0
    assert_same_run(whole, tmp_path)


def test_a_torn_row_is_none(tmp_path: Path) -> None:
    """A crash may cut a row off within its number: '12' of step 123 is not step 12."""
    from ffcv.ssl.loggers import CsvFile

    path = tmp_path / "steps.csv"
    path.write_text("step,loss\n120,0.5\n121,0.25\n122,0.125\n12")
    file = CsvFile(path, "step", 122)
    file.close()
    assert path.read_text().split() == ["step,loss", "120,0.5", "121,0.25"]
