"""From the `pipelines` that users write to compiled views."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ffcv.fields.decoder import Decoder
from ffcv.fields.decoders import BytesDecoder, FloatDecoder, IntDecoder, NDArrayDecoder
from ffcv.pipeline.compile_view import compile_view
from ffcv.pipeline.custom import CustomDecoder, CustomStep
from ffcv.pipeline.operation import Operation
from ffcv.pipeline.spec import PipelineSpec
from ffcv.pipeline.views import View
from ffcv.reader import Reader
from ffcv.transforms.base import ArrayDecoder, ImageDecoder
from ffcv.transforms.ops import ToTensor

Pipelines = Mapping[str, Sequence[Any] | PipelineSpec | None]

_DICTIONARIES = ("pipelines", "custom_fields", "custom_field_mapper", "order_kwargs")  # among a loader's arguments


def resolve(reader: Reader, pipelines: Pipelines, mapper: Mapping[str, str]) -> dict[str, PipelineSpec]:
    """The batch's elements: the file's fields in their order, then the extra views in the order given.

    Args:
        reader: The open file.
        pipelines: As `Loader` takes them.
        mapper: Extra views: name -> field.

    Returns:
        For each name its source, decoder and transforms, defaults filled in; none for fields that are left out.

    Raises:
        ValueError, TypeError: A name or an operation does not fit; says which and what would.
    """
    sources = _sources(reader, pipelines, mapper)
    return {
        name: _spec(reader, name, source, pipelines.get(name, []))
        for name, source in sources.items()
        if not (name in pipelines and pipelines[name] is None)
    }


def build_views(reader: Reader, specs: Mapping[str, PipelineSpec], seed: int) -> list[View]:
    """The views of `resolve`d pipelines.

    Raises:
        ValueError, TypeError: A decoder or an operation does not fit; says which and what would.
    """
    return [_view(reader, name, spec, seed) for name, spec in specs.items()]


def own_arguments(options: Mapping[str, Any], indices: np.ndarray | None) -> dict[str, Any]:
    """Of a loader's arguments, copies of those that their user may change afterwards: other loaders are made of them.

    Args:
        options: The arguments by name.
        indices: The samples chosen, copied already.
    """
    copies = {name: dict(options[name]) for name in _DICTIONARIES if options[name] is not None}
    for name, pipeline in copies["pipelines"].items():
        if isinstance(pipeline, PipelineSpec):
            transforms = pipeline.transforms
            copies["pipelines"][name] = replace(pipeline, transforms=None if transforms is None else list(transforms))
        elif pipeline is not None:
            copies["pipelines"][name] = list(pipeline)
    return {**copies, "indices": indices}


def unknown(name: str, known: Sequence[str]) -> str:
    """Says that there is no `name`, and what it may have been meant to be."""
    close = difflib.get_close_matches(name, known, n=1)
    hint = f", did you mean {close[0]!r}?" if close else ""
    return f"the file has no field {name!r}{hint} (it has {', '.join(map(repr, dict.fromkeys(known)))})"


def _sources(reader: Reader, pipelines: Pipelines, mapper: Mapping[str, str]) -> dict[str, str]:
    """The views' names, in the batch's order, with the field of each."""
    fields = reader.field_names
    for what, given in (("pipelines", pipelines), ("custom_field_mapper", mapper)):
        if not isinstance(given, Mapping):
            raise TypeError(f"{what} must be a dictionary by name, got {type(given).__name__}")
    for view, source in mapper.items():
        if not isinstance(source, str):
            raise TypeError(f"custom_field_mapper: {view!r} must be the name of a field, got {source!r}")
    sources = {name: name for name in fields}
    for name, pipeline in pipelines.items():
        if isinstance(pipeline, PipelineSpec):
            if not isinstance(pipeline.source, str):
                raise TypeError(f"pipeline {name!r}: PipelineSpec's source is a field's name, got {pipeline.source!r}")
            sources[name] = pipeline.source
        elif pipeline is not None and (isinstance(pipeline, str) or not isinstance(pipeline, Sequence)):
            raise TypeError(f"pipeline {name!r} must be a list of operations, a PipelineSpec or None, got {pipeline!r}")
    sources.update(mapper)
    for name in pipelines:
        if name not in sources:
            raise ValueError(f"pipelines: {unknown(name, fields)}; or name its field in custom_field_mapper")
    for source in sources.values():
        if source not in fields:
            raise ValueError(f"view source: {unknown(source, fields)}")
    return sources


def _spec(reader: Reader, name: str, source: str, pipeline: Sequence[Any] | PipelineSpec | None) -> PipelineSpec:
    decoder = pipeline.decoder if isinstance(pipeline, PipelineSpec) else None
    operations = list((pipeline.transforms if isinstance(pipeline, PipelineSpec) else pipeline) or [])
    for each in (decoder, *operations):
        if isinstance(each, type):
            raise TypeError(f"pipeline {name!r}: {each.__name__} is a class: put an instance of it there")
    if decoder is None:
        operations = operations or [ToTensor()]
        default = reader.fields[source].get_decoder_class()
        is_decoder = isinstance(operations[0], ImageDecoder | ArrayDecoder | Decoder | default)
        decoder = operations.pop(0) if is_decoder else default()
    return PipelineSpec(source, decoder, operations)


def _view(reader: Reader, name: str, spec: PipelineSpec, seed: int) -> View:
    source, decoder = spec.source, spec.decoder
    field = reader.fields[source]
    steps = [CustomStep(each, field) if isinstance(each, Operation) else each for each in spec.transforms or []]
    if isinstance(decoder, Operation) or _has_own_code(name, decoder):
        column = reader.column(source)  # users' code may look at any row, at any time
        return compile_view(name, source, CustomDecoder(decoder, field, column), steps, seed)
    is_image = {"height", "width", "mode", "data_ptr"} <= set(reader.metadata.dtype[source].names or ())
    if isinstance(decoder, ImageDecoder | ArrayDecoder) != is_image:
        kind = "an image" if is_image else "no image"
        raise ValueError(f"pipeline {name!r}: {type(decoder).__name__} does not fit field {source!r}, {kind}")
    _check_column_decoder(name, source, decoder, field.get_decoder_class())
    if isinstance(decoder, ImageDecoder | ArrayDecoder):
        asks = type(decoder).bound not in (ImageDecoder.bound, ArrayDecoder.bound)
        if asks and reader.num_samples:  # without any, there are no sizes, and nothing will be decoded
            decoder = decoder.bound(reader.column(source, "height"), reader.column(source, "width"))
    else:
        decoder = copy.copy(decoder)  # what it learns of this file must not reach the user's other pipelines
        decoder.bind(reader, source)
    return compile_view(name, source, decoder, steps, seed)


def _check_column_decoder(name: str, source: str, decoder: Any, default: type) -> None:
    """A decoder of ours must be that of the field's type; users' own may decode what they like."""
    shipped = (BytesDecoder, FloatDecoder, IntDecoder, NDArrayDecoder)
    exact = isinstance(decoder, FloatDecoder) and default is IntDecoder  # whole numbers as floats lose nothing
    if isinstance(decoder, shipped) and default in shipped and not isinstance(decoder, default) and not exact:
        raise ValueError(
            f"pipeline {name!r}: {type(decoder).__name__} does not fit field {source!r}, whose decoder is "
            f"{default.__name__}"
        )


def _has_own_code(name: str, decoder: Any) -> bool:
    """Whether the user derived it from a decoder of ours to decode with code as FFCV's operations have it.

    Code without the memory that it writes to would be left out in silence: the loader decodes with what the core has
    for the class.
    """
    owner = next((each for each in type(decoder).__mro__ if "generate_code" in vars(each)), None)
    if owner is None or owner.__module__.partition(".")[0] == "ffcv":
        return False
    if not hasattr(decoder, "declare_state_and_memory"):
        raise TypeError(
            f"pipeline {name!r}: {owner.__name__}.generate_code would not be called, because {owner.__name__} derives "
            f"from {owner.__mro__[1].__name__}: derive it from ffcv.pipeline.operation.Operation, or give it "
            "declare_state_and_memory, too"
        )
    return True


def gpus_of(views: Sequence[View]) -> set[torch.device]:
    """The CUDA devices that views are copied to."""
    devices = [getattr(step, "device", None) for view in views for step in view.tail]
    return {device for device in devices if isinstance(device, torch.device) and device.type == "cuda"}
