"""What users of FFCV read, set and call on a loader beside iterating over it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from ffcv import _core
from ffcv.cores import available_cores
from ffcv.loader.cut import Cut
from ffcv.loader.options import check_indices, whole
from ffcv.loader.position import Pass, Position
from ffcv.loader.selection import Selection, take
from ffcv.pipeline.compiler import Compiler
from ffcv.pipeline.plan import Plan
from ffcv.pipeline.spec import PipelineSpec
from ffcv.pipeline.views import View
from ffcv.reader import Reader
from ffcv.traversal_order import TraversalOrder

DEFAULT_OS_CACHE: bool | None = None
"""For the `os_cache` of loaders derived from ours: the environment's default."""


class OriginalLoader(ABC):
    """The original's names, for loaders.

    Attributes:
        pipeline_specs: For each element of a batch its source, decoder and transforms.
        recompile: Whether the code is made anew at every iteration.
        traversal_order: May be replaced by another order between epochs.
    """

    reader: Reader
    plan: Plan
    selection: Selection
    pipeline_specs: dict[str, PipelineSpec]
    recompile: bool
    traversal_order: TraversalOrder
    _args: dict[str, Any]  # FFCV's name, too: what the loader was made of
    _cut: Cut
    _num_workers: int
    _renderers: dict[int, _core.Renderer]  # by process
    _next: Position  # where the next iteration begins
    _reached: Position  # by the latest one
    _latest: Pass | None  # None: nothing has begun since `_next` was set
    _made_order: TraversalOrder  # of the arguments
    _counted: tuple[TraversalOrder, int, int] | None  # of an epoch of an order: how many samples it has

    @property
    def code(self) -> Plan:
        """`plan`: one object, or a new one for each time that the code was made."""
        return self.plan

    def generate_code(self) -> None:
        """Makes the code of operations anew, from `pipeline_specs`: it may have kept what attributes were."""
        self.plan = self.plan.with_views(self._views())
        self.reader.forget_allocations()  # which users' decoders may have needed

    @property
    def next_epoch(self) -> int:
        """The epoch of the next iteration; assigning is `set_epoch`."""
        return self._next.epoch

    @next_epoch.setter
    def next_epoch(self, epoch: int) -> None:
        self.set_epoch(epoch)

    @property
    def num_workers(self) -> int:
        """Threads that decode and transform. Others may be assigned between epochs; below 1 is all cores."""
        return self._num_workers

    @num_workers.setter
    def num_workers(self, num_workers: int) -> None:
        num_workers = whole("num_workers", num_workers)
        if "_args" not in vars(self):  # a derived class assigns before it calls our __init__, which has the last word
            return
        self._num_workers = Compiler.num_threads = available_cores() if num_workers < 1 else num_workers
        self._args["num_workers"] = num_workers
        self._renderers.clear()

    @property
    def batch_size(self) -> int:
        """Samples in a batch of this rank. Another may be assigned between epochs."""
        return self._cut.batch_size

    @batch_size.setter
    def batch_size(self, batch_size: int) -> None:
        self._recut(batch_size=whole("batch_size", batch_size, least=1))

    @property
    def drop_last(self) -> bool:
        """Whether a short last batch is left out; may be assigned between epochs."""
        return self._cut.drop_last

    @drop_last.setter
    def drop_last(self, drop_last: bool) -> None:
        self._recut(drop_last=drop_last)

    def _recut(self, **changes: Any) -> None:
        if "_cut" not in vars(self):  # as above
            return
        cut = replace(self._cut, **changes)
        self._check_cut(cut, between=3)
        epoch = self._reached.epoch
        if self._latest is not None and epoch < self._next.epoch:
            # This epoch is under way, and its order may depend on the cut that it began with.
            self.traversal_order.load_state_dict(epoch, self.traversal_order.state_dict(epoch))
        self._cut = cut
        self._args.update(changes)

    def _check_cut(self, cut: Cut, between: int) -> None:
        """`between`: how many functions of ours lie between the user's and the check, this one among them."""
        cut.check(self._length(self.next_epoch), self._args["on_error"], self.selection.size, between + 2)

    def _assigned_order(self) -> TraversalOrder | None:
        """The order that the user has put in the place of ours."""
        return None if self.traversal_order is self._made_order else self.traversal_order

    @property
    def indices(self) -> np.ndarray:
        """The dataset indices of the samples used, int64 [N]; made anew where they are the whole file.

        Others may be assigned between epochs.
        """
        return self.selection.all()

    @indices.setter
    def indices(self, indices: Sequence[int] | np.ndarray) -> None:
        chosen = check_indices(indices, self.reader.num_samples)
        before, self.selection = self.selection, Selection(chosen, self.reader.num_samples)
        self._counted = None
        try:
            self._check_cut(self._cut, between=2)
        except ValueError:
            self.selection = before
            raise
        finally:
            self._counted = None  # the order's own `indices` may be assigned next
        self._args["indices"] = chosen

    def next_traversal_order(self) -> np.ndarray:
        """The dataset indices that this rank gets in the next epoch, with those of a last short batch: int64 [N]."""
        return self._samples_of(self.next_epoch)

    @cached_property
    def first_traversal_order(self) -> np.ndarray:
        """`next_traversal_order` of epoch 0."""
        return self._samples_of(0)

    def _samples_of(self, epoch: int) -> np.ndarray:
        order = self.traversal_order.sample_order(epoch)
        batches = self._cut.keeping_all().batches(len(order))
        return np.concatenate([np.empty(0, np.int64), *(take(order, positions) for positions, _ in batches)])

    @abstractmethod
    def _length(self, epoch: int) -> int: ...

    @abstractmethod
    def set_epoch(self, epoch: int) -> None: ...

    @abstractmethod
    def _views(self) -> list[View]: ...
