"""Encoders: a small network that two CPU cores can train, and timm's or torchvision's by name.

Every encoder maps float [B, 3, H, W] to float [B, num_features] and has that width as `num_features`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from ffcv.ssl.config import ModelConfig
from ffcv.ssl.errors import ConfigError

Module = TypeVar("Module", bound=nn.Module)


def build(config: ModelConfig) -> nn.Module:
    """The encoder that `config` names, with fresh weights from torch's global generator.

    Raises:
        ConfigError: nobody installed knows the name.
    """
    if config.backbone == "convnet":
        return ConvNet(config.width, config.depths)
    for library in (_timm, _torchvision):
        network = library(config.backbone, config.pretrained)
        if network is not None:
            return network
    raise ConfigError(
        f"unknown backbone {config.backbone!r}: 'convnet' is built in, other names are looked up in timm "
        "and torchvision (pip install timm torchvision)"
    )


def channels_last(module: Module) -> Module:
    """The module with its convolutions in the memory layout that is fastest on CPUs and on tensor cores."""
    return module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


class ConvNet(nn.Module):
    """A residual network for small images (He et al., https://arxiv.org/abs/1512.03385), average-pooled.

    A 4x4 stem with stride 2, then stages of residual blocks, each further stage at half the side and twice
    the channels. At width 32 and 32x32 pixels it costs 17 million multiplications an image, a thirtieth of
    ResNet-18.
    """

    def __init__(self, width: int = 32, depths: Sequence[int] = (1, 1, 1)) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(3, width, 4, 2, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(True),
        ]
        for stage, depth in enumerate(depths):
            if stage > 0:
                layers += [*_conv(width, 2 * width, stride=2), nn.ReLU(True)]
                width *= 2
            layers += [_Residual(width) for _ in range(depth)]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.num_features = width

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_conv(channels, channels), nn.ReLU(True), *_conv(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.layers(x)).relu()


def _conv(channels: int, out: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)]


class Pixels(nn.Module):
    """The images themselves as their representation: the baseline that an encoder has to beat."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def _timm(name: str, pretrained: bool) -> nn.Module | None:
    try:
        import timm  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    if name not in timm.list_models():
        return None
    # Positions interpolated to each view's size: multi-crop, and images of another size than the name says.
    plain_vit = timm.models.is_model_in_modules(name, ["vision_transformer"])
    flexible = {"dynamic_img_size": True} if plain_vit else {}
    return timm.create_model(name, pretrained=pretrained, num_classes=0, **flexible)


def _torchvision(name: str, pretrained: bool) -> nn.Module | None:
    try:
        from torchvision import models
    except (ImportError, RuntimeError):
        # RuntimeError: torchvision's wheel beside a CPU-only torch misses two operators.
        return None
    if name not in models.list_models():
        return None
    network = models.get_model(name, weights="DEFAULT" if pretrained else None)
    for head in ("fc", "classifier", "heads", "head"):
        if hasattr(network, head):
            linear = [m for m in getattr(network, head).modules() if isinstance(m, nn.Linear)]
            setattr(network, head, nn.Identity())
            setattr(network, "num_features", linear[0].in_features)  # noqa: B010
            return network
    raise ConfigError(f"torchvision's {name!r} has no classification head to take off: choose a classifier")
