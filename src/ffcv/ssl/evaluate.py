"""Features of a `.beton` file, and how well they separate its classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from rich.table import Table
from torch import Tensor, nn

from ffcv._words import counted
from ffcv.fields import Field, IntField, RGBImageField
from ffcv.fields.decoders import IntDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.reader import Reader
from ffcv.ssl import backbones, probes, protocols
from ffcv.ssl.config import Config, DataConfig, EvalConfig
from ffcv.ssl.distributed import gather, loader_threads, world_size
from ffcv.ssl.errors import ConfigError
from ffcv.ssl.methods import Method
from ffcv.ssl.views import centre
from ffcv.transforms import Squeeze, ToDevice, ToTensor


@dataclass(frozen=True)
class Part:
    """Images of a file.

    Attributes:
        path: of the file.
        indices: their numbers in it, int64 [N], ascending.
        fields: the file's, by name; its header is read once, whatever is asked of the part.
    """

    path: str
    indices: np.ndarray
    fields: Mapping[str, Field]

    def __len__(self) -> int:
        return len(self.indices)

    def without(self, *names: str | None) -> dict[str, Any]:
        """Pipelines (None) that leave the file's other fields out."""
        return {name: None for name in self.fields if name not in names}


Parts = tuple[Part, Part]
"""The images to train on, and those held out."""


Watch = Callable[[Loader], Iterable[Any]]

TABLE_BYTES = 1 << 30
"""Most memory that features may take while training: those of one representation in `compare`, and those of the
training images in `held_out`; 'ffcv eval' has no such bound."""


MAX_LABEL = 999_999
"""Probes have weights for each number up to the largest: numbers beyond are identifiers, not classes."""


@dataclass(frozen=True)
class Score:
    """Accuracies on held-out images, 0..1; over several draws of labels their mean and standard deviation."""

    knn: float
    linear: float
    knn_std: float = 0.0
    linear_std: float = 0.0


def parts(config: Config) -> Parts:
    """Training and held-out images: two files, or one file cut by `seed`.

    Raises:
        FileNotFoundError: a file is missing.
        ConfigError: there would be no image to train on; none may be held out.
    """
    if config.data.val is not None:
        train, held_out = (_with_images(path, config) for path in (config.data.train, config.data.val))
        if len(train) == 0:
            raise ConfigError(f"{train.path}: has no images to train on")
        return train, held_out
    everything = _with_images(config.data.train, config)
    number = len(everything)
    if number == 0:
        raise ConfigError(f"{everything.path}: has no images to train on")
    cut = round(number * config.data.held_out)
    order = np.random.default_rng(config.seed).permutation(number)
    train, held_out = np.sort(order[cut:]), np.sort(order[:cut])
    if len(train) == 0:
        raise ConfigError(
            f"{config.data.train}: {number} images leave none to train on (data.held_out={cut / number:g})"
        )
    return replace(everything, indices=train), replace(everything, indices=held_out)


