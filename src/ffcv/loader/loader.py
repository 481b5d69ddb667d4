"""The loader."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ffcv import _core
from ffcv.fields.base import Field
from ffcv.loader.bad_samples import BadSamples, OnError
from ffcv.loader.building import build_views, gpus_of, own_arguments, resolve, unknown
from ffcv.loader.cuda import SideStreams, hand_over
from ffcv.loader.cut import Cut
from ffcv.loader.epoch import EpochIterator
from ffcv.loader.handoff import Handoff
from ffcv.loader.options import ORDER_TYPE, OrderOption, check_indices, choose_order, default_os_cache, whole
from ffcv.loader.original import DEFAULT_OS_CACHE, OriginalLoader
from ffcv.loader.position import MAX_EPOCH, Pass, Position
from ffcv.loader.production import Maker, Production
from ffcv.loader.ranks import agree_on_seed, find_ranks
from ffcv.loader.selection import Selection
from ffcv.loader.slots import SlotPool
from ffcv.loader.state import STATE_FORMAT, apply_state
from ffcv.pipeline.plan import Plan, samples_of
from ffcv.pipeline.spec import PipelineSpec
from ffcv.pipeline.steps import BatchKey
from ffcv.pipeline.views import ImageView, View
from ffcv.random import RNG_VERSION
from ffcv.reader import Reader, either
from ffcv.traversal_order import TraversalOrder

__all__ = ["DEFAULT_OS_CACHE", "ORDER_TYPE", "Loader", "OrderOption"]

AHEAD_BYTES = 192 << 20


class Loader(OriginalLoader):
    """Iterates over a `.beton` file in batches; each iteration is the next epoch.

    A batch is a NamedTuple: the file's fields in their order, then the extra views in the order given. It stays valid
    as long as somebody holds it. The same seed gives the same batches, whatever the number of threads, processes or the
    point where an interrupted run goes on; docs/loader.md says how.

    Args:
        path: The file.
        batch_size: Samples in a batch of this rank.
        num_workers: Threads that decode and transform; -1 for all cores of this process.
        os_cache: Read through the operating system's cache; False reads ahead into memory of the loader's own. None:
            True, unless the environment has FFCV_DEFAULT_CACHE_PROCESS=1.
        order: An `OrderOption` (None: sequential), or a `TraversalOrder` subclass.
        distributed: Split each global batch among the ranks of torch.distributed, torchrun or SLURM.
        seed: Decides the order and all augmentations; None draws one, see `loader.seed`.
        indices: Samples to use, in this order; None for all.
        pipelines: For each field or view: a list that begins with a decoder (or gets the field's default), None to
            leave the field out, or a `PipelineSpec`.
        custom_fields: Classes of custom fields, by field name.
        drop_last: Leave out the last global batch if it is not full.
        batches_ahead: Batches that are ready or in the making, at most; fewer where they would take more than
            `ahead_bytes`.
        recompile: Make the code of `Operation`s anew at every iteration: it may have kept what attributes were.
        custom_field_mapper: Extra views: name of the view -> field that it is decoded from.
        order_kwargs: Further arguments for a `TraversalOrder` subclass.
        return_params: Batches end with `params`: name of the view -> 'position:family' of the operation -> a
            NamedTuple of numpy arrays, what it did to each sample.
        return_indices: Batches have `sample_index`: the samples' indices in the dataset, int64 [B].
        shuffle: As in torch: True for the random order, False for the sequential one.
        sampler: Any iterable of dataset indices, such as torch's samplers; decides order and number of samples.
        on_error: What becomes of samples that cannot be decoded: 'raise', 'skip' (the batch gets smaller) or 'replace'
            (another sample, always the same one). `loader.bad_samples` counts them.
        rank: This process among `world_size`; both None: see `distributed`.
        world_size: Number of processes that share an epoch.
        pad: Without `drop_last`, fill the last global batch up from the epoch's beginning, so that all ranks get
            batches of the same size.
        ahead_bytes: Bound on the memory of batches ahead; one is always made ahead.
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
        os_cache: bool | None = None,
        order: ORDER_TYPE | None = None,
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
        return_params: bool = False,
        return_indices: bool = False,
        shuffle: bool | None = None,
        sampler: Any = None,
        on_error: OnError = "raise",
        rank: int | None = None,
        world_size: int | None = None,
        pad: bool = False,
        ahead_bytes: int = AHEAD_BYTES,
    ) -> None:
        # Longer than 60 lines for its arguments alone. They are kept as given: `filter` makes another loader of them.
        options = {name: value for name, value in locals().items() if name not in ("self", "fname")}
        options["path"] = either("path", path, "fname", fname)
        pipelines, custom_field_mapper = pipelines or {}, custom_field_mapper or {}
        options |= {"pipelines": pipelines, "custom_field_mapper": custom_field_mapper}
        if options["path"] is None:
            raise ValueError("Loader needs the path of a .beton file as its first argument")
        batch_size = whole("batch_size", batch_size, least=1)
        self.batches_ahead = max(1, whole("batches_ahead", batches_ahead))
        self.ahead_bytes = whole("ahead_bytes", ahead_bytes)
        seed = None if seed is None else whole("seed", seed)
        self._args, self._renderers = options, {}
        self.num_workers = num_workers
        self.reader = Reader(options["path"], custom_fields=dict(custom_fields or {}))
        for name in custom_fields or {}:
            if name not in self.reader.field_names:
                raise ValueError(f"custom_fields: {unknown(name, self.reader.field_names)}")
        self.path = self.fname = self.reader.path
        options["path"] = os.path.abspath(self.path)  # opened again by `filter` and where it is unpickled
        self.os_cache = default_os_cache() if os_cache is None else bool(os_cache)
        self.selection = Selection(check_indices(indices, self.reader.num_samples), self.reader.num_samples)
        self.rank, self.world_size = ranks = find_ranks(distributed, rank, world_size)
        self.distributed = self.world_size > 1
        self.seed = agree_on_seed(seed, ranks)
        self._cut = Cut(batch_size, self.rank, self.world_size, drop_last, pad)
        if sampler is not None and indices is not None:
            raise ValueError("sampler= already chooses the samples: pass either it or indices=")
        self.recompile = recompile
        self.pipeline_specs = resolve(self.reader, pipelines, custom_field_mapper)
        self._build()
        self._next = self._reached = Position()
        self._check_cut(self._cut, between=2)
        options |= own_arguments(options, self.selection.indices)
        self._latest = None
        self._iterators: weakref.WeakSet[EpochIterator] = weakref.WeakSet()
        self._closed = False

    def __iter__(self) -> EpochIterator:
        """The next epoch; or, after `load_state_dict`, the rest of the interrupted one.

        An iterator that goes without having been asked for a batch does not count as an epoch.
        """
        self._check_open()
        if self.recompile:
            self.generate_code()
        maker = self._maker()  # before anything is noted: where there are no threads or no GPU, no epoch begins
        this = Pass((self._next, self._reached, self._latest))  # not the iterator, whose user alone must hold it
        start = self._next
        order = self._order(start.epoch)
        if start.consumed and not start.named and self._cut.steps(len(order) - start.consumed) == 0:
            start = Position(start.epoch + 1)
            order = self._order(start.epoch)
        self._next, self._reached, self._latest = Position(start.epoch + 1), start, this

        def note(consumed: int | None) -> None:
            this.before = None
            if self._latest is this:
                self._reached = self._next if consumed is None else Position(start.epoch, consumed)

        def forget() -> None:  # trainers call iter() only to see whether they can
            this.is_unused = True
            while (latest := self._latest) is not None and latest.is_unused and latest.before is not None:
                self._next, self._reached, self._latest = latest.before

        parts = self._cut.batches(len(order), start.consumed)
        goes_on = start.consumed > 0
        production = Production(
            maker, self.bad_samples, self.selection, order, parts, start.epoch, self.os_cache, goes_on
        )
        left = self._cut.count(len(order) - start.consumed)
        iterator = EpochIterator(production, left, Handoff(self.batches_ahead, self.ahead_bytes), note, forget)
        self._iterators.add(iterator)
        return iterator

    def __len__(self) -> int:
        """Batches in a whole epoch, on this rank."""
        return self._cut.count(self._length(self.next_epoch))

    def __getitem__(self, index: int) -> Any:
        """One sample, by its index in the dataset: a batch's elements without the batch's axis.

        It is augmented as in the epoch that comes next.
        """
        self._check_open()
        index = whole("the index of one sample", index)
        if not -self.reader.num_samples <= index < self.reader.num_samples:
            raise IndexError(f"sample {index} of a file of {self.reader.num_samples}")
        samples = np.array([index % self.reader.num_samples], np.int64)
        maker = self._maker()
        batch, copied, _ = maker.make(BatchKey(samples, self.next_epoch))
        if maker.copies is not None:
            maker.copies.drain()
            hand_over(batch, copied)
        return batch._make(each if isinstance(each, dict) else next(iter(samples_of(each))) for each in batch)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled, it is opened again where it is unpickled, and goes on there as it would here."""
        if (assigned := self._assigned_order()) is not None and type(self).__init__ is Loader.__init__:
            raise TypeError(
                f"a loader whose traversal_order was replaced ({type(assigned).__name__}) cannot be pickled: pass the "
                "order to Loader, with order= and order_kwargs="
            )
        same = {"seed": self.seed, "rank": self.rank, "world_size": self.world_size}
        order_state = self.traversal_order.state_dict(self.next_epoch)
        return _reopened, (type(self), self._args, same, self._next, order_state)

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops all threads and lets go of the memory. Batches that somebody holds stay valid."""
        self._closed = True
        for iterator in list(self._iterators):
            iterator.close()
        self._renderers.clear()
        self._slots.close()

    def set_epoch(self, epoch: int) -> None:
        """The next iteration will be this epoch, from 0; from where it was interrupted, if it is the resumed one."""
        epoch = whole("epoch", epoch, least=0, most=MAX_EPOCH)
        self._next = self._next.at_epoch(epoch)
        self._latest = None

    def filter(self, field_name: str, condition: Callable[[Any], bool]) -> Loader:
        """A loader over the samples of this one whose value satisfies a condition.

        Args:
            field_name: A field or view; its pipeline is run on all samples of this loader, in order.
            condition: Is given one element of that pipeline's batches.

        Returns:
            A loader with the same options whose `indices` are those of the dataset.
        """
        names = [view.name for view in self.plan.views]
        if field_name not in names and field_name not in self.reader.field_names:
            raise ValueError(f"filter: {unknown(field_name, [*names, *self.reader.field_names])}")
        given, mapped = self._args["pipelines"], self._args["custom_field_mapper"]
        pipelines = {name: None for name in self.reader.field_names if name != field_name}
        if given.get(field_name) is not None:  # a field that is left out of the batches gets its default decoder
            pipelines[field_name] = given[field_name]
        mapper = {view: field for view, field in mapped.items() if view == field_name}
        plain = {"order": None, "order_kwargs": None, "sampler": None, "shuffle": None, "drop_last": False}
        alone: dict[str, Any] = {
            "rank": 0,
            "world_size": 1,
            "return_params": False,
            "return_indices": True,
            "seed": self.seed,
        }
        if self._args["on_error"] == "replace":
            alone["on_error"] = "skip"  # bad samples have no value, and are no other samples
        options = self._args | plain | alone | {"custom_field_mapper": mapper, "pipelines": pipelines}
        if self._args["sampler"] is not None:
            options["indices"] = np.unique(self.traversal_order.sample_order(self.next_epoch))
        kept: list[int] = []
        with type(self)(**options) as values:
            for batch in values:
                for index, value in zip(batch.sample_index.tolist(), samples_of(batch[0]), strict=True):
                    if condition(value):
                        kept.append(index)
        chosen = {"indices": np.array(kept, np.int64), "sampler": None, "seed": self.seed}
        return type(self)(**(self._args | chosen))

    def state_dict(self) -> dict[str, Any]:
        """Where the iteration is: plain numbers and text.

        A batch counts as consumed when it has been handed out. Global, so that one rank's state is every rank's.

        Raises:
            FormatError: The file is not any more what was opened.
        """
        self.plan.source.check_open()
        position = self._next if self._latest is None else self._reached
        return {
            "format": STATE_FORMAT,
            "rng_version": RNG_VERSION,
            "seed": self.seed,
            "epoch": position.epoch,
            "samples_consumed": position.consumed,
            "fingerprint": self.reader.fingerprint,
            "selection": self.selection.digest(),
            "order": type(self.traversal_order).__name__,
            "order_state": self.traversal_order.state_dict(position.epoch),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Makes the next iteration go on where `state` was taken, with the very next sample.

        Batch size, threads and number of ranks may differ. Where no batch of the interrupted epoch is left, the next
        iteration is the next epoch; `set_epoch` with the interrupted one makes it an empty iteration instead.

        Raises:
            ValueError: The state is of another dataset, order or version, or of another seed than was asked for.
        """
        apply_state(self, state)

    @property
    def given_seed(self) -> int | None:
        """The seed that was asked for; None where one was drawn."""
        return self._args["seed"]

    def resume(self, seed: int, position: Position, order_state: dict[str, Any]) -> None:
        """Goes on in the middle of an epoch; `load_state_dict` checks and then calls this."""
        if seed != self.seed:
            assigned, self.seed = self._assigned_order(), seed
            self._build()
            if assigned is not None:
                assigned.seed, self.traversal_order = seed, assigned
        if order_state:
            self.traversal_order.load_state_dict(position.epoch, order_state)
        self._next, self._latest = position, None

    def _build(self) -> None:
        """What follows from the seed: order, views, plan."""
        options = self._args
        kwargs = dict(options["order_kwargs"] or {})
        order, kwargs = choose_order(options["order"], options["shuffle"], options["sampler"], kwargs)
        views = self._views()
        added = {"params": options["return_params"], "sample_index": options["return_indices"]}
        for name in (view.name for view in views if added.get(view.name)):
            raise ValueError(f"the view {name!r} has the name of what return_params or return_indices adds: rename it")
        self.plan = Plan(self.reader, views, options["return_params"], options["return_indices"])
        self.reader.forget_allocations()  # the plan has taken what it needs
        self.bad_samples = BadSamples(options["on_error"], self.seed)
        self._streams = SideStreams(gpus_of(views))
        rendered = sum(isinstance(view, ImageView) for view in views)
        # one more batch than lie ahead: that which its user has just let go
        self._slots = SlotPool(rendered, self.batches_ahead + 1, self.ahead_bytes, pin_memory=bool(self._streams))
        self.traversal_order = self._made_order = order(self, **kwargs)
        self._counted = None

    def _views(self) -> list[View]:
        return build_views(self.reader, self.pipeline_specs, self.seed)

    def _length(self, epoch: int) -> int:
        """Samples in an epoch. Orders that have to be made to be counted are made once an epoch for that."""
        if type(self.traversal_order).epoch_length is not TraversalOrder.epoch_length:
            return self.traversal_order.epoch_length(epoch)
        order = self.traversal_order
        if self._counted is None or self._counted[:2] != (order, epoch):
            self._counted = order, epoch, order.epoch_length(epoch)
        return self._counted[2]

    def _order(self, epoch: int) -> Any:
        """The order of an epoch; made in the thread that iterates, whose random generator torch's samplers share."""
        order = self.traversal_order.sample_order(epoch)
        self._counted = self.traversal_order, epoch, len(order)
        if len(order) != self._length(epoch):
            raise ValueError(
                f"the order of epoch {epoch} has {len(order)} samples, but said that it has {self._length(epoch)}"
            )
        return order

    def _maker(self) -> Maker:
        pid = os.getpid()
        if pid not in self._renderers:  # the core's threads; in a forked process the old ones do not exist
            try:
                self._renderers[pid] = _core.Renderer(self.num_workers)
            except RuntimeError as error:
                raise RuntimeError(
                    f"{self.path}: no more threads for num_workers={self.num_workers} ({error}): take fewer, or "
                    "raise the limits on processes and memory"
                ) from error
        return Maker(self.plan, self._renderers[pid].another(), self._slots, self._streams.begin())

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError(f"the loader of {self.path} is closed; make a new one")


def _reopened(
    cls: type[Loader], options: dict[str, Any], same: dict[str, Any], position: Position, order_state: dict[str, Any]
) -> Loader:
    loader = cls(**options | same)
    loader._args["seed"] = options["seed"]  # one that was drawn is still none that was asked for
    loader.resume(loader.seed, position, order_state)
    return loader
