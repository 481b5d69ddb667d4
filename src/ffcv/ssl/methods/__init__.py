"""Methods by name: ``load('simclr')`` imports ``methods/simclr.py`` and gives back its one `Method` class."""

from __future__ import annotations

import importlib
import pkgutil

from ffcv.ssl.errors import ConfigError
from ffcv.ssl.methods.base import Method, Output

__all__ = ["Method", "Output", "load", "names"]


def names() -> list[str]:
    """The methods there are: the modules of this folder, except the protocol itself."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "base")


def load(name: str) -> type[Method]:
    """The method class of ``methods/<name>.py``.

    Raises:
        ConfigError: no such method; the message lists those there are.
    """
    if name not in names():
        raise ConfigError(f"unknown method {name!r}: choose one of {', '.join(names())}")
    module = importlib.import_module(f"{__name__}.{name}")
    classes = [
        c
        for c in vars(module).values()
        if isinstance(c, type) and issubclass(c, Method) and c.__module__ == module.__name__
    ]
    if len(classes) != 1:
        raise ConfigError(f"{module.__name__} must define exactly one Method, found {len(classes)}")
    return classes[0]
