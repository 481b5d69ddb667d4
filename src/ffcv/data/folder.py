"""A folder of images with one sub-folder a class."""

from __future__ import annotations

import os
from pathlib import Path

from ffcv.data.images import IMAGE_SUFFIXES, ImageReader, ImageValue, read_file
from ffcv.data.source import Source
from ffcv.errors import SourceError

__all__ = ["IMAGE_SUFFIXES", "ImageFolder"]

_LAYOUT = "expected one sub-folder a class, as in FOLDER/cat/1.jpg and FOLDER/dog/2.jpg"


class ImageFolder(Source):
    """The images of `root/CLASS/...` with the class's number as label, sorted by class and path.

    Indexing gives (image, label). A JPEG is an `EncodedImage` when `passthrough` is on, else uint8 [H, W, 3];
    either way the whole of it has been decoded once, so that a damaged one is found here. Other images are
    PIL images. Hidden files and files without an image's suffix are passed over.

    Args:
        root: The folder.
        passthrough: Give JPEGs of 1 or 3 components as they are.
        images: How to read image files, in place of `passthrough`.

    Attributes:
        classes: The sub-folders' names; a label is a position in this list.
        samples: (path, label) of every image.

    Raises:
        FileNotFoundError: There is no such folder.
        SourceError: It holds no images, or not one sub-folder a class.
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
        entries = sorted(entry for entry in self.root.iterdir() if not entry.name.startswith("."))
        self.classes = [entry.name for entry in entries if entry.is_dir()]
        if not self.classes:
            found = "images, but no sub-folders" if any(map(_is_image, entries)) else "no sub-folders with images"
            raise SourceError(f"{self.root}: contains {found}; {_LAYOUT}")
        paths = [_images_below(self.root / name) for name in self.classes]
        if not any(paths):
            raise SourceError(
                f"{self.root}: no images ({', '.join(sorted(IMAGE_SUFFIXES))}) in its sub-folders; {_LAYOUT}"
            )
        for name, found_paths in zip(self.classes, paths, strict=True):
            if not found_paths:
                raise SourceError(f"{self.root / name}: no images in this class; add some or remove the folder")
        self.samples = [(path, label) for label, of_class in enumerate(paths) for path in of_class]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[ImageValue, int]:
        path, label = self.samples[index]
        return self.images.read(read_file(str(path), str(path)), str(path)), label


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _images_below(folder: Path) -> list[Path]:
    found: list[Path] = []
    for directory, subdirectories, names in os.walk(folder, followlinks=True):
        subdirectories[:] = (name for name in subdirectories if not name.startswith("."))
        found.extend(path for name in names if _is_image(path := Path(directory, name)))
    return sorted(found)
