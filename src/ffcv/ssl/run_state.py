"""All that a run needs to go on as if it had never stopped, in one checkpoint."""

from __future__ import annotations

import fcntl
import io
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from lightning_fabric import Fabric

from ffcv.errors import one_line
from ffcv.ssl import checkpoint
from ffcv.ssl.config import Config, to_yaml
from ffcv.ssl.errors import ConfigError
from ffcv.ssl.loggers import TensorBoardLogger
from ffcv.ssl.position import Position


class Stateful(Protocol):
    """Modules, optimisers, the gradient scaler, the feed."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...


class RunState:
    """Saves and restores `parts`, the position, the configuration, and what each rank has of its own: `own` and its
    random generators. On another number of ranks, the latter begin anew.

    Learning rate, weight decay, teacher momentum and resolution need no state: they are functions of the step or the
    epoch. So are the views: of the seed, the epoch and the image.

    Attributes:
        path: of the checkpoint that is kept up to date, last.ckpt in the logging folder.
    """

    def __init__(self, config: Config, fabric: Fabric, parts: dict[str, Stateful], own: dict[str, Stateful]) -> None:
        self._config, self._fabric, self._parts, self._own = config, fabric, parts, own
        self.path = Path(config.logging.folder) / "last.ckpt"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps other runs out of the folder, from before anything is deleted there until the block is left.

        Raises:
            ConfigError: another run is in it (not noticed on filesystems without locks).
        """
        if not self._fabric.is_global_zero:
            yield
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            with suppress(OSError):  # a filesystem without locks, or without those of folders
                try:
                    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise ConfigError(
                        f"{self.path.parent} has a run that is not over: wait for it, stop it, or choose another "
                        "--logging.folder"
                    ) from None
            yield
        finally:
            with suppress(OSError):  # forked processes may still hold copies of the descriptor, and the lock with it
                fcntl.flock(folder, fcntl.LOCK_UN)
            os.close(folder)

    def save(self, at: Position, diverged: bool = False) -> Path:
        """Write the checkpoint; all ranks call it, rank 0 writes. One of a step that `diverged`, half done, is another
        file, to look at: `resume` refuses it."""
        own = {name: part.state_dict() for name, part in self._own.items()}
        ranks = _from_all_ranks({**own, "rng": checkpoint.rng_state()})
        path = self.path.with_name("diverged.ckpt") if diverged else self.path
        if self._fabric.is_global_zero:
            parts = {part: stateful.state_dict() for part, stateful in self._parts.items()}
            rest = {"config": to_yaml(self._config), "step": at.step, "epoch": at.epoch, "ranks": ranks}
            checkpoint.save(path, {**parts, **rest, "diverged": diverged})
        self._fabric.barrier()
        return path

    def resume(self) -> Position:
        """Load the checkpoint that `config.resume` asks for: where to go on, the beginning for a fresh start.

        What another run left in the folder is deleted; `require_free_folder` says whether it may be.

        Raises:
            FileNotFoundError: it is missing.
            ConfigError: it is unreadable, of another run or other data, or of a step that diverged.
        """
        path = resumed_from(self._config)
        state = None if path is None else checkpoint.load(path)
        if state is not None and path is not None:
            if state.get("diverged"):
                raise ConfigError(
                    f"{path}: holds the weights that gave a loss that is no number, to look at: resume from an earlier "
                    "checkpoint, or start without --resume"
                )
            checkpoint.require_same(state["config"], to_yaml(self._config), path)
            self._load(state, path)
        self._fabric.barrier()  # nobody reads any more
        if self._fabric.is_global_zero:
            for left in self._left_by_another_run(path):
                left.unlink(missing_ok=True)
            checkpoint.remove_halves(self.path.parent)
        if state is None:
            self._seed(0)
            return Position(0, 0)
        if len(state["ranks"]) == self._fabric.world_size:
            mine = state["ranks"][self._fabric.global_rank]
            for name, part in self._own.items():
                part.load_state_dict(mine[name])
            checkpoint.set_rng_state(mine["rng"])
        else:
            self._seed(state["step"])
        return Position(int(state["step"]), int(state["epoch"]))

    def _left_by_another_run(self, path: Path | None) -> list[Path]:
        """Files in the folder that are none of the run that begins, or goes on from `path`."""
        if not _goes_on(path, self.path):
            names = ("last.ckpt", "diverged.ckpt", "steps.csv", "epochs.csv", "wandb-run-id.txt")
            is_a_runs = self.path.with_name("steps.csv").exists()  # else TensorBoard's files are somebody else's
            events = TensorBoardLogger.files(self.path.parent) if is_a_runs else ()
            return [*map(self.path.with_name, names), *events]
        # An earlier checkpoint of the same run: what came after it is made again.
        return [] if path is None or path.resolve() == self.path.resolve() else [self.path]

    def _load(self, state: dict[str, Any], path: Path) -> None:
        for name, part in self._parts.items():
            try:
                part.load_state_dict(state[name])
            except (KeyError, RuntimeError, ValueError) as error:
                raise ConfigError(
                    f"{path}: its {name} does not fit this run: resume with the data and the version of ffcv-ssl that "
                    f"it was made with, or start without --resume ({one_line(error)[:300]})"
                ) from None

    def _seed(self, step: int) -> None:
        """Generators that differ between ranks: dropout must not be the same for all."""
        sequence = np.random.SeedSequence([self._config.seed, step, self._fabric.global_rank])
        first, second, third = sequence.generate_state(3)
        torch.manual_seed(int(first))
        np.random.seed(int(second))
        random.seed(int(third))


def resumed_from(config: Config) -> Path | None:
    """The checkpoint that the run will go on from; None for a fresh start."""
    own = Path(config.logging.folder) / "last.ckpt"
    if config.resume == "auto":
        return own if own.is_file() else None
    if config.resume is None:
        return None
    given = Path(config.resume)
    return given / "last.ckpt" if given.is_dir() else given


def require_free_folder(config: Config) -> None:
    """Raise a `ConfigError` if the run would replace another one's checkpoint without having been told to."""
    own, source = Path(config.logging.folder) / "last.ckpt", resumed_from(config)
    if own.is_file() and not _goes_on(source, own) and not config.logging.overwrite:
        raise ConfigError(
            f"{own.parent} has a run already (last.ckpt): go on with it by --resume auto, choose another "
            "--logging.folder, or replace it by --logging.overwrite true"
        )


def _goes_on(source: Path | None, own: Path) -> bool:
    """Whether a run whose last checkpoint is `own` begins with a checkpoint of the same folder."""
    return source is not None and source.resolve().parent == own.resolve().parent


def _from_all_ranks(item: Any) -> list[Any]:
    if not dist.is_initialized():
        return [item]
    # As torch saves them: tensors pickled by themselves do not all come back.
    buffer = io.BytesIO()
    torch.save(item, buffer)
    packed: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(packed, buffer.getvalue())
    return [torch.load(io.BytesIO(each), map_location="cpu", weights_only=True) for each in packed]
