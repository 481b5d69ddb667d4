"""Where a run's figures go: CSV files, the console, TensorBoard, Weights & Biases. One small interface for all."""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ffcv.ssl.config import Config
from ffcv.ssl.errors import ConfigError
from ffcv.ssl.position import Position

Row = Mapping[str, Any]
"""Named figures. A step's has 'step' and 'epoch', an epoch's 'epoch', both from 0."""


class Logger(ABC):
    """Takes the rows of steps, in order, and one row at the end of each epoch."""

    @abstractmethod
    def step(self, row: Row) -> None:
        """One finished step."""

    @abstractmethod
    def epoch(self, row: Row) -> None:
        """One finished epoch; everything is visible to readers afterwards."""

    @abstractmethod
    def close(self) -> None:
        """The run ends, in whatever way."""


class CsvFile:
    """Rows of one CSV file whose column `key` counts up. Opening it drops the rows from `start` on: those that a
    resumed run will write again.

    Attributes:
        kept: the rows that were there already, as text, until its user lets go of them.
    """

    def __init__(self, path: Path, key: str, start: int) -> None:
        self._path = path
        self.kept: list[dict[str, str]] = []
        if start > 0 and path.is_file():
            # A row without all columns is one that a crash cut off.
            self.kept = [row for row in self._read() if None not in row.values() and int(row[key]) < start]
        self._columns: list[str] = []
        self._open(self.kept)

    def write(self, row: Row) -> None:
        """Append a row. A figure without a column yet gets one, empty in the earlier rows."""
        if not row.keys() <= set(self._columns):
            self._file.close()
            self._open([*self._read(), row])
        else:
            self._writer.writerow(row)

    def flush(self) -> None:
        """Make what was written visible to readers."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close the file."""
        self._file.close()

    def _read(self) -> list[dict[str, str]]:
        with self._path.open(newline="") as file:
            return list(csv.DictReader(file))

    def _open(self, rows: list[Any]) -> None:
        self._columns = list(dict.fromkeys(name for row in rows for name in row))
        temporary = self._path.with_name(f"{self._path.name}.partial")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            if rows:
                writer.writeheader()
                writer.writerows(rows)
        temporary.replace(self._path)
        self._file = self._path.open("a", newline="")
        self._writer: csv.DictWriter[str] = csv.DictWriter(self._file, self._columns)


class CsvLogger(Logger):
    """steps.csv and epochs.csv; what `ffcv report` reads.

    Args:
        folder: of the run.
        first: step and epoch that the run starts with, above 0 when it is resumed.
    """

    def __init__(self, folder: Path, first: Position) -> None:
        self.steps = CsvFile(folder / "steps.csv", "step", first.step)
        self.epochs = CsvFile(folder / "epochs.csv", "epoch", first.epoch)

    def step(self, row: Row) -> None:
        self.steps.write(row)

    def epoch(self, row: Row) -> None:
        self.epochs.write(row)
        self.flush()

    def flush(self) -> None:
        """Make what was written visible to readers, and safe from a death of this process."""
        self.steps.flush()
        self.epochs.flush()

    def close(self) -> None:
        self.steps.close()
        self.epochs.close()


class ConsoleLogger(Logger):
    """A progress bar, and a line for each epoch.

    Args:
        epochs: of the whole run.
        steps: of an epoch.
        first_step: the step that the run starts with.
    """

    def __init__(self, epochs: int, steps: int, first_step: int) -> None:
        self._epochs = epochs
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}"),
        )
        self._task = self._bar.add_task("training", total=steps * epochs, completed=first_step, note="")
        self._bar.start()

    def step(self, row: Row) -> None:
        description = f"epoch {row['epoch'] + 1}/{self._epochs}"
        note = f"loss {row['loss']:.4g}"
        self._bar.update(self._task, completed=row["step"] + 1, note=note, description=description)

    def epoch(self, row: Row) -> None:
        line = f"epoch {row['epoch'] + 1:>{len(str(self._epochs))}}/{self._epochs}  {epoch_line(row)}"
        self._bar.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        self._bar.stop()


