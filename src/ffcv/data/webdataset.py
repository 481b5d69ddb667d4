"""WebDataset shards: tar files in which the files of a sample share their name up to the first dot."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Sequence
from typing import Any, NamedTuple

from ffcv.data.images import IMAGE_SUFFIXES, ImageReader, ImageValue
from ffcv.data.source import LabelledImages, class_labels, name_of
from ffcv.errors import SourceError

__all__ = ["WebDatasetSource"]


class _Part(NamedTuple):
    shard: int
    offset: int
    size: int


class WebDatasetSource(LabelledImages):
    """Images with labels from `KEY.jpg` (or .png, ...) and `KEY.cls` (or 'label' in `KEY.json`).

    Opening reads the shards' headers; samples are then read from any thread, in any order. Labels are numbers or
    names, which are numbered in alphabetical order; where no sample has one, the file gets none. A sample without an
    image, such as a stray file, is in `bad`. Hard links are the files that they lead to; other members that are no
    files (symbolic links, devices) are passed over, and `remarks` counts them.

    Args:
        shards: Paths of uncompressed tar files.
        images: How to read image files.

    Raises:
        SourceError: A shard is no tar file or damaged, no sample has an image, or only some have labels.
    """

    def __init__(self, shards: Sequence[str | os.PathLike[str]], images: ImageReader | None = None) -> None:
        self._shards = [os.fspath(shard) for shard in shards]
        self.name = name_of(self._shards)
        self._images = images or ImageReader()
        self._samples: list[tuple[str, _Part]] = []
        bad = dict[int, str]()
        labels: list[tuple[str, _Part] | None] = []
        others: list[str] = []
        for number, shard in enumerate(self._shards):
            for key, parts in _samples_of(number, shard, others):
                image = next((part for suffix, part in parts.items() if f".{suffix}" in IMAGE_SUFFIXES), None)
                if image is None:
                    bad[len(self._samples)] = f"{shard}: sample {key!r} has no image, only {', '.join(sorted(parts))}"
                    image, parts = _Part(number, 0, 0), {}
                self._samples.append((key, image))
                labels.append(next(((name, parts[name]) for name in ("cls", "json") if name in parts), None))
        if others:
            self.remarks = [f"members passed over, as they are links or devices: {len(others):,}, first {others[0]}"]
        if not self._samples:
            raise SourceError(f"{self._shards[0]}: has no samples")
        if len(bad) == len(self._samples):
            raise SourceError(f"{bad[0]}; nor has any other sample")
        self.bad = {number: f"{problem}; leave it out with --on-error skip" for number, problem in bad.items()}
        self.labels, self.classes = self._read_labels(labels)

    def _read_labels(self, found: list[tuple[str, _Part] | None]) -> tuple[list[int] | None, list[str] | None]:
        values = [None if each is None else self._label(*each) for each in found]
        if all(value is None for value in values):
            return None, None
        for index, (value, (key, part)) in enumerate(zip(values, self._samples, strict=True)):
            if index in self.bad:
                continue
            where = f"{self._shards[part.shard]}: sample {key!r}"
            if value is None:
                raise SourceError(f"{where} has no label, though others have")
            if not isinstance(value, str | int):
                raise SourceError(f"{where} has the label {value!r}, but labels are whole numbers or names")
        good, classes = class_labels((v for i, v in enumerate(values) if i not in self.bad), self._shards[0])
        following = iter(good)
        return [0 if index in self.bad else next(following) for index in range(len(values))], classes

    def _label(self, suffix: str, part: _Part) -> Any:
        """The text of `KEY.cls`; what `KEY.json` says, None where that is nothing."""
        text = self._read(part).decode("utf-8", "replace").strip()
        if suffix == "cls" and not text.startswith("{"):
            return text
        try:
            value = json.loads(text)
        except ValueError:
            return None
        if not isinstance(value, dict):
            return value
        return next((value[name] for name in ("label", "cls", "class") if name in value), None)

    def _read(self, part: _Part) -> bytes:
        with open(self._shards[part.shard], "rb", buffering=0) as file:
            content = os.pread(file.fileno(), part.size, part.offset)
        if len(content) != part.size:
            raise SourceError(f"{self._shards[part.shard]}: truncated; fetch it again")
        return content

    def __len__(self) -> int:
        return len(self._samples)

    def image(self, index: int) -> ImageValue:
        if index in self.bad:
            raise SourceError(self.bad[index])
        key, part = self._samples[index]
        return self._images.read(self._read(part), f"{self._shards[part.shard]}: {key}")


def _samples_of(number: int, shard: str, others: list[str]) -> list[tuple[str, dict[str, _Part]]]:
    """(key, parts by suffix) of every sample, in the order of the shard; `others` gets the names of what is no file."""
    samples: dict[str, dict[str, _Part]] = {}
    files: dict[str, _Part] = {}
    try:
        with tarfile.open(shard, "r:") as archive:
            end = 0
            for member in archive:
                end = member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                folder, name = os.path.split(member.name)
                if member.isdir() or name.startswith("."):
                    continue
                if member.isfile():
                    files[member.name] = _Part(number, member.offset_data, member.size)
                elif member.islnk() and member.linkname in files:
                    files[member.name] = files[member.linkname]
                else:
                    others.append(member.name)
                    continue
                stem, _, suffix = name.partition(".")
                samples.setdefault(os.path.join(folder, stem), {})[suffix.lower()] = files[member.name]
            _check_end(shard, end)
    except (tarfile.TarError, OSError) as error:
        raise SourceError(f"{shard}: not an uncompressed tar file, or damaged ({error})") from error
    return list(samples.items())


def _check_end(shard: str, end: int) -> None:
    """Makes sure that what follows the last member, at `end`, is the archive's end: `tarfile` takes a damaged or
    truncated header for it. And that it is the file's, too."""
    with open(shard, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(end)
        if size < end or any(file.read(tarfile.BLOCKSIZE)):
            raise tarfile.ReadError(f"no end of the archive at byte {end}")
        while padding := file.read(1 << 20):
            if padding.count(0) < len(padding):
                raise tarfile.ReadError(
                    f"more follows the archive's end at byte {end}: if archives were joined by 'cat', give them one by "
                    "one, or join them by 'tar --concatenate'"
                )
