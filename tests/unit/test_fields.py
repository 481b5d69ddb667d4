"""Each kind of field: what it takes, what it refuses, what it stores."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ffcv import _core
from ffcv.fields import (
    FIELD_TYPES,
    BytesField,
    EncodedImage,
    FloatField,
    IntField,
    JSONField,
    NDArrayField,
    RGBImageField,
    TorchTensorField,
)
from ffcv.fields.base import Field
from ffcv.fields.decoders import BytesDecoder, FloatDecoder, IntDecoder, NDArrayDecoder, SimpleRGBImageDecoder
from ffcv.fields.rgb_image import encode_jpeg, shrink, to_rgb


def encode(field: Field, value: Any) -> tuple[np.void, list[np.ndarray]]:
    """The metadata row and the allocations of one value."""
    row = np.zeros(1, dtype=field.metadata_type)
    allocated: list[np.ndarray] = []

    def malloc(size: int) -> tuple[int, np.ndarray]:
        allocated.append(np.zeros(size, dtype=np.uint8))
        return 1000 + len(allocated), allocated[-1]

    field.encode(row, value, malloc)
    return row[0], allocated


def photo(height: int = 40, width: int = 30) -> np.ndarray:
    """A smooth image, which JPEG keeps well."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y * 4, x * 4, (x + y) * 2], axis=2).astype(np.uint8)


@pytest.mark.parametrize("value", [5, -1, 2**63 - 1, -(2**63), True, np.int8(5), np.array(7), torch.tensor([7]), 3.0])
def test_int_takes(value: Any) -> None:
    assert encode(IntField(), value)[0] == int(value)


@pytest.mark.parametrize(
    ("value", "error"), [(1.5, TypeError), (2**63, OverflowError), ("1", TypeError), (np.arange(2), ValueError)]
)
def test_int_refuses(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="IntField stores a whole number of 64 bits, got"):
        encode(IntField(), value)


def test_float() -> None:
    for value in (0.1, -0.0, np.inf, np.float32(0.5), torch.tensor(2.5), 3):
        assert encode(FloatField(), value)[0].tobytes() == np.float64(value).tobytes()
    with pytest.raises(ValueError, match="FloatField stores a number, got str 'x'"):
        encode(FloatField(), "x")
    for value in (1 + 2j, np.complex64(1 + 2j)):
        with pytest.raises(TypeError, match="FloatField stores a number, got complex"):
            encode(FloatField(), value)


@pytest.mark.parametrize(
    "value", [b"", b"abc", np.arange(5, dtype=np.uint8), bytearray(b"x"), np.arange(9, dtype=np.uint8)[::2]]
)
def test_bytes_takes(value: Any) -> None:
    row, [stored] = encode(BytesField(), value)
    assert row["size"] == stored.size
    assert stored.tobytes() == bytes(value)


@pytest.mark.parametrize("value", ["text", np.arange(3), np.zeros((2, 2), np.uint8)])
def test_bytes_refuses(value: Any) -> None:
    with pytest.raises(TypeError, match="BytesField stores bytes or one-dimensional uint8 arrays, got"):
        encode(BytesField(), value)


def test_json_ends_in_nul_and_unpacks() -> None:
    value = {"name": "Zoë\0\N{SNOWMAN}", "nested": [1, None, 2.5]}
    _, [stored] = encode(JSONField(), value)
    assert stored[-1] == 0
    assert np.count_nonzero(stored == 0) == 1
    assert JSONField.unpack(stored) == value
    padded = np.concatenate([stored, np.zeros(7, np.uint8)])
    assert JSONField.unpack(torch.from_numpy(np.stack([padded, padded]))) == [value, value]
    with pytest.raises(ValueError, match="without its NUL"):
        JSONField.unpack(stored[:-1])
    with pytest.raises(ValueError, match=r"takes uint8 \[B, L\] or \[L\], got float64"):
        JSONField.unpack(np.zeros(3))


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "<u2", ">i4", "int64", "float16", "float64", "complex64"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 1, 4)])
def test_ndarray_descriptor_round_trip(dtype: str, shape: tuple[int, ...]) -> None:
    field = NDArrayField(np.dtype(dtype), shape)
    again = NDArrayField.from_binary(field.to_binary()[0])
    assert (again.dtype, again.shape) == (np.dtype(dtype), shape)
    value = np.ones(shape, dtype=dtype)
    row, [stored] = encode(again, value)
    assert row == 1001
    assert stored.tobytes() == value.tobytes()


