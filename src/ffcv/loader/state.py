"""Checkpoints of the iteration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ffcv.random import RNG_VERSION

if TYPE_CHECKING:
    from ffcv.loader.loader import Loader

STATE_FORMAT = 1


def apply_state(loader: Loader, state: dict[str, Any]) -> None:
    """See `Loader.load_state_dict`."""
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
    loader.resume(
        int(state["seed"]), int(state["epoch"]), int(state["samples_consumed"]), dict(state.get("order_state", {}))
    )


def _require_same(loader: Loader, state: dict[str, Any]) -> None:
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
