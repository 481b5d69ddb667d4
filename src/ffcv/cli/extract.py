"""`ffcv extract`: samples become ordinary files again."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import typer
from PIL import Image
from rich.console import Console

from ffcv.cli.progress import progress_bar
from ffcv.data.beton import read_manifest, read_value
from ffcv.errors import FormatError, SourceError, WriteError, message_of
from ffcv.fields import BytesField, FloatField, IntField, JSONField, RGBImageField
from ffcv.fields.rgb_image import IMAGE_MODES
from ffcv.reader import Reader

TABLE = "samples.csv"


def extract(file: Path, folder: Path, select: str | None) -> None:
    """Writes every value that is no number to a file of its own, and `samples.csv` with all names and numbers.

    Images go to sub-folders named after their class where the file knows class names, so that `ffcv write` takes the
    folder again.
    """
    reader = Reader(file)
    if folder.exists() and any(folder.iterdir()):
        raise SourceError(f"{folder}: is not empty; give a new folder")
    try:
        parts = [int(part) if part else None for part in (select or ":").split(":")]
        samples = range(reader.num_samples)[slice(*parts)]
    except (TypeError, ValueError):
        raise typer.BadParameter(f"{select!r} is not START:STOP or START:STOP:STEP", param_hint="--select") from None
    if not samples:
        raise SourceError(f"{file}: no sample is selected")
    classes = (read_manifest(reader) or {}).get("classes")
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / TABLE, "w", newline="", encoding="utf-8") as table, progress_bar("samples") as progress:
        rows = csv.writer(table)
        images = [name for name, field in reader.fields.items() if isinstance(field, RGBImageField)]
        rows.writerow(["sample", *("path" if images == [name] else name for name in reader.fields)])
        for sample in progress.track(samples, description=f"Extracting to {folder.name}"):
            sub = _class_folder(reader, sample, classes)
            rows.writerow([sample, *(_extract(reader, sample, name, folder, sub) for name in reader.fields)])
    Console().print(f"{folder}: {len(samples):,} samples", highlight=False, markup=False, soft_wrap=True)


def _class_folder(reader: Reader, sample: int, classes: list[str] | None) -> str:
    """The sub-folder for a sample's files: its class's name, if that is known and can name a folder."""
    if classes is None or not isinstance(reader.fields.get("label"), IntField):
        return "."
    label = int(reader.metadata["label"][sample])
    name = classes[label] if 0 <= label < len(classes) else f"class-{label}"
    # A name out of a file must not lead out of the folder.
    fits = re.fullmatch(r"[^/\\\0]+", name) and len(name.encode()) <= 200 and not name.startswith(".")
    return name if fits and name != TABLE else f"class-{label}"


def _extract(reader: Reader, sample: int, name: str, folder: Path, sub: str) -> str | int | float:
    """Writes one value where it needs a file; returns what the table says about it."""
    field = reader.fields[name]
    try:
        value = read_value(reader, sample, name)
    except ValueError as error:
        text = message_of(error).removeprefix(f"{reader.path}: ")
        raise FormatError(f"{reader.path}: sample {sample}, field {name!r}: {text}") from error
    images = [key for key, other in reader.fields.items() if isinstance(other, RGBImageField)]
    match field:
        case IntField() | FloatField():
            return value
        case RGBImageField():
            is_jpeg = reader.metadata[name]["mode"][sample] == IMAGE_MODES["jpg"]
            suffix, content = ("jpg", value.tobytes()) if is_jpeg else ("png", _png(value))
        case BytesField():
            suffix, content = "bin", value.tobytes()
        case JSONField():
            suffix, content = "json", json.dumps(value, indent=1).encode()
        case _:
            buffer = io.BytesIO()
            np.save(buffer, np.asarray(value), allow_pickle=False)
            suffix, content = "npy", buffer.getvalue()
    # The only image field needs no name of its own. Names of fields may hold any printable character.
    tag = "" if images == [name] else "-" + re.sub(r"[^\w-]", "_", name)
    path = Path(sub, f"{sample:08d}{tag}.{suffix}")
    try:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    except OSError as error:
        raise WriteError(f"{folder / path}: {error.strerror}; free space or choose another disk") from error
    return path.as_posix()


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
