"""The same function in two data-parallel processes (gloo)."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import fork_server


def run(function: Callable[[int], Any], folder: Path) -> tuple[Any, Any]:
    """What `function(rank)` gives on each rank: tensors, in lists and dicts. It must be importable by its name."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.start_processes(_rank, (function, port, str(folder)), nprocs=2, start_method=fork_server.METHOD)
    first, second = (torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    return first, second


def _rank(rank: int, function: Callable[[int], Any], port: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    torch.save(function(rank), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()
