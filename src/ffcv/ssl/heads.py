"""Heads that sit on the backbone while training and are thrown away afterwards."""

from __future__ import annotations

from torch import nn

from ffcv.ssl.errors import ConfigError


def mlp(features: int, *widths: int) -> nn.Sequential:
    """Linear layers with batch normalisation, ReLU between them (SimCLR's projector, its appendix B.9).

    The last layer is normalised too but has no ReLU. No biases: the normalisation would cancel them.

    Args:
        features: width of the representation.
        widths: width of each layer, the last one the embedding's. None: the representation itself is
            compared.
    """
    layers: list[nn.Module] = []
    for i, width in enumerate(widths):
        if width < 1:
            raise ConfigError(f"a head's layer needs a width of 1 or more, got {list(widths)}")
        layers += [nn.Linear(features, width, bias=False), nn.BatchNorm1d(width)]
        if i < len(widths) - 1:
            layers.append(nn.ReLU(inplace=True))
        features = width
    return nn.Sequential(*layers)
