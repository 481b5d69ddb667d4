"""What several test files need."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

# Before torch and numpy are imported, and inherited by the processes that tests start: their tensors are small, and
# threads that wait for busy cores take longer than the work (half of the suite's time on two shared cores).
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch


def pytest_configure() -> None:
    """Tests send signals to processes that they start, which inherit what nohup or a shell's & made ignored."""
    for number, usual in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with the golden files and the real data: $FFCV_SHARED, or `shared` beside the checkout."""
    root = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("FFCV_SHARED", root.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: the golden files and real data are kept outside the project")
    return folder


@pytest.fixture
def one_torch_thread() -> Iterator[None]:
    """For small tensors: threads that wait for busy cores take longer than the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
