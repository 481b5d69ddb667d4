"""Encoders that somebody trained: read from a run's checkpoint or from an exported file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ffcv.errors import one_line
from ffcv.ssl import backbones, checkpoint, methods
from ffcv.ssl.config import Config, from_yaml
from ffcv.ssl.errors import ConfigError


@dataclass(frozen=True)
class Trained:
    """An encoder and where it is from.

    Attributes:
        encoder: in evaluation mode; float [B, 3, H, W], normalised by `config.views`, to float [B, num_features].
        config: of its run.
        epochs: that it trained.
        path: of the file.
    """

    encoder: nn.Module
    config: Config
    epochs: int
    path: Path

    @property
    def num_features(self) -> int:
        """Width of the representation."""
        return int(self.encoder.num_features)  # type: ignore[arg-type]


def load(path: Path, device: torch.device | None = None) -> Trained:
    """The encoder in `path`: a run's folder (its last.ckpt), a checkpoint, or what `ffcv export` wrote as safetensors.

    No code in the file is run.

    Raises:
        FileNotFoundError: there is no such file.
        ConfigError: it is damaged, something else, or of a version that this one cannot read.
    """
    if path.is_dir():
        path = path / "last.ckpt"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint; 'ffcv train' leaves last.ckpt in its --logging.folder")
    if path.suffix == ".onnx":
        raise ConfigError(f"{path}: ONNX files are for other programs; give the checkpoint that it was exported from")
    try:
        trained = _exported(path) if path.suffix == ".safetensors" else _checkpointed(path)
    except _Foreign as error:
        raise ConfigError(
            f"{path}: written by ffcv-ssl {error.version}, which ffcv-ssl {version('ffcv-ssl')} cannot read "
            f"({error.reason}); use that version"
        ) from None
    trained.encoder.to(device or torch.device("cpu")).eval()
    return trained


def device(name: str) -> torch.device:
    """A device to work on, by torch's name for it; 'auto' for the GPU if there is one.

    Raises:
        ConfigError: there is no such device here.
    """
    try:
        wanted = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"no device {name!r} here ({one_line(error)[:100]}); try auto or cpu") from None
    return wanted


class _Foreign(Exception):
    """The file is sound, but its configuration or weights are not what this version makes of them."""

    def __init__(self, version: str, reason: Exception) -> None:
        self.version, self.reason = version, one_line(reason)[:200]


def _checkpointed(path: Path) -> Trained:
    state = checkpoint.load(path)
    if not {"config", "method", "epoch"} <= state.keys():
        raise ConfigError(f"{path}: not a checkpoint of 'ffcv train', it has {', '.join(state) or 'nothing'}")
    try:
        config = from_yaml(state["config"])
        method = methods.load(config.method)(_backbone(config), config.options)
        method.load_state_dict(state["method"])
    except (ConfigError, RuntimeError) as error:
        raise _Foreign(str(state.get("version", "of another version")), error) from None
    return Trained(method.encoder, config, int(state["epoch"]), path)


def _exported(path: Path) -> Trained:
    weights, metadata = read_safetensors(path)
    if not {"config", "epochs", "version"} <= metadata.keys():
        raise ConfigError(f"{path}: not written by 'ffcv export', its metadata has {', '.join(metadata) or 'nothing'}")
    try:
        config = from_yaml(metadata["config"])
        encoder = _backbone(config)
        encoder.load_state_dict(weights)
    except (ConfigError, RuntimeError) as error:
        raise _Foreign(metadata["version"], error) from None
    return Trained(encoder, config, int(metadata["epochs"]), path)


def read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        ConfigError: the package safetensors is missing, or the file is damaged.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise ConfigError("reading safetensors needs that package: pip install 'ffcv-ssl[export]'") from None
    try:
        with safe_open(path, framework="pt") as file:
            names: Any = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except SafetensorError as error:
        raise ConfigError(f"{path}: not a readable safetensors file ({one_line(error)[:100]})") from None


def _backbone(config: Config) -> nn.Module:
    """The run's network; its published weights, if it began with some, are about to be replaced."""
    return backbones.channels_last(backbones.build(replace(config.model, pretrained=False)))
