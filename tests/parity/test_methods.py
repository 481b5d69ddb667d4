"""Every method's loss against its paper, written out in float64 with loops; gradients, stability, collapse."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ffcv.ssl import collapse, methods
from ffcv.ssl.losses import in_float32
from ffcv.ssl.methods import barlow, byol, dino, lejepa, mocov3, nnclr, simsiam, supervised, swav, vicreg

Array = NDArray[np.float64]
CENTRE = np.linspace(-0.3, 0.4, 6)
DIRECTIONS = lejepa.random_directions(6, 8, seed=1)


def unit(z: Array) -> Array:
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def softmax(z: Array) -> Array:
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def contrast(queries: Array, keys: Array, t: float) -> float:
    q, k = unit(queries), unit(keys)
    terms = [-math.log(math.exp(a @ k[i] / t) / sum(math.exp(a @ b / t) for b in k)) for i, a in enumerate(q)]
    return float(np.mean(terms))


def cross(wanted: list[Array], guesses: list[Array]) -> float:
    pairs = [(i, j) for i in range(len(wanted)) for j in range(len(guesses)) if i != j]
    return float(np.mean([np.mean(-(wanted[i] * np.log(guesses[j])).sum(1)) for i, j in pairs]))


def vicreg_paper(v: list[Array]) -> float:
    d, total = v[0].shape[1], 25 * ((v[0] - v[1]) ** 2).sum() / v[0].size
    for z in v[:2]:
        total += 25 * sum(max(0.0, 1 - math.sqrt(z[:, j].var(ddof=1) + 1e-4)) for j in range(d)) / d
        c = np.cov(z.T)
        total += sum(c[i, j] ** 2 for i in range(d) for j in range(d) if i != j) / d
    return float(total)


def barlow_paper(v: list[Array]) -> float:
    a, b = ((z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5) for z in v[:2])
    d, total = a.shape[1], 0.0
    for i in range(d):
        for j in range(d):
            c = float(np.mean(a[:, i] * b[:, j]))
            total += (1 - c) ** 2 if i == j else 0.1 * c**2
    return total


def byol_paper(v: list[Array]) -> float:
    return float(sum(np.mean(((unit(v[i]) - unit(v[i + 1])) ** 2).sum(1)) for i in (0, 1)))


def simsiam_paper(v: list[Array]) -> float:
    return float(-0.5 * sum(np.mean((unit(v[i]) * unit(v[i + 1])).sum(1)) for i in (0, 1)))


def dino_paper(v: list[Array]) -> float:
    return cross([softmax((1.3 * z - CENTRE) / 0.3) for z in v[:2]], [softmax(z / 0.5) for z in v])


def lejepa_paper(v: list[Array]) -> float:
    """The integral over [-5, 5] with 33 knots, complex exponentials."""
    t, a, statistic = np.linspace(-5, 5, 33), DIRECTIONS.double().numpy(), []
    for z in v:
        for u in (z @ a).T:
            gap = np.abs(np.exp(1j * np.outer(t, u)).mean(1) - np.exp(-(t**2) / 2)) ** 2 * np.exp(-(t**2) / 2)
            statistic.append(len(u) * ((gap[1:] + gap[:-1]) / 2).sum() * (t[1] - t[0]))
    centre = (v[0] + v[1]) / 2
    return float(np.mean(statistic) + np.mean([((centre - z) ** 2).mean() for z in v]))


def mocov3_paper(v: list[Array]) -> float:
    return 2 * 0.5 * (contrast(v[0], v[1], 0.5) + contrast(v[1], v[2], 0.5))


def nnclr_paper(v: list[Array]) -> float:
    queue = unit(v[2][::-1])
    near = [np.stack([max(queue, key=lambda row, z=z: row @ z) for z in unit(view)]) for view in v[:2]]
    return 0.5 * (contrast(near[0], v[1], 0.5) + contrast(near[1], v[2], 0.5))


def swav_paper(v: list[Array]) -> float:
    codes = []
    for z in v[:2]:
        q = np.exp(z / 0.5)
        for _ in range(3):
            q = q / q.sum(0)
            q = q / q.sum(1, keepdims=True)
        codes.append(q)
    return cross(codes, [softmax(z / 0.5) for z in v])


def supervised_paper(v: list[Array]) -> float:
    p, n, k = softmax(v[0]), *v[0].shape
    q = np.full((n, k), 0.1 / k)
    q[np.arange(n), np.arange(n) % k] += 0.9
    return float(np.mean(-(q * np.log(p)).sum(1)))


def _lejepa(v: list[Tensor]) -> Tensor:
    return lejepa.sigreg(v, DIRECTIONS, 5.0, 17) + lejepa.prediction(v, 2)


def _dino(v: list[Tensor]) -> Tensor:
    return dino.dino(v, [1.3 * z.detach() for z in v[:2]], torch.from_numpy(CENTRE).to(v[0].dtype), (0.5, 0.3))


def _swav(v: list[Tensor]) -> Tensor:
    return swav.swav(v, [swav.sinkhorn(z.detach(), z[:0], 0.5, 3) for z in v[:2]], 0.5)


Loss = tuple[Callable[[list[Tensor]], Tensor], Callable[[list[Array]], float]]
LOSSES: dict[str, Loss] = {
    "barlow": (lambda v: barlow.barlow_twins(v[0], v[1], 0.1)["loss"], barlow_paper),
    "byol": (lambda v: byol.byol(v[:2], [z.detach() for z in v[:0:-1]]), byol_paper),
    "dino": (_dino, dino_paper),
    "lejepa": (_lejepa, lejepa_paper),
    "mocov3": (lambda v: mocov3.mocov3(v[:2], [z.detach() for z in v[:0:-1]], 0.5), mocov3_paper),
    "nnclr": (lambda v: nnclr.nnclr(v[:2], v[:0:-1], F.normalize(v[2].detach().flip(0), dim=1), 0.5), nnclr_paper),
    "simsiam": (lambda v: simsiam.simsiam(v[:2], [z.detach() for z in v[:0:-1]]), simsiam_paper),
    "supervised": (
        lambda v: supervised.cross_entropy(v[0], torch.arange(len(v[0])) % 6, 0.1)["loss"],
        supervised_paper,
    ),
    "swav": (_swav, swav_paper),
    "vicreg": (lambda v: vicreg.vicreg(v[0], v[1], (25.0, 25.0, 1.0))["loss"], vicreg_paper),
}


def embeddings(n: int, views: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(n)
    shared = torch.randn(n, 6, generator=generator, dtype=torch.float64)
    return [shared + torch.randn(n, 6, generator=generator, dtype=torch.float64) for _ in range(views)]


def test_every_method_is_here() -> None:
    assert sorted([*LOSSES, "simclr"]) == methods.names()


@pytest.mark.parametrize("n", [2, 3, 16])
@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_the_papers(name: str, n: int) -> None:
    loss, paper = LOSSES[name]
    views = embeddings(n)
    expected = paper([z.numpy() for z in views])
    assert loss(views).item() == pytest.approx(expected, rel=1e-11)
    # float32: sums of some hundred terms of the size of the largest.
    assert loss([z.float() for z in views]).item() == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_gradient(name: str) -> None:
    """Of all inputs that carry one; targets are constants here, as the methods' gradients stop there."""
    views = embeddings(3)
    fixed = [z.clone() for z in views]
    reached = {"byol": 2, "mocov3": 2, "simsiam": 2, "supervised": 1, "vicreg": 2, "barlow": 2}.get(name, 3)
    loss: Callable[[list[Tensor]], Tensor] = {
        "byol": lambda v: byol.byol(v[:2], fixed[:0:-1]),
        "mocov3": lambda v: mocov3.mocov3(v[:2], fixed[:0:-1], 0.5),
        "simsiam": lambda v: simsiam.simsiam(v[:2], fixed[:0:-1]),
        "dino": lambda v: dino.dino(v, fixed[:2], torch.from_numpy(CENTRE), (0.5, 0.3)),
        "swav": lambda v: swav.swav(v, [swav.sinkhorn(z, z[:0], 0.5, 3) for z in fixed[:2]], 0.5),
        "nnclr": lambda v: nnclr.nnclr(fixed[:2], v[:0:-1], F.normalize(fixed[2], dim=1), 0.5),
    }.get(name, LOSSES[name][0])
    inputs = [z.requires_grad_(i < reached) for i, z in enumerate(views)]
    assert torch.autograd.gradcheck(lambda *v: loss(list(v)), inputs)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("kind", ["huge", "constant", "zero", "single row"])
