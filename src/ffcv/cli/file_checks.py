"""`ffcv doctor FILE`: does it open, does it decode, and can it be read fast from where it lies?"""

from __future__ import annotations

import ctypes
import mmap
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ffcv._words import counted
from ffcv.cli.checks import Check, ok, problem, warning
from ffcv.cli.custom_fields import custom_types
from ffcv.errors import OUR_ERRORS, message_of
from ffcv.fields import Field, RGBImageField
from ffcv.loader import Loader
from ffcv.reader import Reader
from ffcv.transforms import CenterCrop

DECODED = 64
"""Samples that are decoded, spread over the file."""

NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "afs", "9p")
GIB = 1 << 30
MOUNTS = Path("/proc/self/mountinfo")


def file(path: Path, custom_fields: Mapping[str, type[Field]]) -> list[Check]:
    """All about one file."""
    try:
        reader = Reader(path, custom_fields)
    except (*OUR_ERRORS, OSError) as error:
        found, _, advice = _told(error, str(path)).partition("; ")  # as our messages are made
        return [problem("file", found, advice)]
    size = f"{reader.bytes.size / 2**20:,.1f} MiB"
    return [
        ok("file", f"{counted(reader.num_samples, 'sample')}, {size}, fields {', '.join(reader.fields)}"),
        ok("fingerprint", reader.fingerprint),
        _checksums(reader),
        _samples(reader),
        _filesystem(reader),
        *_memory(reader),
    ]


def _told(error: Exception, path: str) -> str:
    """The error without the file's name, which stands beside it."""
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        return f"{error.strerror}; see that it can be read"
    return message_of(error).removeprefix(f"{path}: ")


def _checksums(reader: Reader) -> Check:
    if reader.checksums is not None:
        return ok("checksums", "of every sample")
    advice = f"damage goes unnoticed: 'ffcv write {reader.path} NEW.beton' adds them, and keeps JPEGs as they are"
    return warning("checksums", "none", advice)


def _samples(reader: Reader) -> Check:
    """Some samples, loaded as a training would; values of custom types are left out."""
    if not reader.num_samples:
        return warning("samples", "none", "write the file again, from data that are not empty")
    custom = custom_types(reader)
    images = [name for name, field in reader.fields.items() if isinstance(field, RGBImageField)]
    pipelines: dict[str, Any] = dict.fromkeys(custom) | {name: [CenterCrop((32, 32), 1.0)] for name in images}
    if len(custom) == len(reader.fields):
        return ok("samples", "all of custom types, which only their decoders know")
    indices = np.unique(np.linspace(0, reader.num_samples - 1, DECODED).round().astype(np.int64))
    with Loader(
        reader.path,
        16,
        indices=indices,
        pipelines=pipelines,
        custom_fields=custom,
        drop_last=False,
        on_error="skip",
        seed=0,
    ) as loader:
        try:
            for _ in loader:
                pass
        except (*OUR_ERRORS, OSError) as error:  # all samples are bad, or the file cannot be read
            if not loader.bad_samples.messages:
                return problem("samples", _told(error, reader.path), "the file cannot be read: look at the disk")
        bad = sorted(loader.bad_samples.messages.items())
    if not bad:
        return ok("samples", f"{len(indices)} of {reader.num_samples:,} were decoded")
    found = f"{len(bad)} of {len(indices)} do not decode; sample {bad[0][0]}: {bad[0][1]}"
    advice = f"list all with 'ffcv verify {reader.path} --decode', and write the file again from good data"
    return problem("samples", found, advice)


def _filesystem(reader: Reader) -> Check:
    kind = filesystem_of(Path(reader.path))
    if kind is None:
        return ok("filesystem", "unknown")
    if kind.startswith("fuse") or kind in NETWORK:
        advice = "over a network: copy the file to a local disk, or read it ahead with Loader(os_cache=False)"
        return warning("filesystem", kind, advice)
    return ok("filesystem", kind)


def filesystem_of(path: Path) -> str | None:
    """The type of the filesystem that holds the file, from the mount point nearest to it."""
    try:
        lines = MOUNTS.read_bytes().splitlines()
    except OSError:
        return None
    real, found, depth = Path(os.path.realpath(path)), None, -1
    for line in lines:
        place, _, after = line.partition(b" - ")
        escaped = place.split()[4]  # but for blanks and backslashes, names are as they are, UTF-8 or not
        mounted = Path(os.fsdecode(re.sub(rb"\\(\d{3})", lambda match: bytes([int(match[1], 8)]), escaped)))
        if real.is_relative_to(mounted) and len(mounted.parts) >= depth:  # of several at one place, the last counts
            found, depth = os.fsdecode(after.split()[0]), len(mounted.parts)
    return found


def _memory(reader: Reader) -> list[Check]:
    """How much of the file is in the page cache, and whether there is room for the rest."""
    size, cached, free = reader.bytes.size, cached_bytes(reader), _available_bytes()
    if free is None:
        return []
    share = "an unknown part" if cached is None else f"{cached / size:.0%}"
    found = f"{share} of the file is in memory; {free / GIB:,.1f} GiB are left"
    if size - (cached or 0) > free:
        advice = "it does not fit: Loader(os_cache=False) with OrderOption.QUASI_RANDOM reads large pieces ahead"
        return [warning("page cache", found, advice)]
    return [ok("page cache", found)]


def cached_bytes(reader: Reader) -> int | None:
    """Bytes of the file that are in the system's page cache; None where it does not say, as of others' files."""
    if not os.access(reader.path, os.W_OK):
        return None  # Linux says 'all of it' of files that one may not write
    try:
        mapping = mmap.mmap(reader.bytes.file.fileno(), reader.bytes.size, access=mmap.ACCESS_READ)
        content = np.frombuffer(mapping, np.uint8)  # mapped, but never looked at
        pages = np.zeros(-(-reader.bytes.size // mmap.PAGESIZE), np.uint8)
        address, length = ctypes.c_void_p(content.ctypes.data), ctypes.c_size_t(reader.bytes.size)
        failed = ctypes.CDLL(None).mincore(address, length, ctypes.c_void_p(pages.ctypes.data))
    except (OSError, ValueError, AttributeError):
        return None
    return None if failed else min(reader.bytes.size, int((pages & 1).sum()) * mmap.PAGESIZE)


def _available_bytes() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
