"""`ffcv doctor`: what goes wrong most, and what a bug report needs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ffcv.cli import file_checks, machine_checks, package_checks, self_test
from ffcv.cli.checks import Check, problem
from ffcv.errors import one_line
from ffcv.fields import Field

STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}

CHECKS: list[tuple[str, Callable[[], list[Check]]]] = [
    ("versions", package_checks.versions),
    ("optional packages", package_checks.optional),
    ("installation", package_checks.installation),
    ("machine", machine_checks.machine),
    ("GPUs", machine_checks.gpus),
    ("storage and limits", machine_checks.limits),
    ("self-test", self_test.self_test),
]


def doctor(file: Path | None, as_json: bool, custom_fields: Mapping[str, type[Field]]) -> bool:
    """Checks the installation, the machine and, if given, a file, and prints what was found; False for a problem."""
    checks = [check for name, run in CHECKS for check in _run(name, run)]
    if file is not None:
        checks += _run("file", lambda: file_checks.file(file, custom_fields))
    if as_json:
        print(json.dumps({"ok": not _count(checks, "problem"), "checks": [c._asdict() for c in checks]}, indent=2))
    else:
        _print(checks)
    return not _count(checks, "problem")


def _run(name: str, run: Callable[[], list[Check]]) -> list[Check]:
    """The checks; one that breaks is itself a finding, and the others are made all the same."""
    try:
        return run()
    except Exception as error:
        return [problem(name, one_line(error), "the check itself failed: please report it")]


def _count(checks: list[Check], status: str) -> int:
    return sum(check.status == status for check in checks)


def _print(checks: list[Check]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, status, found, advice in checks:
        text = Text(found)
        if advice:
            text.append(f"\n-> {advice}", style=STYLES[status])
        table.add_row(Text(status, STYLES[status]), Text(name), text)
    console.print(table)
    problems, warnings = _count(checks, "problem"), _count(checks, "warning")
    verdict = "no problems" if not problems else f"{problems} problem{'s' * (problems > 1)}"
    verdict += f", {warnings} warning{'s' * (warnings > 1)}" if warnings else ""
    console.print(Text(verdict, STYLES["problem" if problems else "ok"]))
