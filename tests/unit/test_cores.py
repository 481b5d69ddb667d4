"""Counting the cores that a process may use."""

from pathlib import Path

import pytest

from ffcv import cores

PODS = {"kubepods/cpu.max": "700000 100000", "kubepods/pod1/cpu.max": "250000 100000"}


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        (None, {}, 16),
        ("0::/", {}, 16),
        ("0::/", {"cpu.max": "max 100000"}, 16),
        ("0::/", {"cpu.max": "300000 100000"}, 3),
        ("0::/", {"cpu.max": "250000 100000"}, 3),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/", {"cpu.max": "9900000 100000"}, 16),
        ("0::/", {"cpu.max": "rubbish"}, 16),
        (None, {"cpu.max": "300000 100000"}, 3),
        ("0::/kubepods/pod1/main", PODS | {"kubepods/pod1/main/cpu.max": "max 100000"}, 3),
        ("0::/kubepods/pod2", PODS, 7),
        ("0::/../outside", {"cpu.max": "300000 100000"}, 3),
        ("4:memory:/a\n3:cpu,cpuacct:/a/b", {"cpu,cpuacct/a/cpu": (400000, 100000), "cpu,cpuacct/a/b/cpu": (-1, 1)}, 4),
        ("3:cpu,cpuacct:/docker/1", {"cpu/cpu": (600000, 100000)}, 6),
        ("3:cpu:/a\n0::/", {"cpu/a/cpu": (150000, 100000)}, 2),
        ("4:cpuset:/a", {"cpuset/a/cpu": (100000, 100000)}, 16),
    ],
)
def test_quotas_of_control_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str | None, files: dict, expected: int
) -> None:
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda pid: range(16), raising=False)
    monkeypatch.setattr(cores, "_MOUNTED", tmp_path / "mounted")
    monkeypatch.setattr(cores, "_OWN", tmp_path / "own")
    if own is not None:
        (tmp_path / "own").write_text(own)
    for name, content in files.items():
        path = tmp_path / "mounted" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content)
        else:  # version 1
            for what, number in zip(("quota", "period"), content, strict=True):
                path.with_name(f"cpu.cfs_{what}_us").write_text(f"{number}\n")
    assert cores.available_cores() == expected
