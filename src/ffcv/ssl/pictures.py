"""What an encoder makes of images, to look at: a map of its features, and images beside those it takes for similar."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ffcv.format import Section
from ffcv.loader import Loader, OrderOption
from ffcv.reader import Reader
from ffcv.ssl import evaluate
from ffcv.ssl.trained import Trained
from ffcv.ssl.views import centre
from ffcv.transforms import ToTensor


@dataclass(frozen=True)
class Neighbours:
    """A query and its nearest images.

    Attributes:
        images: numbers in the sample, the query first.
        cosines: of each of the others to the query.
    """

    images: list[int]
    cosines: list[float]


@dataclass(frozen=True)
class Sample:
    """Images and what the encoder makes of them.

    Attributes:
        part: where the images are.
        held_out: whether training left them out.
        unit: float32 [N, D], features of length 1.
        labels: int [N] from 0, None where there are none.
        names: of the classes.
    """

    part: evaluate.Part
    held_out: bool
    unit: torch.Tensor
    labels: np.ndarray | None
    names: list[str]


def draw_sample(trained: Trained, number: int, seed: int, device: torch.device) -> Sample:
    """Up to `number` images, of the held-out ones where there are any, else of those trained on.

    Raises:
        FileNotFoundError, ConfigError: the run's data is not there any more, or another.
    """
    config = trained.config
    train, held_out = evaluate.parts(config)
    part = held_out if len(held_out) > 0 else train
    order = np.random.default_rng(seed).permutation(len(part))[:number]
    part = replace(part, indices=np.sort(part.indices[order]))
    features = evaluate.features_of(trained.encoder, part, config, device).cpu()
    labels, names = None, []
    if config.data.label is not None:
        labels = evaluate.read_labels(part, config.data.label).numpy()
        names = _class_names(part.path, int(labels.max()) + 1)
    return Sample(part, len(held_out) > 0, F.normalize(features, dim=1), labels, names)


def principal_components(unit: torch.Tensor) -> tuple[np.ndarray, tuple[float, float]]:
    """Coordinates [N, 2] on the two directions of the largest variance, and their shares of all variance."""
    centred = (unit - unit.mean(0)).double()
    left, values, _ = torch.linalg.svd(centred, full_matrices=False)
    variance = values.square()
    shares = [*(variance / variance.sum().clamp(min=1e-12)).tolist(), 0.0]
    points = F.pad(left[:, :2] * values[:2], (0, max(0, 2 - len(values))))
    return points.numpy(), (shares[0], shares[1])


def umap_or_none(unit: torch.Tensor, seed: int) -> np.ndarray | None:
    """Coordinates [N, 2] by UMAP on cosines (McInnes et al., https://arxiv.org/abs/1802.03426); None where the package
    umap-learn is not installed, or for too few images."""
    try:
        import umap  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    if len(unit) < 20:
        return None
    return np.asarray(umap.UMAP(metric="cosine", random_state=seed, n_jobs=1).fit_transform(unit.numpy()))


def nearest(unit: torch.Tensor, queries: int, neighbours: int, seed: int) -> list[Neighbours]:
    """For `queries` random images the others of the largest cosine."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(unit))[:queries])
    cosine = unit[chosen] @ unit.T
    cosine[torch.arange(len(chosen)), chosen] = -2
    values, index = cosine.topk(min(neighbours, len(unit) - 1), dim=1)
    return [
        Neighbours([int(query), *others], cosines)
        for query, others, cosines in zip(chosen, index.tolist(), values.tolist(), strict=True)
    ]


def thumbnails(sample: Sample, trained: Trained, numbers: list[int], side: int = 96) -> dict[int, bytes]:
    """The images of those numbers as PNG files, no larger than `side` pixels."""
    config = trained.config
    wanted = sorted(set(numbers))
    loader = Loader(
        sample.part.path,
        64,
        order=OrderOption.SEQUENTIAL,
        num_workers=1,
        indices=sample.part.indices[wanted],
        drop_last=False,
        pipelines={
            **sample.part.without(config.data.image),
            config.data.image: [centre(config.views)[0], ToTensor()],
        },
    )
    pixels = torch.cat([getattr(batch, config.data.image) for batch in loader]).numpy()
    return {number: _png(image, side) for number, image in zip(wanted, pixels, strict=True)}


def _png(pixels: np.ndarray, side: int) -> bytes:
    image = Image.fromarray(pixels)
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _class_names(path: str, number: int) -> list[str]:
    """From the file's manifest, else their numbers."""
    content = Reader(path).read_section(Section.MANIFEST)
    manifest = json.loads(content) if content else None
    classes = manifest.get("classes") if isinstance(manifest, dict) else None
    if isinstance(classes, list) and len(classes) >= number:
        return [str(name) for name in classes]
    return [str(i) for i in range(number)]
