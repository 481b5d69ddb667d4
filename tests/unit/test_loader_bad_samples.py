"""Samples that cannot be decoded: raised, skipped or replaced, as on_error says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datasets import image_starts, photo_samples
from ffcv import DatasetWriter, Loader
from ffcv.errors import DecodeError
from ffcv.fields import EncodedImage, RGBImageField
from ffcv.fields.rgb_image import encode_jpeg
from ffcv.reader import Reader
from ffcv.transforms import CenterCrop, ToTensor
from photo_loaders import random_crops
from small_files import write_numbers

COUNT = 23


@pytest.fixture
def damaged(copy: Path) -> Path:
    """Samples 6 and 7 are no JPEGs any more."""
    content = bytearray(copy.read_bytes())
    for start in image_starts(copy)[6:8].tolist():
        content[start + 300 : start + 500] = b"\xff\xd9" * 100
    copy.write_bytes(content)
    return copy


def test_bad_samples_raise_and_are_named(damaged: Path, os_cache: bool) -> None:
    with pytest.raises(DecodeError, match=r"sample 6, field 'image': .* \(and 1 more of this batch\)") as caught:
        list(random_crops(damaged, os_cache=os_cache))
    assert set(caught.value.samples) == {6, 7}  # type: ignore[attr-defined]


def test_bad_samples_are_skipped(damaged: Path, os_cache: bool) -> None:
    loader = random_crops(damaged, os_cache=os_cache, on_error="skip", return_indices=True, return_params=True)
    for _ in range(2):
        batches = list(loader)
        assert [batch.sample_index.tolist() for batch in batches][1] == [4, 5]
        assert [len(batch.image) for batch in batches] == [4, 2, 4, 4, 4, 3]
        assert all(batch.sample_index.tolist() == batch.label.flatten().tolist() for batch in batches)
        assert len(batches[1].params["image"]["0:crop"].top) == 2
    assert loader.bad_samples.skipped == 4
    assert set(loader.bad_samples.messages) == {6, 7}


def test_batches_of_bad_samples_only_are_left_out(damaged: Path, os_cache: bool) -> None:
    loader = random_crops(damaged, on_error="skip", batch_size=1, os_cache=os_cache, return_indices=True)
    for epoch in range(3):
        assert [batch.sample_index.item() for batch in loader] == [*range(6), *range(8, COUNT)]
        assert loader.bad_samples.skipped == 2 * (epoch + 1)
        assert loader.next_epoch == epoch + 1
    loader = random_crops(damaged, on_error="skip", indices=[6, 7], batch_size=1, os_cache=os_cache)
    for _ in range(2):  # nothing at all is left
        with pytest.raises(DecodeError, match="sample 7"):
            list(loader)


def test_bad_samples_are_replaced_by_the_same_ones_always(damaged: Path, beton: Path, os_cache: bool) -> None:
    def labels(**options: Any) -> list[int]:
        loader = random_crops(damaged, os_cache=os_cache, on_error="replace", return_indices=True, **options)
        found = []
        for batch in loader:
            assert batch.sample_index.tolist() == batch.label.flatten().tolist()
            found += batch.label.flatten().tolist()
        assert loader.bad_samples.replaced == 2
        return found

    first = labels()
    assert first[:6] + first[8:] == [*range(6), *range(8, COUNT)]
    assert not {6, 7} & set(first)
    assert labels(batch_size=7, num_workers=4) == first
    parts = [labels_of_rank(damaged, rank) for rank in range(2)]
    assert sorted(parts[0] + parts[1]) == sorted(first)
    good = random_crops(beton)
    for clean, mended in zip(good, random_crops(damaged, on_error="replace"), strict=True):
        same = (clean.label == mended.label).flatten()
        assert torch.equal(clean.image[same], mended.image[same])


def test_replacements_are_samples_of_the_epoch(damaged: Path, os_cache: bool) -> None:
    chosen = [6, 7, 1, 2, 3, 1]
    loader = random_crops(damaged, os_cache=os_cache, on_error="replace", sampler=chosen)
    found = [label for batch in loader for label in batch.label.flatten().tolist()]
    assert found[2:] == chosen[2:]
    assert set(found[:2]) <= {1, 2, 3}
    for other in (1, 3, 4):  # whatever the seed: most of the file's samples are none of the sampler's
        labels = [batch.label for batch in random_crops(damaged, on_error="replace", sampler=chosen, seed=other)]
        assert set(torch.cat(labels).flatten().tolist()) == {1, 2, 3}


@pytest.mark.parametrize("policy", ["skip", "replace"])
def test_filtering_leaves_bad_samples_out(damaged: Path, policy: str) -> None:
    kept = random_crops(damaged, on_error=policy).filter("image", lambda image: True)
    assert kept.indices.tolist() == [*range(6), *range(8, COUNT)]
    assert kept.bad_samples.policy == policy


def labels_of_rank(path: Path, rank: int) -> list[int]:
    loader = random_crops(path, on_error="replace", rank=rank, world_size=2)
    return [label for batch in loader for label in batch.label.flatten().tolist()]


def test_nothing_good_is_left(damaged: Path) -> None:
    loader = random_crops(damaged, indices=[6, 7], on_error="replace")
    for _ in range(2):
        with pytest.raises(DecodeError, match="sample 6"):
            list(loader)
    with pytest.raises(ValueError, match="on_error must be 'raise', 'skip' or 'replace', got 'ignore'"):
        random_crops(damaged, on_error="ignore")


def test_a_damaged_value_of_a_column_is_named_and_skipped(tmp_path: Path) -> None:
    path = write_numbers(tmp_path / "numbers.beton", 20)
    reader = Reader(path)
    if reader.checksums is None:
        pytest.skip("this file has no checksums, so that damage to arrays cannot be seen")
    start = int(reader.metadata["array"][5])
    content = bytearray(path.read_bytes())
    content[start] ^= 1
    path.write_bytes(content)
    with pytest.raises(DecodeError, match=r"sample 5, field 'array': .*checksum"):
        list(Loader(path, 4))
    loader = Loader(path, 4, on_error="skip", drop_last=False)
    assert [len(batch[0]) for batch in loader] == [4, 3, 4, 4, 4]


def test_a_jpeg_of_another_size_than_the_metadata_says_is_refused(tmp_path: Path) -> None:
    photo = photo_samples(1)[0][0]
    jpeg = encode_jpeg(np.ascontiguousarray(photo[:40, :48]), 90)
    for height, width in ((24, 30), (80, 90), (40, 47)):
        path = tmp_path / "sizes.beton"
        writer = DatasetWriter(path, {"image": RGBImageField()}, num_workers=1)
        writer.from_indexed_dataset([(EncodedImage(jpeg, height, width),)])
        with pytest.raises(DecodeError, match=f"JPEG is 40x48 .*, but the file's metadata says {height}x{width}"):
            list(Loader(path, 1, pipelines={"image": [CenterCrop((8, 8), 0.2), ToTensor()]}))