@pytest.mark.parametrize("dtype", ["<i4", ">i4"])
def test_arrays_of_either_byte_order_are_stored_in_the_fields(dtype: str) -> None:
    for value in (np.array([1, 2], ">i4"), np.array([1, 2], "<i4")):
        _, [stored] = encode(NDArrayField(dtype, (2,)), value)
        assert stored.tobytes() == np.array([1, 2], dtype).tobytes()
        _, [stored] = encode(NDArrayField(dtype, ()), value[1])  # a scalar, which numpy makes a native one
        assert stored.tobytes() == np.array(2, dtype).tobytes()
    with pytest.raises(ValueError, match="got uint32"):
        encode(NDArrayField(dtype, (2,)), np.array([1, 2], "u4"))


@pytest.mark.parametrize("shape", [(0,), (2, 0), (-1,), (1,) * 33])
def test_ndarray_refuses_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="cannot be stored"):
        NDArrayField("float32", shape)


@pytest.mark.parametrize("dtype", ["O", "U4", "M8[s]", np.dtype([("a", "i4")]), "V8"])
def test_ndarray_refuses_dtypes(dtype: Any) -> None:
    with pytest.raises(ValueError, match="cannot be stored: choose one of"):
        NDArrayField(dtype, (2,))


@pytest.mark.parametrize(
    "text",
    [
        b'[["", "|O"]]',
        b'[["a", "<f4"]]',
        b'[["", "<f4"], ["", "<f4"]]',
        b"{",
        b"",
        b"[" * 700,
        b'[["", "<f4", [3]]]',
        b"\xff",
    ],
)
def test_ndarray_refuses_hostile_descriptors(text: bytes) -> None:
    binary = NDArrayField("float32", (2,)).to_binary()[0].copy()
    binary[256:264] = np.frombuffer(len(text).to_bytes(8, "little"), np.uint8)
    binary[264:] = 0
    binary[264 : 264 + len(text)] = np.frombuffer(text, np.uint8)
    with pytest.raises(ValueError, match="unknown dtype"):
        NDArrayField.from_binary(binary)


@pytest.mark.parametrize("shape", [2.7, (2.7,), "ab", (3, None)])
def test_ndarray_refuses_shapes_that_are_no_numbers(shape: Any) -> None:
    with pytest.raises(TypeError, match="shape must be whole numbers"):
        NDArrayField("float32", shape)
    assert NDArrayField("float32", np.int64(3)).shape == (3,)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"x": -float("inf")}])
def test_json_refuses_what_json_has_not(value: Any) -> None:
    with pytest.raises(ValueError, match="JSONField stores JSON, which has no such value"):
        encode(JSONField(), value)


def test_ndarray_refuses_descriptors_of_impossible_lengths_and_shapes() -> None:
    binary = NDArrayField("float32", (2,)).to_binary()[0].copy()
    binary[256:264] = 255
    with pytest.raises(ValueError, match="description cannot have"):
        NDArrayField.from_binary(binary)
    binary = NDArrayField("float32", (2,)).to_binary()[0].copy()
    binary[0:8] = 255
    with pytest.raises(ValueError, match="more than the largest page"):
        NDArrayField.from_binary(binary)


