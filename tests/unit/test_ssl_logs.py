"""The books of a run: rows, loggers, the split of time, and that two processes keep the books of one."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import two_processes
from ffcv.ssl import config, loggers, methods
from ffcv.ssl.backbones import ConvNet
from ffcv.ssl.config import Config, DataConfig, LoggingConfig, TrainingConfig
from ffcv.ssl.errors import ConfigError
from ffcv.ssl.heads import gelu_mlp, mlp
from ffcv.ssl.logs import RunLog
from ffcv.ssl.position import Position
from ffcv.ssl.probes import OnlineProbes
from ffcv.ssl.readout import Readout
from ffcv.ssl.recent import RecentFeatures
from ffcv.ssl.throughput import StallClock

CPU = torch.device("cpu")
START = Position(0, 0)


def settings(folder: Path, **logging: Any) -> Config:
    return Config(
        data=DataConfig("train.beton"),
        options=methods.load("simclr").Options(),
        training=TrainingConfig(epochs=3, batch_size=8),
        logging=LoggingConfig(folder=str(folder), **{"progress": False, **logging}),
    )


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run(log: RunLog, first_step: int, last_step: int, steps: int = 4) -> dict[str, Any]:
    """Steps with the loss 10 - step, with an epoch's row after every `steps` of them; the last row."""
    row: dict[str, Any] = {}
    step = first_step
    while step < last_step:
        batches = log.timed(range(step, min(last_step, step - step % steps + steps)))
        for number in batches:
            log.step(number, number // steps, 0.1 * number, {"loss": 10.0 - number, "accuracy": 0.5})
            step += 1
        if step % steps == 0:
            row = log.end_epoch(step // steps - 1)
            log.epoch(row)
    return row


def test_rows_of_steps_and_means_of_epochs(tmp_path: Path) -> None:
    with RunLog(settings(tmp_path), 4, START, True, CPU) as log:
        run(log, 0, 8)
    steps, epochs = rows(tmp_path / "steps.csv"), rows(tmp_path / "epochs.csv")
    assert [(int(r["step"]), int(r["epoch"]), float(r["loss"])) for r in steps] == [
        (i, i // 4, 10.0 - i) for i in range(8)
    ]
    assert [float(r["loss"]) for r in epochs] == [8.5, 4.5]
    assert all(0 <= float(r["data_stall"]) <= 1 and float(r["images_per_s"]) > 0 for r in epochs)
    assert config.from_yaml((tmp_path / "config.yaml").read_text()) == settings(tmp_path)
    facts = json.loads((tmp_path / "environment.json").read_text())
    assert facts["torch"] == torch.__version__.split("+")[0] or facts["torch"] == torch.__version__
    assert facts["device"] == "cpu"


def test_resuming_within_an_epoch_gives_its_mean_over_all_its_steps(tmp_path: Path) -> None:
    with RunLog(settings(tmp_path), 4, START, True, CPU) as log:
        run(log, 0, 7)
    with RunLog(settings(tmp_path), 4, Position(6, 1), True, CPU) as log:  # step 6 is done again
        assert log._csv is not None
        assert log._csv.steps.kept == []  # a long run has millions of rows
        run(log, 6, 8)
    assert [int(r["step"]) for r in rows(tmp_path / "steps.csv")] == list(range(8))
    assert [float(r["loss"]) for r in rows(tmp_path / "epochs.csv")] == [8.5, 4.5]


def test_a_late_figure_gets_a_column(tmp_path: Path) -> None:
    file = loggers.CsvFile(tmp_path / "epochs.csv", "epoch", 0)
    file.write({"epoch": 0, "loss": 1.5})
    file.write({"epoch": 1, "loss": 1.25, "knn_accuracy": 0.5})
    file.write({"epoch": 2, "loss": 1.0})
    file.close()
    assert rows(tmp_path / "epochs.csv") == [
        {"epoch": "0", "loss": "1.5", "knn_accuracy": ""},
        {"epoch": "1", "loss": "1.25", "knn_accuracy": "0.5"},
        {"epoch": "2", "loss": "1.0", "knn_accuracy": ""},
    ]


def test_waiting_and_computing_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loader that takes 3 s a batch and 1 s to say that there are no more, a loop that takes 1 s."""
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)

    def loader() -> Iterator[int]:
        nonlocal now
        for batch in range(4):
            now += 3
            yield batch

    clock = StallClock(CPU)
    for _ in clock.batches(loader()):
        now += 1
    split = clock.stop()
    assert (split.seconds, split.wait_s, split.data_stall) == (16, 12, 0.75)


def test_an_epoch_without_a_step_left_took_no_time(tmp_path: Path) -> None:
    """A run that was stopped in an epoch's evaluation goes on behind its last step, which is timed by nobody."""
    with RunLog(settings(tmp_path), 4, START, True, CPU) as log:
        run(log, 0, 4)
        with log.checkpointing():
            pass
    with RunLog(settings(tmp_path), 4, Position(8, 1), True, CPU) as log:
        log.timed(range(0))  # nobody asks for a batch
        with log.checkpointing():
            pass
        row = log.end_epoch(1)
        assert (row["seconds"], row["wait_s"], row["data_stall"], row["images_per_s"]) == (0, 0, 0, 0)
        assert log.train_s == 0
        assert not log.out_of_time


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: measures its idle time")
def test_a_busy_gpu_does_not_wait() -> None:
    """A loader that takes 50 ms: all of it is waiting for an idle GPU, none for one that has work for longer."""

    def loader() -> Iterator[int]:
        for batch in range(6):
            time.sleep(0.05)
            yield batch

    waits = []
    for cycles in (0, 1_000_000_000):  # nothing, or about half a second of work in each step
        clock = StallClock(torch.device("cuda"))
        for _ in clock.batches(loader()):
            if cycles:
                torch.cuda._sleep(cycles)
        waits.append(clock.stop().wait_s)
    assert waits[0] >= 6 * 0.05 - 0.01
    assert waits[1] < 2 * 0.05  # the first batch


def test_the_console_says_an_epoch_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunLog(settings(tmp_path, progress=True), 4, START, True, CPU) as log:
        run(log, 0, 4)
    printed = capsys.readouterr().out
    assert "epoch 1/3  loss 8.5" in printed
    assert "data stall " in printed


def test_tensorboard_gets_steps_and_epochs(tmp_path: Path) -> None:
    with RunLog(settings(tmp_path, tensorboard=True), 4, START, True, CPU) as log:
        run(log, 0, 8)
    assert tensorboard(tmp_path) == ([(i, 10.0 - i) for i in range(8)], [(0, 8.5), (1, 4.5)])


def test_tensorboard_hides_what_an_overwritten_run_left(tmp_path: Path) -> None:
    for steps in (8, 4):
        with RunLog(settings(tmp_path, tensorboard=True), 4, START, True, CPU) as log:
            run(log, 0, steps)
    steps, epochs = tensorboard(tmp_path)
    assert [step for step, _ in steps] == [0, 1, 2, 3]
    assert [epoch for epoch, _ in epochs] == [0]


def test_tensorboard_hides_the_epochs_behind_the_checkpoint(tmp_path: Path) -> None:
    """Two epochs were made after it; the resumed run makes them again."""
    for first in (START, Position(4, 1)):
        with RunLog(settings(tmp_path, tensorboard=True), 4, first, True, CPU) as log:
            run(log, first.step, 12)
    steps, epochs = tensorboard(tmp_path)
    assert [step for step, _ in steps] == list(range(12))
    assert [epoch for epoch, _ in epochs] == [0, 1, 2]


def tensorboard(folder: Path) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """The losses that it shows, over steps and over epochs."""
    pytest.importorskip("tensorboard", reason="the package tensorboard is not installed")
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    events = EventMultiplexer().AddRunsFromDirectory(str(folder)).Reload()
    losses = {}
    for name, found in events.Runs().items():
        for tag in found["scalars"]:
            if tag.endswith("/loss"):
                losses[tag] = [(e.step, e.value) for e in events.Scalars(name, tag)]
    return losses["step/loss"], losses["epoch/loss"]


def test_weights_and_biases_gets_steps_and_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[dict[str, float]] = []
    calls: dict[str, Any] = {}
    fake = SimpleNamespace(
        id="abc", log=logged.append, finish=lambda: calls.update(finished=True), define_metric=lambda *a, **k: None
    )
    module = SimpleNamespace(init=lambda **arguments: calls.update(arguments) or fake)
    monkeypatch.setitem(sys.modules, "wandb", module)
    for resumed in (None, "abc"):
        with RunLog(settings(tmp_path, wandb="project"), 4, START, True, CPU) as log:
            run(log, 0, 4)
        assert (calls["project"], calls["id"]) == ("project", resumed)
    assert calls["config"]["training"]["batch_size"] == 8
    assert calls["finished"]
    assert logged[0]["step/loss"] == 10
    assert logged[4] == {**logged[4], "epoch": 0, "epoch/loss": 8.5}


@pytest.mark.parametrize(("option", "module"), [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb")])
def test_a_missing_package_is_named(option: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"logging\.{option} needs the package {option}: pip install"):
        RunLog(settings(tmp_path, **{option: "project" if option == "wandb" else True}), 4, START, True, CPU)


def _two_books(rank: int) -> list[Any]:
    """Half of the images on each rank: the probes' accuracies, a row of an epoch, figures of recent features."""
    features, labels = _images()
    mine = slice(0, 5) if rank == 0 else slice(5, 16)
    probes = _probes()
    loss, accuracies = probes(features[mine], [features[mine, :3]], labels[mine])
    gradient = torch.autograd.grad(loss, probes.probes["probe"].linear.bias)[0]
    folder = Path("/nonexistent")
    with RunLog(settings(folder), 1, START, False, CPU) as log:
        for _ in log.timed(range(1)):
            log.step(0, 0, 0.1, Readout({"loss": loss, **accuracies}).values())
        row = log.end_epoch(0)
    recent = RecentFeatures(100, CPU)
    recent.add(features[mine], labels[mine])
    names = ("loss", "probe_accuracy", "probe_layer1_top5")
    return [gradient, *(torch.tensor(row[n]) for n in names), torch.tensor(list(recent.take(3, 0.1).values()))]


def _images() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(16, 6, generator=generator), torch.arange(16) % 7


def _probes() -> OnlineProbes:
    torch.manual_seed(0)
    # In evaluation mode: each rank normalises by its own batch otherwise, as training on several ranks does.
    return OnlineProbes(6, [3], 7).eval()


def test_two_processes_keep_the_books_of_one(tmp_path: Path) -> None:
    first, second = two_processes.run(_two_books, tmp_path)
    features, labels = _images()
    loss, accuracies = (probes := _probes())(features, [features[:, :3]], labels)
    gradient = torch.autograd.grad(loss, probes.probes["probe"].linear.bias)[0]
    torch.testing.assert_close((first[0] + second[0]) / 2, gradient)
    expected = [loss.detach(), accuracies["probe_accuracy"], accuracies["probe_layer1_top5"]]
    recent = RecentFeatures(100, CPU)
    recent.add(features, labels)
    expected.append(torch.tensor(list(recent.take(3, 0.1).values())))
    for found in (first, second):
        torch.testing.assert_close(found[1:], expected)


@pytest.mark.parametrize("last", ["norm", "fixed norm", "linear"])
def test_layers_are_taken_where_they_end(last: Any) -> None:
    """After the activation, but for the last one."""
    head, x = mlp(4, 6, 5, last=last), torch.randn(8, 4)
    layers = head.layers(x)
    assert [tuple(layer.shape) for layer in layers] == [(8, 6), (8, 5)]
    assert float(layers[0].detach().min()) == 0
    assert torch.equal(layers[1], head(x))


def test_layers_of_a_gelu_head() -> None:
    head, x = gelu_mlp(4, 6, 5), torch.randn(8, 4)
    layers = head.layers(x)
    assert torch.equal(layers[0], head[1](head[0](x)))
    assert torch.equal(layers[1], head(x))


@pytest.mark.parametrize("name", methods.names())
def test_every_method_hands_out_its_projectors_layers(name: str) -> None:
    torch.manual_seed(0)
    kind = methods.load(name)
    options = kind.Options()
    widths = list(getattr(options, "projector", getattr(options, "head", ())))
    method = kind(ConvNet(8, (1,)), options)
    assert method.layer_widths == widths
    assert method.training
    views = [torch.randn(4, 3, 16, 16)] * (1 if name == "supervised" else 2)
    output = method(views, torch.arange(4))
    assert [tuple(layer.shape) for layer in output.layers] == [(4, width) for width in widths]
    assert not any(layer.requires_grad for layer in output.layers)
