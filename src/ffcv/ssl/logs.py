"""The books of a run: what each step and epoch gave, over all ranks, and where the time went."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import torch
import yaml

from ffcv.ssl.config import Config, to_yaml
from ffcv.ssl.environment import environment
from ffcv.ssl.loggers import CsvLogger, Logger, open_loggers
from ffcv.ssl.position import Position
from ffcv.ssl.throughput import StallClock

Batch = TypeVar("Batch")


class RunLog:
    """Leaves config.yaml, environment.json, steps.csv and epochs.csv in the run's folder, and feeds the loggers.

    All ranks call every method, with figures that are the same for all (`readout.Readout`).

    Args:
        config: of the run.
        steps: of an epoch.
        first: step and epoch to start with, above 0 when resuming. At the end of an epoch whose row is not written yet,
            the step is the next epoch's, but the epoch is not.
        writes: whether this process writes (rank 0).
        device: that trains.
    """

    def __init__(self, config: Config, steps: int, first: Position, writes: bool, device: torch.device) -> None:
        minutes = config.training.max_minutes
        self._limit_s = None if minutes is None else 60 * minutes
        self.train_s = self._epoch_s = 0.0
        self._images, self._batch = 0, config.training.batch_size
        self._clock = StallClock(device)
        self._lr = 0.0
        self._rows: list[dict[str, float]] = []
        self._timed_steps = 0
        self._csv: CsvLogger | None = None
        self._loggers: list[Logger] = []
        if writes:
            folder = Path(config.logging.folder)
            folder.mkdir(parents=True, exist_ok=True)
            text = to_yaml(config)
            self._csv, further = open_loggers(config, steps, first, yaml.safe_load(text))
            self._loggers = [self._csv, *further]
            (folder / "config.yaml").write_text(text)
            (folder / "environment.json").write_text(json.dumps(environment(device), indent=1) + "\n")
            # The epoch that is gone on with gets its means over all its steps.
            for row in self._csv.steps.kept:
                if int(row["epoch"]) == first.epoch:
                    self._rows.append({k: float(v) for k, v in row.items() if k not in ("step", "epoch", "lr")})
                    self._lr = float(row["lr"])
            self._csv.steps.kept.clear()  # a long run has millions

    @property
    def images_per_s(self) -> float:
        """Source images over the seconds spent in finished epochs."""
        return self._images / self.train_s if self.train_s else 0.0

    @property
    def out_of_time(self) -> bool:
        """Whether another epoch as long as the last one would exceed the configured minutes."""
        return self._limit_s is not None and self.train_s + self._epoch_s > self._limit_s

    def timed(self, loader: Iterable[Batch]) -> Iterator[Batch]:
        """The loader's batches of an epoch; times how long the device waits for each."""
        self._timed_steps = 0
        return self._clock.batches(loader)

    def step(self, step: int, epoch: int, lr: float, values: Mapping[str, float]) -> None:
        """Note one finished step.

        Args:
            step: from 0, over all epochs.
            epoch: from 0.
            lr: the learning rate that it was made with.
            values: figures of the same names in every step.
        """
        self._timed_steps += 1
        self._lr = lr
        self._rows.append(dict(values))
        for logger in self._loggers:
            logger.step({"step": step, "epoch": epoch, "lr": lr, **values})

    @contextmanager
    def checkpointing(self) -> Iterator[None]:
        """While a checkpoint is written: its time does not count, and the rows before it survive a crash."""
        if self._csv is not None:
            self._csv.flush()
        with self._clock.stopped():
            yield

    def end_epoch(self, epoch: int) -> dict[str, Any]:
        """Stop the epoch's clock; its row for `epoch()`, with the means over its steps."""
        split = self._clock.stop()
        images = self._timed_steps * self._batch
        self._epoch_s = split.seconds
        self.train_s, self._images = self.train_s + split.seconds, self._images + images
        # None on a rank that resumed behind the epoch's last step: only rank 0 reads what was written before.
        names = self._rows[-1] if self._rows else ()
        means = {name: sum(row[name] for row in self._rows) / len(self._rows) for name in names}
        self._rows.clear()
        return {
            "epoch": epoch,
            "seconds": split.seconds,
            "wait_s": split.wait_s,
            "data_stall": split.data_stall,
            "images_per_s": images / split.seconds if images else 0.0,
            "lr": self._lr,
            **means,
        }

    def epoch(self, row: dict[str, Any]) -> None:
        """Hand the epoch's row to the loggers."""
        for logger in self._loggers:
            logger.epoch(row)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for logger in self._loggers:
            logger.close()
