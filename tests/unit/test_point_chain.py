"""The GPU's kernel of colour operations, checked on the CPU."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


def test_by_tritons_interpreter() -> None:
    """In a process of its own: triton is set to interpreting when it is imported."""
    pytest.importorskip("triton", reason="triton is not installed: the development environment on Linux has it")
    tests = Path(__file__).parents[1] / "interpreted" / "point_chain.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)]
    environment = os.environ | {"TRITON_INTERPRET": "1", "COLUMNS": "200"}
    done = subprocess.run(command, env=environment, cwd=tests.parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[-1]) >= 20
