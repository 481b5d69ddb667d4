"""The folder of a run: what another run finds there, and may do to it."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from digits import configuration, rows
from ffcv.ssl import run_state
from ffcv.ssl.errors import ConfigError
from ffcv.ssl.feed import Feed
from ffcv.ssl.train import fit

pytestmark = pytest.mark.filterwarnings(
    # lightning-fabric, on machines with a GPU when the run is on the CPU
    "ignore:GPU available but not used"
)


def test_a_folder_with_a_run_is_not_overwritten_by_mistake(digits: Path, tmp_path: Path) -> None:
    one = ("--training.epochs", "1")
    fit(configuration(digits, tmp_path / "a", *one))
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    for extra in (("--seed", "1"), ("--config", str(tmp_path / "a" / "config.yaml"), "--seed", "1")):
        with pytest.raises(ConfigError, match=r"has a run already .* --resume auto, .* --logging\.overwrite true"):
            fit(configuration(digits, tmp_path / "a", *one, *extra))
    fit(configuration(digits, tmp_path / "b", *one, "--resume", str(tmp_path / "a" / "last.ckpt")))
    with pytest.raises(ConfigError, match="has a run already"):  # also when it would go on from elsewhere
        fit(configuration(digits, tmp_path / "a", *one, "--resume", str(tmp_path / "b" / "last.ckpt")))
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before


def test_two_runs_at_once_do_not_share_a_folder(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = configuration(digits, tmp_path, "--training.epochs", "1")
    with closing(Folder(tmp_path)), pytest.raises(ConfigError, match="has a run that is not over: wait for it"):
        fit(one)
    assert list(tmp_path.iterdir()) == []
    fit(one)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for extra in (("--logging.overwrite", "true"), ("--resume", "auto")):
        with closing(Folder(tmp_path)), pytest.raises(ConfigError, match="has a run that is not over"):
            fit(configuration(digits, tmp_path, "--training.epochs", "1", *extra))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    with monkeypatch.context() as patch:  # a forked process keeps a copy of the descriptor
        copies: list[int] = []
        usual = os.open
        patch.setattr(run_state.os, "open", lambda *given: copies.append(os.dup(found := usual(*given))) or found)
        fit(configuration(digits, tmp_path, "--training.epochs", "1", "--resume", "auto"))
    fit(configuration(digits, tmp_path, "--training.epochs", "1", "--resume", "auto"))
    assert copies
    for copy in copies:
        os.close(copy)

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(run_state.fcntl, "flock", no_locks)
    fit(configuration(digits, tmp_path, "--training.epochs", "1", "--logging.overwrite", "true"))


class Folder:
    """A folder that another run is in."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def close(self) -> None:
        os.close(self._descriptor)


def test_an_overwritten_run_leaves_nothing_to_resume(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before its first checkpoint, the new run begins anew instead of going on from the old one's."""
    fit(configuration(digits, tmp_path, "--training.epochs", "1"))
    fresh = configuration(digits, tmp_path, "--training.epochs", "1", "--logging.overwrite", "true", "--seed", "1")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Feed, "epoch", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(fresh)
    assert not (tmp_path / "last.ckpt").exists()
    fit(fresh)
    assert "overwrite: false" in (tmp_path / "config.yaml").read_text()
    kept = (tmp_path / "last.ckpt").stat().st_mtime_ns
    fit(replace(fresh, resume="auto"))  # as a cluster requeues it: goes on, though it may overwrite
    assert len(rows(tmp_path / "steps.csv")) == 5
    assert (tmp_path / "last.ckpt").stat().st_mtime_ns == kept


def test_books_of_an_overwritten_run_do_not_stay(digits: Path, tmp_path: Path) -> None:
    """A run that goes on from another folder's checkpoint keeps no row of the run that it replaces."""
    halted = ("--training.max_minutes", "1e-9")
    fit(configuration(digits, tmp_path / "a", *halted))  # the first of three epochs
    fit(configuration(digits, tmp_path / "b", "--seed", "1"))
    shutil.copy(tmp_path / "a" / "last.ckpt", tmp_path / "a" / "first.ckpt")
    ids = [tmp_path / name / "wandb-run-id.txt" for name in ("a", "b")]
    ids += [tmp_path / name / "events.out.tfevents.1" for name in ("a", "b")]
    ids += [tmp_path / name / "epochs" / "events.out.tfevents.1" for name in ("a", "b")]
    for path in ids:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    overwrite = ("--logging.overwrite", "true")
    fit(configuration(digits, tmp_path / "b", *overwrite, "--resume", str(tmp_path / "a" / "last.ckpt")))
    assert [int(row["step"]) for row in rows(tmp_path / "b" / "steps.csv")] == list(range(5, 15))
    assert [int(row["epoch"]) for row in rows(tmp_path / "b" / "epochs.csv")] == [1, 2]
    # An earlier checkpoint of the same run keeps its rows.
    fit(configuration(digits, tmp_path / "a", "--resume", "auto"))
    whole = rows(tmp_path / "a" / "steps.csv")
    fit(configuration(digits, tmp_path / "a", "--resume", str(tmp_path / "a" / "first.ckpt")))
    assert rows(tmp_path / "a" / "steps.csv") == whole
    assert len(whole) == 15
    assert [path.exists() for path in ids] == [True, False] * 3
