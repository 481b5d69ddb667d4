"""Real photographs for tests: ImageNet samples where the workplace has them, else the two that scikit-learn ships."""

import functools
import zipfile
from pathlib import Path

import numpy as np

_ARCHIVE = Path(__file__).parents[2] / "shared" / "data" / "imagenet-sample-250.zip"


@functools.cache
def photos(limit: int = 50) -> tuple[bytes, ...]:
    """JPEG files, as bytes; portrait and landscape, and a few gray ones, when the archive is there."""
    if _ARCHIVE.exists():
        with zipfile.ZipFile(_ARCHIVE) as archive:
            names = sorted(name for name in archive.namelist() if name.endswith(".JPEG"))
            step = max(1, len(names) // limit)
            return tuple(archive.read(name) for name in names[::step][:limit])
    import sklearn.datasets

    folder = Path(sklearn.datasets.__file__).parent / "images"
    return tuple(path.read_bytes() for path in sorted(folder.glob("*.jpg")))


def as_array(jpeg: bytes) -> np.ndarray:
    """The bytes as the core takes them: uint8 [size]."""
    return np.frombuffer(jpeg, np.uint8)
