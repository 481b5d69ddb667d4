"""What several end-to-end tests read."""

from __future__ import annotations

from pathlib import Path

import pytest

import digits
from ffcv.ssl import config
from ffcv.ssl.train import fit


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.beton (400 digits), test.beton (200) and the run of a small SimCLR on the former."""
    folder = tmp_path_factory.mktemp("digits")
    digits.write(folder / "train.beton", digits.Digits(400))
    digits.write(folder / "test.beton", digits.Digits(200, skip=400))
    line = (
        f"--recipe simclr_digits --data.train {folder / 'train.beton'} --data.held_out 0.2 --logging.folder "
        f"{folder / 'run'} --views.size {digits.SIDE} --model.width 8 --data.num_workers 1 --training.batch_size 64 "
        "--training.epochs 3 --training.accelerator cpu --training.precision 32-true --training.eval_every 2 "
        "--logging.progress false --optim.lr 0.01 --optim.warmup_epochs 1 --training.cpu_threads 1"
    )
    fit(config.parse(line.split()))
    return folder


@pytest.fixture(name="digits", scope="module")
def digits_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of digits to train on."""
    return digits.write(tmp_path_factory.mktemp("data") / "digits.beton")
