"""The core by itself: streams, instruction sets, packing, damaged input."""

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from core_render import render, render_batch
from ffcv import _core
from ffcv._core import DecodeError, OpCode
from photos import as_array, photos


@pytest.fixture
def restore_isa() -> Iterator[None]:
    best = _core.isa()
    yield
    assert _core.select_isa(best)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # the known answers that Random123 publishes
        ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers(counter: tuple, key: tuple, expected: tuple) -> None:
    assert tuple(_core.philox4x32(counter, key)) == expected


def test_uniforms_depend_on_the_sample_and_not_on_its_place() -> None:
    samples = np.array([7, 3, 2**32 + 7, 7], np.int64)
    u = _core.uniforms(1, 2, 3, samples, 10)
    np.testing.assert_array_equal(u[0], u[3])
    np.testing.assert_array_equal(u[1], _core.uniforms(1, 2, 3, samples[1:2], 10)[0])
    assert not np.array_equal(u[0], u[2])
    for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert not np.array_equal(u, _core.uniforms(*other, samples, 10))
    assert 0 <= u.min() < u.max() < 1


ALL_OPS = [
    (OpCode.color_jitter, (1.3, 0.7, 1.4, 0.07, 13)),
    (OpCode.gaussian_blur, (1.3, 9)),
    (OpCode.grayscale, (0,)),
    (OpCode.flip_horizontal, (1,)),
    (OpCode.solarize, (1, 128)),
    (OpCode.flip_vertical, (1,)),
    (OpCode.affine, (0, 1, 2, 3, 0.9, 0, 0.3, 1e-9, 3.3, 0, -0.3, 0, 0.9, 0, 20.1, 0)),
    (OpCode.affine, (1, 1, 2, 3, 0.9, 0, -0.2, 1e-9, 3.3, 0, 0.3, 0, 0.9, 0, -4.1, 0)),
    (OpCode.fill_box, (5, 7, 20, 10, 200, 100, 50)),
    (OpCode.autocontrast, (1,)),
    (OpCode.noise, (3.0, 20.0, 12345, 999)),
    (OpCode.sharpness, (1.7,)),
    (OpCode.equalize, (1,)),
    (OpCode.posterize, (6,)),
]


def test_all_ops_are_tried() -> None:
    assert {code for code, _ in ALL_OPS} == set(OpCode)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32])
@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.usefixtures("restore_isa")
def test_every_instruction_set_gives_the_same_bits(dtype: type, channels_first: bool) -> None:
    names = [name for name in ("v2", "v3", "v4", "v4_vnni", "baseline") if _core.select_isa(name)]
    assert names, "no kernels at all"
    for jpeg in photos(8)[:8]:
        image = _core.decode_jpeg(as_array(jpeg))
        height, width = image.shape[:2]
        results = []
        for name in names:
            assert _core.select_isa(name)
            assert _core.isa() == name
            results.append(
                render(
                    image,
                    (1, 3, height - 5, width - 4),
                    (97, 131),
                    ALL_OPS,
                    flip=True,
                    dtype=dtype,
                    channels_first=channels_first,
                    scale=(1 / 58.4, 1 / 57.1, 1 / 57.4),
                    bias=(-2.1, -2.0, -1.8),
                ).tobytes()
            )
        assert len(set(results)) == 1


STRAIGHT = (0.7, 0, 0, 0, 1.3, 0, 0, 0, 1.1, 0, 0.2, 0)  # scaled and shifted only, which has a loop of its own
MOVING_OPS = [
    (OpCode.affine, (0, 1, 2, 3, *STRAIGHT)),
    (OpCode.affine, (1, 1, 2, 3, *STRAIGHT)),
    (OpCode.gaussian_blur, (2.0, 23)),
    (OpCode.noise, (1.0, 9.0, 5, 6)),
    (OpCode.sharpness, (0.3,)),
]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest", "area"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.int16, np.float32])  # int16: bfloat16
@pytest.mark.usefixtures("restore_isa")
def test_every_instruction_set_resizes_the_same(interpolation: str, dtype: type) -> None:
    names = [name for name in ("v2", "v3", "v4", "v4_vnni", "baseline") if _core.select_isa(name)]
    rng = np.random.default_rng(3)
    for trial in range(12):
        height, width = (int(side) for side in rng.integers(1, 160, 2))
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        h, w = int(rng.integers(1, height + 1)), int(rng.integers(1, width + 1))
        box = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
        size = (h, w) if trial % 4 == 3 else (int(rng.integers(1, 120)), int(rng.integers(1, 120)))
        results = set()
        for name in names:
            assert _core.select_isa(name)
            options: dict = {"dtype": dtype, "interpolation": interpolation, "channels_first": bool(trial & 2)}
            options |= {"scale": (0.017, 0.018, 0.019), "bias": (-2, -2.1, -1.9), "flip": bool(trial & 1)}
            results.add(render(image, box, size, MOVING_OPS[trial % 4 :], **options).tobytes())
        assert len(results) == 1