def test_ndarray_refuses_values_of_another_kind() -> None:
    field = NDArrayField("float32", (2, 3))
    assert encode(field, np.ones(6, np.float32))[1][0].size == 24
    for value in (np.ones((2, 3)), np.ones((2, 2), np.float32)):
        with pytest.raises(ValueError, match=r"NDArrayField stores float32 \[2, 3\], got"):
            encode(field, value)
    with pytest.raises(TypeError, match="stores numpy arrays, got list"):
        encode(field, [1, 2])


def test_torch_tensor() -> None:
    field = TorchTensorField(torch.float16, (2, 2))
    again = TorchTensorField.from_binary(field.to_binary()[0])
    assert (again.dtype, again.shape) == (torch.float16, (2, 2))
    value = torch.arange(4, dtype=torch.float16).reshape(2, 2).T
    assert encode(again, value)[1][0].tobytes() == value.numpy().tobytes()
    conjugated = torch.tensor([1 + 2j]).conj()
    assert encode(TorchTensorField(torch.complex64, (1,)), conjugated)[1][0].tobytes() == np.complex64(1 - 2j).tobytes()
    with pytest.raises(TypeError, match="stores tensors, got ndarray"):
        encode(field, np.ones((2, 2), np.float16))
    with pytest.raises(ValueError, match="no counterpart in numpy"):
        TorchTensorField(torch.bfloat16, (2,))


def test_default_decoders() -> None:
    wanted = {
        IntField(): IntDecoder,
        FloatField(): FloatDecoder,
        BytesField(): BytesDecoder,
        JSONField(): BytesDecoder,
        NDArrayField("u1", (1,)): NDArrayDecoder,
        RGBImageField(): SimpleRGBImageDecoder,
    }
    assert {field: field.get_decoder_class() for field in wanted} == wanted
    assert {type(field) for field in wanted} | {TorchTensorField} == set(FIELD_TYPES.values())


def test_image_raw() -> None:
    image = photo()
    for value in (image, Image.fromarray(image), np.asfortranarray(image)):
        row, [stored] = encode(RGBImageField(), value)
        assert (row["mode"], row["height"], row["width"], row["data_ptr"]) == (1, 40, 30, 1001)
        np.testing.assert_array_equal(stored.reshape(40, 30, 3), image)


def test_image_jpg() -> None:
    image = photo()
    row, [stored] = encode(RGBImageField("jpg", jpeg_quality=95), image)
    assert (row["mode"], row["height"], row["width"]) == (0, 40, 30)
    assert stored.size < image.size
    # Quality 95 on a gradient: within a few levels but for subsampled chroma.
    assert np.abs(_core.decode_jpeg(stored).astype(int) - image).mean() < 3


def test_image_smart() -> None:
    image = photo()
    assert encode(RGBImageField("smart"), image)[0]["mode"] == 1
    assert encode(RGBImageField("smart", smart_threshold=image.nbytes), image)[0]["mode"] == 1
    assert encode(RGBImageField("smart", smart_threshold=image.nbytes - 1), image)[0]["mode"] == 0


def test_image_proportion_depends_on_the_image_alone() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (400, 4, 5, 3), dtype=np.uint8)
    for share in (0.0, 0.3, 1.0):
        field = RGBImageField("proportion", compress_probability=share)
        modes = [int(encode(field, image)[0]["mode"]) for image in images]
        assert modes == [int(encode(field, image)[0]["mode"]) for image in images]
        # 400 draws: a standard deviation of at most 0.025.
        assert abs(modes.count(0) / len(modes) - share) < 0.1


def test_encoded_image_is_stored_as_it_is() -> None:
    data = encode_jpeg(photo(), 80)
    for field in (RGBImageField(), RGBImageField("jpg", jpeg_quality=5), RGBImageField(max_resolution=40)):
        row, [stored] = encode(field, EncodedImage(data, 40, 30))
        assert (row["mode"], row["height"], row["width"]) == (0, 40, 30)
        assert stored.tobytes() == data
    row, _ = encode(RGBImageField("jpg", max_resolution=20), EncodedImage(data, 40, 30))
    assert (row["mode"], row["height"], row["width"]) == (0, 20, 15)


