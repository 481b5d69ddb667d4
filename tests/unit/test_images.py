"""The rules by which every kind of image becomes 8-bit RGB (docs/format.md, "Images")."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ffcv import _core
from ffcv.data.images import ImageReader
from ffcv.errors import DecodeError, SourceError
from ffcv.fields import EncodedImage, RGBImageField
from ffcv.fields.rgb_image import encode_jpeg, exif_orientation, shrink, to_rgb
from photos import photos

Y, X = np.mgrid[:8, :12]
GREY = (Y * 20 + X).astype(np.uint8)
RGB = np.stack([Y * 30, X * 20, Y + X], axis=2).astype(np.uint8)


def stored(value: Any, **options: Any) -> tuple[int, np.ndarray]:
    """The mode and the bytes that a field stores."""
    field = RGBImageField(**options)
    row = np.zeros(1, field.metadata_type)
    buffers: list[np.ndarray] = []

    def malloc(size: int) -> tuple[int, np.ndarray]:
        buffers.append(np.zeros(size, np.uint8))
        return 0, buffers[-1]

    field.encode(row, value, malloc)
    mode, height, width = int(row["mode"][0]), int(row["height"][0]), int(row["width"][0])
    if mode == 1:
        return 1, buffers[0].reshape(height, width, 3)
    assert _core.check_jpeg(buffers[0])[:2] == (height, width)
    return 0, buffers[0]


def file_bytes(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def pixels_of(data: bytes, **options: Any) -> np.ndarray:
    value = ImageReader(passthrough=False, **options).read(data, "x")
    return stored(value)[1]


@pytest.mark.parametrize("limit", [1, 100, 256, 10_000])
@pytest.mark.parametrize("turned", [False, True])
def test_a_reader_that_shrinks_gives_what_the_field_would(limit: int, turned: bool) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for photo in photos(8):
        image = Image.open(io.BytesIO(photo))
        data = file_bytes(image, "JPEG", quality=90, **({"exif": exif} if turned else {}))
        (_, expected), (_, got) = (
            stored(reader.read(data, "x"), max_resolution=limit)
            for reader in (ImageReader(False, turned), ImageReader(False, turned, limit))
        )
        np.testing.assert_array_equal(got, expected)
        as_file = ImageReader(exif_orientation=turned, max_resolution=limit).read(data, "x")
        fits = limit >= max(image.size)
        assert isinstance(as_file, EncodedImage if fits or not turned else Image.Image)
        assert max(as_file.height, as_file.width) == max(image.size)  # stored as it is, if it fits
        if not fits:
            np.testing.assert_array_equal(stored(as_file, max_resolution=limit)[1], expected)


def test_the_core_decodes_to_a_bound_what_it_would_shrink() -> None:
    for photo in photos():
        data = np.frombuffer(photo, np.uint8)
        whole = _core.decode_jpeg(data)
        longer = max(whole.shape)
        np.testing.assert_array_equal(_core.decode_jpeg(data, max_side=longer), whole)
        np.testing.assert_array_equal(_core.decode_jpeg(data, max_side=77), _core.shrink(whole, 77))
    for call in (lambda: _core.shrink(whole, 0), lambda: _core.decode_jpeg(data, max_side=0)):
        with pytest.raises(ValueError, match="max_side must be at least 1 pixel"):
            call()
    with pytest.raises(ValueError, match="at least one pixel"):
        _core.shrink(np.zeros((0, 4, 3), np.uint8), 5)


def test_grey_is_repeated() -> None:
    expected = np.repeat(GREY[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(pixels_of(file_bytes(Image.fromarray(GREY))), expected)
    one_bit = Image.fromarray(GREY > 60)
    np.testing.assert_array_equal(pixels_of(file_bytes(one_bit)), np.repeat((GREY > 60)[:, :, None] * 255, 3, axis=2))


def test_sixteen_bits_keep_the_upper_eight() -> None:
    deep = (GREY.astype(np.uint16) << 8) + 255
    image = Image.fromarray(deep)
    assert image.mode == "I;16"
    expected = np.repeat(GREY[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(pixels_of(file_bytes(image)), expected)
    np.testing.assert_array_equal(to_rgb(Image.fromarray(deep.astype(np.int32))), expected)


def test_alpha_is_dropped() -> None:
    alpha = np.full((8, 12, 1), 77, np.uint8)
    np.testing.assert_array_equal(pixels_of(file_bytes(Image.fromarray(np.concatenate([RGB, alpha], axis=2)))), RGB)
    la = Image.fromarray(np.stack([GREY, GREY // 2], axis=2))
    np.testing.assert_array_equal(pixels_of(file_bytes(la)), np.repeat(GREY[:, :, None], 3, axis=2))


def test_palettes_give_their_colours() -> None:
    palette = Image.fromarray((GREY // 40).astype(np.uint8), "L").convert("P")
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 9, 9, 255, 1, 2, 3])
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [9, 9, 255], [1, 2, 3]], np.uint8)
    expected = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(pixels_of(file_bytes(palette)), expected)
    assert set(map(tuple, expected.reshape(-1, 3).tolist())) <= set(map(tuple, colours.tolist()))


def test_cmyk_is_converted_by_pillow() -> None:
    cmyk = Image.fromarray(RGB).convert("CMYK")
    data = file_bytes(cmyk, "JPEG", quality=100, subsampling=0)
    value = ImageReader().read(data, "x")  # not passed through: the core decodes 1 or 3 components
    assert isinstance(value, Image.Image)
    assert np.abs(pixels_of(data).astype(int) - RGB).max() <= 8  # what one pass of JPEG loses


def test_floating_point_is_refused() -> None:
    with pytest.raises(ValueError, match="no stated range"):
        to_rgb(Image.fromarray(GREY.astype(np.float32)))


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (Image.fromarray(GREY.astype(np.float32)), "no stated range"),
        (Image.new("1", (65536, 1)), "1 x 65536 pixels cannot be stored"),
    ],
)
def test_files_that_have_no_rgb_form_are_named(image: Image.Image, problem: str) -> None:
    with pytest.raises(SourceError, match=f"the/file: .*{problem}"):
        ImageReader().read(file_bytes(image, "TIFF"), "the/file")


def rotated(orientation: int, format: str = "JPEG") -> bytes:
    """A file whose pixels are RGB only after the orientation has been applied."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    image = Image.fromarray(RGB)
    options = {"quality": 100, "subsampling": 0} if format == "JPEG" else {}
    return file_bytes(image if undo is None else image.transpose(undo), format, exif=exif, **options)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_exif_orientation_is_an_option(orientation: int, format: str) -> None:
    data = rotated(orientation, format)
    turned = pixels_of(data, exif_orientation=True)
    assert turned.shape == RGB.shape
    assert np.abs(turned.astype(int) - RGB).max() <= 4
    kept = pixels_of(data)
    assert kept.shape == (RGB.shape if orientation <= 4 else (12, 8, 3))
    value = ImageReader(exif_orientation=True).read(data, "x")
    assert isinstance(value, EncodedImage) == (format == "JPEG")  # turned or not, JPEGs stay JPEGs
    if format == "JPEG":
        assert exif_orientation(data) == orientation
        assert isinstance(ImageReader().read(data, "x"), EncodedImage)


