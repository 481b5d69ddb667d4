"""Checkpoints of the iteration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ffcv.loader.options import whole
from ffcv.loader.position import MAX_EPOCH, Position
from ffcv.random import RNG_VERSION

if TYPE_CHECKING:
    from ffcv.loader.loader import Loader

STATE_FORMAT = 1


def apply_state(loader: Loader, state: Mapping[str, Any]) -> None:
    """See `Loader.load_state_dict`."""
    if not isinstance(state, Mapping):
        raise TypeError(f"a state of a Loader is a dictionary, got {type(state).__name__}")
    missing = {"format", "seed", "epoch", "samples_consumed", "fingerprint", "rng_version"} - state.keys()
    if missing:
        raise ValueError(f"not a state of a Loader: it has no {', '.join(sorted(missing))}")
    if state["format"] != STATE_FORMAT:
        raise ValueError(f"the state has format {state['format']}, this version of ffcv reads {STATE_FORMAT}")
    if state["rng_version"] != RNG_VERSION:
        raise ValueError(
            f"the state is of random streams of version {state['rng_version']}, this ffcv has {RNG_VERSION}: "
            "orders and augmentations would differ; go on with the version that wrote it, or start an epoch anew with "
            "set_epoch()"
        )
    if state["fingerprint"] != loader.reader.fingerprint:
        raise ValueError(
            f"the state belongs to another dataset than {loader.path}: its fingerprint is {state['fingerprint']}, the "
            f"file's {loader.reader.fingerprint}; open the file that the run began with"
        )
    _require_same(loader, state)
    seed = whole("the state's seed", state["seed"])
    epoch = whole("the state's epoch", state["epoch"], least=0, most=MAX_EPOCH)
    consumed = whole("the state's samples_consumed", state["samples_consumed"])
    samples = loader.traversal_order.epoch_length(epoch)
    if not 0 <= consumed <= samples:
        raise ValueError(
            f"the state says {consumed} samples of epoch {epoch}, which has {samples}: it is damaged, or of a "
            "sampler of another length"
        )
    loader.resume(seed, Position(epoch, consumed), dict(state.get("order_state") or {}))


def _require_same(loader: Loader, state: Mapping[str, Any]) -> None:
    order = type(loader.traversal_order).__name__
    if state.get("order", order) != order:
        raise ValueError(
            f"the state is of the order {state['order']}, but the loader has {order}; choose the same order="
        )
    if state.get("selection", loader.selection.digest()) != loader.selection.digest():
        raise ValueError("the state is of other samples: pass the same indices= as the run that wrote it")
    given = loader.given_seed
    if given is not None and given != state["seed"]:
        raise ValueError(f"the state is of seed {state['seed']}, but seed={given} was given; pass that seed, or none")
