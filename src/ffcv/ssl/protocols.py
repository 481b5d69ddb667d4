"""Judging a frozen encoder by the field's protocols: k-NN, linear probe, logistic regression.

What a protocol has to choose (a penalty, a learning rate) it chooses on a part of the training images that it holds out
for that, never on the test images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ffcv.ssl import probes
from ffcv.ssl.errors import ConfigError

PENALTIES = tuple(10.0**e for e in range(-6, 1))
"""Candidates for l2 of `logreg`."""

RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Candidates for the learning rate of `linear`, at 256 images a step."""


class Labelled(NamedTuple):
    """Features and labels.

    Attributes:
        views: float [V, N, D]: V views of each image, the centre crop first.
        labels: int64 [N], from 0.
    """

    views: Tensor
    labels: Tensor

    def part(self, index: Tensor) -> Labelled:
        """The images of the numbers `index`."""
        return Labelled(self.views[:, index], self.labels[index])


@dataclass(frozen=True)
class Result:
    """How many test images were classified right.

    Attributes:
        setting: what the protocol used or chose.
        top1: share, 0..1.
        top5: share whose class is among the five best, None with five classes or fewer.
    """

    setting: dict[str, Any]
    top1: float
    top5: float | None


@dataclass(frozen=True)
class Options:
    """What the protocols can be told.

    Attributes:
        k: knn: numbers of neighbours, each a result.
        temperature: knn: of the votes' weights.
        epochs: linear: passes over the training images.
        batch_size: linear: images a step.
        seed: of draws and orders.
    """

    k: Sequence[int] = (20, 200)
    temperature: float = 0.07
    epochs: int = 100
    batch_size: int = 1024
    seed: int = field(default=0)


def knn(train: Labelled, test: Labelled, options: Options) -> list[Result]:
    """Weighted k-NN on cosines (Wu et al., https://arxiv.org/abs/1805.01978; k = 20 and 200 as in DINO,
    https://arxiv.org/abs/2104.14294, table 2)."""
    results = []
    for k in options.k:
        votes = probes.knn_votes(train.views[0], train.labels, test.views[0], k, options.temperature)
        results.append(_result({"k": k, "temperature": options.temperature}, votes, test.labels))
    return results


def logreg(train: Labelled, test: Labelled, options: Options) -> list[Result]:
    """Multinomial logistic regression by L-BFGS (CLIP, https://arxiv.org/abs/2103.00020, appendix A.3), its penalty
    chosen among `PENALTIES` on held-out training images."""

    def scores(fit: Labelled, x: Tensor, l2: float) -> Tensor:
        views, n, _ = fit.views.shape
        return probes.logistic_scores(fit.views.reshape(views * n, -1), fit.labels.repeat(views), x, l2)

    chosen = PENALTIES[len(PENALTIES) // 2]
    if split := _split(train, options.seed):
        fit, held_out = split
        found = [probes.accuracy(scores(fit, held_out.views[0], l2), held_out.labels) for l2 in PENALTIES]
        # The last of equals: the strongest penalty.
        chosen = max(zip(found, PENALTIES, strict=True))[1]
    return [_result({"l2": chosen}, scores(train, test.views[0], chosen), test.labels)]


def linear(train: Labelled, test: Labelled, options: Options) -> list[Result]:
    """A linear layer on standardised features, trained by SGD with momentum along a cosine, without weight decay; its
    rate is chosen among `RATES` on held-out training images (as DINOv2 does, https://arxiv.org/abs/2304.07193,
    appendix B.3). Each step sees one random view of each image."""
    chosen = RATES[len(RATES) // 2]
    if split := _split(train, options.seed):
        fit, held_out = split
        scores = _train_linear(fit, held_out.views[0], RATES, options)
        found = [probes.accuracy(s, held_out.labels) for s in scores]
        chosen = RATES[found.index(max(found))]
    scores = _train_linear(train, test.views[0], [chosen], options)[0]
    setting = {"lr": chosen, "epochs": options.epochs, "views": len(train.views)}
    return [_result(setting, scores, test.labels)]


PROTOCOLS: dict[str, Callable[[Labelled, Labelled, Options], list[Result]]] = {
    "knn": knn,
    "linear": linear,
    "logreg": logreg,
}


def protocol(name: str) -> Callable[[Labelled, Labelled, Options], list[Result]]:
    """The protocol of that name.

    Raises:
        ConfigError: there is none; the message lists those there are.
    """
    if name not in PROTOCOLS:
        raise ConfigError(f"unknown protocol {name!r}: choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def _result(setting: dict[str, Any], scores: Tensor, labels: Tensor) -> Result:
    top5 = probes.accuracy(scores, labels, 5) if scores.shape[1] > 5 else None
    return Result(setting, probes.accuracy(scores, labels), top5)


def _split(train: Labelled, seed: int) -> tuple[Labelled, Labelled] | None:
    """A tenth of every class for choosing, one image at least of those with two or more; None if there is none."""
    counts = train.labels.bincount()
    several = (counts[train.labels] > 1).nonzero()[:, 0]
    if len(several) == 0:
        return None
    held_out = several[probes.share_of_labels(train.labels[several], 0.1, seed)]
    rest = torch.ones(len(train.labels), dtype=torch.bool, device=train.labels.device)
    rest[held_out] = False
    return train.part(rest.nonzero()[:, 0]), train.part(held_out)


def _train_linear(train: Labelled, test: Tensor, rates: Sequence[float], options: Options) -> Tensor:
    """Scores float [R, M, C] of one linear layer for each rate, all trained in one pass.

    SGD without weight decay is linear in the gradient: a loss times a rate trains as with that rate.
    """
    number_of_views, n, width = train.views.shape
    flat, test = probes.standardise(train.views.reshape(number_of_views * n, width), test)
    views, device = flat.view(number_of_views, n, width), flat.device
    generator = torch.Generator().manual_seed(options.seed)
    weight = nn.Parameter(torch.zeros(len(rates), width, int(train.labels.max()) + 1, device=device))
    bias = nn.Parameter(torch.zeros(len(rates), 1, weight.shape[2], device=device))
    scale = torch.tensor(rates, device=device) * min(options.batch_size, n) / 256
    solver = torch.optim.SGD([weight, bias], lr=1.0, momentum=0.9)
    steps = options.epochs * -(-n // options.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(solver, steps)
    for _ in range(options.epochs):
        for index in torch.randperm(n, generator=generator).split(options.batch_size):
            view = torch.randint(number_of_views, (len(index),), generator=generator)
            logits = torch.baddbmm(bias, views[view, index].expand(len(rates), -1, -1), weight)
            labels = train.labels[index.to(device)].repeat(len(rates))
            losses = F.cross_entropy(logits.flatten(0, 1), labels, reduction="none").view(len(rates), -1).mean(1)
            solver.zero_grad()
            (losses * scale).sum().backward()
            solver.step()
            schedule.step()
    with torch.no_grad():
        return torch.baddbmm(bias, test.expand(len(rates), -1, -1), weight)
