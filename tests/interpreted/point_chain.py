"""The GPU's kernel of colour operations, run by Triton's interpreter on CPU tensors, against the torch operations.

Collected by `tests/unit/test_point_chain.py` in a process of its own, whose Triton interprets everything.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import ffcv.transforms as T
from ffcv import _core
from ffcv.pipeline import point_chain
from ffcv.pipeline.steps import Step, TailStep
from ffcv.transforms import torch_ops
from ffcv.transforms.form import Form

BATCH, HEIGHT, WIDTH = 8, 37, 45
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
CHAINS: dict[str, list[Any]] = {
    "jitter": [T.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8)],
    "hue": [T.ColorJitter(hue=0.5)],
    "contrast": [T.RandomContrast(0.9, 0.7)],
    "gray": [T.RandomGrayscale(0.5)],
    "solarize": [T.RandomSolarization(0.5, 99.5)],
    "posterize": [T.RandomPosterize(3, 0.5)],
    "SimCLR": [T.RandomColorJitter(0.8, 0.4, 0.4, 0.2, 0.1), T.RandomGrayscale(0.2), T.RandomSolarization(0.2, 128)],
    "before jitter": [T.RandomGrayscale(0.3), T.RandomSolarization(0.3, 128), T.ColorJitter(0.4, 0.4, 0.4, 0.1)],
    "applied": [T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1), T.RandomGrayscale(0.5)], p=0.5)],
}


def images(channels_last: bool = False) -> torch.Tensor:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (BATCH, 3, HEIGHT, WIDTH))
    pixels[::4] = rng.integers(0, 256, (BATCH // 4, 3, 1, 1))
    tensor = torch.from_numpy(pixels.astype(np.uint8))
    return tensor.contiguous(memory_format=torch.channels_last) if channels_last else tensor


def draw(transform: Any) -> Any:
    u = _core.uniforms(5, 6, 0, np.arange(BATCH), max(1, transform.draws))[:, : transform.draws]
    return transform.sample(u, np.tile(np.array([[HEIGHT, WIDTH]]), (BATCH, 1)))


def steps(*transforms: Any, channels_first: bool = True) -> tuple[list[Any], dict[str, Any]]:
    """A tail and its parameters."""
    form = Form(is_tensor=True, holds_images=True, channels_first=channels_first)
    tail: list[Any] = []
    params = {}
    for i, transform in enumerate(transforms):
        if isinstance(transform, T.NormalizeImage):
            tail.append(transform.at(form))
        else:
            step = Step(transform, i, ())
            tail.append(TailStep(step, form))
            params[step.name] = draw(transform)
    return tail, params


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", CHAINS)
def test_the_kernel_gives_the_torch_operations_pixels(name: str, channels_last: bool) -> None:
    before = images(channels_last)
    tail, params = steps(*CHAINS[name])
    chain = point_chain.find_chain(tail, params, before)
    assert chain is not None
    assert chain.length == len(tail)
    expected = torch_ops.run(
        [op for t, p in zip(CHAINS[name], params.values(), strict=True) for op in t.lower(p)], before
    )
    result = chain(before)
    assert result.dtype == torch.uint8
    assert result.stride() == before.stride()
    assert not torch.equal(result, before)
    assert torch.equal(result, expected)
    assert torch.equal(before, images()), "the input has changed"


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("channels_first", [False, True])
def test_it_normalises(dtype: Any, channels_first: bool) -> None:
    last = T.NormalizeImage(MEAN, STD, dtype)
    batch = images() if channels_first else images().permute(0, 2, 3, 1).contiguous()
    for transforms in ([], CHAINS["SimCLR"]):
        tail, params = steps(*transforms, last, channels_first=channels_first)
        chain = point_chain.find_chain(tail, params, batch)
        assert chain is not None
        assert chain.length == len(tail)
        expected = batch
        for each in tail:
            expected = each(expected, params[each.step.name]) if isinstance(each, TailStep) else each(expected)
        result = chain(batch)
        assert result.dtype == expected.dtype
        assert torch.equal(result, expected)


class Derived(T.NormalizeImage):
    def __call__(self, batch: Any) -> Any:
        return super().__call__(batch) / 2


def test_it_takes_what_it_knows_and_leaves_the_rest() -> None:
    jitter, gray = CHAINS["jitter"][0], CHAINS["gray"][0]
    blur, last = T.GaussianBlur(0.5, 5), T.NormalizeImage(MEAN, STD, np.float32)
    for transforms, length in (
        ([jitter, gray, blur, last], 2),  # blur looks at neighbours
        ([blur, jitter], None),
        ([jitter, gray, jitter], 2),  # one sum of grey values
        ([gray, last, gray], 2),
        ([gray, Derived(MEAN, STD, np.float32)], 1),
        ([T.RandomHorizontalFlip(0.5), gray], None),
    ):
        tail, params = steps(*transforms)
        chain = point_chain.find_chain(tail, params, images())
        assert (None if chain is None else chain.length) == length
    tail, params = steps(gray, last)
    assert point_chain.find_chain(tail, params, images().float()) is None
    assert point_chain.chain_at_start(tail, params, images()) is None  # no CUDA device holds it
