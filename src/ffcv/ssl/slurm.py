"""Runs on a SLURM cluster, by submitit (extra `[slurm]`): submitted, preempted, requeued, resumed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ffcv.errors import FfcvError
from ffcv.ssl.config import Config
from ffcv.ssl.errors import Interrupted
from ffcv.ssl.interrupt import EXIT_STATUS
from ffcv.ssl.run_state import require_free_folder


@dataclass(frozen=True)
class Job:
    """What each process of a job calls.

    submitit's protocol (its docs/checkpointing.md): on SIGUSR2 its handler asks `checkpoint` for what to queue next.
    The training notes the signal first, saves at the next step boundary and gives up its handlers; then we pass it on.

    Attributes:
        config: of the run.
        work: what to do with it.
        replaced: when the last.ckpt that the folder had at submission was written, nanoseconds; None without one.
    """

    config: Config
    work: Callable[[Config], None]
    replaced: int | None = None

    def __call__(self) -> None:
        import submitit

        submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        restarted = int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0  # the cluster requeued it by itself
        try:
            self.work(self._resuming() if restarted else self.config)
        except Interrupted as stopped:
            print(stopped, file=sys.stderr)
            # Not after SIGTERM, which also comes from scancel: who cancels a job does not want it back.
            if stopped.signum != signal.SIGTERM:
                signal.raise_signal(submitit.JobEnvironment._usr_sig())
            sys.exit(EXIT_STATUS)

    def checkpoint(self) -> Any:
        """The same run, going on from its last checkpoint."""
        import submitit

        return submitit.helpers.DelayedSubmission(replace(self, config=self._resuming()))

    def _resuming(self) -> Config:
        """From its own last checkpoint; before there is one, as it was begun, which may be from another run's."""
        has_own = _last_checkpoint(self.config) not in (None, self.replaced)
        return replace(self.config, resume="auto") if has_own else self.config


def submit(config: Config, work: Callable[[Config], None]) -> Any:
    """Hand `work(config)` to the cluster, with one process a GPU; submitit's job.

    Raises:
        FfcvError: submitit or SLURM is missing here, or the folder has another run.
    """
    require_free_folder(config)
    try:
        import submitit
    except ModuleNotFoundError:
        raise FfcvError("dist.use_submitit needs submitit: install it with  pip install 'ffcv-ssl[slurm]'") from None
    dist, gpus = config.dist, config.training.accelerator != "cpu"
    folder = Path(config.logging.folder).resolve() / "submitit"
    try:
        executor = submitit.AutoExecutor(folder, cluster=dist.cluster, slurm_max_num_timeout=dist.max_timeouts)
    except RuntimeError as error:
        raise FfcvError(f"dist.cluster is {dist.cluster!r}, but {error}: submit from a login node") from None
    processes = max(1, dist.gpus_per_node)
    executor.update_parameters(
        name=config.method,
        nodes=dist.nodes,
        tasks_per_node=processes,
        gpus_per_node=dist.gpus_per_node if gpus else 0,
        cpus_per_task=dist.cpus_per_task,
        timeout_min=dist.timeout_min,
        slurm_partition=dist.partition,
        slurm_comment=dist.comment,
        slurm_additional_parameters=dist.slurm,
    )
    config.training.images_at_once(dist.nodes * processes)
    return executor.submit(Job(config, work, _last_checkpoint(config)))


def _last_checkpoint(config: Config) -> int | None:
    """When the folder's last.ckpt was written, nanoseconds; None if there is none."""
    try:
        return (Path(config.logging.folder) / "last.ckpt").stat().st_mtime_ns
    except FileNotFoundError:
        return None
