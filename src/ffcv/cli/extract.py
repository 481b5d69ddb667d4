"""`ffcv extract`: samples become ordinary files again."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from rich.console import Console

from ffcv._atomic_file import DISK_ERRORS
from ffcv._words import counted
from ffcv.cli.progress import progress_bar
from ffcv.cli.select import select
from ffcv.data.beton import read_manifest, read_value
from ffcv.data.stored import StoredReader, StoredValue
from ffcv.errors import FfcvError, FormatError, SourceError, WriteError, message_of
from ffcv.fields import BytesField, Field, FloatField, IntField, JSONField, RGBImageField
from ffcv.reader import Reader

TABLE = "samples.csv"


def extract(file: Path, folder: Path, option: str | None, custom_fields: Mapping[str, type[Field]]) -> None:
    """Writes every value that is no number to a file of its own, and `samples.csv` with all names and numbers.

    Images go to sub-folders named after their class where the file knows class names, so that `ffcv write` takes the
    folder again. Of a field of a custom type, `.npz` files hold the metadata and, by pointer, the bytes.

    Raises:
        FormatError: The file does not open, or had bad samples: they are listed, and the others are all there.
    """
    reader = Reader(file, custom_fields)
    if folder.exists() and any(folder.iterdir()):
        raise SourceError(f"{folder}: is not empty; give a new folder")
    samples = select(option, reader.num_samples)
    if not samples:
        raise SourceError(f"{file}: no sample is selected")
    folders = _ClassFolders((read_manifest(reader) or {}).get("classes"))
    folder.mkdir(parents=True, exist_ok=True)
    stored, tags, bad = StoredReader(reader), _tags(reader), 0
    with (
        _disk_errors(folder / TABLE),
        open(folder / TABLE, "w", newline="", encoding="utf-8") as table,
        progress_bar("samples") as progress,
    ):
        rows = csv.writer(table)
        rows.writerow(_headings(reader))
        for sample in progress.track(samples, description=f"Extracting to {folder.name}"):
            try:
                contents = _contents(reader, stored, tags, sample)
            except (FfcvError, ValueError) as error:
                text = message_of(error).removeprefix(f"{reader.path}: ")
                progress.console.print(f"sample {sample}: {text}", highlight=False, markup=False, soft_wrap=True)
                bad += 1
                continue
            sub = folders.of(_label(reader, sample))
            rows.writerow([sample, *(_store(content, folder, sub) for content in contents)])
    if bad:
        raise FormatError(
            f"{file}: {bad:,} of {len(samples):,} samples are bad, and listed above; the others are in {folder}"
        )
    Console().print(f"{folder}: {counted(len(samples), 'sample')}", highlight=False, markup=False, soft_wrap=True)


def _label(reader: Reader, sample: int) -> int | None:
    is_number = type(reader.fields.get("label")) is IntField
    return int(reader.rows(sample, sample + 1)["label"][0]) if is_number else None


class _ClassFolders:
    """A sub-folder for each class: its name, where that is known and can name a folder."""

    def __init__(self, classes: list[str] | None) -> None:
        self._none = classes is None
        # A name out of a file must not lead out of the folder.
        self._names = {name: label for label, name in enumerate(classes or ()) if _names_a_folder(name)}
        self._folders = {label: name for name, label in self._names.items()}

    def of(self, label: int | None) -> str:
        if self._none or label is None:
            return "."
        folder = self._folders.get(label, f"class-{label}")
        while self._names.setdefault(folder, label) != label:  # that is the name of another class
            folder += "_"
        return folder


def _names_a_folder(name: str) -> bool:
    fits = re.fullmatch(r"[^/\\\0]+", name) and len(name.encode()) <= 200 and not name.startswith(".")
    return bool(fits) and name != TABLE


def _headings(reader: Reader) -> list[str]:
    """The table's: the only image field is 'path', which `ffcv write` looks for; other fields give way to ours."""
    images = [name for name, field in reader.fields.items() if isinstance(field, RGBImageField)]
    headings = ["sample"]
    ours = {"sample"} | ({"path"} if len(images) == 1 else set())
    for name in reader.fields:
        heading = "path" if images == [name] else name
        while heading in headings or (heading in ours and images != [name]):
            heading = f"field {heading}"
        headings.append(heading)
    return headings


class _Content(NamedTuple):
    """What one value becomes: a number in the table, or a file's name (but for its folder) and bytes."""

    value: int | float | str
    data: bytes | None


def _tags(reader: Reader) -> dict[str, str]:
    """What the names of each field's files hold beside the sample's number: nothing for the only image field."""
    images = [name for name, field in reader.fields.items() if isinstance(field, RGBImageField)]
    tags: dict[str, str] = {}
    for name in reader.fields:
        # Names of fields may hold any printable character.
        tag = "" if images == [name] else "-" + re.sub(r"[^\w-]", "_", name)
        while tag in tags.values():
            tag += "_"
        tags[name] = tag
    return tags


def _contents(reader: Reader, stored: StoredReader, tags: dict[str, str], sample: int) -> list[_Content]:
    """Every value of a sample, before anything is written."""
    custom = stored.read(sample) if stored.names else {}
    contents = []
    for name, field in reader.fields.items():
        try:
            value = custom[name] if name in custom else read_value(reader, sample, name)
        except (FfcvError, ValueError) as error:
            raise FormatError(f"field {name!r}: {message_of(error).removeprefix(f'{reader.path}: ')}") from error
        contents.append(_content(field, f"{sample:08d}{tags[name]}", value))
    return contents


def _content(field: Field, stem: str, value: Any) -> _Content:
    match value:
        case int() | float() if isinstance(field, IntField | FloatField):
            return _Content(value, None)
        case StoredValue(metadata, allocations):
            suffix, data = "npz", _npz({"metadata": metadata} | {str(pointer): a for pointer, a in allocations.items()})
        case _ if isinstance(field, RGBImageField):
            suffix, data = ("jpg", value.tobytes()) if value.ndim == 1 else ("png", _png(value))
        case _ if isinstance(field, BytesField):
            suffix, data = "bin", value.tobytes()
        case _ if isinstance(field, JSONField):
            suffix, data = "json", json.dumps(value, indent=1).encode()
        case _:
            buffer = io.BytesIO()
            np.save(buffer, np.asarray(value), allow_pickle=False)
            suffix, data = "npy", buffer.getvalue()
    return _Content(f"{stem}.{suffix}", data)


def _store(content: _Content, folder: Path, sub: str) -> int | float | str:
    """Writes a value where it needs a file; returns what the table says about it."""
    if content.data is None:
        return content.value
    path = Path(sub, str(content.value))
    with _disk_errors(folder / path):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content.data)
    return path.as_posix()


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Errors of a full or failing disk name the file, and say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise WriteError(f"{path}: {error.strerror}; free space or choose another disk") from error


def _npz(arrays: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
