"""Supervised training: cross-entropy with label smoothing (Szegedy et al., "Rethinking the Inception
Architecture for Computer Vision", CVPR 2016, https://arxiv.org/abs/1512.00567, section 7), the yardstick for the rest.

With K classes, y the right one and s the smoothing,

    loss = -sum_k q_k log p_k,    q_k = (1 - s) [k = y] + s / K
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ffcv.ssl import checks
from ffcv.ssl.config import ViewConfig
from ffcv.ssl.distributed import mean
from ffcv.ssl.errors import ConfigError
from ffcv.ssl.losses import in_float32
from ffcv.ssl.methods.base import Method, Terms, Views


@in_float32
def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> Terms:
    """The loss of logits [N, K] and labels int64 [N] on this rank, and the share of right answers."""
    loss = mean(F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing))
    return {"loss": loss, "accuracy": (logits.argmax(1) == labels).float().mean()}


@dataclass(frozen=True)
class Options:
    """Supervised training's own options.

    Attributes:
        num_classes: K above, more than the largest label.
        smoothing: s above.
    """

    num_classes: int = 1000
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        checks.above_zero(self, "num_classes")
        if not 0 <= self.smoothing < 1:
            raise ConfigError(f"supervised.smoothing must be in [0, 1), got {self.smoothing}")


class Supervised(Method):
    """One view, a linear classifier, and `cross_entropy` with the labels."""

    Options = Options

    def __init__(self, backbone: nn.Module, options: Options) -> None:
        super().__init__(backbone, options)
        self.projector = nn.Linear(self.num_features, options.num_classes)

    def views(self, config: ViewConfig) -> list[list[Any]]:
        return super().views(config)[:1]

    def check_labels(self, num_classes: int | None) -> None:
        if num_classes is None:
            raise ConfigError("supervised training needs labels: name their field with --data.label")
        if num_classes > self.options.num_classes:
            raise ConfigError(
                f"the largest label is {num_classes - 1}, but supervised.num_classes is {self.options.num_classes}: "
                f"set --supervised.num_classes to {num_classes} or more"
            )

    def loss(self, embeddings: Views, labels: Tensor | None = None, targets: Views = ()) -> Terms:
        if labels is None:
            raise ConfigError("supervised training needs labels, got None")
        return cross_entropy(embeddings[0], labels.long(), self.options.smoothing)