def whole(path: str) -> Part:
    """All images of a file.

    Raises:
        FileNotFoundError: there is none.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file; make one with 'ffcv write IMAGE_FOLDER {path}'")
    reader = Reader(path)
    return Part(path, np.arange(reader.num_samples), reader.fields)


def _with_images(path: str, config: Config) -> Part:
    """The file, which has the image field that `config` names."""
    part, name = whole(path), config.data.image
    if name not in part.fields:
        raise ConfigError(_no_field(part, name, "set --data.image"))
    if not isinstance(kind := part.fields[name], RGBImageField):
        raise ConfigError(f"{path}: {name!r} is {type(kind).__name__}, no image: name another field with --data.image")
    return part


def _no_field(part: Part, name: str, advice: str) -> str:
    return f"{part.path}: has no field {name!r} but {', '.join(part.fields)}: {advice}"


def with_labels_there_are(config: Config, train: Part) -> Config:
    """`config`, with `data.label` null where nobody named a label field and the training file has none of the usual
    name: images alone are enough to train on."""
    label = config.data.label
    if label != DataConfig.label or label in train.fields:
        return config
    return replace(config, data=replace(config.data, label=None))


def read_labels(part: Part, field: str) -> Tensor:
    """The labels int64 [N] in the file's order, without touching the images.

    Raises:
        ConfigError: there is no such field, it does not hold whole numbers, or one is below 0 or above `MAX_LABEL`.
    """
    if field not in part.fields:
        raise ConfigError(_no_field(part, field, "set --data.label (null for none)"))
    kind = part.fields[field]
    if not isinstance(kind, IntField):
        raise ConfigError(
            f"{part.path}: labels are whole numbers (IntField), but {field!r} is {type(kind).__name__}: "
            "name another field with --data.label, or null to train without labels"
        )
    loader = Loader(
        part.path,
        4096,
        order=OrderOption.SEQUENTIAL,
        num_workers=1,
        indices=part.indices,
        drop_last=False,
        pipelines={**part.without(field), field: [IntDecoder(), ToTensor(), Squeeze(1)]},
    )
    labels = torch.cat([getattr(batch, field).long() for batch in loader])
    if len(wrong := ((labels < 0) | (labels > MAX_LABEL)).nonzero()[:, 0]):
        first = int(wrong[0])
        bound = "" if labels[first] < 0 else f" to {MAX_LABEL:,} at most"
        raise ConfigError(
            f"{part.path}: labels count from 0{bound}, but that of image {part.indices[first]} is "
            f"{int(labels[first])}: write the file with the classes' numbers, of labelled images alone, or train "
            "without labels by --data.label null"
        )
    return labels


def count_classes(config: Config, train: Part, test: Part) -> int | None:
    """One more than the largest label to train on, None without labels.

    Raises:
        ConfigError: what will be asked of the labels of either part cannot be had: whole numbers from 0, and
            `evaluation.labels_per_class` of every class.
    """
    if config.data.label is None:
        return None
    labels = read_labels(train, config.data.label)
    if len(test):
        read_labels(test, config.data.label)
    if config.evaluation.labels_per_class is not None:
        probes.require_per_class(labels, config.evaluation.labels_per_class)
    return int(labels.max()) + 1


@torch.no_grad()
def features_of(
    encoder: nn.Module,
    part: Part,
    config: Config,
    device: torch.device,
    view: Sequence[Any] | None = None,
    seed: int = 0,
    watch: Watch = iter,
) -> Tensor:
    """The images through the encoder in evaluation mode: features float32 [N, D] on `device`, in the part's order.

    The encoder's own mode is restored.

    Args:
        encoder: float [B, 3, H, W] to float [B, D].
        part: the images.
        config: of the run that the encoder is from.
        device: where the encoder is.
        view: a pipeline of `ffcv.transforms`; None for the centre crop.
        seed: of the view's randomness.
        watch: what goes through the batches, and may stop.
    """
    data, was_training = config.data, encoder.training
    loader = Loader(
        part.path,
        config.evaluation.batch_size,
        order=OrderOption.SEQUENTIAL,
        num_workers=loader_threads(data.num_workers),
        indices=part.indices,
        seed=seed,
        drop_last=False,
        os_cache=data.os_cache,
        pipelines={
            **part.without(data.image),
            data.image: [*(view or centre(config.views)), ToDevice(device)],
        },
    )
    encoder.eval()
    # Not by calling the module: what torch.compile made of it is for training's batches, and it would compile again.
    features = [encoder.forward(getattr(batch, data.image)).float() for batch in watch(loader)]
    encoder.train(was_training)
    return torch.cat(features)


def extract(
    encoder: nn.Module, part: Part, config: Config, device: torch.device, watch: Watch = iter
) -> tuple[Tensor, Tensor]:
    """`features_of` the part and its labels int64 [N], on `device`.

    Raises:
        ConfigError: there are no labels.
    """
    if config.data.label is None:
        raise ConfigError("data.label is null: without labels there is nothing to evaluate")
    return features_of(encoder, part, config, device, watch=watch), read_labels(part, config.data.label).to(device)


def score(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], config: EvalConfig, seed: int = 0) -> Score:
    """Accuracies by `protocols.knn` and `protocols.linear` of (features, labels) pairs, with all or few labels
    (`EvalConfig`)."""
    features, labels = train
    subsets: Sequence[Tensor] = [torch.arange(len(labels), device=labels.device)]
    if config.labels_per_class is not None:
        subsets = list(probes.few_labels(labels, config.labels_per_class, config.draws, seed))
    k = min(config.k, config.labels_per_class or config.k)
    options = protocols.Options(k=(k,), temperature=config.temperature, seed=seed)
    judged = protocols.Labelled(test[0][None], test[1])
    knn, linear = [], []
    for chosen in subsets:
        known = protocols.Labelled(features[chosen][None], labels[chosen])
        knn.append(protocols.knn(known, judged, options)[0].top1)
        linear.append(protocols.linear(known, judged, options)[0].top1)
    return Score(mean(knn), mean(linear), pstdev(knn), pstdev(linear))


def assess(encoder: nn.Module, parts: Parts, config: Config, device: torch.device) -> Score:
    """Probes learn on the training images' features and are judged on the held-out images."""
    train, test = (extract(encoder, part, config, device) for part in parts)
    return score(train, test, config.evaluation, config.seed)


