"""What a run tells: CSV files for later, a progress bar for now."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from ffcv.ssl.config import Config, to_yaml


class CsvLog:
    """Rows of one CSV file whose column `key` counts up; resuming drops those from `start` on."""

    def __init__(self, path: Path, key: str, start: int) -> None:
        rows = []
        if start > 0 and path.is_file():
            with path.open(newline="") as file:
                rows = [row for row in csv.DictReader(file) if int(row[key]) < start]
        self._file = path.open("w", newline="")
        self._writer: csv.DictWriter[str] | None = None
        for row in rows:
            self.write(row)

    def write(self, row: dict[str, Any]) -> None:
        """Append a row; the first one's keys are the columns."""
        if self._writer is None:
            self._writer = csv.DictWriter(self._file, list(row))
            self._writer.writeheader()
        self._writer.writerow(row)

    def flush(self) -> None:
        """Make what was written visible to readers."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close the file."""
        self._file.close()


class RunLog:
    """Keeps the books of a run: config.yaml, steps.csv, epochs.csv, the progress bar, the throughput.

    Args:
        config: of the run.
        steps: of an epoch.
        first: epoch to start with, above 0 when resuming.
        writes: whether this process writes (rank 0); the others only count.
    """

    def __init__(self, config: Config, steps: int, first: int, writes: bool) -> None:
        minutes = config.training.max_minutes
        self._limit_s = None if minutes is None else 60 * minutes
        self.train_s = self._epoch_s = 0.0
        self._images, self._batch = 0, config.training.batch_size
        self._epochs, self._steps = config.training.epochs, steps
        self._notes: dict[str, str] = {}
        self._writes = writes
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=8),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}"),
            disable=not (writes and config.logging.progress),
        )
        total, done = steps * config.training.epochs, steps * first
        self._task = self._bar.add_task("training", total=total, completed=done, note="")
        if writes:
            folder = Path(config.logging.folder)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "config.yaml").write_text(to_yaml(config))
            self._step_log = CsvLog(folder / "steps.csv", "step", done)
            self._epoch_log = CsvLog(folder / "epochs.csv", "epoch", first)

    @property
    def images_per_s(self) -> float:
        """Source images over the seconds spent in finished epochs."""
        return self._images / self.train_s if self.train_s else 0.0

    @property
    def out_of_time(self) -> bool:
        """Whether another epoch as long as the last one would exceed the configured minutes."""
        return self._limit_s is not None and self.train_s + self._epoch_s > self._limit_s

    def step(self, step: int, epoch: int, lr: float, wait_s: float, values: dict[str, float]) -> None:
        """Note one finished step; `wait_s` is how long it waited for its batch."""
        if step % self._steps == 0:
            self._began = time.perf_counter() - wait_s
            self._waited_s, self._sums = 0.0, dict.fromkeys(values, 0.0)
        self._lr, self._waited_s = lr, self._waited_s + wait_s
        for name, value in values.items():
            self._sums[name] += value
        if self._writes:
            self._step_log.write({"step": step, "epoch": epoch, "lr": lr, **values})
        note = "  ".join([f"loss {values['loss']:.3f}", *self._notes.values()])
        description = f"epoch {epoch + 1}/{self._epochs}"
        self._bar.update(self._task, completed=step + 1, note=note, description=description)

    def end_epoch(self, epoch: int) -> dict[str, Any]:
        """Stop the epoch's clock; its row for `epoch()`, with the means over its steps."""
        seconds = time.perf_counter() - self._began
        images = self._steps * self._batch
        self._epoch_s, self.train_s, self._images = seconds, self.train_s + seconds, self._images + images
        means = {name: total / self._steps for name, total in self._sums.items()}
        return {
            "epoch": epoch,
            "seconds": seconds,
            "wait_share": self._waited_s / seconds,
            "images_per_s": images / seconds,
            "lr": self._lr,
            **means,
            "knn_accuracy": "",
        }

    def epoch(self, row: dict[str, Any]) -> None:
        """Write the epoch's row, and show its rate and accuracies while the next epoch runs."""
        self._notes["rate"] = f"{row['images_per_s']:,.0f} images/s"
        for name in ("probe_accuracy", "knn_accuracy"):
            if isinstance(row.get(name), float):
                self._notes[name] = f"{name.removesuffix('_accuracy')} {row[name]:.1%}"
        if self._writes:
            self._epoch_log.write(row)
            self._epoch_log.flush()
            self._step_log.flush()

    def __enter__(self) -> RunLog:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if self._writes:
            self._step_log.close()
            self._epoch_log.close()
