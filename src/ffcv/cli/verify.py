"""`ffcv verify`: is every byte of a file what was written, and does every sample decode?"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from ffcv import _core
from ffcv._restart_index import RestartIndex
from ffcv.cli.progress import progress_bar
from ffcv.cores import available_cores
from ffcv.data.beton import read_manifest, read_value
from ffcv.errors import FfcvError, FormatError, message_of, storable
from ffcv.fields import FIELD_TYPES, RGBImageField
from ffcv.fields.base import Field
from ffcv.fields.rgb_image import IMAGE_MODES
from ffcv.format import ENTRY_POINTS_MAGIC, FIRST_SECTION_ID, Section
from ffcv.pipeline.extents import Extents
from ffcv.reader import Reader

_BLOCK = 256
"""Allocations, or samples, that are checked at a time."""

Problem = tuple[int | str, str]
"""A sample (or the name of a section) and what is wrong with it."""


class _AboutJpegs(NamedTuple):
    """What the file says about its JPEGs beside them."""

    restart_index: RestartIndex | None
    extents: Extents | None
    """Where the file has entry points."""


def verify(file: Path, decode: bool, as_json: bool, custom_fields: Mapping[str, type[Field]]) -> bool:
    """Checks `file` and prints what was found; False if anything is wrong.

    Raises:
        FormatError, OSError: The file does not open at all (which `--json` says as {"path", "error"}), or changes
            meanwhile.
    """
    try:
        reader = Reader(file, custom_fields=custom_fields)
    except (FfcvError, OSError) as error:
        if as_json:
            print(json.dumps({"path": storable(str(file)), "error": message_of(error)}, indent=2))
        raise
    problems: list[Problem] = []
    index = _check_sections(reader, problems)
    # The section of checksums itself, which is the last, was checked when opening.
    compared = 0 if reader.checksums is None else len(reader.checksums.rows)
    problems += _in_blocks(partial(_check_contents, reader), compared, "Comparing checksums", "allocations")
    if decode:
        damaged = {sample for sample, _ in problems}
        extents = Extents(reader) if reader.largest_entry_points else None
        decode_some = partial(_decode, _AboutJpegs(index, extents), reader)
        found = _in_blocks(decode_some, reader.num_samples, "Decoding", "samples")
        problems += [problem for problem in found if problem[0] not in damaged]
    reader.bytes.check_unchanged()
    _report(reader, problems, decode, as_json)
    return not problems


def _in_blocks(check: Callable[[Iterable[int]], list[Problem]], total: int, title: str, unit: str) -> list[Problem]:
    """Checks 0 to `total` on all cores; an exception, or Ctrl-C, waits for the items at hand only."""
    problems: list[Problem] = []
    ends = threading.Event()

    def check_block(block: range) -> list[Problem]:
        return check(takewhile(lambda _: not ends.is_set(), block))

    with ThreadPoolExecutor(available_cores()) as pool, progress_bar(unit) as progress:
        task = progress.add_task(title, total=total)
        blocks = (range(start, min(start + _BLOCK, total)) for start in range(0, total, _BLOCK))
        try:
            for found in _bounded_map(pool, check_block, blocks):
                problems += found
                progress.update(task, advance=_BLOCK)
        finally:
            ends.set()
        progress.update(task, completed=total)
    return problems


def _bounded_map(pool: ThreadPoolExecutor, function: Callable[[Any], Any], items: Iterator[Any]) -> Iterator[Any]:
    """`pool.map` that does not take all items at once."""
    pending = []
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > 2 * available_cores():
            yield pending.pop(0).result()
    for future in pending:
        yield future.result()


def _check_contents(reader: Reader, rows: Iterable[int]) -> list[Problem]:
    """Compares allocations with their checksums, which the file must have."""
    assert reader.checksums is not None
    problems: list[Problem] = []
    for row in rows:
        owner, start, size = (int(number) for number in reader.allocations[row])
        known: int | str = owner if owner < FIRST_SECTION_ID else _section_name(owner)
        crc = 0
        try:
            for block in reader.bytes.blocks(start, start + size) if size else ():
                crc = _core.crc32c(block, crc)
        except FormatError as error:
            reader.bytes.check_unchanged()  # a file that shrinks meanwhile has no bad samples of its own
            problems.append((known, message_of(error).removeprefix(f"{reader.path}: ")))
            continue
        if crc != reader.checksums.rows[row]:
            where = f"{size} bytes at byte {start}"
            problems.append((known, f"checksum mismatch: the {where} are not those that were written"))
    return problems


def _section_name(section_id: int) -> str:
    known = {int(section): f"section {section.name.lower()}" for section in Section}
    return known.get(section_id, f"section {section_id - FIRST_SECTION_ID}")


def _check_sections(reader: Reader, problems: list[Problem]) -> RestartIndex | None:
    """Adds what is wrong with manifest and index to `problems`; returns the index."""
    try:
        read_manifest(reader)
    except FormatError as error:
        problems.append((_section_name(Section.MANIFEST), message_of(error).removeprefix(f"{reader.path}: ")))
    content = reader.section(Section.JPEG_RESTART_INDEX)
    if content is not None:
        try:
            return RestartIndex.from_bytes(content)
        except ValueError as error:
            problems.append((_section_name(Section.JPEG_RESTART_INDEX), message_of(error)))
    return None


def _decode(jpegs: _AboutJpegs, reader: Reader, samples: Iterable[int]) -> list[Problem]:
    """Decodes samples whole."""
    problems: list[Problem] = []
    for sample in samples:
        for name, field in reader.fields.items():
            try:
                if isinstance(field, RGBImageField):
                    _decode_image(reader, sample, name, jpegs)
                elif type(field) in FIELD_TYPES.values():  # what others hold, only their decoders know
                    read_value(reader, sample, name)
            except (FfcvError, ValueError, RecursionError) as error:
                reader.bytes.check_unchanged()
                text = message_of(error).removeprefix(f"{reader.path}: ")
                problems.append((sample, f"field {name!r}: {text}"))
    return problems


def _decode_image(reader: Reader, sample: int, name: str, jpegs: _AboutJpegs) -> None:
    entry = reader.rows(sample, sample + 1)[name][0]
    content = reader.read(int(entry["data_ptr"]))
    if entry["mode"] != IMAGE_MODES["jpg"]:
        return
    height, width, components, points = _core.index_jpeg(content)
    if (height, width) != (entry["height"], entry["width"]):
        raise FormatError(
            f"a JPEG of {height} x {width} pixels and {components} components, but the metadata say "
            f"{entry['height']} x {entry['width']}"
        )
    if jpegs.extents is not None:
        found = jpegs.extents.of(np.array([entry["data_ptr"]], np.uint64))
        end = int(entry["data_ptr"]) + content.size
        stored = reader.bytes[end : end + (0 if found.behind is None else int(found.behind[0]))].tobytes()
        if stored.startswith(ENTRY_POINTS_MAGIC) and stored[: len(points)] != points:
            raise FormatError("its entry points are not those of the JPEG; write the file again")
    rows = None if jpegs.restart_index is None else jpegs.restart_index.rows(int(entry["data_ptr"]))
    if rows is not None and not np.array_equal(rows, _core.restart_index(content)):
        raise FormatError("its rows do not begin where the index of JPEG rows says; write the file again")


def _report(reader: Reader, problems: list[Problem], decode: bool, as_json: bool) -> None:
    if as_json:
        summary = {
            "path": storable(reader.path),
            "num_samples": reader.num_samples,
            "checksums": reader.checksums is not None,
            "decoded": decode,
            "bad": [{"sample": sample, "problem": problem} for sample, problem in problems],
        }
        print(json.dumps(summary, indent=2))
        return
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for sample, problem in problems:
        console.print(f"sample {sample}: {problem}" if isinstance(sample, int) else f"{sample}: {problem}")
    custom = [name for name, field in reader.fields.items() if type(field) not in FIELD_TYPES.values()]
    decoded = "every sample decoded" + f" but for the custom {', '.join(custom)}" * bool(custom)
    checked = ["structure"] + ["checksums"] * (reader.checksums is not None) + [decoded] * decode
    bad = len({sample for sample, _ in problems})
    verdict = f"{bad:,} of {reader.num_samples:,} samples (or sections) are bad" if problems else "good"
    console.print(f"{reader.path}: {verdict} ({', '.join(checked)})")
    if reader.checksums is None and not decode:
        console.print("it has no checksums, so that only --decode can find damaged samples")
