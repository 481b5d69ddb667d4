"""A folder of images with one sub-folder a class."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ffcv.data.images import IMAGE_SUFFIXES, ImageReader, ImageValue, read_file
from ffcv.data.source import LabelledImages
from ffcv.errors import SourceError, storable

__all__ = ["IMAGE_SUFFIXES", "ImageFolder"]

_LAYOUT = "expected one sub-folder a class, as in FOLDER/cat/1.jpg and FOLDER/dog/2.jpg"


class ImageFolder(LabelledImages):
    """The images of `root/CLASS/...` with the class's number as label, sorted by class and path.

    Indexing gives (image, label). A JPEG is an `EncodedImage` when `passthrough` is on, else uint8 [H, W, 3];
    either way the whole of it has been decoded once, so that a damaged one is found here. Other images are
    PIL images. Links are followed, but not in circles. Hidden files are passed over, and so are files without an
    image's suffix, which `remarks` counts.

    Args:
        root: The folder.
        passthrough: Give JPEGs of 1 or 3 components as they are.
        images: How to read image files, in place of `passthrough`.

    Attributes:
        classes: The sub-folders' names; a label is a position in this list.
        samples: (path, label) of every image.

    Raises:
        FileNotFoundError: There is no such folder.
        SourceError: It holds no images, or not one sub-folder a class, or a folder that cannot be read.
    """

    def __init__(
        self, root: str | os.PathLike[str], passthrough: bool = True, *, images: ImageReader | None = None
    ) -> None:
        self.root = Path(root)
        self.name = self.root.resolve().name
        self.images = images or ImageReader(passthrough)
        if not self.root.is_dir():
            kind = "is not a folder" if self.root.exists() else "no such folder"
            raise FileNotFoundError(f"{self.root}: {kind}; {_LAYOUT}")
        entries = _entries(self.root)
        self.classes = sorted(entry.name for entry in entries if entry.is_dir())
        if not self.classes:
            found = "images, but no sub-folders" if any(map(_is_image, entries)) else "no sub-folders with images"
            raise SourceError(f"{self.root}: contains {found}; {_LAYOUT}")
        others = Counter(_suffix(entry) for entry in entries if not entry.is_dir())
        above = frozenset([_identity(self.root)])
        paths = [sorted(_images_below(str(self.root / name), above, others)) for name in self.classes]
        if not any(paths):
            raise SourceError(
                f"{self.root}: no images ({', '.join(sorted(IMAGE_SUFFIXES))}) in its sub-folders; {_LAYOUT}"
            )
        for name, found_paths in zip(self.classes, paths, strict=True):
            if not found_paths:
                raise SourceError(f"{self.root / name}: no images in this class; add some or remove the folder")
        self.samples = [(path, label) for label, of_class in enumerate(paths) for path in of_class]
        self.labels = [label for _, label in self.samples]
        if others:
            kinds = ", ".join(f"{count:,} {storable(suffix) or 'without'}" for suffix, count in others.most_common(5))
            self.remarks = [
                f"files passed over, as they are no images in a class's folder: {others.total():,} ({kinds})"
            ]

    def __len__(self) -> int:
        return len(self.samples)

    def image(self, index: int) -> ImageValue:
        path = str(self.samples[index][0])
        return self.images.read(read_file(path, path), path)


def _is_image(entry: os.DirEntry[str]) -> bool:
    """By its name; a link that leads nowhere counts, so that it is missed when it is read."""
    return _suffix(entry) in IMAGE_SUFFIXES and (entry.is_file() or not os.path.exists(entry))


def _suffix(entry: os.DirEntry[str]) -> str:
    return os.path.splitext(entry.name)[1].lower()


def _identity(folder: str | os.PathLike[str]) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _entries(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise SourceError(f"{os.fspath(folder)}: {error.strerror}; make it readable or remove it") from error


def _images_below(folder: str, above: frozenset[tuple[int, int]], others: Counter[str]) -> Iterator[Path]:
    """The images in a folder and its sub-folders; counts the other files by suffix.

    Args:
        folder: The folder.
        above: The folders that it lies in. A link to one of them leads round in a circle, and is passed over.
        others: Gets what is passed over.
    """
    identity = _identity(folder)
    if identity in above:
        return
    for entry in _entries(folder):
        if entry.is_dir():
            yield from _images_below(entry.path, above | {identity}, others)
        elif _is_image(entry):
            yield Path(entry.path)
        else:
            others[_suffix(entry)] += 1
