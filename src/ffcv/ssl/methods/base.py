"""The protocol that every method keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import groupby
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn

from ffcv.ssl.collapse import spread
from ffcv.ssl.config import ViewConfig
from ffcv.ssl.errors import ConfigError
from ffcv.ssl.heads import MLP
from ffcv.ssl.teacher import Teacher, momentum_at
from ffcv.ssl.views import global_views, local_views

Views = Sequence[Tensor]
"""One tensor a view, in the order of `Method.views`."""

Terms = dict[str, Tensor]
"""Named scalars of a loss; 'loss' is the total."""


class Output(NamedTuple):
    """What one forward pass gives.

    Attributes:
        features: the backbone's representations of the first view, float [B, D], detached (for the probes).
        terms: named scalars; ``terms['loss']`` is the one to differentiate.
        layers: what the projector's layers make of the features, float [B, width] each, detached (for the probes).
    """

    features: Tensor
    terms: Terms
    layers: tuple[Tensor, ...] = ()


class Method(nn.Module, ABC):
    """A way to train an encoder, mostly without labels.

    A subclass is final, lives alone in ``methods/<name>.py`` and says three things: its `Options` (a frozen
    dataclass; on the command line ``--<name>.<option>``), its heads (in ``__init__``, `projector` among them) and
    its `loss`. It may also change the views, give the loss `targets` that need no gradient, and act after each
    optimiser step; `TaughtMethod` does so with a teacher.

    The trainer calls the module itself, so that data parallelism sees one forward pass with the loss inside.

    Attributes:
        multi_crop: whether the loss takes local views beside the two global ones.
        views_apart: whether each view passes the networks alone, so that batch normalisation takes its statistics from
            it, or together with its neighbours of one size; as in the authors' code.
        projector: what `embed` applies; a subclass makes it.
        step: of the running step, from 0, and `total_steps` of the run: set by the trainer before each step, so
            that schedules are functions of it and checkpoints need not hold them.
    """

    Options: ClassVar[type]
    multi_crop: ClassVar[bool] = False
    views_apart: ClassVar[bool] = False
    projector: nn.Module

    def __init__(self, backbone: nn.Module, options: Any) -> None:
        super().__init__()
        self.backbone = backbone
        self.options = options
        self.num_features = cast(int, backbone.num_features)
        self.step, self.total_steps = 0, 1

    @property
    def encoder(self) -> nn.Module:
        """The network to evaluate and to keep: the backbone, or its teacher where that is the better one."""
        return self.backbone

    @property
    def progress(self) -> float:
        """Share of the training that is done before this step, 0 up to 1."""
        return self.step / self.total_steps

    def views(self, config: ViewConfig) -> list[list[Any]]:
        """One pipeline of `ffcv.transforms` a view: two global ones, then the recipe's local ones.

        Raises:
            ConfigError: local views for a method that takes none.
        """
        if config.num_local and not self.multi_crop:
            raise ConfigError(
                f"{type(self).__name__} takes no local views: set views.num_local to 0, got {config.num_local}"
            )
        return [*global_views(config), *local_views(config)]

    @property
    def layer_widths(self) -> list[int]:
        """Widths of the projector's layers (`Output.layers`), found by a trial run of `embed`."""
        weight, was_training = next(self.parameters()), self.training
        self.eval()
        with torch.no_grad():
            _, layers = self.embed(weight.new_zeros(1, self.num_features))
        self.train(was_training)
        return [layer.shape[1] for layer in layers]

    def check_labels(self, num_classes: int | None) -> None:
        """Called once before training with the number of classes, None where there are no labels."""
        return None

    def embed(self, features: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Representations, float [N, D], to what the loss compares, float [N, E], and, detached, what the layers of an
        `MLP` put out on the way, float [N, width] each (for the probes)."""
        if not isinstance(self.projector, MLP):
            return self.projector(features), []
        layers = self.projector.layers(features)
        return [features, *layers][-1], [layer.detach() for layer in layers]

    def targets(self, views: Views) -> Views:
        """What a teacher makes of the images, without gradient: for `loss`, tensors float [B, E]."""
        return ()

    @abstractmethod
    def loss(self, embeddings: Views, labels: Tensor | None = None, targets: Views = ()) -> Terms:
        """The projector's outputs for each view, V tensors float [B, E], to named scalars (float32).

        The mean over ranks of what they return is the loss of the whole batch, as if on one rank.
        """

    def after_step(self, step: int, total_steps: int) -> None:
        """Called after every optimiser step (moving averages and the like)."""
        return None

    def passes(self, views: Views) -> list[Tensor]:
        """What goes through a network together: neighbours of one size, or each view alone (`views_apart`)."""
        if self.views_apart:
            return list(views)
        return [torch.cat(list(group)) for _, group in groupby(views, key=lambda view: view.shape[2:])]

    def encode(self, views: Views) -> Tensor:
        """Views [B, 3, H, W] to representations [V * B, D], in order."""
        return torch.cat([self.backbone(images) for images in self.passes(views)])

    def forward(self, views: Views, labels: Tensor | None = None) -> Output:
        """Views, V tensors float [B, 3, H, W], to the first one's features and the loss.

        `terms` also has 'feature_spread' (`ffcv.ssl.collapse.spread`), which falls to 0 when training collapses.
        """
        features, batch = self.encode(views), len(views[0])
        embedded = [self.embed(part) for part in features.split(batch if self.views_apart else len(features))]
        embeddings = [view for part, _ in embedded for view in part.split(batch)]
        layers = embedded[0][1]
        terms = self.loss(embeddings, labels, self.targets(views))
        first = features[:batch].detach().float()
        return Output(
            first, {**terms, "feature_spread": spread(first)}, tuple(layer[:batch].float() for layer in layers)
        )


class TaughtMethod(Method):
    """A method whose targets are a teacher's: a copy of `followed` that moves towards it after each step.

    A subclass calls `make_teacher` once its heads are there; its options have `momentum`.
    """

    teacher: Teacher

    def followed(self) -> list[nn.Module]:
        """What the teacher copies, called one after the other."""
        return [self.backbone, self.projector]

    def make_teacher(self) -> None:
        """The teacher, equal to what it will follow."""
        self.teacher = Teacher(*self.followed())

    def targets(self, views: Views) -> Views:
        """Of the two global views."""
        return torch.cat([self.teacher(images) for images in self.passes(views[:2])]).chunk(2)

    def after_step(self, step: int, total_steps: int) -> None:
        momentum = momentum_at(step, total_steps, self.options.momentum)
        self.teacher.follow(*self.followed(), momentum=momentum)
