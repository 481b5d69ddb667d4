"""The evaluation on held-out images during training, alone and in two processes."""

from __future__ import annotations

import functools
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

import two_processes
from digits import SIDE
from ffcv.ssl import config, evaluate, history, interrupt, methods
from ffcv.ssl.backbones import ConvNet
from ffcv.ssl.probes import OnlineProbes

pytestmark = pytest.mark.filterwarnings(
    # lightning-fabric, on machines with a GPU when the run is on the CPU
    "ignore:GPU available but not used"
)


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
    figures = evaluate.held_out(method, probe, evaluate.parts(settings), settings, torch.device("cpu"))
    assert method.training
    assert probe.training
    return {name: torch.tensor(value) for name, value in figures.items()}


def test_two_processes_share_the_held_out_images_and_judge_what_rank_0_saves(folder: Path, tmp_path: Path) -> None:
    path = str(folder / "train.beton")
    alone = _held_out(path, 0)
    assert list(alone) == ["knn_accuracy", "val_probe_accuracy", "val_probe_top5"]
    for figures in two_processes.run(functools.partial(_held_out, path), tmp_path):
        assert {name: float(value) for name, value in figures.items()} == {n: float(v) for n, v in alone.items()}


def test_neighbours_are_as_many_as_memory_allows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All features of a million images are more than most GPUs hold beside a training."""
    path = str(folder / "train.beton")
    settings = config.parse(["--recipe", "simclr_digits", "--data.train", path, "--data.num_workers", "1"])
    method = methods.load("simclr")(ConvNet(8, (1,)), settings.options)
    probe, parts, device = OnlineProbes(method.num_features, [], 10), evaluate.parts(settings), torch.device("cpu")
    seen: list[np.ndarray] = []

    def extract(encoder: object, part: evaluate.Part, *rest: object) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(part.indices)
        return torch.ones(len(part), method.num_features), torch.zeros(len(part), dtype=torch.int64)

    monkeypatch.setattr(evaluate, "extract", extract)
    monkeypatch.setattr(evaluate, "TABLE_BYTES", 30 * 4 * method.num_features + 1)
    evaluate.held_out(method, probe, parts, settings, device)
    neighbours, judged = seen
    assert len(neighbours) == 30 < len(parts[0])
    assert np.isin(neighbours, parts[0].indices).all()
    gaps = np.diff(np.searchsorted(parts[0].indices, neighbours))
    assert gaps.max() - gaps.min() <= 1  # evenly spread
    assert np.array_equal(judged, parts[1].indices)


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
    probe, parts, device = OnlineProbes(3, [], 10), evaluate.parts(settings), torch.device("cpu")
    with interrupt.StopSignals() as signals:
        figures = signals.unless_stopped(
            lambda: evaluate.held_out(method, probe, parts, settings, device, signals.watched)  # type: ignore[arg-type]
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
