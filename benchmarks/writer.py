"""Images per second of writing a folder of JPEG files to a `.beton`: this package beside Pillow in a process pool.

    python benchmarks/writer.py                     the photographs of ../shared/data, or scikit-learn's two
    python benchmarks/writer.py --data FOLDER       any folder (or zip) of JPEG files
    python benchmarks/writer.py --workers 8 --turns 5

Both do the same work: read every file, make sure that it decodes, and store it unchanged (passthrough); or decode,
shrink and compress it again (re-encode). Pillow's side is what one writes by hand: a process pool whose results go to
one file, without checksums or tables. Systems take turns; the table shows medians. The files are in the page cache.
"""

from __future__ import annotations

import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))
from options import new_parser
from views import cpu_seconds
from workloads import read_photos

LONGER_SIDE, QUALITY = 256, 90


def prepare(data: Path | None, folder: Path, images: int) -> Path:
    """The photographs of three colour or one grey component, repeated to `images` files in one class."""
    photos = [photo for photo in read_photos(data) if Image.open(io.BytesIO(photo)).mode in ("RGB", "L")]
    if not photos:
        raise SystemExit(f"{data}: all its JPEG files are CMYK")
    (folder / "photos" / "class").mkdir(parents=True)
    for i in range(images):
        (folder / "photos" / "class" / f"{i:06d}.jpg").write_bytes(photos[i % len(photos)])
    return folder / "photos"


def pillow_check(path: str) -> bytes:
    data = Path(path).read_bytes()
    Image.open(io.BytesIO(data)).load()
    return data


def pillow_encode(path: str) -> bytes:
    image = Image.open(path).convert("RGB")
    scale = LONGER_SIDE / max(image.size)
    if scale < 1:
        size = max(1, int(image.width * scale)), max(1, int(image.height * scale))
        image = image.resize(size, Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=QUALITY)
    return buffer.getvalue()


def with_pillow(source: Path, out: Path, workers: int, encode: bool) -> None:
    paths = sorted(str(path) for path in source.rglob("*.jpg"))
    with ProcessPoolExecutor(workers) as pool, open(out, "wb") as file:
        for content in pool.map(pillow_encode if encode else pillow_check, paths, chunksize=16):
            file.write(content)
        file.flush()
        os.fsync(file.fileno())


def with_ours(source: Path, out: Path, workers: int, encode: bool, restart_markers: bool = False) -> None:
    from ffcv import DatasetWriter
    from ffcv.data import ImageFolder, ImageReader
    from ffcv.fields import RGBImageField

    dataset = ImageFolder(source, images=ImageReader(not encode, max_resolution=LONGER_SIDE if encode else None))
    image = RGBImageField(restart_markers=restart_markers)
    if encode:
        image = RGBImageField("jpg", max_resolution=LONGER_SIDE, jpeg_quality=QUALITY)
    writer = DatasetWriter(out, dataset.fields(image), num_workers=workers, backend="thread")
    writer.from_indexed_dataset(dataset, chunksize=16)


def measure(system: Callable[..., None], source: Path, out: Path, workers: int) -> tuple[float, float]:
    """Seconds, and CPU seconds of this process and of those that it started, to write a new file."""
    out.unlink(missing_ok=True)
    start, cpu = time.perf_counter(), cpu_seconds()
    system(source, out, workers)
    return time.perf_counter() - start, cpu_seconds() - cpu


WORK = {
    "passthrough, every image checked": (
        lambda *a: with_ours(*a, encode=False),
        lambda *a: with_pillow(*a, encode=False),
    ),
    f"re-encode to {LONGER_SIDE} pixels, quality {QUALITY}": (
        lambda *a: with_ours(*a, encode=True),
        lambda *a: with_pillow(*a, encode=True),
    ),
    "passthrough with restart markers": (lambda *a: with_ours(*a, encode=False, restart_markers=True), None),
}


def main() -> None:
    parser = new_parser(__doc__, data=True, images=2000, turns=3)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    table = Table("work", "system", "images/s", "CPU s / 1000 images", "speed, times Pillow", "CPU, Pillow / ours")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source = prepare(arguments.data, folder, arguments.images)
        for name, systems in WORK.items():
            turns: list[list[tuple[float, float]]] = [[] for _ in systems]
            for _ in range(arguments.turns):
                for seen, system in zip(turns, systems, strict=True):
                    if system is not None:
                        seen.append(measure(system, source, folder / "out", arguments.workers))
            rows = [[statistics.median(column) for column in zip(*seen, strict=True)] for seen in turns]
            ratios = [rows[1][i] / rows[0][i] for i in range(2)] if rows[1] else []
            for system, row, shown in zip(("ours", "Pillow pool"), rows, (ratios, []), strict=True):
                if row:
                    speed, cpu = arguments.images / row[0], row[1] / arguments.images * 1000
                    table.add_row(name, system, f"{speed:,.0f}", f"{cpu:.2f}", *(f"{ratio:.2f}" for ratio in shown))
    console = Console(width=160)
    console.print(f"{arguments.images} images, {arguments.workers} workers, median of {arguments.turns} turns")
    console.print(table)


if __name__ == "__main__":
    main()
