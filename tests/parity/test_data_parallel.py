"""Every method's loss and gradient on two processes, with equal and with uneven shares, are those on one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

import two_processes
from ffcv.ssl import distributed, methods
from ffcv.ssl.memory import Queue
from ffcv.ssl.methods import barlow, byol, dino, lejepa, mocov3, nnclr, simclr, simsiam, supervised, swav, vicreg

COUNTS = [(4, 4), (5, 2)]
WIDTH, SCORES = 12, 6


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _swav(v: list[Tensor], labels: Tensor) -> Tensor:
    return swav.swav(v, [swav.sinkhorn(s.detach(), _random(3, SCORES, seed=6), 0.3, 3) for s in v[:2]], 0.5)


def _lejepa(v: list[Tensor], labels: Tensor) -> Tensor:
    directions = lejepa.random_directions(SCORES, 16, seed=3)
    return lejepa.prediction(v, 2) + lejepa.sigreg(v, directions, 5.0, 17)


def _dino(v: list[Tensor], labels: Tensor) -> Tensor:
    teacher = [1.3 * z.detach() for z in v[:2]]
    return dino.dino(v, teacher, dino.batch_centre(teacher), (0.5, 0.3))


LOSSES: dict[str, Callable[[list[Tensor], Tensor], Tensor]] = {
    "barlow": lambda v, _: barlow.barlow_twins(v[0], v[1], 0.1)["loss"],
    "byol": lambda v, _: byol.byol(v[:2], [z.detach() for z in v[:0:-1]]),
    "dino": _dino,
    "lejepa": _lejepa,
    "mocov3": lambda v, _: mocov3.mocov3(v[:2], [z.detach() for z in v[:0:-1]], 0.5),
    "nnclr": lambda v, _: nnclr.nnclr(v[:2], v[:0:-1], F.normalize(_random(9, SCORES, seed=4), dim=1), 0.5),
    "simclr": lambda v, _: simclr.nt_xent(v[0], v[1], 0.5),
    "simsiam": lambda v, _: simsiam.simsiam(v[:2], v[:0:-1]),
    "supervised": lambda v, labels: supervised.cross_entropy(v[0], labels, 0.1)["loss"],
    "swav": _swav,
    "vicreg": lambda v, _: vicreg.vicreg(v[0], v[1], (25.0, 25.0, 1.0))["loss"],
}


def _loss_and_gradient(name: str, begin: int, end: int, total: int) -> list[Tensor]:
    """Of a weight that all images share, for the images from `begin` to `end`."""
    weight = _random(WIDTH, SCORES, seed=9).requires_grad_()
    views = [z[begin:end] @ weight for z in _random(3, total, WIDTH, seed=5)]
    loss = LOSSES[name](views, torch.arange(total)[begin:end] % SCORES)
    (gradient,) = torch.autograd.grad(loss, weight)
    return [loss.detach(), gradient]


def _state(begin: int, end: int, total: int) -> list[Tensor]:
    """DINO's centre of, and a queue of five after, the embeddings from `begin` to `end`."""
    z = _random(total, SCORES, seed=7)[begin:end]
    queue = Queue(5, SCORES)
    queue.push(z)
    return [dino.batch_centre([z, 2 * z]), queue.rows]


def _on_rank(rank: int) -> dict[str, list[list[Tensor]]]:
    shares = [(rank * a, a + rank * b, a + b) for a, b in COUNTS]
    losses = {name: [_loss_and_gradient(name, *share) for share in shares] for name in LOSSES}
    with distributed.equal_shares(), patch.object(dist, "all_gather", _only_rows(dist.all_gather)):
        for name, results in losses.items():
            results.append(_loss_and_gradient(name, *shares[0]))
    return {**losses, "state": [_state(*share) for share in shares], "probe": [_averaged(rank)]}


def _only_rows(all_gather: Callable[..., Any]) -> Callable[..., Any]:
    """`all_gather`, refused to numbers of rows, which wait for the device."""

    def gather(parts: list[Tensor], rows: Tensor) -> None:
        assert rows.ndim == 2
        all_gather(parts, rows)

    return gather


def _averaged(rank: int) -> list[Tensor]:
    """Gradients, one of them missing, of which rank 1 has three times rank 0's; how many messages they took."""
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    for i, parameter in enumerate(list(module.parameters())[:3]):
        parameter.grad = (i + 1.0) * (2 * rank + 1) * torch.ones_like(parameter)
    with patch.object(dist, "all_reduce", wraps=dist.all_reduce) as messages:
        distributed.average_gradients(module)
    return [*(p.grad for p in module.parameters() if p.grad is not None), torch.tensor(messages.call_count)]


@pytest.fixture(scope="module")
def on_two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    return two_processes.run(_on_rank, tmp_path_factory.mktemp("ranks"))


def test_every_method_is_here() -> None:
    assert sorted(LOSSES) == methods.names()


@pytest.mark.parametrize("case", [0, 1, 2], ids=["equal", "uneven", "known to be equal"])
@pytest.mark.parametrize("name", LOSSES)
def test_two_processes_equal_one(name: str, case: int, on_two: tuple[Any, Any]) -> None:
    """The mean over ranks of losses and of gradients, as DistributedDataParallel takes it."""
    total = sum(COUNTS[case % 2])
    loss, gradient = _loss_and_gradient(name, 0, total, total)
    (first_loss, first_gradient), (second_loss, second_gradient) = (rank[name][case] for rank in on_two)
    torch.testing.assert_close((first_loss + second_loss) / 2, loss, rtol=1e-12, atol=0)
    torch.testing.assert_close((first_gradient + second_gradient) / 2, gradient, rtol=1e-9, atol=1e-13)


def test_a_probes_gradients_are_averaged_in_one_message(on_two: tuple[Any, Any]) -> None:
    for rank in on_two:
        *gradients, messages = rank["probe"][0]
        assert [gradient.unique().tolist() for gradient in gradients] == [[2], [4], [6]]
        assert [gradient.shape for gradient in gradients] == [(4, 3), (4,), (2, 4)]
        assert int(messages) == 1


@pytest.mark.parametrize("case", [0, 1], ids=["equal", "uneven"])
def test_state_is_the_same_on_both_processes_and_on_one(case: int, on_two: tuple[Any, Any]) -> None:
    total = sum(COUNTS[case])
    for expected, first, second in zip(_state(0, total, total), *(rank["state"][case] for rank in on_two), strict=True):
        assert torch.equal(first, second)
        torch.testing.assert_close(first, expected, rtol=1e-12, atol=1e-12)


def test_lejepas_views_travel_in_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, ...]] = []

    def all_sum(x: Tensor) -> Tensor:
        sent.append(tuple(x.shape))
        return x

    monkeypatch.setattr(lejepa, "all_sum", all_sum)
    _loss_and_gradient("lejepa", 0, 4, 4)
    assert sent == [(2, 3, 16, 17)]  # cosines and sines, views, directions, knots
