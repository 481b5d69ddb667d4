"""How many CPU cores this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_MOUNTED = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def available_cores() -> int:
    """Cores that the affinity mask and the quotas of this process's control groups leave, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min([float(cores), *map(_quota, _groups())])))


def _groups() -> Iterator[Path]:
    """Folders of the control groups that may limit this process: its own and those around it, of either version.

    In a container its own group is often mounted as the outermost one, so that its path leads nowhere.
    """
    try:
        lines = _OWN.read_text().splitlines()
    except OSError:
        lines = []
    yield _MOUNTED
    for line in lines:
        _, controllers, path = line.split(":", 2)  # version 2 names no controllers
        if controllers and "cpu" not in controllers.split(","):
            continue
        for name in {controllers, controllers and "cpu"}:
            group = PurePosixPath(path.lstrip("/"))
            yield from (_MOUNTED / name / each for each in (group, *group.parents) if ".." not in each.parts)


def _quota(group: Path) -> float:
    """Cores; infinitely many where there is no quota."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return math.inf if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
