"""A folder of images with one sub-folder a class."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ffcv import _core
from ffcv.errors import DecodeError, SourceError, one_line
from ffcv.fields.rgb_image import EncodedImage

__all__ = ["IMAGE_SUFFIXES", "ImageFolder"]

IMAGE_SUFFIXES = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jpe",
        ".png",
        ".bmp",
        ".webp",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".tif",
        ".tiff",
        ".gif",
    )
)
# Only formats that are plain images: Pillow would start other programs for some of the rest.
_PILLOW_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM", "TIFF", "GIF")
_JPEG_MAGIC = b"\xff\xd8\xff"
_LAYOUT = "expected one sub-folder a class, as in FOLDER/cat/1.jpg and FOLDER/dog/2.jpg"


class ImageFolder:
    """The images of `root/CLASS/...` with the class's number as label, sorted by class and path.

    Indexing gives (image, label). A JPEG is an `EncodedImage` when `passthrough` is on, else uint8 [H, W, 3];
    either way the whole of it has been decoded once, so that a damaged one is found here. Other images are
    PIL images. Hidden files and files without an image's suffix are passed over.

    Args:
        root: The folder.
        passthrough: Give JPEGs of 1 or 3 components as they are. (Orientation in EXIF is never applied.)

    Attributes:
        classes: The sub-folders' names; a label is a position in this list.
        samples: (path, label) of every image.

    Raises:
        FileNotFoundError: There is no such folder.
        SourceError: It holds no images, or not one sub-folder a class.
    """

    def __init__(self, root: str | os.PathLike[str], passthrough: bool = True) -> None:
        self.root = Path(root)
        self.passthrough = passthrough
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

    def __getitem__(self, index: int) -> tuple[EncodedImage | NDArray[np.uint8] | Image.Image, int]:
        path, label = self.samples[index]
        try:
            data = path.read_bytes()
        except OSError as error:
            raise SourceError(f"{path}: {error.strerror}; make it readable or remove it") from error
        if data.startswith(_JPEG_MAGIC):
            return self._read_jpeg(path, data), label
        return _read_with_pillow(path, data), label

    def _read_jpeg(self, path: Path, data: bytes) -> EncodedImage | NDArray[np.uint8] | Image.Image:
        content = np.frombuffer(data, dtype=np.uint8)
        try:
            height, width, components = _core.jpeg_info(content)
            if components not in (1, 3):  # CMYK, which the core does not convert
                return _read_with_pillow(path, data)
            pixels = _core.decode_jpeg(content)
        except DecodeError as error:
            raise SourceError(f"{path}: damaged JPEG ({one_line(error)}); replace it or remove it") from error
        return EncodedImage(data, height, width) if self.passthrough else pixels


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _images_below(folder: Path) -> list[Path]:
    found: list[Path] = []
    for directory, subdirectories, names in os.walk(folder, followlinks=True):
        subdirectories[:] = (name for name in subdirectories if not name.startswith("."))
        found.extend(path for name in names if _is_image(path := Path(directory, name)))
    return sorted(found)


def _read_with_pillow(path: Path, data: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=_PILLOW_FORMATS)
        image.load()
    except Image.UnidentifiedImageError as error:
        raise SourceError(f"{path}: not an image (it begins with {data[:8]!r}); replace it or remove it") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise SourceError(f"{path}: damaged image ({one_line(error)}); replace it or remove it") from error
    return image


def class_manifest(folder: ImageFolder) -> dict[str, Any]:
    """What a file written from the folder keeps about it, for `DatasetWriter(manifest=...)`."""
    return {"classes": folder.classes, "source": folder.root.name}
