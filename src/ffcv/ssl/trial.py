"""How many epochs fit into a given time, as a short trial says."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ffcv.ssl import evaluate, history
from ffcv.ssl.config import Config
from ffcv.ssl.config.running import LoggingConfig
from ffcv.ssl.train import fit

_BATCHES = 10
_SHARE = 0.8
"""Of the time that is left after the trial: machines become slower, too."""

_LEAST_S = 1e-3
"""Is left, so that `training.max_minutes` can be it: then one epoch is trained."""


class Trial(NamedTuple):
    """What a trial says.

    Attributes:
        epochs: as many of the configured ones as are likely to fit into the time, at least 1.
        minutes: what is left of it, for `training.max_minutes`.
        images_per_s: source images.
    """

    epochs: int
    minutes: float
    images_per_s: float


def epochs_within(config: Config, minutes: float) -> Trial:
    """Trains for two epochs of a few batches, in a folder of its own, to see how long the second one takes.

    A training with fewer epochs takes its learning rate to the end; one that `training.max_minutes` ends does not.

    Args:
        config: of the training to come, in one process and with images of one size (`views.size_schedule` begins with
            the smallest, which take the least time).
        minutes: for all of it, this trial included; without evaluations.
    """
    began = time.monotonic()
    training, data = config.training, config.data
    images = len(evaluate.parts(config)[0])
    of_file = len(evaluate.whole(data.train))
    few = min(images, _BATCHES * training.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        fit(
            replace(
                config,
                data=replace(data, val=None, held_out=1 - (few + 0.5) / of_file if few + 1 < of_file else 0.0),
                training=replace(training, epochs=2, eval_every=0, max_minutes=None),
                evaluation=replace(config.evaluation, labels_per_class=None),  # there may not be so many
                logging=LoggingConfig(folder=folder, progress=False),
                resume=None,
            )
        )
        rate = float(history.read(Path(folder)).epochs["images_per_s"][-1])
    left_s = max(60 * minutes - (time.monotonic() - began), _LEAST_S)
    return Trial(max(1, min(training.epochs, int(_SHARE * left_s * rate / images))), left_s / 60, rate)
