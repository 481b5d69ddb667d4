"""Everything that defines a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ffcv.ssl.config.checking import check
from ffcv.ssl.config.inputs import DataConfig, ViewConfig
from ffcv.ssl.config.learning import ModelConfig, OptimConfig, TrainingConfig
from ffcv.ssl.config.running import DistConfig, EvalConfig, LoggingConfig


@dataclass(frozen=True)
class Config:
    """Everything that defines a run.

    Attributes:
        method: a file of ffcv/ssl/methods.
        options: that method's own `Options`; on the command line and in YAML they are named after the method.
        resume: 'auto' (go on from the folder's last.ckpt if there is one), or the path of a checkpoint or of a folder
            with a last.ckpt.
        seed: of the initial weights, the order, the views and the held-out part.
    """

    data: DataConfig
    method: str = "simclr"
    options: Any = None
    views: ViewConfig = field(default_factory=ViewConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvalConfig = field(default_factory=EvalConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    dist: DistConfig = field(default_factory=DistConfig)
    resume: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check(0 <= self.seed < 1 << 63, f"seed must be in [0, 2^63), got {self.seed}")
