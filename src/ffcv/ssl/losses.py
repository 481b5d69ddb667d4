"""What several methods' losses share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ParamSpec, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ffcv.ssl.distributed import gather, mean

P = ParamSpec("P")
R = TypeVar("R")


def in_float32(loss: Callable[P, R]) -> Callable[P, R]:
    """Computes a loss in float32, whatever precision the encoder runs in (float64 stays float64).

    Positional tensors, and those in lists, are widened, and autocast is off: it would do matrix products in
    half precision even between float32 tensors.
    """

    @functools.wraps(loss)
    def widened(*args: P.args, **kwargs: P.kwargs) -> R:
        wide = cast(Any, _widen(args))
        with torch.autocast(next(_tensors(wide)).device.type, enabled=False):
            return loss(*wide, **kwargs)

    return widened


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def _widen(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_widen(item) for item in value)
    half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
    return value.float() if half else value


@in_float32
def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Mean cosine of the rows of two [N, E], over all ranks (see `distributed.mean`)."""
    return mean((F.normalize(first, dim=1) * F.normalize(second, dim=1)).sum(1))


@in_float32
def cosines(rows: Tensor, columns: Tensor) -> Tensor:
    """The cosines [N, M] of every row of [N, E] with every row of [M, E]."""
    return F.linear(F.normalize(rows, dim=1), F.normalize(columns, dim=1))


@in_float32
def cross_entropies(wanted: Sequence[Tensor], scores: Sequence[Tensor]) -> Tensor:
    """Mean cross-entropy, over all ranks, of guesses softmax(scores) under wanted distributions.

    The mean also goes over all pairs of a view that has a distribution (the first ones) and another view, as in
    multi-crop training (SwAV's section 3.2, DINO's equation 3).

    Args:
        wanted: distributions [N, K] of the first views, without gradient.
        scores: logits [N, K] of all views.
    """
    guesses = [s.log_softmax(1) for s in scores]
    pairs = [(w, g) for i, w in enumerate(wanted) for j, g in enumerate(guesses) if i != j]
    return mean(torch.stack([-(w * g).sum(1) for w, g in pairs]).mean(0))


@in_float32
def info_nce(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """InfoNCE of queries [N, E] against the keys [N, E] of all ranks (van den Oord et al.,
    https://arxiv.org/abs/1807.03748, equation 4, with cosines): row i of one belongs to row i of the other,

        mean_i  -log( exp(q_i . k_i / t)  /  sum_j exp(q_i . k_j / t) ).
    """
    everyone = gather(F.normalize(keys, dim=1))
    logits = cosines(queries, everyone.rows) / temperature
    partner = torch.arange(everyone.offset, everyone.offset + len(queries), device=queries.device)
    return mean(F.cross_entropy(logits, partner, reduction="none"))