def epoch_line(row: Row) -> str:
    """An epoch's figures in a few words; those that it does not have are left out."""
    shown = [
        ("loss", "loss {:.4g}"),
        ("images_per_s", "{:,.0f} images/s"),
        ("data_stall", "data stall {:.1%}"),
        ("probe_accuracy", "probe {:.1%}"),
        ("online_knn_accuracy", "online k-NN {:.1%}"),
        ("val_probe_accuracy", "held-out probe {:.1%}"),
        ("knn_accuracy", "held-out k-NN {:.1%}"),
        ("rank_me", "RankMe {:.1f}"),
    ]
    return "  ".join(text.format(row[name]) for name, text in shown if name in row)


class TensorBoardLogger(Logger):
    """Event files for `tensorboard --logdir FOLDER`: 'step/...' over steps, and in `EPOCHS` 'epoch/...' over epochs.

    Args:
        folder: of the run.
        first: step and epoch that the run starts with, above 0 when it is resumed.

    Raises:
        ConfigError: the package tensorboard is not installed.
    """

    EPOCHS = "epochs"
    """Folder in the run's: TensorBoard hides points from a number on in all curves of a folder alike."""

    def __init__(self, folder: Path, first: Position) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ConfigError(
                "logging.tensorboard needs the package tensorboard: pip install 'ffcv-ssl[tensorboard]'"
            ) from None
        # Steps and epochs from here on that an interrupted run left behind are hidden.
        self._steps = SummaryWriter(str(folder), purge_step=first.step)
        self._epochs = SummaryWriter(str(folder / self.EPOCHS), purge_step=first.epoch)

    def step(self, row: Row) -> None:
        for name, value in _figures(row, "step").items():
            self._steps.add_scalar(name, value, row["step"])

    def epoch(self, row: Row) -> None:
        for name, value in _figures(row, "epoch").items():
            self._epochs.add_scalar(name, value, row["epoch"])
        for writer in (self._steps, self._epochs):
            writer.flush()

    def close(self) -> None:
        for writer in (self._steps, self._epochs):
            writer.close()

    @classmethod
    def files(cls, folder: Path) -> list[Path]:
        """What runs in `folder` left."""
        return [file for place in (folder, folder / cls.EPOCHS) for file in place.glob("events.out.tfevents.*")]


class WandbLogger(Logger):
    """A run at Weights & Biases in `project`, named after the folder; a resumed run goes on in the same one.

    Raises:
        ConfigError: the package wandb is not installed.
    """

    def __init__(self, project: str, folder: Path, config: dict[str, Any]) -> None:
        try:
            import wandb  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise ConfigError("logging.wandb needs the package wandb: pip install wandb") from None
        identity = folder / "wandb-run-id.txt"
        run_id = identity.read_text().strip() if identity.is_file() else None
        self._run: Any = wandb.init(
            project=project, name=folder.name, dir=str(folder), config=config, id=run_id, resume="allow"
        )
        identity.write_text(f"{self._run.id}\n")
        for axis in ("step", "epoch"):
            self._run.define_metric(f"{axis}/*", step_metric=axis)

    def step(self, row: Row) -> None:
        self._run.log({**_figures(row, "step"), "step": row["step"]})

    def epoch(self, row: Row) -> None:
        self._run.log({**_figures(row, "epoch"), "epoch": row["epoch"]})

    def close(self) -> None:
        self._run.finish()


def _figures(row: Row, prefix: str) -> dict[str, float]:
    """The row without its axes, names prefixed."""
    return {f"{prefix}/{name}": float(value) for name, value in row.items() if name not in ("step", "epoch")}


def open_loggers(config: Config, steps: int, first: Position, values: dict[str, Any]) -> tuple[CsvLogger, list[Logger]]:
    """The CSV files and the further loggers that `config.logging` asks for.

    Args:
        config: of the run.
        steps: of an epoch.
        first: where to start.
        values: the configuration as nested dictionaries.
    """
    folder = Path(config.logging.folder)
    further: list[Logger] = []
    # First those that may be missing, so that a run that cannot start leaves nothing behind.
    if config.logging.tensorboard:
        further.append(TensorBoardLogger(folder, first))
    if config.logging.wandb is not None:
        further.append(WandbLogger(config.logging.wandb, folder, values))
    if config.logging.progress:
        further.append(ConsoleLogger(config.training.epochs, steps, first.step))
    return CsvLogger(folder, first), further
