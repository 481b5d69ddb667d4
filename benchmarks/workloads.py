"""What is measured: image sources and the views rendered from them."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

BATCH_SIZE = 50
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)

WORKLOADS = {
    "P1": "one view: random resized crop 224, flip",
    "P2": "two SimCLR views: crop .08-1, flip, jitter p .8, gray p .2, the second solarised p .2; float32 normalised",
    "P2b": "P2 with a Gaussian blur of kernel 23, sigma .1-2, on every first view",
    "P3": "multi-crop, 2 x 224 + 8 x 96, each blurred (kernel 23) and otherwise as P2's first view",
    "P4": "centre crop 224 of 256",
    "P1 raw": "P1 from uncompressed images of longer side 256 in the .beton",
    "P2 raw": "P2 likewise",
    "P4 raw": "P4 likewise",
}
LARGE_CROPS, SMALL_CROPS = (0.25, 1.0), (0.05, 0.25)  # of the area, in P3


@dataclass(frozen=True)
class Source:
    """The same images as files, as `.beton` (as `ffcv write` makes it, and as the original does), and, smaller, as
    uncompressed `.beton`, all in one folder."""

    folder: Path

    @property
    def beton(self) -> Path:
        return self.folder / "images.beton"

    @property
    def plain_beton(self) -> Path:
        return self.folder / "plain.beton"

    @property
    def raw_beton(self) -> Path:
        return self.folder / "raw.beton"

    @property
    def files(self) -> list[Path]:
        """One for each image of an epoch."""
        return sorted(self.folder.glob("*.jpg"))


def default_data() -> Path:
    """The photographs of ../shared/data, or scikit-learn's two."""
    shared = Path(__file__).parents[2] / "shared" / "data" / "imagenet-sample-250.zip"
    if shared.exists():
        return shared
    import sklearn.datasets

    return Path(sklearn.datasets.__file__).parent / "images"


def read_photos(data: Path | None) -> list[bytes]:
    """JPEG files out of a folder or a zip archive, or out of the default one."""
    data = data or default_data()
    if data.suffix == ".zip":
        with zipfile.ZipFile(data) as archive:
            names = sorted(name for name in archive.namelist() if name.lower().endswith((".jpeg", ".jpg")))
            photos = [archive.read(name) for name in names]
    else:
        photos = [path.read_bytes() for path in sorted(data.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg")]
    if not photos:
        raise SystemExit(f"{data}: no JPEG files in it")
    return photos


def prepare(data: Path | None, folder: Path, longer_side: int, images_an_epoch: int = 500) -> Source:
    """Re-encodes the photographs at `longer_side` and quality 90, as files and as a `.beton`."""
    from ffcv import DatasetWriter
    from ffcv.fields import IntField, RGBImageField
    from ffcv.fields.rgb_image import EncodedImage

    photos = read_photos(data)
    source, copies = Source(folder), -(-images_an_epoch // len(photos))  # which are files, too: they fill the caches
    for i, photo in enumerate(photos):
        image = Image.open(io.BytesIO(photo)).convert("RGB")
        image.thumbnail((longer_side, longer_side))
        for copy in range(copies):
            image.save(folder / f"{copy:03d}-{i:05d}.jpg", quality=90)

    class Files:
        def __len__(self) -> int:
            return len(source.files)

        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            image = Image.open(source.files[index])
            image.load()
            return image, index

    class EncodedFiles(Files):
        def __getitem__(self, index: int) -> tuple[EncodedImage, int]:
            path = source.files[index]
            width, height = Image.open(path).size
            return EncodedImage(path.read_bytes(), height, width), index

    for path, entry_points in ((source.beton, True), (source.plain_beton, False)):
        fields = {"image": RGBImageField("jpg", entry_points=entry_points), "label": IntField()}
        DatasetWriter(path, fields, num_workers=1).from_indexed_dataset(EncodedFiles())
    fields = {"image": RGBImageField("raw", max_resolution=256), "label": IntField()}
    DatasetWriter(source.raw_beton, fields, num_workers=1).from_indexed_dataset(Files())
    return source