def test_exif_orientation_of_the_field() -> None:
    data = rotated(6)
    encoded = EncodedImage(data, 12, 8)
    mode, content = stored(encoded)
    assert (mode, content.tobytes()) == (0, data)
    mode, content = stored(encoded, exif_orientation=True)
    assert mode == 0
    assert np.abs(_core.decode_jpeg(content).astype(int) - RGB).max() <= 4
    assert exif_orientation(content.tobytes()) == 1
    marked = stored(encoded, exif_orientation=True, restart_markers=True)[1]
    assert len(_core.restart_index(marked)) == 1
    np.testing.assert_array_equal(_core.decode_jpeg(marked), _core.decode_jpeg(content))
    upright = EncodedImage(rotated(1), 8, 12)
    assert stored(upright, exif_orientation=True)[1].tobytes() == upright.data
    assert stored(Image.open(io.BytesIO(data)), exif_orientation=True)[1].shape == (8, 12, 3)


@pytest.mark.parametrize("through_reader", [False, True])
def test_a_turned_jpeg_that_is_shrunk_is_not_compressed_before(through_reader: bool) -> None:
    options: dict[str, Any] = {"exif_orientation": True, "max_resolution": 10}
    value = EncodedImage(rotated(6), 12, 8)
    if through_reader:
        value = ImageReader(**options).read(value.data, "x")
    _, content = stored(value, write_mode="raw", **options)
    turned = np.rot90(_core.decode_jpeg(np.frombuffer(rotated(6), np.uint8)), -1)
    np.testing.assert_array_equal(content, shrink(np.ascontiguousarray(turned), 10))