@pytest.mark.usefixtures("restore_isa")
def test_every_instruction_set_computes_chains_the_same() -> None:
    """Some look bytes up in tables where a chain begins and ends."""
    names = [name for name in ("v2", "v3", "v4", "v4_vnni", "baseline") if _core.select_isa(name)]
    rng = np.random.default_rng(5)
    for trial in range(100):
        height, width = (int(side) for side in rng.integers(1, 80, 2))
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        factors = np.where(rng.random(4) < 0.7, [*rng.uniform(0, 2, 3), rng.uniform(-0.5, 0.5)], (1, 1, 1, 0))
        choices = [
            (OpCode.color_jitter, (*factors, int(rng.integers(24)))),
            (OpCode.grayscale, (1,)),
            (OpCode.solarize, (1, int(rng.integers(257)))),
            (OpCode.posterize, (int(rng.integers(1, 9)),)),
        ]
        ops = [choices[i] for i in rng.integers(0, 4, int(rng.integers(1, 6)))]
        results = set()
        for name in names:
            assert _core.select_isa(name)
            box = (0, 0, height, width)
            results.add(render(image, box, (height, width), ops, channels_first=bool(trial & 1)).tobytes())
        assert len(results) == 1


def test_every_number_of_threads_gives_the_same_bits() -> None:
    rng = np.random.default_rng(4)
    images = rng.integers(0, 256, (37, 41, 53, 3), np.uint8)
    ops = [(code, np.tile(np.array([row], np.float32), (len(images), 1))) for code, row in (*ALL_OPS, *MOVING_OPS)]
    for _, rows in ops:
        rows[rng.random(len(rows)) < 0.3, 0] = np.nan  # threads' buffers hold other samples' leftovers
    expected = render_batch(images, ops, threads=1)
    for threads in (2, 3, 8):
        np.testing.assert_array_equal(render_batch(images, ops, threads=threads), expected)
    backwards = render_batch(images[::-1], [(code, rows[::-1].copy()) for code, rows in ops], threads=2)
    np.testing.assert_array_equal(backwards[::-1], expected)


POINT_OPS = [
    (OpCode.color_jitter, (1.4, 0.6, 1.5, -0.2, 9)),
    (OpCode.solarize, (1, 70)),
    (OpCode.color_jitter, (0.7, 1.8, 0.2, 0.5, 23)),
    (OpCode.posterize, (3,)),
    (OpCode.color_jitter, (1, 1.5, 1, 0, 0)),
    (OpCode.grayscale, (1,)),
]


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (16, 32), (23, 45), (64, 129)])
@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.usefixtures("restore_isa")
def test_chains_do_what_their_steps_do(size: tuple[int, int], channels_first: bool) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    box = (0, 0, *size)
    for isa in (name for name in ("v2", "v3", "v4", "v4_vnni", "baseline") if _core.select_isa(name)):
        _core.select_isa(isa)
        for count in range(len(POINT_OPS) + 1):
            expected = image
            for step in POINT_OPS[:count]:
                expected = render(expected, box, size, [step])
            scale, bias = (0.5, 0.25, 2.0), (1.0, -3.0, 0.5)
            for dtype in (np.uint8, np.float32):
                ours = render(
                    image,
                    box,
                    size,
                    POINT_OPS[:count],
                    dtype=dtype,
                    channels_first=channels_first,
                    scale=scale,
                    bias=bias,
                )
                ours = ours.transpose(1, 2, 0) if channels_first else ours
                whole = expected if dtype is np.uint8 else expected * np.float32(scale) + np.float32(bias)
                np.testing.assert_array_equal(ours, whole)


