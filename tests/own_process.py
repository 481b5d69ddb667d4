"""Python code in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap


def command(code: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code)]


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `code`; the time limit only turns a hang into a failure."""
    return subprocess.run(command(code), capture_output=True, text=True, timeout=120, env=os.environ | environment)
