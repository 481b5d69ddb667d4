"""New processes that need not import torch and the training loop: forked from a server that has."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
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


def command(folder: Path, *arguments: str | Path) -> tuple[int, bytes, bytes]:
    """Exit status and the bytes of stdout and stderr of `ffcv ARGUMENTS` in a process of its own, by way of files in
    `folder`."""
    printed, errors = folder / "printed", folder / "errors"
    status = run(_command, [str(argument) for argument in arguments], printed, errors)
    return status, printed.read_bytes(), errors.read_bytes()


def _command(arguments: list[str], printed: Path, errors: Path) -> None:
    from ffcv.cli.main import main

    for descriptor, path in ((1, printed), (2, errors)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), descriptor)
    multiprocessing.set_start_method(None, force=True)  # the usual one again, not that of this process
    main(arguments)
