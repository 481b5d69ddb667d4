"""The README's example runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffcv import DatasetWriter
from ffcv.fields import IntField, RGBImageField

README = Path(__file__).parents[2] / "README.md"


def test_the_readmes_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 40, 30, 3), dtype=np.uint8)
    dataset = [(image, number) for number, image in enumerate(pixels)]
    fields = {"image": RGBImageField("jpg"), "label": IntField()}
    DatasetWriter(tmp_path / "train.beton", fields, num_workers=1).from_indexed_dataset(dataset)
    monkeypatch.chdir(tmp_path)

    found = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert found is not None
    names: dict[str, Any] = {}
    exec(compile(found[1], str(README), "exec"), names)

    batch = names["batch"]
    image, label, image2 = batch  # as the comment says
    assert image is batch.image
    assert image2 is batch.image2
    assert image.shape == image2.shape == (256, 3, 224, 224)
    assert not image.equal(image2)
    assert len(set(label.tolist())) == 256
