"""All views of a batch together: from sample indices to the batch."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence
from typing import Any

import numpy as np

from ffcv import _core
from ffcv.errors import DecodeError
from ffcv.pipeline.views import Allocate, BatchKey, ImageView, View
from ffcv.reader import Reader


class Plan:
    """What a loader does for every batch; `print(plan)` shows it.

    Args:
        reader: The open file.
        views: The batch's elements, in order.
    """

    def __init__(self, reader: Reader, views: Sequence[View]) -> None:
        self.reader = reader
        self.views = tuple(views)
        self.batch_type = namedtuple("Batch", [view.name for view in views], rename=True)

    def __str__(self) -> str:
        return "\n".join(str(view) for view in self.views)

    def render(self, key: BatchKey, renderer: _core.Renderer, allocate: Allocate) -> Any:
        """Makes one batch.

        Args:
            key: Which samples and epoch.
            renderer: The core's threads.
            allocate: Gives the arrays that the core renders into.

        Returns:
            A NamedTuple with one element a view.

        Raises:
            DecodeError: A sample's image could not be decoded; names the sample.
        """
        rows = self.reader.metadata[key.samples]
        finished: dict[str, Any] = {}
        for field in dict.fromkeys(view.field for view in self.views):
            images = [view for view in self.views if view.field == field and isinstance(view, ImageView)]
            if images:
                outs = self._render_images(field, images, rows[field], key, renderer, allocate)
                finished.update((view.name, view.finish(out)) for view, out in zip(images, outs, strict=True))
        for view in self.views:
            if not isinstance(view, ImageView):
                finished[view.name] = view.finish(rows[view.field], self.reader.read)
        return self.batch_type._make(finished[view.name] for view in self.views)

    def _render_images(
        self,
        field: str,
        views: Sequence[ImageView],
        rows: np.ndarray,
        key: BatchKey,
        renderer: _core.Renderer,
        allocate: Allocate,
    ) -> list[np.ndarray]:
        sizes = np.stack([rows["height"], rows["width"]], axis=1).astype(np.int64)
        pointers = rows["data_ptr"].astype(np.uint64)
        programs = [view.program(key, sizes, allocate) for view in views]
        errors = renderer.render(
            self.reader.data,
            pointers,
            self.reader.sizes(pointers),
            np.ascontiguousarray(rows["mode"]),
            sizes.astype(np.int32),
            [program for program, _ in programs],
        )
        if errors:
            position, message = errors[0]
            raise DecodeError(
                f"{self.reader.path}: sample {key.samples[position]}, field {field!r}: {message}; write the file "
                "again from good data, or leave the sample out with indices="
            )
        return [out for _, out in programs]
