"""Encoders: a small network that two CPU cores can train, and timm's or torchvision's by name.

Every encoder maps float [B, 3, H, W] to float [B, num_features] and has that width as `num_features`.
"""

from __future__ import annotations

import difflib
import importlib
import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from ffcv.errors import one_line
from ffcv.ssl.config import ModelConfig
from ffcv.ssl.errors import ConfigError

Module = TypeVar("Module", bound=nn.Module)


def build(config: ModelConfig) -> nn.Module:
    """The encoder that `config` names, with fresh weights from torch's global generator.

    Raises:
        ConfigError: nobody installed knows the name; the message lists near ones.
    """
    if config.backbone == "convnet":
        return ConvNet(config.width, config.depths, config.norm)
    known, missing = ["convnet"], []
    for load, library in ((_timm, "timm"), (_torchvision, "torchvision.models")):
        try:
            models = importlib.import_module(library)
        except (ImportError, RuntimeError) as error:
            # RuntimeError: torchvision's wheel beside a torch that it was not built for misses two operators.
            missing.append(f"{library} cannot be imported ({one_line(error)})")
            continue
        names = models.list_models()
        if config.backbone.partition(".")[0] in names:  # timm names weights after a dot
            network = load(models, config.backbone, config.pretrained)
            return _for_small_images(network) if config.small_images else network
        known += names
    near = difflib.get_close_matches(config.backbone, known, n=4, cutoff=0.4)
    hint = f"; near: {', '.join(near)}" if near else ""
    why = f"; {'; '.join(missing)}" if missing else ""
    raise ConfigError(
        f"unknown backbone {config.backbone!r}: 'convnet' is built in, others are timm's and torchvision's{hint}{why}"
    )


def channels_last(module: Module) -> Module:
    """The module with its convolutions in the memory layout that is fastest on CPUs and on tensor cores."""
    return module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


@torch.no_grad()
def require_sides(network: nn.Module, sides: Iterable[int]) -> None:
    """Try one image of each side, so that a side that comes late in training does not end it there.

    Raises:
        ConfigError: the network does not map images of a side to vectors.
    """
    was_training = network.training
    network.eval()
    for side in sorted(sides):
        try:
            found = network(torch.zeros(1, 3, side, side)).shape
        except (RuntimeError, AssertionError, ValueError) as error:
            raise ConfigError(f"the backbone takes no images of {side} x {side} pixels: {one_line(error)}") from None
        if found != (1, network.num_features):
            raise ConfigError(f"the backbone makes {list(found)} of one image, not [1, {network.num_features}]")
    network.train(was_training)


def synchronise_batchnorm(module: nn.Module) -> None:
    """Batch statistics over all processes in all normalisations below `module`, in place.

    By timm's converter where timm is installed: torch's drops the activations that timm keeps in its normalisations.
    """
    try:
        from timm.layers.norm_act import convert_sync_batchnorm
    except (ImportError, RuntimeError):  # as in `build`
        convert_sync_batchnorm = nn.SyncBatchNorm.convert_sync_batchnorm
    convert_sync_batchnorm(module)


class ConvNet(nn.Module):
    """A residual network for small images (He et al., https://arxiv.org/abs/1512.03385), average-pooled.

    A 4x4 stem with stride 2, then stages of residual blocks, each further stage at half the side and twice
    the channels. At width 32 and 32x32 pixels it costs 17 million multiplications an image, a thirtieth of
    ResNet-18.

    Args:
        width: channels of the first stage.
        depths: residual blocks in each stage.
        norm: batch, or group (8 channels a group in the first stage): statistics of each image by itself.
    """

    def __init__(
        self, width: int = 32, depths: Sequence[int] = (1, 1, 1), norm: Literal["batch", "group"] = "batch"
    ) -> None:
        super().__init__()
        groups = None if norm == "batch" else math.gcd(width, max(1, width // 8))
        layers: list[nn.Module] = [
            nn.Conv2d(3, width, 4, 2, 1, bias=False),
            _norm(width, groups),
            nn.ReLU(True),
        ]
        for stage, depth in enumerate(depths):
            if stage > 0:
                layers += [*_conv(width, 2 * width, groups, stride=2), nn.ReLU(True)]
                width *= 2
            layers += [_Residual(width, groups) for _ in range(depth)]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.num_features = width

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class _Residual(nn.Module):
    def __init__(self, channels: int, groups: int | None) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_conv(channels, channels, groups), nn.ReLU(True), *_conv(channels, channels, groups)
        )

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.layers(x)).relu()


def _conv(channels: int, out: int, groups: int | None, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(channels, out, 3, stride, 1, bias=False), _norm(out, groups)]


def _norm(channels: int, groups: int | None) -> nn.Module:
    return nn.BatchNorm2d(channels) if groups is None else nn.GroupNorm(groups, channels)


class Pixels(nn.Module):
    """The images themselves as their representation: the baseline that an encoder has to beat."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def _timm(timm: Any, name: str, pretrained: bool) -> nn.Module:
    # Positions interpolated to each view's size: multi-crop, and images of another size than the name says.
    plain_vit = timm.models.is_model_in_modules(name, ["vision_transformer"])
    flexible = {"dynamic_img_size": True} if plain_vit else {}
    network = timm.create_model(name, pretrained=pretrained, num_classes=0, **flexible)
    # Some have a further layer before the classifier; what comes out of it is the representation.
    network.num_features = getattr(network, "head_hidden_size", None) or network.num_features
    return network


def _torchvision(models: Any, name: str, pretrained: bool) -> nn.Module:
    network = models.get_model(name, weights="DEFAULT" if pretrained else None)
    for head in ("fc", "classifier", "heads", "head"):
        if hasattr(network, head):
            linear = [m for m in getattr(network, head).modules() if isinstance(m, nn.Linear)]
            if not linear:
                break
            setattr(network, head, nn.Identity())
            setattr(network, "num_features", linear[0].in_features)  # noqa: B010
            return network
    raise ConfigError(f"torchvision's {name!r} has no linear classifier to take off: choose a classifier")


def _for_small_images(network: nn.Module) -> nn.Module:
    """A ResNet for 32x32 pixels: a first convolution of 3x3 without stride, and no max pooling (SimCLR,
    https://arxiv.org/abs/2002.05709, appendix B.9)."""
    first = getattr(network, "conv1", None)
    if not isinstance(first, nn.Conv2d) or not hasattr(network, "maxpool"):
        raise ConfigError("model.small_images changes the stem of a ResNet, which this backbone does not have")
    setattr(network, "conv1", nn.Conv2d(3, first.out_channels, 3, 1, 1, bias=False))  # noqa: B010
    setattr(network, "maxpool", nn.Identity())  # noqa: B010
    return network
