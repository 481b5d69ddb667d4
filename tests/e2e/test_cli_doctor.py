"""`ffcv doctor`: good machines and files pass, and what is wrong is found."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from beton_files import damage, everything
from command_line import run
from ffcv import Loader, __version__, _core
from ffcv.cli import doctor, file_checks, machine_checks, package_checks, self_test
from ffcv.cli.checks import Check
from ffcv.reader import Reader


@pytest.fixture(autouse=True)
def _no_optional_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing them takes seconds, and one that is broken here is not what is tested."""
    monkeypatch.setattr(package_checks, "OPTIONAL", {})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return everything(tmp_path / "all.beton")


Checks = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def checks(capsys: pytest.CaptureFixture[str]) -> Checks:
    """Runs `ffcv doctor ... --json`: the exit status, and the checks by name."""

    def look(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
        status, printed, _ = run(capsys, "doctor", *arguments, "--json")
        summary = json.loads(printed)
        assert summary["ok"] is (status == 0)
        assert all(set(check) == set(Check._fields) for check in summary["checks"])
        assert all(bool(check["advice"]) == (check["status"] != "ok") for check in summary["checks"])
        return status, {check["name"]: check for check in summary["checks"]}

    return look


def test_a_good_machine_and_file_pass(file: Path, checks: Checks) -> None:
    used = _core.isa()
    status, found = checks(file)
    assert status == 0
    assert {check["name"] for check in found.values() if check["status"] == "problem"} == set()
    assert f"torch {torch.__version__}" in found["versions"]["found"]
    assert found["kernels"]["found"].startswith(used)
    assert found["libjpeg-turbo"]["found"].startswith(_core.libjpeg_turbo_version())
    assert found["file"]["found"].startswith("6 samples, ")
    assert found["fingerprint"]["found"] == Reader(file).fingerprint
    assert found["samples"]["found"] == "6 of 6 were decoded"
    assert _core.isa() == used


def test_it_prints_a_line_a_check_and_a_verdict(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, printed, _ = run(capsys, "doctor", file)
    assert status == 0
    lines = printed.splitlines()
    for name in ("versions", "cores", "kernels", "self-test", "fingerprint", "page cache"):
        assert any(line.startswith(("ok ", "warning ")) and line.split("  ")[1:] and name in line for line in lines)
    assert lines[-1].startswith("no problems")


def test_the_self_test_computes_the_pixels_of_this_version_by_every_instruction_set() -> None:
    """Whoever changes a random stream or a pixel on purpose puts the new hash into self_test.py, and says so in
    CHANGELOG.md."""
    (check,) = self_test.self_test()
    assert check.status == "ok", check
    used = _core.isa()
    levels = [level for level in self_test.LEVELS if _core.select_isa(level)]
    _core.select_isa(used)
    assert check.found.endswith(f"the right pixels by {', '.join(levels)}")


def test_a_broken_kernel_is_found_and_named(checks: Checks, monkeypatch: pytest.MonkeyPatch) -> None:
    used = _core.isa()

    class Broken(Loader):
        """One pixel of each batch is wrong by one, by the kernels in use before the test."""

        def __iter__(self) -> Any:
            for batch in super().__iter__():
                if _core.isa() == used:
                    batch.image[0, 0, 0, 0] ^= 1
                yield batch

    monkeypatch.setattr(self_test, "Loader", Broken)
    status, found = checks()
    assert status == 1
    assert found["self-test"]["status"] == "problem"
    alone = len([level for level in self_test.LEVELS if _core.select_isa(level)]) == 1
    _core.select_isa(used)
    expected = "other pixels than this version's" if alone else f"instruction sets differ: {used} computed other pixels"
    assert found["self-test"]["found"].startswith(expected)
    assert "report it" in found["self-test"]["advice"]


def test_kernels_that_are_all_wrong_are_found(checks: Checks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_test, "_digest", lambda path: "f00")
    status, found = checks()
    assert status == 1
    assert found["self-test"]["found"] == "other pixels than this version's: f00"


def test_a_self_test_that_raises_is_a_problem_and_leaves_the_kernels(
    checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> str:
        raise OSError(28, "No space left on device")

    used = _core.isa()
    monkeypatch.setattr(self_test, "_digest", fail)
    status, found = checks()
    assert status == 1
    assert "No space left on device" in found["self-test"]["found"]
    assert _core.isa() == used


@pytest.mark.parametrize("samples", [[3], range(6)])
def test_damaged_samples_are_a_problem(file: Path, checks: Checks, samples: list[int]) -> None:
    pointers = Reader(file).column("image")["data_ptr"]
    for sample in samples:
        damage(file, int(pointers[sample]) + 300)
    status, found = checks(file)
    assert status == 1
    assert found["samples"]["status"] == "problem"
    count = len(list(samples))
    assert found["samples"]["found"].startswith(f"{count} of 6 do not decode; sample {next(iter(samples))}: checksum")
    assert f"ffcv verify {file} --decode" in found["samples"]["advice"]


def test_files_that_do_not_open_are_a_problem(file: Path, tmp_path: Path, checks: Checks) -> None:
    status, found = checks(tmp_path / "none.beton")
    assert (status, found["file"]["found"]) == (1, "no such file")
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    status, found = checks(file)
    assert status == 1
    assert found["file"]["found"].startswith("truncated")
    assert "ffcv write" in found["file"]["advice"]
    assert "samples" not in found


def test_files_without_checksums_are_warned_of(tmp_path: Path, checks: Checks) -> None:
    status, found = checks(everything(tmp_path / "x.beton", checksums=False))
    assert status == 0
    assert found["checksums"]["status"] == "warning"
    assert "ffcv write" in found["checksums"]["advice"]


@pytest.mark.parametrize("kind", ["nfs4", "fuse.sshfs", "ext4"])
def test_network_filesystems_are_warned_of(
    file: Path, checks: Checks, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(file_checks, "filesystem_of", lambda path: kind)
    status, found = checks(file)
    assert (status, found["filesystem"]["found"]) == (0, kind)
    assert found["filesystem"]["status"] == ("ok" if kind == "ext4" else "warning")


def test_filesystems_are_those_of_the_nearest_mount_point(tmp_path: Path) -> None:
    assert file_checks.filesystem_of(Path("/proc/self/status")) == "proc"
    link = tmp_path / "link"
    link.symlink_to("/proc/self/status")
    assert file_checks.filesystem_of(link) == "proc"


@pytest.mark.parametrize("name", ["a b", "données", os.fsdecode(b"\xff"), "back\\slash"])
def test_mount_points_of_any_name_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    place = os.fsencode(tmp_path / name).replace(b"\\", rb"\134").replace(b" ", rb"\040")  # as Linux writes them
    lines = [b"1 0 0:1 / / rw - ext4 /dev/sda rw", b"2 1 0:2 / " + place + b" rw shared:1 - nfs4 server:/x rw"]
    (tmp_path / "mounts").write_bytes(b"\n".join(lines))
    monkeypatch.setattr(file_checks, "MOUNTS", tmp_path / "mounts")
    assert file_checks.filesystem_of(tmp_path / name / "x.beton") == "nfs4"
    assert file_checks.filesystem_of(tmp_path / "x.beton") == "ext4"


def test_files_larger_than_memory_are_warned_of(file: Path, checks: Checks, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(file.read_bytes()) == file_checks.cached_bytes(Reader(file))  # it was just read
    monkeypatch.setattr(file_checks, "cached_bytes", lambda reader: 0)
    monkeypatch.setattr(file_checks, "_available_bytes", lambda: 1000)
    status, found = checks(file)
    assert (status, found["page cache"]["status"]) == (0, "warning")
    assert "os_cache=False" in found["page cache"]["advice"]


def test_files_that_one_may_not_write_do_not_count_as_cached(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert file_checks.cached_bytes(Reader(file)) is None


def test_packages_that_do_not_import_are_warned_of(checks: Checks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_checks, "OPTIONAL", {"torch": "no_such_module", "numpy": "no_such_module"})
    status, found = checks()
    assert status == 0
    assert found["torch"]["status"] == found["numpy"]["status"] == "warning"
    assert "does not import: ModuleNotFoundError" in found["torch"]["found"]
    assert found["numpy"]["advice"] == "mend torch first, which it imports"
    assert f"torch {torch.__version__}" in found["optional"]["found"]


def test_the_original_package_beside_ours_is_a_problem(checks: Checks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_checks, "distributions", lambda: [SimpleNamespace(metadata={"Name": "FFCV"})])
    status, found = checks()
    assert status == 1
    assert "pip uninstall ffcv" in found["other ffcv"]["advice"]


def test_limits_of_the_machine_are_warned_of(checks: Checks, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine_checks, "available_cores", lambda: 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 4096))
    monkeypatch.setattr(machine_checks, "LITTLE_DISK", 1 << 80)
    monkeypatch.setattr(_core, "isa", lambda: "v2")
    status, found = checks()
    warned = {name for name, check in found.items() if check["status"] == "warning"}
    assert (status, warned) == (0, {"cores", "open files", "temporary files", "kernels"})
    assert found["cores"]["found"].startswith("1 of 8 cores")
    assert found["open files"]["advice"] == "raise it: ulimit -n 4096"
    monkeypatch.setattr(machine_checks.tempfile, "gettempdir", lambda: str(tmp_path / "none"))
    status, found = checks()
    assert (status, found["temporary files"]["status"]) == (1, "problem")


def test_gpus_that_torch_does_not_see_are_warned_of(checks: Checks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(machine_checks, "NVIDIA", (Path("/"),))
    for built, expected in ((None, "built for CPUs only"), ("12.4", "torch for CUDA 12.4 finds no device")):
        monkeypatch.setattr(torch.version, "cuda", built)
        status, found = checks()
        assert (status, found["GPUs"]["status"]) == (0, "warning")
        assert expected in found["GPUs"]["found"]
    monkeypatch.setattr(machine_checks, "NVIDIA", ())
    assert checks()[1]["GPUs"]["found"] == "none"


def test_gpus_are_named(checks: Checks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    device = SimpleNamespace(name="NVIDIA H200", total_memory=140 << 30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: device)
    found = checks()[1]
    assert found["GPUs"]["found"].startswith("NVIDIA H200 (140 GiB), NVIDIA H200 (140 GiB); CUDA ")
    monkeypatch.setattr(machine_checks, "LITTLE_SHARED", 1 << 80)
    assert "--shm-size" in checks()[1]["shared memory"]["advice"]


def test_a_check_that_breaks_does_not_stop_the_others(checks: Checks, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> list[Check]:
        raise RuntimeError("no such thing")

    monkeypatch.setattr(doctor, "CHECKS", [("broken", fail), *doctor.CHECKS])
    status, found = checks()
    assert status == 1
    assert found["broken"]["found"] == "RuntimeError: no such thing"
    assert found["self-test"]["status"] == "ok"


def test_nothing_is_left_in_the_temporary_folder(
    checks: Checks, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(machine_checks.tempfile, "tempdir", str(tmp_path))
    assert checks()[1]["temporary files"]["found"].startswith(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"ffcv-ssl {__version__}\n", "")
