"""Methods' teachers, centre, queue and prototypes; their views, labels and options."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ffcv.ssl import heads, methods
from ffcv.ssl.config import ViewConfig
from ffcv.ssl.errors import ConfigError
from ffcv.ssl.methods import supervised
from ffcv.ssl.teacher import Teacher, momentum_at


class Tiny(nn.Module):
    """An encoder with a normalisation, for images of any size."""

    num_features = 8

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).mean((2, 3))


SMALL: dict[str, dict[str, Any]] = {
    "byol": {"projector": (16, 8), "hidden": 16},
    "mocov3": {"projector": (16, 8), "hidden": 16},
    "dino": {"head": (16, 8), "num_scores": 12, "frozen_share": 0.25},
    "nnclr": {"projector": (16, 8), "hidden": 16, "queue": 10},
    "swav": {"projector": (16, 8), "num_prototypes": 12, "frozen_share": 0.25},
}


def build(name: str) -> Any:
    torch.manual_seed(0)
    method = methods.load(name)
    return method(Tiny(), method.Options(**SMALL.get(name, {})))


def images(sizes: tuple[int, ...] = (16, 16)) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(4, 3, size, size, generator=generator) for size in sizes]


@pytest.mark.parametrize("name", ["byol", "dino", "mocov3"])
def test_the_teacher_follows_exactly_and_learns_nothing_itself(name: str) -> None:
    method = build(name)
    followed = method.followed()
    before = [p.clone() for p in method.teacher.parameters()]
    method.step, method.total_steps = 3, 8
    method(images()).terms["loss"].backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    with torch.no_grad():
        for p in method.backbone.parameters():
            p.add_(torch.randn(p.shape))
    method.after_step(3, 8)
    m = 1 - (1 - method.options.momentum) * (math.cos(math.pi * 3 / 8) + 1) / 2
    student = [p for module in followed for p in module.parameters()]
    assert len(before) == len(student) == len(list(method.teacher.parameters()))
    for old, theirs, new in zip(before, student, method.teacher.parameters(), strict=True):
        torch.testing.assert_close(new.double(), m * old.double() + (1 - m) * theirs.double(), rtol=1e-6, atol=1e-7)
    assert "teacher.network.0.layers.0.weight" in method.state_dict()


@pytest.mark.parametrize("name", [name for name in methods.names() if name != "supervised"])
def test_whose_statistics_normalise_a_view(name: str) -> None:
    """As in the authors' code: SimCLR's, SwAV's, DINO's and LeJEPA's put views of one size together."""
    method, (first, second) = build(name), images()
    together = name in ("dino", "lejepa", "simclr", "swav")
    found = [method([first, other]).features for other in (second, 5 * second + 1)]
    assert torch.equal(*found) is not together
    if method.targets([first, second]):
        found = [method.targets([first, other])[0] for other in (second, 5 * second + 1)]
        assert torch.equal(*found) is not together


def test_momentum_schedule() -> None:
    assert momentum_at(0, 100, 0.9) == pytest.approx(0.9)
    assert momentum_at(50, 100, 0.9) == pytest.approx(0.95)
    assert momentum_at(100, 100, 0.9) == 1


def test_a_teacher_starts_as_its_student() -> None:
    student = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    teacher = Teacher(student)
    x = torch.randn(5, 3)
    torch.testing.assert_close(teacher(x), student(x))
    assert not any(p.requires_grad for p in teacher.parameters())
    assert all(p.requires_grad for p in student.parameters())


def test_dino_centre_temperature_and_frozen_layer() -> None:
    method = build("dino")
    method.step, method.total_steps = 0, 8
    views = images((16, 16, 8, 8))
    scores = torch.cat(list(method.targets(views)))
    method(views).terms["loss"].backward()
    torch.testing.assert_close(method.centre, 0.1 * scores.mean(0))
    assert not method.prototypes.weight.grad.any()
    assert method.temperature == pytest.approx(0.04)
    method.step = 2
    method(views).terms["loss"].backward()
    assert method.prototypes.weight.grad.any()
    method.step = 8
    assert method.temperature == pytest.approx(0.07)
    assert scores.abs().max() <= 1 + 1e-6
    assert method.encoder is method.teacher.network[0]


def test_swav_prototypes_keep_still_at_first() -> None:
    method = build("swav")
    for step, moves in ((0, False), (2, True)):
        method.step, method.total_steps = step, 8
        method.zero_grad()
        method(images((16, 16, 8))).terms["loss"].backward()
        assert bool(method.prototypes.weight.grad.any()) is moves