def test_encoded_image_refuses() -> None:
    with pytest.raises(ValueError, match="holds JPEG bytes, but these begin with b'hello'"):
        EncodedImage(b"hello", 1, 1)
    with pytest.raises(ValueError, match="0 x 1 pixels cannot be stored"):
        EncodedImage(b"\xff\xd8\xff", 0, 1)


@pytest.mark.parametrize(
    ("size", "limit", "expected"),
    [((40, 30), 40, (40, 30)), ((40, 30), 20, (20, 15)), ((30, 41), 20, (14, 20)), ((1000, 1), 10, (10, 1))],
)
def test_shrink(size: tuple[int, int], limit: int, expected: tuple[int, int]) -> None:
    image = np.full((*size, 3), 77, dtype=np.uint8)
    small = shrink(image, limit)
    assert small.shape == (*expected, 3)
    assert (small == 77).all()


def test_shrink_gives_the_mean_of_the_area() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 40, 3), np.uint8)
    mean = image.reshape(15, 4, 10, 4, 3).mean((1, 3))
    assert np.abs(shrink(image, 15) - mean).max() <= 1  # each direction rounds


@pytest.mark.parametrize("longer", range(500, 560))
def test_shrink_never_loses_a_pixel_of_the_limit(longer: int) -> None:
    # In floating point 256 / n * n falls below 256 for some n, and the original then writes 255.
    assert shrink(np.zeros((1, longer, 3), np.uint8), 256).shape == (1, 256, 3)


def test_to_rgb_modes() -> None:
    rgb = Image.fromarray(photo())
    grey = np.asarray(rgb.convert("L"))
    for mode in ("L", "LA", "P", "RGBA", "CMYK", "YCbCr", "HSV", "1"):
        pixels = to_rgb(rgb.convert(mode))
        assert pixels.shape == (40, 30, 3)
        assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(to_rgb(rgb.convert("L")), np.repeat(grey[:, :, None], 3, axis=2))
    transparent = rgb.copy()
    transparent.putalpha(0)
    np.testing.assert_array_equal(to_rgb(transparent), photo())


def test_to_rgb_keeps_the_upper_half_of_16_bits() -> None:
    values = (np.arange(12, dtype=np.uint16) * 5000).reshape(3, 4)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, format="PNG")
    pixels = to_rgb(Image.open(buffer))
    np.testing.assert_array_equal(pixels, np.repeat((values >> 8).astype(np.uint8)[:, :, None], 3, axis=2))


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ("a.jpg", TypeError, "stores PIL images, uint8 arrays .* got str"),
        (np.zeros((4, 4), np.uint8), ValueError, r"uint8 \[H, W, 3\], got uint8 \[4, 4\]"),
        (np.zeros((4, 4, 3)), ValueError, "got float64"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, "0 x 4 pixels cannot be stored"),
        (np.zeros((1, 65536, 3), np.uint8), ValueError, "1 x 65536 pixels cannot be stored"),
        (Image.new("F", (2, 2)), ValueError, "no stated range"),
    ],
)
def test_to_rgb_refuses(value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        to_rgb(value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"write_mode": "png"}, "write_mode 'png' does not exist: choose one of raw, jpg"),
        ({"max_resolution": 0}, "max_resolution must be at least 1"),
        ({"jpeg_quality": 101}, "jpeg_quality lies between 1 and 100"),
        ({"compress_probability": 1.5}, "compress_probability lies between 0 and 1"),
    ],
)
def test_image_field_refuses(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RGBImageField(**arguments)


def test_ffcvs_script_for_imagenet_sets_no_probability() -> None:
    given: dict[str, Any] = {"max_resolution": 500, "jpeg_quality": 90.0, "compress_probability": None}
    assert RGBImageField("smart", **given).jpeg_quality == 90
    assert RGBImageField("proportion", **given).proportion == 0.5
