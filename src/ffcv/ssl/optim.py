"""Optimisers, and what changes about them from step to step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn, optim

from ffcv.ssl.config import OptimConfig

_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm)


def param_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: weights, and what neither decays nor adapts (biases, everything of a normalisation layer).

    Decided by shape and by the kind of module that owns the parameter, never by its name. The key 'weights' says
    which group is which.
    """
    weights: dict[int, nn.Parameter] = {}
    rest: dict[int, nn.Parameter] = {}
    for owner in module.modules():
        for parameter in owner.parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            spared = parameter.ndim <= 1 or isinstance(owner, _NORMS)
            (rest if spared else weights)[id(parameter)] = parameter
    return [
        {"params": list(weights.values()), "weight_decay": weight_decay, "weights": True},
        {"params": list(rest.values()), "weight_decay": 0.0, "weights": False},
    ]


def build(module: nn.Module, config: OptimConfig) -> optim.Optimizer:
    """The optimiser that `config` names, over `param_groups`. `Schedule` sets its rates before every step."""
    groups = param_groups(module, config.weight_decay)
    if config.name == "adamw":
        return optim.AdamW(groups, lr=config.lr, betas=config.betas)
    if config.name == "lars":
        return LARS(groups, config.lr, config.momentum, config.trust)
    return optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov and config.momentum > 0)


def build_probe(probe: nn.Module, config: OptimConfig) -> optim.Optimizer:
    """The online probe's own optimiser: AdamW at a constant rate, without weight decay."""
    return optim.AdamW(probe.parameters(), lr=config.probe_lr, weight_decay=0.0)


class LARS(optim.Optimizer):
    """Layer-wise adaptive rates: You, Gitman, Ginsburg, "Large Batch Training of Convolutional Networks", 2017,
    https://arxiv.org/abs/1708.03888, equation 6. For each tensor of weights w with gradient g, decay b and trust t,

        g <- g + b w,   g <- g t |w| / |g|,   v <- m v + g,   w <- w - lr v

    with the norm of the decayed gradient below (the paper: |g| + b |w|, which bounds it), as in the large-batch recipes
    of SimCLR and Barlow Twins, and with lr outside of the momentum, as in torch.optim.SGD. A tensor of zeros or with
    a gradient of zeros, and groups with 'weights' False, are not adapted.
    """

    def __init__(self, params: Any, lr: float, momentum: float = 0.9, trust: float = 1e-3) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "trust": trust, "weight_decay": 0.0, "weights": True})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update; `closure`, if given, computes the loss again, as in all of torch's optimisers."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update = self._adapted(parameter, group)
                    state = self.state[parameter]
                    if "momentum" not in state:
                        state["momentum"] = torch.zeros_like(parameter)
                    state["momentum"].mul_(group["momentum"]).add_(update)
                    parameter.add_(state["momentum"], alpha=-group["lr"])
        return loss

    @staticmethod
    def _adapted(parameter: Tensor, group: dict[str, Any]) -> Tensor:
        update = parameter.grad.add(parameter, alpha=group["weight_decay"])  # pyright: ignore[reportOptionalMemberAccess]
        if not group["weights"]:
            return update
        weight_norm, update_norm = parameter.norm(), update.norm()
        scale = group["trust"] * weight_norm / update_norm
        return update * torch.where((weight_norm > 0) & (update_norm > 0), scale, torch.ones_like(scale))


@dataclass(frozen=True)
class Schedule:
    """Learning rate and weight decay as functions of the step, so that a checkpoint needs no scheduler's state.

    Attributes:
        config: of the optimiser.
        batch_size: images a step over all devices; the peak rate is config.lr * batch_size / 256.
        epoch_steps: steps of an epoch.
        total_steps: of the run.
    """

    config: OptimConfig
    batch_size: int
    epoch_steps: int
    total_steps: int

    def learning_rate(self, step: int) -> float:
        """Of step `step`, from 0: linear warm-up, then half a cosine from the peak to peak * final_ratio
        (Loshchilov and Hutter, https://arxiv.org/abs/1608.03983, without restarts).

        The first step's rate is peak / warm-up steps, the last one's just above the final one.
        """
        peak = self.config.lr * self.batch_size / 256
        warmup = round(self.epoch_steps * self.config.warmup_epochs)
        if step < warmup:
            return peak * (step + 1) / warmup
        return half_cosine(peak, peak * self.config.final_ratio, (step - warmup) / max(1, self.total_steps - warmup))

    def weight_decay(self, step: int) -> float:
        """Of the weights in step `step`, along half a cosine (DINO, https://arxiv.org/abs/2104.14294, section 3.2)."""
        start, end = self.config.weight_decay, self.config.final_weight_decay
        return start if end is None else half_cosine(start, end, step / self.total_steps)

    def apply(self, optimizer: optim.Optimizer, step: int) -> float:
        """Set both for step `step`; returns the learning rate."""
        rate = self.learning_rate(step)
        for group in optimizer.param_groups:
            group["lr"] = rate
            if group["weights"]:
                group["weight_decay"] = self.weight_decay(step)
        return rate


def half_cosine(start: float, end: float, progress: float) -> float:
    """From `start` at progress 0 to `end` at 1 (and beyond) along half a period of a cosine."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