def test_packing_rounds_to_half_as_numpy_does() -> None:
    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    for scale, bias in [(1.0, 0.0), (1e-7, 0.0), (1e-5, -1e-4), (300.0, -20.0), (1 / 58.395, -2.1179)]:
        exact = image.astype(np.float32) * np.float32(scale) + np.float32(bias)
        with np.errstate(over="ignore"):
            expected = exact.astype(np.float16)
        ours = render(image, (0, 0, 16, 16), (16, 16), dtype=np.float16, scale=(scale,) * 3, bias=(bias,) * 3)
        np.testing.assert_array_equal(ours, expected)


def test_layouts_agree() -> None:
    image = _core.decode_jpeg(as_array(photos(8)[0]))
    box = (0, 0, *image.shape[:2])
    last = render(image, box, (50, 70), dtype=np.float32)
    first = render(image, box, (50, 70), dtype=np.float32, channels_first=True)
    np.testing.assert_array_equal(torch.from_numpy(last).permute(2, 0, 1).numpy(), first)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.usefixtures("restore_isa")
def test_views_without_operations_are_the_same_in_both_layouts(flip: bool) -> None:
    """Interleaved ones are rendered where they lie in the batch; from pixels, and from a JPEG's planes."""
    jpeg = as_array(photos(1)[0])
    image = _core.decode_jpeg(jpeg)
    for name in ("v2", "v3", "v4", "v4_vnni", "baseline"):
        if not _core.select_isa(name):
            continue
        for size in [(64, 75), (61, 75), (130, 33), (1, 1)]:
            views = [
                render(image, (2, 3, 64, 75), size, flip=flip, jpeg=encoded, channels_first=first)
                for first in (False, True)
                for encoded in (None, jpeg)
            ]
            views = [view if view.shape[-1] == 3 else view.transpose(1, 2, 0) for view in views]
            assert all(np.array_equal(view, views[0]) for view in views)
            if size == (64, 75):
                region = image[2:66, 3:78]
                np.testing.assert_array_equal(views[0], region[:, ::-1] if flip else region)


def test_flat_images_stay_flat() -> None:
    for value in (0, 1, 127, 254, 255):
        image = np.full((211, 173, 3), value, np.uint8)
        ours = render(image, (0, 0, 211, 173), (64, 300), [(OpCode.gaussian_blur, (1.7, 23))])
        assert ours.min() == ours.max() == value


def test_blur_wider_than_the_view() -> None:
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    ours = render(image, (0, 0, 2, 3), (2, 3), [(OpCode.gaussian_blur, (2.0, 23))])
    assert image.min() <= ours.min() <= ours.max() <= image.max()
    one = np.full((1, 1, 3), 200, np.uint8)
    assert (render(one, (0, 0, 1, 1), (1, 1), [(OpCode.gaussian_blur, (2.0, 23))]) == 200).all()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_truncated_jpeg_is_an_error(share: float) -> None:
    jpeg = photos(8)[0]
    cut = as_array(jpeg[: int(len(jpeg) * share)])
    with pytest.raises(DecodeError):
        _core.decode_jpeg(cut)


def test_text_is_no_jpeg() -> None:
    with pytest.raises(DecodeError, match="not a readable JPEG"):
        _core.decode_jpeg(as_array(b"hello, I am a text file\n" * 10))


def test_damaged_entropy_data_are_an_error() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG")
    jpeg = bytearray(buffer.getvalue())
    start = jpeg.index(b"\xff\xda") + 40
    jpeg[start : start + 200] = b"\xff\xd9" * 100  # end markers in the middle of the scan
    with pytest.raises(DecodeError, match="damaged JPEG"):
        _core.decode_jpeg(as_array(bytes(jpeg)))


