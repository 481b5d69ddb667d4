"""The loader."""

from __future__ import annotations

import difflib
import os
import secrets
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np
import torch

from ffcv import _core
from ffcv.fields.base import Field
from ffcv.fields.decoder import Decoder
from ffcv.loader.cores import available_cores
from ffcv.loader.epoch import EpochIterator
from ffcv.loader.slots import SlotPool
from ffcv.pipeline.plan import Plan
from ffcv.pipeline.spec import PipelineSpec
from ffcv.pipeline.views import View, compile_view
from ffcv.reader import Reader
from ffcv.transforms.base import ImageDecoder
from ffcv.transforms.ops import ToDevice, ToTensor
from ffcv.traversal_order import Random, Sequential, TraversalOrder


class OrderOption(Enum):
    """In which order samples come."""

    SEQUENTIAL = 1
    RANDOM = 2


ORDER_TYPE = TraversalOrder | OrderOption | type[TraversalOrder]
_ORDERS = {OrderOption.SEQUENTIAL: Sequential, OrderOption.RANDOM: Random}


class Loader:
    """Iterates over a `.beton` file in batches; each iteration is the next epoch.

    A batch is a NamedTuple: the file's fields in their order, then the extra views in the order given. It stays valid
    as long as somebody holds it. The same seed gives the same batches, whatever `num_workers` is.

    Args:
        path: The file.
        batch_size: Samples in a batch.
        num_workers: Threads that decode and transform; -1 for all cores of this process.
        os_cache: Read through the operating system's page cache.
        order: An `OrderOption`, or a `TraversalOrder` subclass.
        distributed: Split each global batch among the ranks of `torch.distributed`; needs `seed`.
        seed: Decides the order and all augmentations; None draws one, see `loader.seed`.
        indices: Samples to use, in this order; None for all.
        pipelines: For each field or view: a list that begins with a decoder (or gets the field's default), None to
            leave the field out, or a `PipelineSpec`.
        custom_fields: Classes of custom fields, by field name.
        drop_last: Leave out the last batch if it is not full.
        batches_ahead: Finished batches that wait; bounds the memory.
        recompile: Accepted for the original's sake; nothing is compiled here.
        custom_field_mapper: Extra views: name of the view -> field that it is decoded from.
        order_kwargs: Further arguments for a `TraversalOrder` subclass.
        fname: FFCV's name for `path`.

    Raises:
        FileNotFoundError, FormatError: The file is missing or damaged.
        ValueError, TypeError: An argument is wrong; says which and what is allowed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        batch_size: int = 0,
        num_workers: int = -1,
        os_cache: bool = True,
        order: ORDER_TYPE = OrderOption.SEQUENTIAL,
        distributed: bool = False,
        seed: int | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        pipelines: Mapping[str, Sequence[Any] | PipelineSpec | None] | None = None,
        custom_fields: Mapping[str, type[Field]] | None = None,
        drop_last: bool = True,
        batches_ahead: int = 3,
        recompile: bool = False,
        custom_field_mapper: Mapping[str, str] | None = None,
        order_kwargs: Mapping[str, Any] | None = None,
        *,
        fname: str | os.PathLike[str] | None = None,
    ) -> None:
        chosen = path if path is not None else fname
        if chosen is None:
            raise ValueError("Loader needs the path of a .beton file as its first argument")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if seed is None and distributed:
            raise ValueError("distributed=True needs seed=, the same on every rank, so that ranks share one order")
        self.reader = Reader(chosen, custom_fields=dict(custom_fields or {}))
        self.path = self.reader.path
        self.batch_size = batch_size
        self.num_workers = available_cores() if num_workers < 1 else num_workers
        self.os_cache = os_cache
        self.seed = secrets.randbits(63) if seed is None else int(seed)
        self.drop_last = drop_last
        self.batches_ahead = batches_ahead
        self.indices = _checked_indices(indices, self.reader.num_samples)
        self.rank, self.world_size = _ranks(distributed)
        self.traversal_order = _order(order)(self, **(order_kwargs or {}))
        self.next_epoch = 0

        views = self._views(dict(pipelines or {}), dict(custom_field_mapper or {}))
        self.plan = Plan(self.reader, views)
        pinned = any(isinstance(op, ToDevice) and op.device.type == "cuda" for view in views for op in view.tail)
        self._slots = SlotPool(keep=len(views) * (batches_ahead + 2), pin_memory=pinned)
        self._renderer = _core.Renderer(self.num_workers)

    def __iter__(self) -> EpochIterator:
        epoch = self.next_epoch
        self.next_epoch += 1
        order = np.ascontiguousarray(self.traversal_order.sample_order(epoch), dtype=np.int64)
        return EpochIterator(self.plan, self._renderer, self._slots, self._batches(order), epoch, self.batches_ahead)

    def __len__(self) -> int:
        """Batches in an epoch, on this rank."""
        samples, step = len(self.indices), self.batch_size * self.world_size
        return samples // step if self.drop_last else -(-samples // step)

    def set_epoch(self, epoch: int) -> None:
        """The next iteration will be this epoch, from 0."""
        if epoch < 0:
            raise ValueError(f"epoch must be at least 0, got {epoch}")
        self.next_epoch = epoch

    def _batches(self, order: np.ndarray) -> list[np.ndarray]:
        """This rank's part of every global batch: global batches do not depend on the number of ranks."""
        step = self.batch_size * self.world_size
        batches = []
        for start in range(0, len(self) * step, step):
            batch = order[start : start + step]
            share = -(-len(batch) // self.world_size)
            batches.append(batch[self.rank * share : (self.rank + 1) * share])
        return [batch for batch in batches if len(batch)]

    def _views(self, pipelines: dict[str, Any], mapper: dict[str, str]) -> list[View]:
        fields = self.reader.field_names
        sources: dict[str, str] = {name: name for name in fields}
        for name, pipeline in pipelines.items():
            if isinstance(pipeline, PipelineSpec):
                sources[name] = pipeline.source
        sources.update(mapper)
        for name in pipelines:
            if name not in sources:
                raise ValueError(f"pipelines: {_unknown(name, fields)}; or name its field in custom_field_mapper")
        for source in sources.values():
            if source not in fields:
                raise ValueError(f"view source: {_unknown(source, fields)}")
        return [
            self._view(name, source, pipelines.get(name, []))
            for name, source in sources.items()
            if not (name in pipelines and pipelines[name] is None)
        ]

    def _view(self, name: str, source: str, pipeline: Sequence[Any] | PipelineSpec) -> View:
        if isinstance(pipeline, PipelineSpec):
            operations = [pipeline.decoder] * (pipeline.decoder is not None) + list(pipeline.transforms)
        else:
            operations = list(pipeline)
        operations = operations or [ToTensor()]
        if not isinstance(operations[0], ImageDecoder | Decoder):
            operations.insert(0, self.reader.fields[source].get_decoder_class()())
        decoder = operations[0]
        is_image = {"height", "width", "mode", "data_ptr"} <= set(self.reader.metadata[source].dtype.names or ())
        if isinstance(decoder, ImageDecoder) != is_image:
            kind = "an image" if is_image else "no image"
            raise ValueError(f"pipeline {name!r}: {type(decoder).__name__} does not fit field {source!r}, {kind}")
        if isinstance(decoder, ImageDecoder):
            column = self.reader.metadata[source]
            decoder.bind(column["height"], column["width"])
        else:
            decoder.bind(self.reader, source)
        return compile_view(name, source, decoder, operations[1:], self.seed)


def _unknown(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f", did you mean {close[0]!r}?" if close else ""
    return f"the file has no field {name!r}{hint} (it has {', '.join(map(repr, known))})"


def _checked_indices(indices: Sequence[int] | np.ndarray | None, num_samples: int) -> np.ndarray:
    if indices is None:
        return np.arange(num_samples, dtype=np.int64)
    result = np.asarray(indices)
    if result.ndim != 1 or (result.size and not np.issubdtype(result.dtype, np.integer)):
        raise ValueError(f"indices must be a flat list of integers, got {result.dtype} {list(result.shape)}")
    if result.size and not (result.min() >= 0 and result.max() < num_samples):
        raise ValueError(f"indices must be within 0..{num_samples - 1}, got {result.min()}..{result.max()}")
    return result.astype(np.int64)


def _ranks(distributed: bool) -> tuple[int, int]:
    if not distributed:
        return 0, 1
    if not torch.distributed.is_initialized():
        raise ValueError("distributed=True needs torch.distributed.init_process_group() before the Loader")
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def _order(order: ORDER_TYPE) -> Any:
    if isinstance(order, OrderOption):
        return _ORDERS[order]
    if isinstance(order, type) and issubclass(order, TraversalOrder):
        return order
    raise TypeError(f"order must be an OrderOption or a subclass of TraversalOrder, got {order!r}")
