"""Parameter groups and the learning rate."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from ffcv.ssl import optim
from ffcv.ssl.config import OptimConfig


class Odd(nn.Module):
    """Names that mislead, a norm with matrix weights, a shared and a frozen parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.bias_layer = nn.Linear(4, 4)
        self.norm = nn.LayerNorm((3, 4))
        self.weight_vector = nn.Parameter(torch.zeros(5))
        self.shared = nn.Linear(4, 4, bias=False)
        self.shared.weight = self.bias_layer.weight
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.conv = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))


def test_only_weights_decay() -> None:
    module = Odd()
    decay, rest = optim.param_groups(module, 0.1)
    assert (decay["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    assert {id(p) for p in decay["params"]} == {id(module.bias_layer.weight), id(module.conv[0].weight)}
    spared = [
        module.bias_layer.bias,
        module.norm.weight,
        module.norm.bias,
        module.weight_vector,
        module.conv[0].bias,
        module.conv[1].weight,
        module.conv[1].bias,
    ]
    assert {id(p) for p in rest["params"]} == {id(p) for p in spared}


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)])
def test_build(name: str, kind: type) -> None:
    optimizer = optim.build(Odd(), OptimConfig(name=name, lr=0.3))
    assert isinstance(optimizer, kind)
    assert [g["lr"] for g in optimizer.param_groups] == [0.3, 0.3]


def test_learning_rate() -> None:
    rates = [optim.learning_rate(s, total_steps=110, warmup_steps=10, peak=2.0, final_ratio=0.1) for s in range(111)]
    assert rates[:10] == pytest.approx([0.2 * (s + 1) for s in range(10)])
    assert rates[10] == 2.0
    assert rates[60] == pytest.approx(1.1)  # half way down: the mean of peak and final rate
    assert rates[110] == pytest.approx(0.2)
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    expected = 2.0 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 0.25)))
    assert rates[35] == pytest.approx(expected)


def test_learning_rate_without_warmup_starts_at_the_peak() -> None:
    assert optim.learning_rate(0, 10, 0, 1.0) == 1.0
