"""How many epochs fit into a given time, as a short trial says."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from typing import NamedTuple

from ffcv.ssl import evaluate
from ffcv.ssl.config import Config
from ffcv.ssl.config.running import LoggingConfig
from ffcv.ssl.train import fit

_BATCHES = 10
_SHARE = 0.8
"""Of the time that is left after the trial: machines become slower, too."""


class Trial(NamedTuple):
    """What a trial says.

    Attributes:
        epochs: as many of the configured ones as are likely to fit into the time, at least 1.
        images_per_s: source images, in the trial.
    """

    epochs: int
    images_per_s: float


def epochs_within(config: Config, minutes: float) -> Trial:
    """Trains for two epochs of a few batches, in a folder of its own, to learn how long an epoch takes on this machine.

    A training with fewer epochs takes its learning rate to the end; one that `training.max_minutes` ends does not.

    Args:
        config: of the training to come.
        minutes: for all of it, this trial included; without evaluations.
    """
    began = time.monotonic()
    training, data = config.training, config.data
    images = len(evaluate.parts(config)[0])
    of_file = len(evaluate.whole(data.train))
    few = min(images, _BATCHES * training.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        trial = replace(
            config,
            data=replace(data, val=None, held_out=1 - (few + 0.5) / of_file if few + 1 < of_file else 0.0),
            training=replace(training, epochs=2, eval_every=0, max_minutes=None),
            logging=LoggingConfig(folder=folder, progress=False),
            resume=None,
        )
        rate = fit(trial).images_per_s
    left_s = 60 * minutes - (time.monotonic() - began)
    return Trial(max(1, min(training.epochs, int(_SHARE * left_s * rate / images))), rate)
