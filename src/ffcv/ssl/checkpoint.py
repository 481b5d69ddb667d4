"""Checkpoints: one file, replaced atomically, read without running any code from it."""

from __future__ import annotations

import os
import random
from importlib.metadata import version
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
import yaml

from ffcv.errors import one_line
from ffcv.ssl.errors import ConfigError

FORMAT = 3
"""Version of the dictionary that `save` writes."""

FREE = (
    "data.train",
    "data.val",
    "data.num_workers",
    "data.os_cache",
    "logging.",
    "evaluation.",
    "dist.",
    "resume",
    "training.eval_every",
    "training.max_minutes",
    "training.accelerator",
    "training.devices",
    "training.cpu_threads",
    "training.compile",
)
"""Options in which a resumed run may differ: where it reads, writes, evaluates and computes. That the files at other
paths have the same images is for the feed's state to say."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings, and dicts and lists of them) so that `path` is old or new,
    never half.

    To a temporary file beside it, flushed to the disk, then renamed.

    Raises:
        OSError: the disk is full, or the like; `path` is as it was.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save({"format": FORMAT, "version": version("ffcv-ssl"), **state}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        # torch's writer hides what the file said behind an error of its own.
        reason = error if isinstance(error, OSError) else error.__context__
        if isinstance(reason, OSError):
            raise OSError(reason.errno, f"{reason.strerror} (not saved)", str(path)) from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remove_halves(folder: Path) -> None:
    """Delete what runs that were killed in `save` left in the folder: each is as large as a checkpoint."""
    for half in folder.glob("*.ckpt.*.tmp"):
        half.unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any]:
    """What `save` wrote, on the CPU.

    Raises:
        FileNotFoundError: no such file.
        ConfigError: not a checkpoint, damaged, or of a newer format.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint; start without --resume, or with --resume auto")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:  # its message is about options of torch.load
        raise ConfigError(f"{path}: not a readable checkpoint: something else, or it holds more than data") from None
    except Exception as error:
        # Damaged bytes make torch's reader raise almost anything (RuntimeError, KeyError, EOFError, ...).
        raise ConfigError(f"{path}: not a readable checkpoint ({one_line(error)[:100]})") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise ConfigError(
            f"{path}: checkpoint format {found}, this version reads {FORMAT}: use the version of ffcv-ssl that wrote it"
        )
    return state


def rng_state() -> dict[str, Any]:
    """State of the global generators of Python, numpy and torch, as `weights_only` loading takes it."""
    version, words, gauss = random.getstate()
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": [version, torch.tensor(words), gauss],
        "numpy": [name, torch.tensor(keys), *rest],
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Put back what `rng_state` gave; on another number of GPUs, theirs are left alone."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy(), *rest))
    torch.set_rng_state(state["cpu"])
    if len(state["cuda"]) == torch.cuda.device_count() and state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])


def require_same(saved: str, wanted: str, path: Path) -> None:
    """A resumed run must be the run that was saved; only options in `FREE` may change.

    Args:
        saved: the checkpoint's configuration, YAML.
        wanted: the new one, YAML.
        path: the checkpoint, for the message.

    Raises:
        ConfigError: the two differ in anything else; the message lists it.
    """
    before, now = _flat(yaml.safe_load(saved)), _flat(yaml.safe_load(wanted))
    changed = [
        f"{key}={before.get(key)!r} (now {now.get(key)!r})"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key) and not key.startswith(FREE)
    ]
    if changed:
        raise ConfigError(
            f"{path}: was made with {', '.join(changed)}; resume with the same, or start without --resume"
        )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
