"""A trained encoder as a file for other programs: safetensors, or ONNX.

The weights are named as the backbone's own library names them, so that `timm.create_model(NAME, num_classes=0,
checkpoint_path=FILE)` and `load_state_dict` take them; what else is needed to use them is in the file's metadata.
"""

from __future__ import annotations

import json
import warnings
from importlib.metadata import version
from pathlib import Path

import torch

from ffcv._atomic_file import atomic_file
from ffcv.ssl.config import to_yaml
from ffcv.ssl.errors import ConfigError
from ffcv.ssl.trained import Trained

TOLERANCE = 1e-4
"""Largest difference of ONNX outputs to torch's, relative to the largest output."""

FORMATS = (".safetensors", ".onnx")


def metadata(trained: Trained) -> dict[str, str]:
    """What somebody needs to use the encoder; mean and std for pixels from 0 to 1, as in torchvision and timm."""
    views, model = trained.config.views, trained.config.model
    values = {
        "architecture": model.backbone,
        "num_features": trained.num_features,
        "input_size": [3, views.size, views.size],
        "mean": [round(value / 255, 6) for value in views.mean],
        "std": [round(value / 255, 6) for value in views.std],
        "method": trained.config.method,
        "epochs": trained.epochs,
    }
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
    return {"format": "pt", "version": version("ffcv-ssl"), **texts, "config": to_yaml(trained.config)}


def export(trained: Trained, out: Path) -> float | None:
    """Write the encoder to `out`, whole or not at all; the ending says in which format.

    Returns:
        For ONNX, the largest difference of onnxruntime's outputs to torch's, relative to the largest output, on random
        images; None where onnxruntime is not installed, and for safetensors.

    Raises:
        ConfigError: another ending, a missing package, or onnxruntime computes something else.
    """
    if out.suffix == ".safetensors":
        with atomic_file(out) as file:
            file.write(as_safetensors(trained))
        return None
    if out.suffix == ".onnx":
        content = as_onnx(trained)
        difference = onnx_difference(trained, content)
        if difference is not None and not difference <= TOLERANCE:
            raise ConfigError(f"{out}: not written: onnxruntime's outputs differ from torch's by {difference:.1g}")
        with atomic_file(out) as file:
            file.write(content)
        return difference
    raise ConfigError(f"{out}: unknown format {out.suffix!r}: the file's name must end in {' or '.join(FORMATS)}")


def as_safetensors(trained: Trained) -> bytes:
    """The weights and `metadata` as the content of a safetensors file."""
    try:
        from safetensors.torch import save
    except ImportError:
        raise ConfigError("writing safetensors needs that package: pip install 'ffcv-ssl[export]'") from None
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in trained.encoder.state_dict().items()}
    return save(weights, metadata(trained))


def as_onnx(trained: Trained) -> bytes:
    """The network as ONNX: 'images' float32 [batch, 3, H, W], normalised, to 'features' float32 [batch, D].

    The batch's size is free, H and W are those of training.
    """
    try:
        import onnx  # noqa: F401  # pyright: ignore[reportMissingImports, reportUnusedImport]
        import onnxscript  # noqa: F401  # pyright: ignore[reportMissingImports, reportUnusedImport]
    except ImportError as error:
        raise ConfigError(f"writing ONNX needs {error.name}: pip install 'ffcv-ssl[export]'") from None
    # Convolutions in the usual memory layout: the exporter takes strides for part of the model.
    encoder = trained.encoder.to("cpu", memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    with warnings.catch_warnings():
        # Of torch's exporter about itself, nothing that a user could act on.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            encoder,
            (_images(trained, 2),),
            input_names=["images"],
            output_names=["features"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props.update(metadata(trained))
    return program.model_proto.SerializeToString()


def onnx_difference(trained: Trained, content: bytes) -> float | None:
    """The largest difference of onnxruntime's outputs to torch's, relative to the largest output; None without it."""
    try:
        import onnxruntime  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    images = _images(trained, 3)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (found,) = session.run(["features"], {"images": images.numpy()})
    with torch.no_grad():
        expected = trained.encoder(images)
    return float((torch.from_numpy(found) - expected).abs().max() / expected.abs().max().clamp(min=1e-12))


def _images(trained: Trained, number: int) -> torch.Tensor:
    size = trained.config.views.size
    return torch.randn(number, 3, size, size, generator=torch.Generator().manual_seed(0))
