"""Commands that need more than the bare package say which extra brings it."""

from __future__ import annotations

import importlib

from ffcv.errors import FfcvError


def need(packages: dict[str, str], what: str, extra: str) -> None:
    """Import the packages, for a clear error.

    Args:
        packages: module to import -> name of its distribution.
        what: wants them, for the message.
        extra: of ours that brings them.

    Raises:
        FfcvError: one is missing; the message says how to install it.
    """
    for module, distribution in packages.items():
        try:
            importlib.import_module(module)
        except ImportError:
            raise FfcvError(f"{what} needs {distribution}: pip install 'ffcv-ssl[{extra}]'") from None


def need_training(command: str) -> None:
    """What every command on checkpoints needs."""
    packages = {"lightning_fabric": "lightning-fabric", "jsonargparse": "jsonargparse", "yaml": "pyyaml"}
    need(packages, f"ffcv {command}", "train")
