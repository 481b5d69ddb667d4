"""The protocol that every method keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn

from ffcv.ssl.config import ViewConfig
from ffcv.ssl.views import augment


class Output(NamedTuple):
    """What one forward pass gives.

    Attributes:
        features: the backbone's representations of the first view, float [B, D], detached (for the probes).
        terms: named scalars; ``terms['loss']`` is the one to differentiate.
    """

    features: Tensor
    terms: dict[str, Tensor]


class Method(nn.Module, ABC):
    """A way to train an encoder without labels.

    A subclass is final, lives alone in ``methods/<name>.py`` and says three things: its `Options` (a frozen
    dataclass; on the command line ``--<name>.<option>``), its heads (in ``__init__``) and its `loss`. It may
    also change the views and act after each optimiser step.

    The trainer calls the module itself, so that data parallelism sees one forward pass with the loss inside.
    """

    Options: ClassVar[type]

    def __init__(self, backbone: nn.Module, options: Any) -> None:
        super().__init__()
        self.backbone = backbone
        self.options = options
        self.num_features = cast(int, backbone.num_features)

    def views(self, config: ViewConfig) -> list[list[Any]]:
        """One pipeline of `ffcv.transforms` a view; by default two independent draws of the recipe's."""
        return [augment(config), augment(config)]

    @abstractmethod
    def embed(self, features: Tensor) -> Tensor:
        """Representations, float [N, D], to what the loss compares, float [N, E]."""

    @abstractmethod
    def loss(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> dict[str, Tensor]:
        """Embeddings of each view, V tensors float [B, E], to named scalars, 'loss' the total (float32)."""

    def after_step(self, step: int, total_steps: int) -> None:
        """Called after every optimiser step (moving averages and the like)."""
        return None

    def forward(self, views: Sequence[Tensor], labels: Tensor | None = None) -> Output:
        """Views, V tensors float [B, 3, H, W] of one size, in one pass through the backbone."""
        features = self.backbone(torch.cat(list(views)))
        embeddings = self.embed(features).chunk(len(views))
        return Output(features[: len(views[0])].detach().float(), self.loss(embeddings, labels))
