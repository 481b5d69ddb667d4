"""All views of a batch together: from sample indices to the batch."""

from __future__ import annotations

import copy
import functools
import warnings
from collections import namedtuple
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ffcv import _core
from ffcv.errors import DecodeError, FormatError, message_of
from ffcv.fields.rgb_image import IMAGE_MODES
from ffcv.format import Section
from ffcv.pipeline.owned import OwnedAllocations
from ffcv.pipeline.source import FileSource, Source, UnreadableError
from ffcv.pipeline.steps import BatchKey, Params
from ffcv.pipeline.views import Allocate, ArrayView, ColumnView, CustomView, ImageView, Lowered, View, image_sizes
from ffcv.reader import Reader


class Prepared(NamedTuple):
    """A batch before it is rendered."""

    key: BatchKey
    rows: np.ndarray  # [B], the metadata of all fields
    params: dict[str, Params]  # by view
    lowered: list[list[Lowered]]  # by image field and view, in the order of the plan


class Plan:
    """What a loader does for every batch; `print(plan)` shows it.

    Args:
        reader: The open file.
        views: The batch's elements, in order.
        return_params: Batches end with `params`: name of the view -> 'position:family' of the operation -> a
            NamedTuple of numpy arrays, what it did to each sample.
        return_indices: Batches have `sample_index`, the samples' indices in the dataset, int64 [B].

    Attributes:
        source: Where batches are read from unless `render` is given another source.
    """

    def __init__(
        self, reader: Reader, views: Sequence[View], return_params: bool = False, return_indices: bool = False
    ) -> None:
        self.reader = reader
        self._owned: OwnedAllocations | None = None  # for users' decoders
        self._take(views)
        self.return_params = return_params
        self.return_indices = return_indices
        self.source = FileSource(reader)
        names = [view.name for view in views] + ["sample_index"] * return_indices + ["params"] * return_params
        self.batch_type = batch_type(tuple(names))
        for name, given in zip(names, self.batch_type._fields, strict=True):
            if name != given:
                warnings.warn(
                    f"{name!r} cannot be the name of an attribute in Python: this element of a batch is batch.{given}, "
                    f"or batch[{names.index(name)}]",
                    stacklevel=4,
                )

    def _take(self, views: Sequence[View]) -> None:
        self.views = tuple(views)
        self._images: dict[str, list[ImageView]] = {}  # by field: the views that are rendered together
        for view in views:
            if isinstance(view, ImageView):
                self._images.setdefault(view.field, []).append(view)
        self._others = [view for view in views if not isinstance(view, ImageView)]
        if self._owned is None and any(isinstance(view, CustomView) for view in views):
            self._owned = OwnedAllocations(self.reader)

    def with_views(self, views: Sequence[View]) -> Plan:
        """This plan for `views` built anew from the same pipelines; the open file and its tables are shared."""
        other = copy.copy(self)
        other._take(views)
        return other

    def __str__(self) -> str:
        decodes = [self._decode_title(field, views) for field, views in self._images.items()]
        return "\n".join([*decodes, *map(str, self.views)])

    def _decode_title(self, field: str, views: Sequence[ImageView]) -> str:
        names = ", ".join(view.name for view in views)
        text = f"field {field}: core: each image decoded once for {names}, only the rectangle that holds their crops"
        if self.reader.largest_entry_points:
            return text + ", from the nearest entry points"
        marked = Section.JPEG_RESTART_INDEX in self.reader.sections
        return text + "; other rows are jumped over by restart markers" * marked

    def prepare(self, key: BatchKey) -> Prepared:
        """Settles all that will be done to a batch, before there is memory for it."""
        rows = self.source.rows(key.samples)
        try:
            params = {view.name: view.sample(key, rows) for view in self.views}
            lowered = [[view.lower(params[view.name]) for view in views] for views in self._images.values()]
        except Exception:
            self.source.check(key.samples, rows)  # in a file that has changed, anything may be wrong
            raise
        return Prepared(key, rows, params, lowered)

    def render(
        self,
        prepared: Prepared,
        renderer: _core.Renderer,
        allocate: Allocate,
        source: Source | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> Any:
        """Makes one batch.

        Args:
            prepared: What `prepare` returned for it.
            renderer: The core's threads.
            allocate: Gives the arrays that the core renders into.
            source: Has the batch's bytes; None for the file itself.
            meanwhile: Called in this thread while the core's threads work.

        Returns:
            A NamedTuple with one element a view, then the indices and the parameters if they are asked for.

        Raises:
            SampleError: Samples could not be decoded; names them.
            FormatError: The file is not any more what was opened, or does not give a sample's bytes.
        """
        source = source or self.source
        try:
            return self._render(prepared, renderer, allocate, source, meanwhile)
        finally:  # whatever was read before or after a change is never handed out
            source.check(prepared.key.samples, prepared.rows)

    def _render(
        self,
        prepared: Prepared,
        renderer: _core.Renderer,
        allocate: Allocate,
        source: Source,
        meanwhile: Callable[[], None] | None,
    ) -> Any:
        key, rows, params, lowered = prepared
        finished: dict[str, Any] = {}
        for (field, images), settled in zip(self._images.items(), lowered, strict=True):
            programs = [view.program(each, allocate) for view, each in zip(images, settled, strict=True)]
            views = [view for view, _ in programs]
            self._render_images(field, views, rows[field], key, renderer, source, meanwhile)
            meanwhile = None  # it was called with the first field
            for view, (_, out) in zip(images, programs, strict=True):
                finished[view.name] = view.finish(out, params[view.name], key)
        for view in self._others:
            if isinstance(view, ArrayView):
                finished[view.name] = view.finish(params[view.name], key)
            elif isinstance(view, ColumnView):
                finished[view.name] = self._decode_column(view, rows[view.field], params[view.name], key, source)
            elif isinstance(view, CustomView) and self._owned is not None:
                finished[view.name] = self._decode_custom(view, self._owned, params[view.name], key, source)
        elements = [finished[view.name] for view in self.views]
        if self.return_indices:
            elements.append(torch.from_numpy(np.array(key.samples, np.int64)))
        return self.batch_type._make([*elements, params] if self.return_params else elements)

    def _decode_column(self, view: ColumnView, rows: np.ndarray, params: Params, key: BatchKey, source: Source) -> Any:
        return self._naming_samples(
            view.field,
            key.samples,
            lambda: view.finish(rows, source.read, params, key),
            lambda row: view.decoder.decode(rows[row : row + 1], source.read),
        )

    def _decode_custom(
        self, view: CustomView, owned: OwnedAllocations, params: Params, key: BatchKey, source: Source
    ) -> Any:
        storage = self._naming_samples(
            view.field,
            key.samples,
            lambda: owned.of(key.samples, source),
            lambda row: owned.of(key.samples[row : row + 1], source),
        )
        return view.finish(storage, params, key)

    def _naming_samples(
        self, field: str, samples: np.ndarray, read_all: Callable[[], Any], read_one: Callable[[int], object]
    ) -> Any:
        """`read_all()`; if that fails, a `SampleError` of the samples for whose rows `read_one(row)` does.

        Raises:
            UnreadableError: The file does not give a sample's bytes.
        """
        try:
            return read_all()
        except (FormatError, OSError):
            failed = self._failing(field, samples, read_one)
            if failed:
                raise SampleError(self.reader.path, field, failed) from None
            raise

    def _failing(self, field: str, samples: np.ndarray, read_one: Callable[[int], object]) -> dict[int, str]:
        """What is wrong, by sample, with those for whose rows `read_one(row)` fails."""
        failed: dict[int, str] = {}
        for row, sample in enumerate(samples.tolist()):
            try:
                read_one(row)
            except (FormatError, OSError) as error:
                message = message_of(error).removeprefix(f"{self.reader.path}: ")
                if isinstance(error, UnreadableError):
                    raise UnreadableError(
                        f"{self.reader.path}: sample {sample}, field {field!r}: {message}; make the file readable "
                        "again, and go on with the last state"
                    ) from error
                failed[sample] = message
        return failed

    def _render_images(
        self,
        field: str,
        views: list[_core.View],
        rows: np.ndarray,
        key: BatchKey,
        renderer: _core.Renderer,
        source: Source,
        meanwhile: Callable[[], None] | None,
    ) -> None:
        pointers, modes = rows["data_ptr"].astype(np.uint64), np.ascontiguousarray(rows["mode"])
        found = source.extents.of(pointers)
        # Compared at every read, beside the cost of decoding; pixels that are only copied, at the first.
        compared = (modes != IMAGE_MODES["raw"]) | ~source.extents.verified[found.rows]
        location = source.locate(pointers)
        try:
            errors = renderer.render(
                location.storage,
                location.offsets,
                found.sizes,
                modes,
                image_sizes(rows, np.int32),
                views,
                found.checksums,
                location.file,
                found.behind,
                compared,
                meanwhile,
            )
        except MemoryError as error:
            raise MemoryError(
                f"{self.reader.path}: no memory to decode a batch of field {field!r} that begins with sample "
                f"{key.samples[0]}: each of {renderer.num_threads} threads holds its largest image; take fewer, with "
                "num_workers="
            ) from error
        if errors:
            bad = [position for position, _ in errors]
            self._failing(field, key.samples[bad], lambda row: source.read(int(pointers[bad[row]])))  # or unreadable?
            failed = {int(key.samples[position]): message for position, message in errors}
            raise SampleError(self.reader.path, field, failed)
        source.extents.verified[found.rows] = True


@functools.cache
def batch_type(names: tuple[str, ...]) -> Any:
    """The NamedTuple of batches with these elements; pickled by the names alone, since no module has it."""
    made: Any = namedtuple("Batch", names, rename=True)
    made.__reduce__ = lambda batch: (_batch, (names, tuple(batch)))
    return made


def _batch(names: tuple[str, ...], elements: tuple[Any, ...]) -> Any:
    return batch_type(names)._make(elements)


def samples_of(element: Any) -> Iterable[Any]:
    """What an element of a batch holds for each sample; of a tuple, as users' operations may return, tuples."""
    return zip(*map(samples_of, element), strict=True) if isinstance(element, tuple) else element


class SampleError(DecodeError):
    """Samples that could not be decoded.

    Attributes:
        path: The file.
        field: The field.
        samples: What is wrong, by the samples' indices in the dataset.
    """

    def __init__(self, path: str, field: str, samples: dict[int, str]) -> None:
        first, message = next(iter(samples.items()))
        more = f" (and {len(samples) - 1} more of this batch)" if len(samples) > 1 else ""
        super().__init__(
            f"{path}: sample {first}, field {field!r}: {message}{more}; write the file again from good data, leave "
            "such samples out with indices=, or choose on_error='skip' or 'replace'"
        )
        self.path, self.field, self.samples = path, field, samples

    def __reduce__(self) -> tuple[type[SampleError], tuple[str, str, dict[int, str]]]:
        # Exceptions are copied and pickled by their `args`, of which this has others than it was made of.
        return type(self), (self.path, self.field, self.samples)
