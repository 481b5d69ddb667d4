"""FFCV's way to name a pipeline's source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class PipelineSpec:
    """A pipeline over the field `source`: its decoder (None: the field's default) and what follows (None: nothing)."""

    source: str
    decoder: Any = None
    transforms: Sequence[Any] | None = field(default_factory=list)
