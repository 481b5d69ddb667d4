"""What training steps are fed with: every view of every image, at the epoch's resolution."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor

from ffcv._words import counted
from ffcv.fields.decoders import IntDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.ssl import evaluate
from ffcv.ssl.config import Config
from ffcv.ssl.distributed import loader_threads
from ffcv.ssl.errors import ConfigError
from ffcv.ssl.methods import Method
from ffcv.transforms import Convert, Squeeze, ToDevice, ToTensor

_HALVES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class Batch(NamedTuple):
    """Views, V tensors float [B, 3, H, W], and labels int64 [B] or None."""

    views: list[Tensor]
    labels: Tensor | None


class Feed:
    """This process's batches of the training images, a whole number of steps an epoch.

    Attributes:
        steps: of an epoch, `training.accumulate` batches each; the images that are left over differ between epochs.
    """

    def __init__(self, config: Config, method: Method, part: evaluate.Part, fabric: Fabric) -> None:
        data, training = config.data, config.training
        if len(part) < training.batch_size:
            raise ConfigError(
                f"{part.path}: {counted(len(part), 'training image')}, less than one batch: "
                f"choose a training.batch_size of up to {len(part)}, got {training.batch_size}"
            )
        self._method, self._view_config, self._label = method, config.views, data.label
        self._views = method.views(config.views)
        self._names = [data.image, *(f"{data.image}{i}" for i in range(2, len(self._views) + 1))]
        # The type that autocast would give them anyway: half the memory, and half the way to the device.
        half = _HALVES.get(fabric.strategy.precision.precision)
        convert = [] if half is None else [Convert(half)]
        to_device = ToDevice(fabric.device)
        pipelines = part.without(data.image, data.label)
        pipelines |= {name: [*view, *convert, to_device] for name, view in zip(self._names, self._views, strict=True)}
        if data.label:
            pipelines[data.label] = [IntDecoder(), ToTensor(), Squeeze(1), to_device]
        self._loader = Loader(
            part.path,
            training.images_at_once(fabric.world_size),
            order=OrderOption.RANDOM,
            num_workers=loader_threads(data.num_workers),
            os_cache=data.os_cache,
            rank=fabric.global_rank,
            world_size=fabric.world_size,
            seed=config.seed,
            indices=part.indices,
            pipelines=pipelines,
            custom_field_mapper=dict.fromkeys(self._names[1:], data.image),
            drop_last=True,
        )
        self.steps = len(self._loader) // training.accumulate
        self._begun: tuple[int, Iterator[Any]] | None = None

    def begin(self, epoch: int) -> None:
        """Have the first batches of `epoch`, the next to be asked for, made from now on."""
        wanted = self._method.views(replace(self._view_config, size=self._view_config.size_at(epoch)))
        for view, resized in zip(self._views, wanted, strict=True):
            view[0].output_size = resized[0].output_size
        self._loader.set_epoch(epoch)
        self._begun = epoch, iter(self._loader)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch, or what is left of the one that was resumed."""
        if self._begun is None or self._begun[0] != epoch:
            self.begin(epoch)
        assert self._begun is not None
        (_, batches), self._begun = self._begun, None
        for batch in batches:
            labels = getattr(batch, self._label) if self._label else None
            yield Batch([getattr(batch, name) for name in self._names], labels)

    def state_dict(self) -> dict[str, Any]:
        """The loader's: where the iteration is."""
        return self._loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next `epoch` goes on there."""
        self._loader.load_state_dict(state)

    def close(self) -> None:
        """Stop the loader's threads."""
        self._loader.close()
