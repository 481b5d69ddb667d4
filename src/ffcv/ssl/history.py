"""What a run left in its folder, read back."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ffcv.errors import one_line
from ffcv.ssl.config import Config, from_yaml
from ffcv.ssl.errors import ConfigError

Columns = dict[str, np.ndarray]
"""Columns of a CSV file, float64; NaN where a row has nothing."""


@dataclass(frozen=True)
class History:
    """A run's books.

    Attributes:
        config: of the run, and `config_text` as it was written.
        environment: names and values; empty where it was not kept.
        steps: columns of steps.csv.
        epochs: columns of epochs.csv.
    """

    config: Config
    config_text: str
    environment: dict[str, str]
    steps: Columns
    epochs: Columns


def read(folder: Path) -> History:
    """The books in a run's folder.

    Raises:
        FileNotFoundError: it is no run's folder.
        ConfigError: no epoch has been finished yet, or a file is damaged.
    """
    for name in ("config.yaml", "steps.csv", "epochs.csv"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name}: missing; give the --logging.folder of a run of 'ffcv train'")
    epochs = _columns(folder / "epochs.csv")
    if not epochs:
        raise ConfigError(f"{folder}: no epoch has been finished yet; there is nothing to report")
    text = (folder / "config.yaml").read_text()
    environment = folder / "environment.json"
    try:
        facts = json.loads(environment.read_text()) if environment.is_file() else {}
    except ValueError as error:
        raise ConfigError(f"{environment}: not JSON ({one_line(error)}); restore it, or delete it") from None
    return History(from_yaml(text), text, facts, _columns(folder / "steps.csv"), epochs)


def _columns(path: Path) -> Columns:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        return {name: np.array([float(row[name] or "nan") for row in rows]) for name in (rows[0] if rows else ())}
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{path}: not a table of numbers ({error}); restore it, or leave the damaged rows out"
        ) from None
