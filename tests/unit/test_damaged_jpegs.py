"""Samples that break while they are decoded: what no checksum has caught must not show other samples' pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from datasets import InMemory, photo_samples
from ffcv import DatasetWriter, Loader
from ffcv.errors import DecodeError
from ffcv.fields import IntField, RGBImageField
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
