"""SimCLR's loss against the paper's equation, written out in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ffcv.ssl.methods.simclr import nt_xent


def equation_1(first: np.ndarray, second: np.ndarray, temperature: float) -> float:
    """The paper's equation 1 and algorithm 1, term by term, in float64."""
    z = np.concatenate([first, second]).astype(np.float64)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    n = len(z) // 2
    losses = []
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        others = [math.exp(z[i] @ z[k] / temperature) for k in range(2 * n) if k != i]
        losses.append(-math.log(math.exp(z[i] @ z[j] / temperature) / sum(others)))
    return sum(losses) / len(losses)


def embeddings(n: int, seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(n, 12, generator=generator, dtype=torch.float64)
    return first.to(dtype), (first + torch.randn(n, 12, generator=generator, dtype=torch.float64)).to(dtype)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 32])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
def test_loss_is_the_papers(n: int, temperature: float) -> None:
    first, second = embeddings(n, seed=n)
    expected = equation_1(first.numpy(), second.numpy(), temperature)
    assert nt_xent(first, second, temperature).item() == pytest.approx(expected, rel=1e-12)
    # float32 sums 2N exponentials of arguments up to 1 / temperature: a few units in the seventh digit.
    assert nt_xent(first.float(), second.float(), temperature).item() == pytest.approx(expected, rel=2e-6, abs=2e-6)


def test_loss_is_finite_and_float32_where_exponentials_overflow() -> None:
    first, second = embeddings(8, seed=0)
    loss = nt_xent(first.to(torch.bfloat16), second.to(torch.bfloat16), temperature=0.001)
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)


def test_gradient() -> None:
    first, second = (z.requires_grad_() for z in embeddings(3, seed=1))
    assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, 0.5), (first, second))


def test_equal_views_of_far_apart_images_cost_least() -> None:
    """One-hot embeddings: the loss is -log(e^(1/t) / (e^(1/t) + 2N - 2)), and any mix-up costs more."""
    n, temperature = 4, 0.5
    z = torch.eye(n, dtype=torch.float64)
    best = -math.log(math.exp(1 / temperature) / (math.exp(1 / temperature) + 2 * n - 2))
    assert nt_xent(z, z, temperature).item() == pytest.approx(best)
    assert nt_xent(z, z.roll(1, 0), temperature).item() > best + 1