def test_nnclr_queue_is_a_ring() -> None:
    method = build("nnclr")
    rows = F.normalize(torch.randn(14, 8, generator=torch.Generator().manual_seed(2)), dim=1)
    queue = method.queue
    queue.push(rows[:8])
    torch.testing.assert_close(queue.filled, rows[:8])
    queue.push(rows[8:12])
    expected = torch.cat([rows[10:12], rows[2:10]])  # ten places: the last two of twelve overwrite the first two
    torch.testing.assert_close(queue.filled, expected)
    queue.push(rows[:14])
    again = build("nnclr").queue
    again.load_state_dict(queue.state_dict())
    assert [type(q.count) for q in (queue, again)] == [int, int]  # to be read without waiting for a GPU
    assert again.count == queue.count == 26
    torch.testing.assert_close(queue.rows.sort(0).values, rows[4:].sort(0).values)


def test_swav_codes_spread_over_the_queue_too() -> None:
    """From `queue_share` on, Sinkhorn sees the earlier images' scores, under the prototypes as they are then."""
    torch.manual_seed(0)
    swav = methods.load("swav")
    options = {"projector": (16, 8), "num_prototypes": 12, "queue": 6, "queue_share": 0.5}
    method: Any = swav(Tiny(), swav.Options(**options))
    scores = torch.rand(4, 12, generator=torch.Generator().manual_seed(3))
    method.total_steps = 8
    for step in range(2):
        method.step = step
        method(images((16, 16)))
    queue = method.queues[1]
    assert queue.count == 8
    assert not torch.equal(queue.rows, method.queues[0].rows)

    def codes(rows: Tensor) -> Tensor:
        q = (rows.double() / 0.05).exp()
        for _ in range(3):
            q = q / q.sum(0)
            q = q / q.sum(1, keepdim=True)
        return q[:4].float()

    torch.testing.assert_close(method.codes(1, scores), codes(scores))
    method.step = 4
    earlier = F.normalize(queue.rows, dim=1) @ F.normalize(method.prototypes.weight.detach(), dim=1).T
    torch.testing.assert_close(method.codes(1, scores), codes(torch.cat([scores, earlier])))
    assert not torch.allclose(method.codes(1, scores), codes(scores))


# ---------------------------------------------------------------- views, labels, options


def test_views() -> None:
    multi_crop = ViewConfig(size=32, num_local=3, local_size=16, second_solarize=0.5)
    taken = {name for name in methods.names() if methods.load(name).multi_crop}
    assert taken == {"dino", "lejepa", "swav"}
    pipelines = build("dino").views(multi_crop)
    assert len(pipelines) == 5
    with pytest.raises(ConfigError, match=r"BYOL takes no local views: set views\.num_local to 0, got 3"):
        build("byol").views(multi_crop)
    names = [[type(t).__name__ for t in p] for p in pipelines]
    assert ["Solarize" in n for n in names] == [False, True, False, False, False]


def test_supervised_wants_labels_within_its_classes() -> None:
    method = supervised.Supervised(Tiny(), supervised.Options(num_classes=4))
    assert len(method.views(ViewConfig())) == 1
    with pytest.raises(ConfigError, match=r"Supervised takes no local views: set views\.num_local to 0, got 2"):
        method.views(ViewConfig(num_local=2))
    method.check_labels(4)
    with pytest.raises(ConfigError, match=r"needs labels: name their field with --data\.label"):
        method.check_labels(None)
    with pytest.raises(ConfigError, match=r"largest label is 4, but supervised\.num_classes is 4"):
        method.check_labels(5)
    with pytest.raises(ConfigError, match="needs labels, got None"):
        method(images((16,)))


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("vicreg", "variance", -1),
        ("barlow", "off_diagonal", -0.1),
        ("barlow", "scale", 0),
        ("byol", "momentum", 1.5),
        ("supervised", "smoothing", 1.0),
        ("supervised", "num_classes", 0),
        ("dino", "teacher_temperature", 0),
        ("dino", "warmup_share", 2),
        ("dino", "head", ()),
        ("lejepa", "weight", 1.1),
        ("lejepa", "knots", 1),
        ("mocov3", "temperature", -1),
        ("simsiam", "projector", ()),
        ("swav", "iterations", 0),
        ("nnclr", "queue", 0),
    ],
)
def test_bad_options_are_named(name: str, option: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"{name}\.{option} must"):
        methods.load(name).Options(**{option: value})


def test_dinos_head_begins_as_in_its_authors_code() -> None:
    torch.manual_seed(0)
    for layer in heads.gelu_mlp(400, 300, 200):
        if isinstance(layer, nn.Linear):
            weight = layer.weight.detach()
            assert float(weight.std()) == pytest.approx(0.02, rel=0.02)
            assert float(weight.abs().max()) > 0.06  # a normal's tails, not a uniform's end
            assert not layer.bias.any()


def test_heads_refuse_empty_layers() -> None:
    for head in (heads.mlp, heads.gelu_mlp):
        with pytest.raises(ConfigError, match=r"needs a width of 1 or more, got \[4, 0\]"):
            head(8, 4, 0)
