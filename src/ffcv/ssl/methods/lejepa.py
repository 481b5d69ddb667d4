"""LeJEPA: Balestriero, LeCun, "LeJEPA: Provable and Scalable Self-Supervised Learning Without the Heuristics",
2025, https://arxiv.org/abs/2511.08544: the equations named Epps-Pulley, SIGReg and LeJEPA, and algorithms 1 and 2.

With z_v the embeddings [N, D] of view v, A random directions a of unit length, and z_G the mean of an image's global
views,

    EP(u)     = N  integral |1/N sum_n exp(i t u_n) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) dt
    SIGReg(z) = mean over a of EP(z a)                        are the embeddings a standard normal cloud?
    loss      = (1 - l) mean_v |z_G - z_v|^2 / D  +  l mean_v SIGReg(z_v)

The integral runs over [-t_max, t_max] by the trapezoidal rule; the integrand is even, so that knots from 0 suffice. The
distance is divided by D as in algorithm 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ffcv.ssl import checks
from ffcv.ssl.distributed import all_sum, mean, total_rows
from ffcv.ssl.errors import ConfigError
from ffcv.ssl.heads import mlp
from ffcv.ssl.losses import in_float32
from ffcv.ssl.methods.base import Method, Terms, Views


@in_float32
def sigreg(views: Views, directions: Tensor, t_max: float, knots: int) -> Tensor:
    """Mean over views of SIGReg above, of all ranks' embeddings, whose sums travel in one message.

    Args:
        views: float [N, D] each, on this rank.
        directions: float [D, A], columns of unit length, the same on all ranks.
        t_max: end of the integral.
        knots: of the trapezoidal rule on [0, t_max].
    """
    first = views[0]
    t = torch.linspace(0, t_max, knots, dtype=first.dtype, device=first.device)
    normal = (-t.square() / 2).exp()
    waves = [(z @ directions.to(z.dtype))[..., None] * t for z in views]
    rows = total_rows(first)
    sums = all_sum(torch.stack([torch.stack([wave.cos().sum(0), wave.sin().sum(0)]) for wave in waves], 1))
    real, imaginary = sums / rows
    gap = (real - normal).square() + imaginary.square()
    return (2 * rows * torch.trapezoid(gap * normal, t)).mean()


@in_float32
def prediction(views: Views, num_global: int) -> Tensor:
    """Mean squared distance of all views to the centre of the first `num_global`, each [N, D] on this rank."""
    stacked = torch.stack(list(views))
    return mean((stacked - stacked[:num_global].mean(0)).square().mean((0, 2)))


def random_directions(width: int, number: int, seed: int) -> Tensor:
    """Float32 [width, number] with columns of unit length, a function of `seed`: the same on every rank and device."""
    normal = torch.randn(width, number, generator=torch.Generator().manual_seed(seed))
    return F.normalize(normal, dim=0)


@dataclass(frozen=True)
class Options:
    """LeJEPA's own options.

    Attributes:
        weight: l above, the one that matters; 0.05 in the paper.
        num_directions: A above, drawn anew for each step.
        t_max: end of the integral; 5 in the paper.
        knots: of the integral.
        projector: widths of the projector's layers, the last one D.
    """

    weight: float = 0.05
    num_directions: int = 1024
    t_max: float = 5.0
    knots: int = 17
    projector: tuple[int, ...] = (2048, 2048, 64)

    def __post_init__(self) -> None:
        checks.share(self, "weight")
        checks.above_zero(self, "num_directions", "t_max")
        if self.knots < 2:
            raise ConfigError(f"lejepa.knots must be 2 or more, got {self.knots}")


class LeJEPA(Method):
    """Global and local views, an MLP projector, and nothing else: no teacher, no stopped gradient."""

    Options = Options
    multi_crop = True

    def __init__(self, backbone: nn.Module, options: Options) -> None:
        super().__init__(backbone, options)
        self.projector = mlp(self.num_features, *options.projector, last="linear")

    def loss(self, embeddings: Views, labels: Tensor | None = None, targets: Views = ()) -> Terms:
        o = self.options
        device = embeddings[0].device
        directions = random_directions(embeddings[0].shape[1], o.num_directions, self.step)
        if device.type == "cuda":
            directions = directions.pin_memory()  # from other memory the copy would wait for the GPU
        directions = directions.to(device, non_blocking=True)
        normality = sigreg(embeddings, directions, o.t_max, o.knots)
        distance = prediction(embeddings, 2)
        loss = (1 - o.weight) * distance + o.weight * normality
        return {"loss": loss, "prediction": distance, "sigreg": normality}
