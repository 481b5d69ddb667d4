"""Parameter groups and the learning rate."""

from __future__ import annotations

import itertools
import math

import numpy as np
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


@pytest.mark.parametrize(
    ("name", "kind"), [("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD), ("lars", optim.LARS)]
)
def test_build(name: str, kind: type) -> None:
    optimizer = optim.build(Odd(), OptimConfig(name=name, lr=0.3))
    assert isinstance(optimizer, kind)
    assert [g["lr"] for g in optimizer.param_groups] == [0.3, 0.3]


def schedule(**options: float) -> optim.Schedule:
    """110 steps of which 10 warm up; 512 images a step, so that the peak is twice the given rate."""
    config = OptimConfig(**{"lr": 1.0, "warmup_epochs": 1, "final_ratio": 0.1, **options})
    return optim.Schedule(config, batch_size=512, epoch_steps=10, total_steps=110)


def test_learning_rate() -> None:
    rates = [schedule().learning_rate(step) for step in range(111)]
    assert rates[:10] == pytest.approx([0.2 * (s + 1) for s in range(10)])
    assert rates[10] == pytest.approx(2.0)
    assert rates[60] == pytest.approx(1.1)  # half way down: the mean of peak and final rate
    assert rates[110] == pytest.approx(0.2)
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    expected = 2.0 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 0.25)))
    assert rates[35] == pytest.approx(expected)


def test_learning_rate_without_warmup_starts_at_the_peak() -> None:
    assert schedule(warmup_epochs=0).learning_rate(0) == 2.0


def test_weight_decay_rises_for_weights_alone() -> None:
    plan = schedule(weight_decay=0.04, final_weight_decay=0.4)
    optimizer = optim.build(Odd(), plan.config)
    decays = []
    for step in (0, 55, 110):
        assert plan.apply(optimizer, step) == plan.learning_rate(step)
        assert {group["lr"] for group in optimizer.param_groups} == {plan.learning_rate(step)}
        decays.append([group["weight_decay"] for group in optimizer.param_groups])
    assert decays == [pytest.approx([0.04, 0]), pytest.approx([0.22, 0]), pytest.approx([0.4, 0])]
    assert schedule(weight_decay=0.04).weight_decay(70) == 0.04


def test_lars_is_its_equation() -> None:
    """Against numpy in float64: three steps of a weight that adapts and a bias that does not."""
    torch.manual_seed(0)
    layer = nn.Linear(5, 3).double()
    optimizer = optim.build(layer, OptimConfig(name="lars", lr=0.3, weight_decay=0.1, momentum=0.8, trust=0.02))
    w, b = (p.detach().numpy().copy() for p in (layer.weight, layer.bias))
    v_w, v_b = np.zeros_like(w), np.zeros_like(b)
    for step in range(3):
        random = np.random.default_rng(step)
        g_w, g_b = random.normal(size=w.shape), random.normal(size=b.shape)
        layer.weight.grad, layer.bias.grad = torch.from_numpy(g_w), torch.from_numpy(g_b)
        optimizer.step()
        decayed = g_w + 0.1 * w
        v_w = 0.8 * v_w + decayed * 0.02 * np.linalg.norm(w) / np.linalg.norm(decayed)
        v_b = 0.8 * v_b + g_b
        w, b = w - 0.3 * v_w, b - 0.3 * v_b
        np.testing.assert_allclose(layer.weight.detach().numpy(), w, rtol=1e-12)
        np.testing.assert_allclose(layer.bias.detach().numpy(), b, rtol=1e-12)


def test_lars_moves_zeros_and_rests_without_a_gradient() -> None:
    layer = nn.Linear(4, 4, bias=False)
    nn.init.zeros_(layer.weight)
    optimizer = optim.build(layer, OptimConfig(name="lars", lr=1.0, weight_decay=0.0))
    layer.weight.grad = torch.zeros(4, 4)
    optimizer.step()
    assert layer.weight.eq(0).all()
    layer.weight.grad = torch.ones(4, 4)
    optimizer.step()
    assert layer.weight.eq(-1).all()
