"""Heads that sit on the backbone while training and are thrown away afterwards."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from ffcv.ssl.errors import ConfigError
from ffcv.ssl.losses import cosines


class MLP(nn.Sequential):
    """Linear maps, each with the normalisation and activation that follow it: its layers."""

    def layers(self, x: Tensor) -> list[Tensor]:
        """What each layer puts out, float [N, width]; the last of them is what calling the module gives."""
        outputs = []
        for module, following in pairwise([*self, None]):
            assert module is not None
            x = module(x)
            if following is None or isinstance(following, nn.Linear):
                outputs.append(x)
        return outputs


def mlp(features: int, *widths: int, last: Literal["norm", "fixed norm", "linear"] = "norm") -> MLP:
    """Linear layers with batch normalisation, ReLU between them (SimCLR's projector, its appendix B.9).

    No biases before a normalisation, which would cancel them.

    Args:
        features: width of the representation.
        widths: width of each layer, the last one the embedding's. None: the representation itself is
            compared.
        last: what ends the last layer (never a ReLU): a normalisation (SimCLR), one without learned scale and
            shift (SimSiam), or nothing, with a bias (BYOL).
    """
    layers: list[nn.Module] = []
    for i, width in enumerate(_checked(widths)):
        final = i == len(widths) - 1
        plain = final and last == "linear"
        layers.append(nn.Linear(features, width, bias=plain))
        if not plain:
            layers.append(nn.BatchNorm1d(width, affine=not (final and last == "fixed norm")))
        if not final:
            layers.append(nn.ReLU(inplace=True))
        features = width
    return MLP(*layers)


def gelu_mlp(features: int, *widths: int) -> MLP:
    """Linear layers with biases and GELU between them, no normalisation (DINO's, its appendix C).

    Weights begin with a deviation of 0.02 and biases at 0, as in the authors' code.
    """
    layers: list[nn.Module] = []
    for i, width in enumerate(_checked(widths)):
        layers += [nn.GELU()] if i > 0 else []
        linear = nn.Linear(features, width)
        nn.init.trunc_normal_(linear.weight, std=0.02)
        nn.init.zeros_(linear.bias)
        layers.append(linear)
        features = width
    return MLP(*layers)


class Prototypes(nn.Module):
    """Cosines of embeddings [N, E] to K learned directions, float32 [N, K] in [-1, 1].

    SwAV's normalised prototypes, and DINO's last layer: weight normalisation with its gain fixed at 1.
    """

    def __init__(self, features: int, number: int) -> None:
        super().__init__()
        self.weight = nn.Linear(features, number, bias=False).weight

    def forward(self, z: Tensor, frozen: bool = False) -> Tensor:
        """`frozen` directions keep still: their gradient is 0."""
        # Zero rather than none, which data parallelism would take for an unused parameter.
        weight = self.weight.detach() + 0 * self.weight if frozen else self.weight
        return cosines(z, weight)


def _checked(widths: tuple[int, ...]) -> tuple[int, ...]:
    if any(width < 1 for width in widths):
        raise ConfigError(f"a head's layer needs a width of 1 or more, got {list(widths)}")
    return widths
