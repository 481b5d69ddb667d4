"""Decoders that users derive from ours, with code that decodes by `ffcv.libffcv`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ffcv import Loader
from ffcv.fields.decoders import IntDecoder
from ffcv.fields.rgb_image import IMAGE_MODES, RandomResizedCropRGBImageDecoder, SimpleRGBImageDecoder
from ffcv.libffcv import imdecode, pad, resize_crop
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.compiler import Compiler
from ffcv.pipeline.state import State
from ffcv.transforms import CenterCrop, Cutout, RandomHorizontalFlip, Squeeze, ToTensor, ToTorchImage

COUNT = 9


class _Pixels:
    """Decodes each image whole, and hands it to `place`."""

    metadata: Any
    memory_read: Any
    output_size: Any

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, tuple[AllocationQuery, ...]]:
        shape, dtype = (*self.output_size, 3), np.dtype("<u1")
        largest = np.uint64(self.metadata["height"].max()) * np.uint64(self.metadata["width"].max()) * np.uint64(3)
        memory = AllocationQuery(shape, dtype), AllocationQuery((largest,), dtype)
        return replace(previous_state, jit_mode=True, shape=shape, dtype=dtype), memory

    @property
    def place(self) -> Callable[..., Any]:
        raise NotImplementedError

    def generate_code(self) -> Callable[..., Any]:
        read, loop, jpg = self.memory_read, Compiler.get_iterator(), IMAGE_MODES["jpg"]
        decode_one, place = Compiler.compile(imdecode), Compiler.compile(self.place)

        def decode(indices: Any, memory: Any, metadata: Any, storage_state: Any) -> Any:
            destination, buffers = memory
            for i in loop(len(indices)):
                row = metadata[indices[i]]
                pixels = read(row["data_ptr"], storage_state)
                height, width = np.uint32(row["height"]), np.uint32(row["width"])
                if row["mode"] == jpg:
                    decode_one(pixels, buffers[i], height, width, height, width, 0, 0, 1, 1, False, False)
                    pixels = buffers[i][: 3 * height * width]
                place(pixels.reshape(height, width, 3), destination[i])
            return destination[: len(indices)]

        decode.is_parallel = True
        return decode


class TopLeft(_Pixels, SimpleRGBImageDecoder):
    """The upper left quarter, resized."""

    def __init__(self, output_size: tuple[int, int]) -> None:
        super().__init__()
        self.output_size = output_size

    @property
    def place(self) -> Callable[..., Any]:
        def place(image: Any, out: Any) -> None:
            resize_crop(image, 0, image.shape[0] // 2, 0, image.shape[1] // 2, out)

        return place


class Padded(_Pixels, RandomResizedCropRGBImageDecoder):
    """The image at the upper left of a square; with arguments that the class it derives from has."""

    @property
    def place(self) -> Callable[..., Any]:
        return lambda image, out: pad(image, 0, image.shape[0], 0, image.shape[1], out)


def images_of(path: Path, decoder: Any, *operations: Any) -> torch.Tensor:
    label = [IntDecoder(), ToTensor(), Squeeze()]
    pipelines = {"image": [decoder, *operations, ToTensor(), ToTorchImage()], "label": label}
    batches = list(Loader(path, 4, num_workers=2, drop_last=False, pipelines=pipelines))
    assert torch.cat([batch.label for batch in batches]).tolist() == list(range(COUNT))
    return torch.cat([batch.image for batch in batches])


@pytest.mark.parametrize("files", ["beton", "raw_beton"])
def test_pixels_are_those_of_the_loader(files: str, request: pytest.FixtureRequest, compiled: bool) -> None:
    path = request.getfixturevalue(files)
    padded = images_of(path, Padded((256, 256), scale=(0.5, 1.0)))
    whole = list(Loader(path, 1, pipelines={"image": [CenterCrop((32, 32), 1.0, interpolation="area"), ToTensor()]}))
    for image, expected in zip(padded, whole, strict=True):
        height, width = (int(image.amax((0, axis)).nonzero().max()) + 1 for axis in (2, 1))
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        out = np.empty((32, 32, 3), np.uint8)
        resize_crop(image.permute(1, 2, 0).numpy(), top, top + side, left, left + side, out)
        assert np.array_equal(out, expected.image[0])


def test_our_image_transforms_may_follow(beton: Path) -> None:
    plain = images_of(beton, TopLeft((48, 64)))
    assert torch.equal(images_of(beton, TopLeft((48, 64)), RandomHorizontalFlip(1.0)), plain.flip(3))
    cut = images_of(beton, TopLeft((48, 64)), Cutout(16, (1, 2, 3)))
    changed = (cut != plain).any(1)
    assert (changed.flatten(1).sum(1) > 200).all()  # a square of 16 x 16, drawn within the decoded size
    assert (cut.movedim(1, 3)[changed] == torch.tensor([1, 2, 3])).all()


def test_resolution_may_grow_between_epochs(beton: Path, compiled: bool) -> None:
    decoder = TopLeft((16, 16))
    loader = Loader(beton, 4, pipelines={"image": [decoder, ToTensor()]})
    for side in (16, 24, 16):
        decoder.output_size = (side, side)
        assert next(iter(loader)).image.shape == (4, side, side, 3)


class TooLow(TopLeft):
    """Asks for a row below the image."""

    @property
    def place(self) -> Callable[..., Any]:
        def place(image: Any, out: Any) -> None:
            resize_crop(image, 0, image.shape[0] + 1, 0, 1, out)

        return place


def test_errors_in_parallel_loops_reach_the_caller(beton: Path, compiled: bool) -> None:
    with pytest.raises(ValueError, match=r"there is no part \[0:\d+, 0:1\] of an image"):
        images_of(beton, TooLow((8, 8)))
    assert len(images_of(beton, TopLeft((8, 8)))) == COUNT  # the error was raised once


def test_code_that_users_compile_is_told_by_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    numba = pytest.importorskip("numba", reason="numba is optional and not installed")
    decode = Compiler.compile(imdecode)
    damaged, out = np.zeros(100, np.uint8), np.zeros((4, 4, 3), np.uint8)
    assert numba.njit(lambda: decode(damaged, out, 4, 4))() == 1
    assert "DecodeError: not a readable JPEG" in capsys.readouterr().err


def test_what_imdecode_refuses(beton: Path, tmp_path: Path) -> None:
    from ffcv.reader import Reader

    reader = Reader(beton)
    row = reader.metadata["image"][0]
    jpeg, (height, width) = reader.read(int(row["data_ptr"])), (int(row["height"]), int(row["width"]))
    whole = np.empty((height, width, 3), np.uint8)
    assert imdecode(jpeg, whole, height, width) == 0
    part = np.empty((5, 7, 3), np.uint8)
    assert imdecode(jpeg, part, height, width, 5, 7, 3, 2, 1, 1, True, True) == 0
    assert np.array_equal(part, whole[2:7, 3:10][:, ::-1])
    with pytest.raises(ValueError, match="but the image has"):
        imdecode(jpeg, whole, height + 1, width)
    with pytest.raises(ValueError, match="does not scale, got 1/2: use resize_crop"):
        imdecode(jpeg, whole, height, width, height, width, 0, 0, 1, 2)
    with pytest.raises(ValueError, match="make it larger"):
        imdecode(jpeg, part, height, width)
    with pytest.raises(ValueError, match=r"there is no part \[0:0, 0:1\]"):
        resize_crop(whole, 0, 0, 0, 1, part)


def test_code_without_memory_is_refused(raw_beton: Path) -> None:
    """It was left out in silence."""

    class Inverted(RandomResizedCropRGBImageDecoder):
        def generate_code(self) -> Any:
            return lambda indices, destination, metadata, state: destination

    with pytest.raises(TypeError, match=r"Inverted.generate_code would not be called.*declare_state_and_memory, too"):
        Loader(raw_beton, 4, pipelines={"image": [Inverted((8, 8))]})
