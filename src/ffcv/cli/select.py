"""`--select START:STOP[:STEP]`."""

from __future__ import annotations

import typer


def select(option: str | None, count: int) -> range:
    """Which of `count` samples an option names; all without one.

    Raises:
        typer.BadParameter: It is of another form.
    """
    parts = (option or ":").split(":")
    try:
        if len(parts) not in (2, 3):
            raise ValueError
        return range(count)[slice(*(int(part) if part else None for part in parts))]
    except ValueError:
        raise typer.BadParameter(f"{option!r} is not START:STOP or START:STOP:STEP", param_hint="--select") from None
