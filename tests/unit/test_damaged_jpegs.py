"""Samples that break while they are decoded: what no checksum has caught must not show other samples' pixels."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import own_process
from datasets import InMemory, photo_samples
from ffcv import DatasetWriter, Loader
from ffcv.errors import DecodeError
from ffcv.fields import EncodedImage, IntField, RGBImageField
from ffcv.loader.slots import SlotPool
from ffcv.reader import Reader
from ffcv.transforms import CenterCrop, ToTensor


@pytest.mark.parametrize("policy", ["raise", "skip", "replace"])
def test_a_jpeg_that_breaks_off_while_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    """No checksum warns of it, half of its rows are there, and the batch's memory holds what was in it before."""
    paths = [tmp_path / name for name in ("good.beton", "bad.beton")]
    fields = {"image": RGBImageField(write_mode="jpg"), "label": IntField()}
    for path in paths:
        DatasetWriter(path, fields, num_workers=1, checksums=False).from_indexed_dataset(InMemory(photo_samples(12)))
    reader = Reader(paths[1])
    assert reader.checksums is None
    bad = (3, 8)
    with paths[1].open("r+b") as file:
        for sample in bad:
            pointer = int(reader.metadata["image"]["data_ptr"][sample])
            size = int(reader.allocations["size"][reader.allocations["ptr"] == pointer][0])
            file.seek(pointer + size // 2)
            file.write(b"\xff\xd9" * 20)
    allocate = SlotPool.allocate

    def poisoned(self: SlotPool, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        out = allocate(self, shape, dtype)
        out.fill(99)
        return out

    monkeypatch.setattr(SlotPool, "allocate", poisoned)
    pipeline = [CenterCrop((40, 40), 1.0), ToTensor()]
    good, mended = (
        Loader(path, 4, num_workers=2, on_error=policy, return_indices=True, pipelines={"image": pipeline})
        for path in paths
    )
    expected = {i: image for b in good for i, image in zip(b.sample_index.tolist(), b.image, strict=True)}
    if policy == "raise":
        with pytest.raises(DecodeError, match="sample 3, field 'image': damaged JPEG"):
            list(mended)
        return
    seen = [(i, image) for b in mended for i, image in zip(b.sample_index.tolist(), b.image, strict=True)]
    assert len(seen) == (12 if policy == "replace" else 10)
    assert not {i for i, _ in seen} & set(bad)
    for i, image in seen:
        assert torch.equal(image, expected[i])


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on memory is Linux's")
@pytest.mark.parametrize("progressive", [False, True])
def test_where_memory_is_lacking_no_image_is_damaged(tmp_path: Path, progressive: bool) -> None:
    """Ours of one kind, libjpeg's of the other: what is to be skipped as damaged would be lost in silence."""
    path, sides = tmp_path / "images.beton", (16, 6000)
    jpegs = [io.BytesIO() for _ in sides]
    for side, jpeg in zip(sides, jpegs, strict=True):
        Image.new("RGB", (side, side)).save(jpeg, "JPEG", progressive=progressive)
    samples = [(EncodedImage(jpeg.getvalue(), side, side),) for side, jpeg in zip(sides, jpegs, strict=True)]
    DatasetWriter(path, {"image": RGBImageField(write_mode="jpg")}, num_workers=1).from_indexed_dataset(
        InMemory(samples)
    )
    (tmp_path / "large.jpg").write_bytes(jpegs[1].getvalue())
    result = own_process.run(f"""
        import resource
        from pathlib import Path
        import numpy as np
        from ffcv import Loader, _core
        from ffcv.transforms import CenterCrop
        loader = Loader({str(path)!r}, 1, num_workers=1, pipelines={{"image": [CenterCrop((8, 8), 1.0)]}})
        loader[0]  # the threads are there
        jpeg = np.fromfile({str(tmp_path / "large.jpg")!r}, np.uint8)
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + (16 << 20), resource.RLIM_INFINITY))
        for decode in (lambda: loader[1], lambda: _core.decode_jpeg(jpeg)):
            try:
                decode()
            except MemoryError as error:
                print(error)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(loader[1].image.shape)
    """)
    assert result.returncode == 0, result.stderr
    message, _, shape = result.stdout.splitlines()
    assert "images.beton: no memory to decode a batch of field 'image' that begins with sample 1" in message
    assert shape == "(8, 8, 3)"