def test_images_that_pillow_holds_to_be_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with pytest.raises(SourceError, match=r"x: too large \(.*96 pixels.*\); shrink it first"):
        ImageReader().read(file_bytes(Image.fromarray(RGB)), "x")


def test_a_turned_grey_jpeg_stays_grey() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = file_bytes(Image.fromarray(GREY), "JPEG", exif=exif, quality=100)
    turned = ImageReader(exif_orientation=True).read(data, "x")
    assert isinstance(turned, EncodedImage)
    assert (turned.height, turned.width) == (12, 8)
    assert _core.jpeg_info(np.frombuffer(turned.data, np.uint8))[2] == 1


def test_a_turned_image_is_not_turned_again() -> None:
    for format in ("JPEG", "PNG"):
        value = ImageReader(exif_orientation=True).read(rotated(6, format), "x")
        _, content = stored(value, exif_orientation=True)
        pixels = _core.decode_jpeg(content) if format == "JPEG" else content
        assert np.abs(pixels.astype(int) - RGB).max() <= 4


def test_turned_photographs_lose_little_and_do_not_explode() -> None:
    photo = Image.open(io.BytesIO(photos(1)[0])).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 8
    data = file_bytes(photo, "JPEG", exif=exif, quality=90)
    turned = ImageReader(exif_orientation=True).read(data, "x")
    assert isinstance(turned, EncodedImage)
    assert len(turned.data) < 3 * len(data)  # raw pixels would be ten times as many
    before, after = (_core.decode_jpeg(np.frombuffer(content, np.uint8)) for content in (data, turned.data))
    assert np.abs(np.rot90(before).astype(int) - after).mean() < 1


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_exif_counts_as_upright() -> None:
    for format in ("JPEG", "PNG"):
        data = rotated(6, format)
        at = data.index(b"MM\0*" if b"MM\0*" in data else b"II*\0")
        for cut in range(0, 21, 2):  # within the segment
            broken = data[: at + cut] + b"\xff" * 6 + data[at + cut + 6 :]
            if format == "JPEG":
                assert exif_orientation(broken) in range(1, 9)
                assert isinstance(ImageReader(exif_orientation=True).read(broken, "x"), EncodedImage)
    image = Image.open(io.BytesIO(rotated(6, "PNG")))
    image.info["exif"] = b"Exif\0\0MM\0\x99junkjunk"
    assert stored(image, exif_orientation=True)[1].shape[:2] == (12, 8)


def test_any_error_of_pillow_names_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (TypeError, IndexError, struct.error, ZeroDivisionError):

        def fail(image: Image.Image, kind: type[Exception] = kind) -> None:
            raise kind("deep inside")

        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
        with pytest.raises(SourceError, match=r"x.png: damaged image \(.*deep inside\); replace it or remove it"):
            ImageReader().read(rotated(1, "PNG"), "x.png")

    def no_memory(image: Image.Image) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", no_memory)
    with pytest.raises(MemoryError):
        ImageReader().read(rotated(1, "PNG"), "x.png")


def test_palettes_with_transparency_are_read_in_silence() -> None:
    palette = Image.fromarray(RGB).convert("P")
    expected = np.asarray(palette.convert("RGB"))
    image = Image.open(io.BytesIO(file_bytes(palette, "PNG", transparency=bytes(range(256)))))
    np.testing.assert_array_equal(to_rgb(image), expected)


