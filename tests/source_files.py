"""Small sources of images, of every kind that `ffcv write` converts."""

from __future__ import annotations

import importlib.util
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ffcv.fields.rgb_image import encode_jpeg

COUNT = 9


def jpeg(i: int) -> bytes:
    y, x = np.mgrid[: 20 + i, :30]
    return encode_jpeg(np.stack([y * 5, x * 5, y + i], axis=2).astype(np.uint8), 90)


LABELS = [i % 3 for i in range(COUNT)]
NAMES = [("ant", "bee", "cat")[label] for label in LABELS]


def write_tar(path: Path, samples: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in samples.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def tar_shards(folder: Path) -> str:
    for shard in range(3):
        numbers = range(3 * shard, 3 * shard + 3)
        samples = {f"d/{i:04d}.{s}": c for i in numbers for s, c in (("jpg", jpeg(i)), ("cls", b"%d" % LABELS[i]))}
        write_tar(folder / f"train-{shard:02d}.tar", samples)
    return str(folder / "train-{00..02}.tar")


def csv_file(folder: Path) -> str:
    (folder / "images").mkdir()
    for i in range(COUNT):
        (folder / "images" / f"{i}.jpg").write_bytes(jpeg(i))
    rows = [f"images/{i}.jpg,{NAMES[i]}" for i in range(COUNT)]
    (folder / "list.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    return str(folder / "list.csv")


def parquet_file(folder: Path) -> str:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow (the [parquet] extra) is not installed")
    import pyarrow.parquet as parquet  # pyright: ignore[reportMissingImports]

    images = [{"bytes": jpeg(i), "path": f"{i}.jpg"} for i in range(COUNT)]
    table = pyarrow.table({"image": images, "label": LABELS, "note": ["x"] * COUNT})
    parquet.write_table(table, folder / "a.parquet", row_group_size=4)
    return str(folder / "a.parquet")


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def lacks(package: str) -> bool:
    return importlib.util.find_spec(package) is None
