"""New processes that need not import torch and the training loop: forked from a server that has."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

METHOD = "forkserver"
_SERVER = multiprocessing.get_context(METHOD)
_SERVER.set_forkserver_preload(["ffcv.ssl.train", "ffcv.cli.eval", "ffcv.cli.main", "torch.utils.data"])


def run(function: Callable[..., None], *arguments: Any) -> int:
    """The exit status of a process that calls `function(*arguments)`; it must be importable by its name."""
    process = _SERVER.Process(target=function, args=arguments)
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode
