"""How processes find each other, and share a machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

import two_processes
from ffcv.cli import train
from ffcv.cli.main import main
from ffcv.ssl import distributed, slurm
from ffcv.ssl import launch as launching
from ffcv.ssl.config import Config, TrainingConfig, parse
from ffcv.ssl.errors import DivergedError, Interrupted
from ffcv.ssl.interrupt import EXIT_STATUS
from ffcv.ssl.launch import launch

pytestmark = pytest.mark.filterwarnings("ignore:GPU available but not used")

BARE = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "train"}


@pytest.mark.parametrize(
    "further",
    [
        {},
        {"SLURM_PROCID": "0", "SLURM_LOCALID": "0"},  # a script of sbatch
        {"SLURM_PROCID": "0", "SLURM_STEP_ID": str(0xFFFF_FFFA)},  # an interactive step, from which srun starts others
    ],
)
def test_a_shell_of_salloc_is_no_task(further: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It would wait for the three others for ever."""
    for name, value in {**BARE, **further}.items():
        monkeypatch.setenv(name, value)
    fabric = launch(TrainingConfig(accelerator="cpu", precision="32-true", batch_size=8))
    assert (fabric.world_size, fabric.global_rank) == (1, 0)


def test_a_task_of_srun_belongs_to_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of 4 tasks on 2 nodes is found: 6 images over them are no whole number."""
    for name, value in {**BARE, "SLURM_NTASKS_PER_NODE": "2", "SLURM_PROCID": "1", "SLURM_STEP_ID": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="batch_size 6 over 4 processes"):
        launch(TrainingConfig(accelerator="cpu", batch_size=6))


def _threads(rank: int) -> list[torch.Tensor]:
    """On a machine of eight cores, shared; each with cores of its own; told a number."""
    distributed.available_cores = lambda: 8
    shared = distributed.loader_threads(-1)
    distributed._sharers.cache_clear()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[rank]})
    return [torch.tensor(n) for n in (shared, distributed.loader_threads(-1), distributed.loader_threads(3))]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two processes cannot have a core each on one core")
def test_processes_share_the_cores_that_they_all_may_use(tmp_path: Path) -> None:
    for threads in two_processes.run(_threads, tmp_path):
        assert [int(n) for n in threads] == [4, 8, 3]
    assert distributed.loader_threads(-1) == -1  # one process alone: the loader takes all


def test_buffers_are_not_sent_in_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue of NNCLR's is 100 MB."""

    class Asked(Exception):
        pass

    def fabric(**options: Any) -> None:
        raise Asked(options["strategy"])

    monkeypatch.setattr(launching, "Fabric", fabric)
    with pytest.raises(Asked) as asked:
        launch(TrainingConfig(accelerator="cpu", devices=2))
    # torch 2.13's name for it, or the older one.
    assert asked.value.args[0]._ddp_kwargs in ({"forward_sync_buffers": False}, {"broadcast_buffers": False})


@pytest.mark.parametrize(("error", "usual"), [(Interrupted("stopped", None), EXIT_STATUS), (DivergedError("nan"), 1)])
@pytest.mark.parametrize(
    ("variables", "is_usual"),
    [
        ({}, True),
        ({"LOCAL_RANK": "0"}, True),
        ({"LOCAL_RANK": "1"}, False),  # the process that started it would be killed before it has closed its books
        ({"LOCAL_RANK": "1", "RANK": "1"}, True),  # torchrun's
    ],
)
def test_a_stopped_run_ends_with_its_status(
    variables: dict[str, str], is_usual: bool, error: Exception, usual: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(_: Config) -> None:
        raise error

    for name in ("LOCAL_RANK", "RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(train, "run", stopped)
    with pytest.raises(SystemExit) as end:
        main(["train", "--data.train", "X.beton"])
    assert end.value.code == (usual if is_usual else 0)


@pytest.mark.parametrize("replaces", [False, True])
@pytest.mark.parametrize(("saved", "resume"), [(False, "other/last.ckpt"), (True, "auto")])
def test_a_requeued_job_that_saved_nothing_begins_as_it_was_submitted(
    saved: bool, resume: str, replaces: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the other run's checkpoint, not from fresh weights, nor from the run that it was to replace."""
    pytest.importorskip("submitit", reason="the package submitit is not installed")
    line = f"--data.train X --logging.folder {tmp_path} --logging.overwrite true --resume other/last.ckpt"
    begun: list[str | None] = []
    own = tmp_path / "last.ckpt"
    if replaces:
        own.touch()
        os.utime(own, ns=(5, 5))
    job = slurm.Job(parse(line.split()), lambda config: begun.append(config.resume), 5 if replaces else None)
    if saved:
        own.write_bytes(b"new")
        os.utime(own, ns=(6, 6))
    assert job.checkpoint().function.config.resume == resume
    # The same where the cluster requeues it by itself.
    monkeypatch.setattr("submitit.helpers.TorchDistributedEnvironment.__init__", lambda self: None)
    monkeypatch.setattr("submitit.helpers.TorchDistributedEnvironment.export", lambda self, **_: None)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    job()
    assert begun == [resume]
