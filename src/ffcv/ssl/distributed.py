"""Gathering and adding up across data-parallel ranks, with gradient."""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function

from ffcv.cores import available_cores

Item = TypeVar("Item")

_equal: ContextVar[bool] = ContextVar("equal_shares", default=False)


class Gathered(NamedTuple):
    """All ranks' rows in rank order, and where this rank's rows begin among them."""

    rows: Tensor
    offset: int


def world_size() -> int:
    """Number of data-parallel processes, 1 without any."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def from_all_ranks(item: Item) -> list[Item]:
    """Every rank's `item`, small Python values, in rank order."""
    everyone: list[Any] = [item] * world_size()
    if len(everyone) > 1:
        dist.all_gather_object(everyone, item)
    return everyone


def loader_threads(wanted: int) -> int:
    """Threads of this process's loaders: `wanted`, or with -1 its share of the cores that it may run on. All ranks must
    make the first call."""
    if wanted > 0 or world_size() == 1:
        return wanted
    return max(1, available_cores() // _sharers(world_size()))


@functools.cache
def _sharers(ranks: int) -> int:
    """Processes that may run on the very cores that this one may run on. torchrun leaves a machine to all of its
    processes, SLURM gives each task cores of its own."""
    mine = (platform.node(), sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [])
    return from_all_ranks(mine).count(mine)


@contextmanager
def equal_shares() -> Iterator[None]:
    """In this block, all ranks hold the same number of rows whenever they meet, as in training, whose loader sees to
    it: so they need not tell each other, for which the host would wait for the device."""
    token = _equal.set(True)
    try:
        yield
    finally:
        _equal.reset(token)


def gather(x: Tensor) -> Gathered:
    """Rows [N_r, ...] of every rank r as one tensor [sum N_r, ...]; ranks may hold different numbers of rows.

    The gradient is the exact one: what all ranks' losses send back to this rank's rows is summed. (A plain
    `all_gather` cuts the gradient through the other ranks' losses.)
    """
    if world_size() == 1:
        return Gathered(x, 0)
    if _equal.get():
        counts = [len(x)] * world_size()
    else:
        sizes = [torch.zeros(1, dtype=torch.int64, device=x.device) for _ in range(world_size())]
        dist.all_gather(sizes, torch.full((1,), len(x), device=x.device))
        counts = torch.cat(sizes).tolist()
    return Gathered(_Gather.apply(x, counts), sum(counts[: dist.get_rank()]))


def all_sum(x: Tensor) -> Tensor:
    """The sum over ranks of tensors of one shape, with the exact gradient (see `gather`)."""
    return x if world_size() == 1 else cast(Tensor, _AllSum.apply(x))


def total_rows(x: Tensor) -> Tensor:
    """Number of rows of all ranks' `x` together, int64 scalar."""
    ranks = world_size() if _equal.get() else 1
    count = torch.full((), ranks * len(x), device=x.device)  # filled there: a copy from here would wait for the device
    if world_size() > ranks:
        dist.all_reduce(count)
    return count


def mean(values: Tensor) -> Tensor:
    """The mean of all ranks' values [N_r], weighted such that the *mean over ranks* of what each returns is
    the mean over all values (data parallelism averages gradients; ranks may hold different numbers).
    """
    return values.sum() * world_size() / total_rows(values)


@torch.no_grad()
def average_gradients(module: nn.Module) -> None:
    """Replace the gradients of a module that is not wrapped for data parallelism by their means over ranks.

    Together in one message; they are of one type.
    """
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    if world_size() > 1 and gradients:
        together = torch.cat([gradient.flatten() for gradient in gradients]).div_(world_size())
        dist.all_reduce(together)
        for gradient, mean_ in zip(gradients, together.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean_.view_as(gradient))


class _AllSum(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        gradient = grad_outputs[0].contiguous().clone()
        dist.all_reduce(gradient)
        return gradient


class _Gather(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        # all_gather wants equal shapes, so that short ranks pad with rows that are cut off again.
        padded = x.new_zeros(max(counts), *x.shape[1:])
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        gradient = grad_outputs[0].contiguous().clone()
        dist.all_reduce(gradient)
        return gradient.split(ctx.counts)[dist.get_rank()], None
