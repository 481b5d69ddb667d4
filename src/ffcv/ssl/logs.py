"""The books of a run: what each step and epoch gave, over all ranks, and where the time went."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import torch
import yaml
from torch import Tensor

from ffcv.ssl.config import Config, to_yaml
from ffcv.ssl.distributed import all_sum, world_size
from ffcv.ssl.environment import environment
from ffcv.ssl.loggers import CsvLogger, Logger, open_loggers
from ffcv.ssl.throughput import StallClock

Batch = TypeVar("Batch")

GPU_STEPS = 20
"""Steps whose figures are fetched from a GPU together: asking after each would make the GPU wait for the loop."""


class RunLog:
    """Leaves config.yaml, environment.json, steps.csv and epochs.csv in the run's folder, and feeds the loggers.

    Every figure is the mean over ranks, so that it does not depend on their number. All ranks call every method.

    Args:
        config: of the run.
        steps: of an epoch.
        first_step: step to start with, above 0 when resuming; also within an epoch.
        writes: whether this process writes (rank 0); the others only add their share.
        device: that trains.
    """

    def __init__(self, config: Config, steps: int, first_step: int, writes: bool, device: torch.device) -> None:
        minutes = config.training.max_minutes
        self._limit_s = None if minutes is None else 60 * minutes
        self.train_s = self._epoch_s = 0.0
        self._images, self._batch = 0, config.training.batch_size
        self._steps, self._device = steps, device
        self._clock = StallClock(device)
        self._pending: list[tuple[dict[str, Any], list[Tensor]]] = []
        self._names: list[str] = []
        self._lr = 0.0
        self._rows: list[dict[str, float]] = []
        self._timed_steps = 0
        self._csv: CsvLogger | None = None
        self._loggers: list[Logger] = []
        if writes:
            folder = Path(config.logging.folder)
            folder.mkdir(parents=True, exist_ok=True)
            text = to_yaml(config)
            self._csv, further = open_loggers(config, steps, first_step, yaml.safe_load(text))
            self._loggers = [self._csv, *further]
            (folder / "config.yaml").write_text(text)
            (folder / "environment.json").write_text(json.dumps(environment(device), indent=1) + "\n")
            # The epoch that is gone on with gets its means over all its steps.
            begun = first_step - first_step % steps
            for row in self._csv.steps.kept:
                if int(row["step"]) >= begun:
                    self._rows.append({k: float(v) for k, v in row.items() if k not in ("step", "epoch", "lr")})

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

    def step(self, step: int, epoch: int, lr: float, values: Mapping[str, Tensor | float]) -> None:
        """Note one finished step.

        Args:
            step: from 0, over all epochs.
            epoch: from 0.
            lr: the learning rate that it was made with.
            values: this rank's scalars, of the same names in every step.
        """
        self._timed_steps += 1
        self._names = list(values)
        scalars = [torch.as_tensor(v, dtype=torch.float32, device=self._device).detach() for v in values.values()]
        self._pending.append(({"step": step, "epoch": epoch, "lr": lr}, scalars))
        if self._device.type == "cpu" or len(self._pending) == GPU_STEPS:
            self.flush()

    def flush(self) -> None:
        """Hand the steps that are noted so far to the loggers."""
        if not self._pending:
            return
        table = torch.stack([torch.stack(scalars) for _, scalars in self._pending])
        means = (all_sum(table) / world_size()).tolist()
        for (row, _), numbers in zip(self._pending, means, strict=True):
            values = dict(zip(self._names, numbers, strict=True))
            self._rows.append(values)
            for logger in self._loggers:
                logger.step({**row, **values})
        self._lr = self._pending[-1][0]["lr"]
        self._pending.clear()

    def end_epoch(self, epoch: int) -> dict[str, Any]:
        """Stop the epoch's clock; its row for `epoch()`, with the means over its steps."""
        self.flush()
        split = self._clock.stop()
        images = self._timed_steps * self._batch
        self._epoch_s = split.seconds
        self.train_s, self._images = self.train_s + split.seconds, self._images + images
        means = {name: sum(row[name] for row in self._rows) / len(self._rows) for name in self._rows[-1]}
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
        # Alone; other ranks may have gone before, and would be waited for.
        if world_size() == 1:
            self.flush()
        for logger in self._loggers:
            logger.close()
