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
_SHARE = 0.9
"""Of the time that is left after the trial: machines become slower, too."""

_LEAST_S = 1e-3
"""Is left, so that `training.max_minutes` can be it: then one epoch is trained."""


class Trial(NamedTuple):
    """What a trial says.

    Attributes:
        config: of the training that is likely to fit into the time: as many of the configured epochs as that takes, at
            least 1, the points of `views.size_schedule` in proportion, and what is left of the time as
            `training.max_minutes`.
        images_per_s: source images, the mean over these epochs.
    """

    config: Config
    images_per_s: float


def epochs_within(config: Config, minutes: float) -> Trial:
    """Trains for two epochs of a few batches, in a folder of its own, to see how long the second one takes; with views
    of several sizes once for each.

    A training with fewer epochs takes its learning rate to the end; one that `training.max_minutes` ends does not.

    Args:
        config: of the training to come, in one process.
        minutes: for all of it, this trial included; without evaluations.
    """
    began = time.monotonic()
    training, views = config.training, config.views
    images = len(evaluate.parts(config)[0])
    sides = {views.size_at(epoch) for epoch in range(training.epochs)}
    epoch_s = {side: images / _images_per_s(config, images, side) for side in sorted(sides)}
    left_s = max(60 * minutes - (time.monotonic() - began), _LEAST_S)

    def duration(shorter: Config) -> float:
        epochs = range(shorter.training.epochs)
        return sum(epoch_s.get(shorter.views.size_at(epoch), max(epoch_s.values())) for epoch in epochs)

    choices = (_shortened(config, epochs) for epochs in range(training.epochs, 0, -1))
    fitting = next((shorter for shorter in choices if duration(shorter) <= _SHARE * left_s), _shortened(config, 1))
    epochs = fitting.training.epochs
    return Trial(
        replace(fitting, training=replace(fitting.training, max_minutes=left_s / 60)),
        epochs * images / duration(fitting),
    )


def _images_per_s(config: Config, images: int, side: int) -> float:
    """Of the second of two epochs with large views of `side` pixels and some of the `images` to train on."""
    few = min(images, _BATCHES * config.training.batch_size)
    of_file = len(evaluate.whole(config.data.train))
    with tempfile.TemporaryDirectory() as folder:
        fit(
            replace(
                config,
                data=replace(config.data, val=None, held_out=1 - (few + 0.5) / of_file if few + 1 < of_file else 0.0),
                views=replace(config.views, size_schedule=((0, side),)),
                training=replace(config.training, epochs=2, eval_every=0, max_minutes=None),
                evaluation=replace(config.evaluation, labels_per_class=None),  # there may not be so many
                logging=LoggingConfig(folder=folder, progress=False),
                resume=None,
            )
        )
        return float(history.read(Path(folder)).epochs["images_per_s"][-1])


def _shortened(config: Config, epochs: int) -> Config:
    """With fewer epochs, and the sizes of its views in proportion."""
    schedule: list[tuple[int, int]] = []
    for epoch, side in config.views.size_schedule:
        after = schedule[-1][0] + 1 if schedule else 0
        schedule.append((max(after, round(epoch * epochs / config.training.epochs)), side))
    return replace(
        config,
        views=replace(config.views, size_schedule=tuple(schedule)),
        training=replace(config.training, epochs=epochs),
    )
