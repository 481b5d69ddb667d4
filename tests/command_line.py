"""Runs `ffcv ARGUMENTS` in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from ffcv.cli.main import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of `ffcv ARGUMENTS`."""
    with pytest.raises(SystemExit) as info:
        main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    return int(info.value.code or 0), output.out, output.err


def command(*arguments: object, capsys: pytest.CaptureFixture[str], fails: bool = False) -> str:
    """What `ffcv ARGUMENTS` prints: stdout, or stderr where it fails, as it then must."""
    capsys.readouterr()  # what was printed before
    status, printed, errors = run(capsys, *map(str, arguments))
    assert bool(status) is fails, errors
    return errors if fails else printed


def assert_one_line_error(status: int, stderr: str, *parts: str | Path) -> None:
    """Exit status 1, and one line that begins with 'error: ' and holds all `parts`."""
    lines = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert status == 1
    assert len(lines) == 1
    assert stderr.rstrip().splitlines()[-1] == lines[0]
    assert "Traceback" not in stderr
    for part in parts:
        assert str(part) in lines[0]
