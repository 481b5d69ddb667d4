"""What goes on around the training: evaluation, logging, the cluster."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ffcv.ssl.config.checking import check


@dataclass(frozen=True)
class EvalConfig:
    """How encoders are judged while training and at its end. 'ffcv eval' has options of its own.

    Attributes:
        table: end with a table of the trained encoder beside an untrained one and raw pixels, where their features take
            1 GiB or less.
        labels_per_class: labels the probes may use, drawn by `seed`; null for all.
        draws: how many such draws are averaged.
        k: neighbours.
        temperature: of the neighbours' weights exp(cosine / temperature).
        batch_size: images a step when extracting features.
        recent: the last images of each training epoch, so many, whose features give RankMe and the online k-NN.
    """

    table: bool = True
    labels_per_class: int | None = None
    draws: int = 10
    k: int = 20
    temperature: float = 0.07
    batch_size: int = 500
    recent: int = 4096

    def __post_init__(self) -> None:
        for name in ("draws", "k", "batch_size", "recent"):
            check(getattr(self, name) > 0, f"evaluation.{name} must be above 0, got {getattr(self, name)}")
        check(self.temperature > 0, f"evaluation.temperature must be above 0, got {self.temperature}")
        check(
            self.labels_per_class is None or self.labels_per_class > 0,
            f"evaluation.labels_per_class must be above 0 or null, got {self.labels_per_class}",
        )


@dataclass(frozen=True)
class LoggingConfig:
    """What is left behind.

    Attributes:
        folder: gets config.yaml, environment.json, steps.csv, epochs.csv and last.ckpt.
        overwrite: begin anew in a folder that has another run's last.ckpt, which is deleted; refused otherwise. A run
            that `resume` finds there goes on all the same.
        checkpoint_every: epochs between checkpoints (and one at the end).
        checkpoint_every_steps: steps between further checkpoints, also within an epoch; 0 for none.
        progress: show a progress bar, and a line for each epoch.
        tensorboard: also write event files for TensorBoard into the folder.
        wandb: also log to this project at Weights & Biases.
    """

    folder: str = "runs/ssl"
    overwrite: bool = False
    checkpoint_every: int = 5
    checkpoint_every_steps: int = 0
    progress: bool = True
    tensorboard: bool = False
    wandb: str | None = None

    def __post_init__(self) -> None:
        check(
            self.checkpoint_every > 0,
            f"logging.checkpoint_every must be above 0, got {self.checkpoint_every}",
        )
        steps = self.checkpoint_every_steps
        check(steps >= 0, f"logging.checkpoint_every_steps must be 0 or more, got {steps}")


@dataclass(frozen=True)
class DistConfig:
    """Where a submitted run works: by submitit on a SLURM cluster.

    Attributes:
        use_submitit: 1: hand the run to the cluster and return.
        cluster: slurm; local for processes on this machine, to try it out.
        nodes: machines.
        gpus_per_node: processes on each, one a GPU.
        cpus_per_task: cores of each process: its share of decoding.
        timeout_min: time limit of one run of the job, minutes; a job that runs out of it is requeued and goes on.
        max_timeouts: how often.
        partition: SLURM's; null for the cluster's default.
        comment: SLURM's.
        slurm: further sbatch options by their long names, such as {account: vision, constraint: h100}.
    """

    use_submitit: Literal[0, 1] = 0
    cluster: Literal["slurm", "local"] = "slurm"
    nodes: int = 1
    gpus_per_node: int = 8
    cpus_per_task: int = 10
    timeout_min: int = 2800
    max_timeouts: int = 10
    partition: str | None = None
    comment: str | None = None
    slurm: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("nodes", "cpus_per_task", "timeout_min"):
            check(getattr(self, name) > 0, f"dist.{name} must be above 0, got {getattr(self, name)}")
        for name in ("gpus_per_node", "max_timeouts"):
            check(getattr(self, name) >= 0, f"dist.{name} must be 0 or more, got {getattr(self, name)}")