def held_out(
    method: Method, online: probes.OnlineProbes, parts: Parts, config: Config, device: torch.device, watch: Watch = iter
) -> dict[str, float]:
    """Accuracies on the held-out images, to watch while training; every rank must call it and gets them.

    `watch` goes through the batches, on all ranks alike, and may stop.

    Returns:
        'knn_accuracy': k-NN with the labels of all training images, or of as many of them, evenly spread over the
        file, as have features of no more than `TABLE_BYTES`. 'val_probe_accuracy', and with more than five
        classes 'val_probe_top5': of the online probe on the representation, where the encoder to keep is the one that
        it learned on (not a teacher).
    """
    neighbours, judged = _at_most(parts[0], TABLE_BYTES // _bytes(1, method.num_features)), parts[1]
    train, known = _extract_together(method.encoder, neighbours, config, device, watch)
    test, wanted = _extract_together(method.encoder, judged, config, device, watch)
    votes = probes.knn_votes(train, known, test, config.evaluation.k, config.evaluation.temperature)
    figures = {"knn_accuracy": probes.accuracy(votes, wanted)}
    if method.encoder is method.backbone:
        probe = online.probes["probe"].eval()
        with torch.no_grad():
            logits = probe(test)
        probe.train()
        figures |= {f"val_probe_{name}": probes.accuracy(logits, wanted, k) for name, k in online.tops.items()}
    return figures


def _at_most(part: Part, count: int) -> Part:
    """The part, or `count` of its images, evenly spread: of a file that is sorted by class, so many of each."""
    if len(part) <= count:
        return part
    return replace(part, indices=part.indices[np.arange(count) * len(part) // count])


def _extract_together(
    encoder: nn.Module, part: Part, config: Config, device: torch.device, watch: Watch
) -> tuple[Tensor, Tensor]:
    """`extract`, each rank a share of the images; all of them in the order of ranks."""
    ranks = world_size()
    if ranks == 1 or len(part) < ranks:
        return extract(encoder, part, config, device, watch)
    for buffer in encoder.buffers():
        # Running statistics are each rank's own after a training step; the checkpoint has those of rank 0.
        dist.broadcast(buffer, 0)
    share = replace(part, indices=part.indices[dist.get_rank() :: ranks])
    features, labels = extract(encoder, share, config, device, watch)
    return gather(features).rows, gather(labels).rows


def compare(trained: nn.Module, parts: Parts, config: Config, device: torch.device) -> dict[str, Score]:
    """Raw pixels, the same network before training (from the same seed, or with its published weights), and trained,
    all judged in the same way. Raw pixels are left out where they would take more than `TABLE_BYTES`.

    Raises:
        ConfigError: the features would take more.
    """
    torch.manual_seed(config.seed)
    untrained = backbones.channels_last(backbones.build(config.model)).to(device)
    number = sum(map(len, parts))
    if _bytes(number, int(untrained.num_features)) > TABLE_BYTES:  # pyright: ignore[reportArgumentType]
        raise ConfigError(
            f"the features of {number:,} images take more than {TABLE_BYTES / 2**30:g} GiB: judge the encoder with "
            f"'ffcv eval {config.logging.folder} {config.data.train} --protocol linear'"
        )
    before = "published weights" if config.model.pretrained else "random initialisation"
    encoders = {before: untrained, "trained": trained}
    if _bytes(number, 3 * config.views.size**2) <= TABLE_BYTES:
        encoders = {"raw pixels": backbones.Pixels(), **encoders}
    return {name: assess(encoder, parts, config, device) for name, encoder in encoders.items()}


def _bytes(images: int, width: int) -> int:
    return images * width * torch.float32.itemsize


def table(scores: dict[str, Score], parts: Parts, config: Config, images_per_s: float) -> Table:
    """The comparison as a rich table, accuracies in per cent."""
    train, test = parts
    per_class = config.evaluation.labels_per_class
    labels = (
        counted(len(train), "label")
        if per_class is None
        else (f"{counted(per_class, 'label')} a class, {counted(config.evaluation.draws, 'draw')} (mean ± deviation)")
    )
    result = Table(
        title=f"Accuracy on {counted(len(test), 'held-out image')}",
        caption=labels + (f"; trained at {images_per_s:,.0f} images/s" if images_per_s else ""),
    )
    for heading in ("representation", "k-NN %", "linear probe %"):
        result.add_column(heading, justify="left" if heading == "representation" else "right")

    def cell(value: float, deviation: float) -> str:
        return f"{100 * value:.1f}" + (f" ± {100 * deviation:.1f}" if per_class else "")

    for name, s in scores.items():
        result.add_row(name, cell(s.knn, s.knn_std), cell(s.linear, s.linear_std))
    return result