def test_loss_and_gradient_stay_finite_in_float32(name: str, kind: str) -> None:
    """In bfloat16 under autocast too, the loss itself is float32."""
    views = [z.to(torch.bfloat16) for z in embeddings(4)]
    scaled = {
        "huge": [1e4 * z for z in views],
        "constant": [torch.ones_like(z) for z in views],
        "zero": [torch.zeros_like(z) for z in views],
        "single row": [z[:1] for z in views],
    }[kind]
    inputs = [z.detach().requires_grad_() for z in scaled]
    with torch.autocast("cpu", torch.bfloat16):
        loss = LOSSES[name][0](inputs)
    assert loss.dtype == torch.float32
    gradients = torch.autograd.grad(loss, inputs, allow_unused=True)
    assert torch.isfinite(loss)
    assert all(torch.isfinite(g).all() for g in gradients if g is not None)


def test_losses_widen_tensors_wherever_they_stand_among_the_arguments() -> None:
    half = torch.full((4, 4), 1 + 2**-7, dtype=torch.bfloat16)

    @in_float32
    def product(factor: float, none: tuple[Tensor, ...], both: list[Tensor]) -> Tensor:
        return factor * both[0] @ both[1]

    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = product(2.0, (), [half, half])
    assert found.dtype == torch.float32
    assert torch.equal(found, 2 * half.float() @ half.float())