def test_checking_finds_what_decoding_finds() -> None:
    """`check_jpeg` takes short cuts; whatever a full decode refuses, it refuses too."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    sources = [
        file_bytes(Image.fromarray(noise), "JPEG", subsampling=s, progressive=p) for s in (0, 1, 2) for p in (0, 1)
    ]
    sources.append(file_bytes(Image.fromarray(noise[:, :, 0]), "JPEG"))
    refused = accepted = 0
    for turn in range(3000):
        data = np.frombuffer(sources[turn % len(sources)], np.uint8).copy()
        for _ in range(int(rng.integers(1, 4))):
            data[rng.integers(2, data.size)] = rng.integers(0, 256)
        if turn % 5 == 0:
            data = data[: rng.integers(2, data.size)]
        outcomes = []
        for function in (_core.decode_jpeg, _core.check_jpeg):
            try:
                function(np.ascontiguousarray(data))
                outcomes.append(True)
            except DecodeError:
                outcomes.append(False)
        assert outcomes[0] == outcomes[1], turn
        refused += not outcomes[0]
        accepted += outcomes[0]
    assert refused > 300
    assert accepted > 300


def test_nothing_of_one_jpeg_is_left_for_the_next() -> None:
    """One without Huffman tables has the standard's (as in Motion JPEG), not those of the image decoded before it."""
    plain = encode_jpeg(RGB, 90)
    start = plain.index(b"\xff\xc4")
    bare = plain[:start] + plain[plain.index(b"\xff\xda") :]
    other = file_bytes(Image.fromarray(np.roll(RGB, 3)), "JPEG", quality=30, optimize=True)
    batch = [other, bare, plain, other, bare]
    storage = np.frombuffer(b"".join(batch), np.uint8)
    sizes = np.array([len(jpeg) for jpeg in batch], np.uint64)
    out = np.empty((5, 8, 12, 3), np.uint8)
    boxes = np.tile(np.array([0, 0, 8, 12], np.int32), (5, 1))
    view = _core.View(boxes, None, 8, 12, [], out, False, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.uint64)
    shapes = np.tile(np.array([8, 12], np.int32), (5, 1))
    assert _core.Renderer(1).render(storage, starts, sizes, np.zeros(5, np.uint8), shapes, [view]) == []
    np.testing.assert_array_equal(out[1], out[2])
    np.testing.assert_array_equal(out[4], out[2])
    np.testing.assert_array_equal(out[2], _core.decode_jpeg(np.frombuffer(plain, np.uint8)))
    quantised = plain[: plain.index(b"\xff\xdb")] + plain[plain.index(b"\xff\xc0") :]
    _core.check_jpeg(np.frombuffer(plain, np.uint8))
    for function in (_core.check_jpeg, _core.decode_jpeg):
        with pytest.raises(DecodeError, match=r"[Qq]uantization table"):
            function(np.frombuffer(quantised, np.uint8))


def test_limits_on_hostile_jpegs() -> None:
    data = bytearray(encode_jpeg(RGB, 90))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = b"\xff\xdc\xff\xdc"
    with pytest.raises(DecodeError, match="JPEG of 4290250000 pixels, more than the 268435456 that are decoded"):
        _core.check_jpeg(np.frombuffer(data, np.uint8))
    with pytest.raises(SourceError, match="more than the 268435456"):
        ImageReader().read(bytes(data), "x.jpg")
    progressive = file_bytes(Image.fromarray(RGB), "JPEG", progressive=True)
    scan = progressive.rindex(b"\xff\xda")
    last_scan = progressive[scan:-2]
    bomb = progressive[:-2] + last_scan * 200 + b"\xff\xd9"
    for function in (_core.check_jpeg, _core.decode_jpeg, _core.add_restart_markers):
        with pytest.raises(DecodeError, match="more than 100 scans"):
            function(np.frombuffer(bomb, np.uint8))
