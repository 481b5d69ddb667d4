"""`ffcv info`: what a `.beton` file holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ffcv._words import counted
from ffcv.data.beton import read_manifest
from ffcv.errors import storable
from ffcv.fields import NDArrayField, RGBImageField, TorchTensorField
from ffcv.fields.base import Field
from ffcv.fields.rgb_image import IMAGE_MODES
from ffcv.format import VERSION, Section
from ffcv.reader import Reader


def info(file: Path, as_json: bool, custom_fields: Mapping[str, type[Field]]) -> None:
    """Prints a summary of `file` to stdout."""
    summary = summarise(Reader(file, custom_fields=custom_fields))
    if as_json:
        print(json.dumps(summary, indent=2))
    else:
        _print(summary)


def summarise(reader: Reader) -> dict[str, Any]:
    """The file's structure and its columns' statistics, as JSON values; reads the tables only."""
    return {
        "path": storable(reader.path),
        "version": VERSION,
        "file_bytes": int(reader.bytes.size),
        "page_size": reader.page_size,
        "num_samples": reader.num_samples,
        "fingerprint": reader.fingerprint,
        "checksums": reader.checksums is not None,
        "restart_index": Section.JPEG_RESTART_INDEX in reader.sections,
        "entry_points": reader.largest_entry_points > 0,
        "fields": {name: _summarise_field(reader, name, field) for name, field in reader.fields.items()},
        "manifest": read_manifest(reader),
    }


def _summarise_field(reader: Reader, name: str, field: Field) -> dict[str, Any]:
    summary: dict[str, Any] = {"type": type(field).__name__}
    column = reader.column(name)
    if isinstance(field, NDArrayField | TorchTensorField):
        summary.update(dtype=str(field.dtype), shape=list(field.shape))
    elif not reader.num_samples:
        pass
    elif isinstance(field, RGBImageField):
        sizes = reader.sizes(column["data_ptr"])
        summary.update(
            jpeg_share=float(np.mean(column["mode"] == IMAGE_MODES["jpg"])),
            long_sides=_histogram(np.maximum(column["height"], column["width"])),
            height=_spread(column["height"]),
            width=_spread(column["width"]),
            bytes=_spread(sizes),
            total_bytes=int(sizes.sum()),
        )
    elif column.dtype.names and "size" in column.dtype.names:
        summary.update(bytes=_spread(column["size"]), total_bytes=int(column["size"].sum()))
    elif column.dtype.kind == "i":
        summary.update(min=int(column.min()), max=int(column.max()), distinct=len(np.unique(column)))
    return summary


def _spread(values: np.ndarray) -> dict[str, int]:
    return {"min": int(values.min()), "median": int(np.median(values)), "max": int(values.max())}


def _histogram(values: np.ndarray) -> dict[str, int]:
    """How many values lie in each octave; keys such as '256-511'."""
    octaves, counts = np.unique(np.frexp(values.astype(np.float64))[1], return_counts=True)
    return {f"{2 ** (o - 1)}-{2**o - 1}": int(n) for o, n in zip(octaves.tolist(), counts, strict=True)}


def _print(summary: dict[str, Any]) -> None:
    console = Console(highlight=False)
    console.print(
        f"{summary['path']}: {counted(summary['num_samples'], 'sample')}, {summary['file_bytes'] / 2**20:,.1f} MiB, "
        f"pages of {summary['page_size'] / 2**20:g} MiB",
        soft_wrap=True,
        markup=False,
    )
    table = Table("field", "type", "contents")
    for name, field in summary["fields"].items():
        table.add_row(*map(Text, (name, field["type"], _describe(field))))
    console.print(table)
    manifest = summary["manifest"] or {}
    for name, field in summary["fields"].items():
        if "long_sides" in field:
            console.print(_bars(name, field["long_sides"]))
    extras = ["checksums"] * summary["checksums"] + ["entry points of JPEGs"] * summary["entry_points"]
    extras += ["index of JPEG rows"] * summary["restart_index"]
    console.print(f"has {', '.join(extras)}" if extras else "has no checksums")
    if classes := manifest.get("classes"):
        shown = ", ".join(map(str, classes[:10])) + (", ..." if len(classes) > 10 else "")
        console.print(f"{counted(len(classes), 'class')}: {shown}", soft_wrap=True, markup=False)


def _bars(name: str, histogram: dict[str, int]) -> Table:
    table = Table(box=None)
    for heading in (f"longer side of {name}", "images", ""):
        table.add_column(Text(heading))
    most = max(histogram.values())
    for octave, count in histogram.items():
        table.add_row(octave, f"{count:,}", "\u2588" * max(1, round(30 * count / most)))
    return table


def _describe(field: dict[str, Any]) -> str:
    if "shape" in field:
        return f"{field['dtype']} {field['shape']}"
    if "distinct" in field:
        return f"{field['min']} to {field['max']}, {field['distinct']:,} distinct"
    if "bytes" not in field:
        return ""
    lines = [f"bytes {_range(field['bytes'])}, {field['total_bytes'] / 2**20:,.1f} MiB in all"]
    if "height" in field:
        lines.insert(0, f"height {_range(field['height'])}, width {_range(field['width'])}")
        lines.append(f"{field['jpeg_share']:.1%} JPEG")
    return "\n".join(lines)


def _range(spread: dict[str, int]) -> str:
    if spread["min"] == spread["max"]:
        return f"{spread['min']:,}"
    return f"{spread['min']:,} to {spread['max']:,} (median {spread['median']:,})"
