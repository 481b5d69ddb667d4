"""What `ffcv doctor` finds out: each check is a fact, a verdict on it, and what to do."""

from __future__ import annotations

from typing import Literal, NamedTuple

from ffcv.errors import storable

Status = Literal["ok", "warning", "problem"]


class Check(NamedTuple):
    """One thing that was looked at.

    Attributes:
        name: What.
        status: 'warning' costs speed or stops one feature, 'problem' makes results wrong or stops everything.
        found: On one line.
        advice: What to do, where it is not ok.
    """

    name: str
    status: Status
    found: str
    advice: str = ""


def ok(name: str, found: str) -> Check:
    return Check(name, "ok", storable(found))


def warning(name: str, found: str, advice: str) -> Check:
    return Check(name, "warning", storable(found), storable(advice))


def problem(name: str, found: str, advice: str) -> Check:
    return Check(name, "problem", storable(found), storable(advice))