def test_a_decoder_recovers_from_an_error() -> None:
    good = as_array(photos(8)[0])
    expected = _core.decode_jpeg(good)
    height, width = expected.shape[:2]
    renderer = _core.Renderer(1)
    data = np.concatenate([good, good[: len(good) // 2], good])
    offsets = np.array([0, len(good), len(good) + len(good) // 2], np.uint64)
    sizes = np.array([len(good), len(good) // 2, len(good)], np.uint64)
    out = np.full((3, height, width, 3), 99, np.uint8)
    boxes = np.tile(np.array([[0, 0, height, width]], np.int32), (3, 1))
    view = _core.View(boxes, None, height, width, [], out, False, [1, 1, 1], [0, 0, 0])
    shapes = np.tile(np.array([[height, width]], np.int32), (3, 1))
    errors = renderer.render(data, offsets, sizes, np.zeros(3, np.uint8), shapes, [view])
    assert [position for position, _ in errors] == [1]
    np.testing.assert_array_equal(out[0], expected)
    np.testing.assert_array_equal(out[2], expected)
    assert not out[1].any(), "a failed sample must be zeros, never another sample's pixels"


@pytest.mark.parametrize("box", [(-1, 0, 5, 5), (0, 0, 11, 5), (0, 8, 5, 5), (0, 0, 0, 5), (2**31 - 1, 0, 5, 5)])
def test_boxes_outside_the_image_are_refused(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(DecodeError, match="is not inside the 10x12 image"):
        render(np.zeros((10, 12, 3), np.uint8), box, (4, 4))


@pytest.mark.parametrize(
    ("offset", "size", "message"),
    [(0, 20, "only 20 bytes"), (16, 48, "lie outside the file"), (2**63, 48, "lie outside the file")],
)
def test_bytes_outside_the_file_are_refused(offset: int, size: int, message: str) -> None:
    out = np.zeros((1, 4, 4, 3), np.uint8)
    view = _core.View(np.array([[0, 0, 4, 4]], np.int32), None, 4, 4, [], out, False, [1, 1, 1], [0, 0, 0])
    errors = _core.Renderer(1).render(
        np.zeros(50, np.uint8),
        np.array([offset], np.uint64),
        np.array([size], np.uint64),
        np.ones(1, np.uint8),
        np.array([[4, 4]], np.int32),
        [view],
    )
    assert len(errors) == 1
    assert message in errors[0][1]


HUGE = [1e30, -1e300, float("inf"), float("-inf"), float("nan"), 1e18, -3e14]


@pytest.mark.parametrize("bilinear", [0.0, 1.0])
@pytest.mark.usefixtures("restore_isa")
def test_maps_out_of_all_bounds_give_the_fill_or_a_pixel(bilinear: float) -> None:
    """Coordinates are integers in fixed point somewhere: what does not fit must neither trap nor leave the picture."""
    image = np.full((9, 11, 3), 100, np.uint8)
    maps = [np.array([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]) for _ in range(6 * len(HUGE))]
    for i, matrix in enumerate(maps):
        matrix[i % 6] = HUGE[i // 6]
    turned = [np.where(matrix == 0, 0.25, matrix) for matrix in maps]
    for name in [name for name in ("v2", "v3", "v4", "v4_vnni", "baseline") if _core.select_isa(name)]:
        assert _core.select_isa(name)
        for matrix in (*maps, *turned):
            with np.errstate(over="ignore", invalid="ignore"):
                high = matrix.astype(np.float32)
            row = np.stack([high, np.zeros(6)], axis=1).ravel()
            ours = render(image, (0, 0, 9, 11), (9, 11), [(OpCode.affine, (bilinear, 7, 7, 7, *row))])
            assert set(np.unique(ours)) <= {7, 100}


def test_what_comes_from_far_away_is_all_fill() -> None:
    image = np.full((9, 11, 3), 100, np.uint8)
    shifted = [(1, 0, shift, 0, 1, 0) for shift in (2.0**40, -(2.0**40), 2.0**70)]
    for matrix in [*shifted, (1e30, 0.25, 0.3, 0.25, 1, 0), (1, 0.25, 0, 0.25, -1e30, 0), (1, 0, 0, 0, 1e30, 0)]:
        row = np.stack([np.array(matrix), np.zeros(6)], axis=1).ravel()
        assert (render(image, (0, 0, 9, 11), (9, 11), [(OpCode.affine, (0, 7, 7, 7, *row))]) == 7).all()


CANCELLED = """
import atexit
import numpy as np

def at_the_end():  # registered before ffcv's own handler, so called after it
    for _ in range(2):
        try:
            print(render(np.zeros((4, 4, 3), np.uint8), (0, 0, 4, 4), (4, 4)))
        except RuntimeError as error:
            print(error)

atexit.register(at_the_end)
import ffcv
from core_render import render
print(render(np.full((4, 4, 3), 5, np.uint8), (0, 0, 4, 4), (4, 4)).min())
"""


def test_a_process_that_ends_begins_no_further_sample() -> None:
    """A batch that still renders would come back into an interpreter that has gone, and abort the process."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    ended = subprocess.run([sys.executable, "-c", CANCELLED], env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == ["5", *2 * ["rendering was cancelled: the process is ending"]]
