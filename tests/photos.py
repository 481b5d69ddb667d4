"""Real photographs for tests: ImageNet samples where the workplace has them, else what the two of scikit-learn give."""

import functools
import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

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
    return _parts([path.read_bytes() for path in sorted(folder.glob("*.jpg"))], limit)


def _parts(jpegs: list[bytes], count: int) -> tuple[bytes, ...]:
    """The photographs, then parts of them: portrait and landscape, small and large, gray ones, all subsamplings."""
    rng = np.random.default_rng(0)
    result = list(jpegs)
    while len(result) < count:
        i = len(result)
        image = Image.open(io.BytesIO(jpegs[i % len(jpegs)])).convert("RGB")
        width, height = (int(side * rng.uniform(0.2, 1.0)) for side in image.size)
        left, top = (int(rng.integers(0, a - b + 1)) for a, b in zip(image.size, (width, height), strict=True))
        part = image.crop((left, top, left + width, top + height))
        part = part.transpose(Image.Transpose.ROTATE_90) if i % 3 == 0 else part
        content = io.BytesIO()
        quality = int(rng.integers(60, 97))
        if i % 9 == 0:
            ImageOps.grayscale(part).save(content, "JPEG", quality=quality)
        else:
            part.save(content, "JPEG", quality=quality, subsampling=i % 3)
        result.append(content.getvalue())
    return tuple(result[:count])


def as_array(jpeg: bytes) -> np.ndarray:
    """The bytes as the core takes them: uint8 [size]."""
    return np.frombuffer(jpeg, np.uint8)