@pytest.mark.parametrize(
    ("name", "term"),
    [("vicreg", "variance"), ("barlow", "invariance"), ("lejepa", "sigreg")],
)
def test_regularisers_see_collapse(name: str, term: str) -> None:
    """The term that keeps embeddings apart costs far more for equal embeddings than for random ones."""
    views = {"random": torch.randn(256, 6, generator=torch.Generator().manual_seed(0)), "equal": torch.zeros(256, 6)}
    costs = {}
    for kind, z in views.items():
        terms = {
            "vicreg": lambda z=z: vicreg.vicreg(z, z, (25.0, 25.0, 1.0)),
            "barlow": lambda z=z: barlow.barlow_twins(z, z, 0.1),
            "lejepa": lambda z=z: {"sigreg": lejepa.sigreg([z], DIRECTIONS, 5.0, 17)},
        }[name]()
        costs[kind] = terms[term].item()
    assert costs["equal"] > 20 * costs["random"]


def test_collapse_figures() -> None:
    generator = torch.Generator().manual_seed(0)
    even = torch.randn(4096, 16, generator=generator)
    line = torch.randn(4096, 1, generator=generator) * torch.ones(1, 16)
    point = torch.ones(4096, 16)
    assert collapse.spread(even).item() == pytest.approx(1, abs=0.02)
    assert collapse.spread(point).item() == pytest.approx(0, abs=1e-6)
    assert collapse.rank_me(even).item() == pytest.approx(16, rel=0.02)
    assert collapse.rank_me(line).item() == pytest.approx(1, abs=0.01)
    assert collapse.rank_me(point).item() == pytest.approx(1, abs=0.01)


def test_sinkhorn_uses_all_prototypes() -> None:
    """Random scores that favour one prototype: rows sum to 1, columns come out nearly equal."""
    scores = torch.rand(64, 8, generator=torch.Generator().manual_seed(0)) + torch.eye(8)[0]
    codes = swav.sinkhorn(scores, scores[:0], 0.05, 50)
    torch.testing.assert_close(codes.sum(1), torch.ones(64))
    torch.testing.assert_close(codes.sum(0), torch.full((8,), 8.0), rtol=0.02, atol=0)
