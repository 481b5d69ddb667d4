"""What several test files need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with the golden files and the real data: $FFCV_SHARED, or `shared` beside the checkout."""
    root = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("FFCV_SHARED", root.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: the golden files and real data are kept outside the project")
    return folder
