"""Optimisers and the learning-rate schedule."""

from __future__ import annotations

import math
from typing import Any

from torch import nn, optim

from ffcv.ssl.config import OptimConfig

_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm)


def param_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: weights that decay, and those that must not (biases, everything of a normalisation layer).

    Decided by shape and by the kind of module that owns the parameter, never by its name.
    """
    decay: dict[int, nn.Parameter] = {}
    rest: dict[int, nn.Parameter] = {}
    for owner in module.modules():
        for parameter in owner.parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            spared = parameter.ndim <= 1 or isinstance(owner, _NORMS)
            (rest if spared else decay)[id(parameter)] = parameter
    return [
        {"params": list(decay.values()), "weight_decay": weight_decay},
        {"params": list(rest.values()), "weight_decay": 0.0},
    ]


def build(module: nn.Module, config: OptimConfig) -> optim.Optimizer:
    """The optimiser that `config` names, over `param_groups`. The trainer sets the rate before every step."""
    groups = param_groups(module, config.weight_decay)
    if config.name == "adamw":
        return optim.AdamW(groups, lr=config.lr)
    return optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)


def learning_rate(step: int, total_steps: int, warmup_steps: int, peak: float, final_ratio: float = 0.0) -> float:
    """The rate of step `step` (from 0): linear warm-up, then half a cosine from `peak` to `peak *
    final_ratio`.

    A pure function of the step (Loshchilov and Hutter, https://arxiv.org/abs/1608.03983, without restarts),
    so that a checkpoint needs no scheduler state. The first step's rate is peak / warmup_steps, the last
    one's just above the final one.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return peak * (final_ratio + (1 - final_ratio) * cosine)


def build_probe(probe: nn.Module, config: OptimConfig) -> optim.Optimizer:
    """The online probe's own optimiser: AdamW at a constant rate, without weight decay."""
    return optim.AdamW(probe.parameters(), lr=config.probe_lr, weight_decay=0.0)
