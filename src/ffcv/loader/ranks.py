"""Which part of the work is this process's, and which seed all processes share."""

from __future__ import annotations

import os
import secrets
import warnings
from typing import NamedTuple

import torch
import torch.distributed as dist

from ffcv.loader.options import whole


class Ranks(NamedTuple):
    """This process among those that share an epoch."""

    rank: int
    world_size: int


_ENVIRONMENT = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS"))


def find_ranks(distributed: bool, rank: int | None, world_size: int | None) -> Ranks:
    """Arguments win; then torch.distributed, then RANK/WORLD_SIZE, then SLURM's, if `distributed`.

    Raises:
        ValueError: They contradict each other, or nothing says how many processes there are.
    """
    if (rank is None) != (world_size is None):
        raise ValueError(f"rank and world_size belong together, got rank={rank} and world_size={world_size}")
    if rank is not None and world_size is not None:
        return _checked(whole("rank", rank), whole("world_size", world_size), "rank= and world_size=")
    if not distributed:
        return Ranks(0, 1)
    if _initialised():
        return Ranks(dist.get_rank(), dist.get_world_size())
    for rank_name, size_name in _ENVIRONMENT:
        if rank_name in os.environ and size_name in os.environ:
            names = f"{rank_name} and {size_name}"
            try:
                return _checked(int(os.environ[rank_name]), int(os.environ[size_name]), names)
            except ValueError as error:
                raise ValueError(f"the environment's {names} cannot be used: {error}") from error
    raise ValueError(
        "distributed=True, but nothing says which rank this is: call torch.distributed.init_process_group() first, "
        "start with torchrun or srun, or pass rank= and world_size="
    )


def agree_on_seed(seed: int | None, ranks: Ranks) -> int:
    """`seed`; or, if it is None, one that all ranks share."""
    if seed is not None:
        return int(seed)
    drawn = secrets.randbits(63)
    if ranks.world_size == 1:
        return drawn
    if _initialised() and dist.get_world_size() == ranks.world_size:
        box = [drawn]
        dist.broadcast_object_list(box, src=0)
        return box[0]
    warnings.warn(
        f"{ranks.world_size} ranks without seed= and without torch.distributed to agree on one: all use seed 0; "
        "pass the same seed= on every rank",
        stacklevel=4,
    )
    return 0


def _checked(rank: int, world_size: int, source: str) -> Ranks:
    if not 0 <= rank < world_size:
        raise ValueError(f"{source}: the rank must be within 0..world_size-1, got {rank} of {world_size}")
    return Ranks(rank, world_size)


def _initialised() -> bool:
    return dist.is_available() and torch.distributed.is_initialized()
