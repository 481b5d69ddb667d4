"""Trainings in processes of their own, which stop at a chosen point."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

import fork_server
from ffcv.cli.main import main
from ffcv.ssl import backbones, checkpoint, config, evaluate, logs, train


def run(
    arguments: list[str], at_step: int = -1, death: Callable[[], None] | None = None, errors: Path | None = None
) -> int:
    """`ffcv train ARGUMENTS` in a new process; after logging `at_step`, with -1 while it is set up, it calls `death`.

    Returns:
        The exit status. What the process writes to stderr goes to `errors`.
    """
    return fork_server.run(_train, arguments, at_step, death, errors)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def kill_while_saving() -> None:
    """Dies in the next checkpoint, with its temporary file written and the old one still in place."""
    patch.object(checkpoint.os, "fsync", lambda _: kill()).start()


def interrupt_evaluation() -> None:
    """SIGUSR2 comes during the next evaluation, which would take a minute."""

    def slow(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGUSR2)
        time.sleep(60)

    patch.object(evaluate, "held_out", slow).start()


def kill_in_evaluation() -> None:
    """Dies in the next evaluation."""
    patch.object(evaluate, "held_out", lambda *_: kill()).start()


class Noisy(nn.Module):
    """An encoder that draws from every global generator, so that a resumed run must have the state of all."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = nn.Sequential(encoder, nn.Dropout(0.2))
        self.num_features = encoder.num_features

    def forward(self, images: Tensor) -> Tensor:
        scale = 1 + 0.1 * random.random() + 0.1 * float(np.random.rand()) if self.training else 1.0
        return scale * self.encoder(images)


def _train(arguments: list[str], at_step: int, death: Callable[[], None] | None, errors: Path | None) -> None:
    torch.set_num_threads(1)
    if errors is not None:
        sys.stderr = errors.open("w")
    step, build = logs.RunLog.step, backbones.build

    def dying(self: logs.RunLog, number: int, *rest: Any) -> None:
        step(self, number, *rest)
        if number == at_step and death is not None:
            death()

    def building(model: config.ModelConfig) -> nn.Module:
        if at_step < 0 and death is not None:
            death()
        return Noisy(build(model))

    with (
        patch.object(logs.RunLog, "step", dying),
        patch.object(train.backbones, "build", building),
    ):
        main(["train", *arguments])
