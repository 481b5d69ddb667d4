"""NVIDIA DALI's CPU operators, in threads of this process.

Not part of the development environment: benchmarks/views.py says how to install it beside. Its jitter has one order
of steps, and contrast turns about middle gray instead of the image's mean.
"""

from __future__ import annotations

from collections.abc import Callable

from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.pipeline import DataNode
from nvidia.dali.plugin.pytorch import DALIGenericIterator, LastBatchPolicy

from workloads import BATCH_SIZE, LARGE_CROPS, MEAN, SMALL_CROPS, STD, Source

FULL = (0.08, 1.0)


def _chance(p: float) -> DataNode:
    return fn.random.coin_flip(probability=p, dtype=types.BOOL)


def _uint8(image: DataNode, **more: object) -> DataNode:
    return fn.crop_mirror_normalize(image, dtype=types.UINT8, output_layout="CHW", **more)


def _blur(image: DataNode) -> DataNode:
    return fn.gaussian_blur(image, window_size=23, sigma=fn.random.uniform(range=(0.1, 2.0)))


def _solarize(image: DataNode) -> DataNode:
    if _chance(0.2):
        values = [value if value < 128 else 255 - value for value in range(256)]
        image = fn.lookup_table(image, keys=list(range(256)), values=values, dtype=types.UINT8)
    return image


def _simclr(image: DataNode, size: int, scale: tuple[float, float], *more: Callable[[DataNode], DataNode]) -> DataNode:
    image = fn.random_resized_crop(image, size=size, random_area=scale)
    if _chance(0.8):
        brightness, contrast = fn.random.uniform(range=(0.6, 1.4)), fn.random.uniform(range=(0.6, 1.4))
        saturation, hue = fn.random.uniform(range=(0.8, 1.2)), fn.random.uniform(range=(-36.0, 36.0))
        image = fn.color_twist(image, brightness=brightness, contrast=contrast, saturation=saturation, hue=hue)
    if _chance(0.2):
        image = fn.hsv(image, saturation=0.0)
    for operation in more:
        image = operation(image)
    mirror = fn.random.coin_flip()
    return fn.crop_mirror_normalize(
        image, dtype=types.FLOAT, output_layout="CHW", mean=list(MEAN), std=list(STD), mirror=mirror
    )


def _views(workload: str, jpegs: DataNode) -> list[DataNode]:
    if workload == "P1":
        return [_uint8(fn.resize(fn.decoders.image_random_crop(jpegs), size=224), mirror=fn.random.coin_flip())]
    image = fn.decoders.image(jpegs)
    if workload == "P4":
        return [_uint8(fn.resize(image, size=256, mode="not_smaller"), crop=(224, 224))]
    if workload == "P3":
        views = [(224, LARGE_CROPS)] * 2 + [(96, SMALL_CROPS)] * 8
        return [_simclr(image, size, scale, _blur) for size, scale in views]
    blur = [_blur] if workload == "P2b" else []
    return [_simclr(image, 224, FULL, *blur), _simclr(image, 224, FULL, _solarize)]


class _Batches(DALIGenericIterator):
    def __next__(self) -> list:
        (views,) = super().__next__()
        return list(views.values())


def loader(workload: str, source: Source, threads: int) -> _Batches:
    """Batches whose first element is a view of each image."""

    @pipeline_def(batch_size=BATCH_SIZE, num_threads=threads, device_id=None, enable_conditionals=True)
    def pipeline() -> tuple[DataNode, ...]:
        files = [str(path) for path in source.files]
        jpegs, _ = fn.readers.file(files=files, random_shuffle=True, pad_last_batch=True, name="files")
        return tuple(_views(workload, jpegs))

    views = {"P3": 10, "P1": 1, "P4": 1}.get(workload, 2)
    names = [str(view) for view in range(views)]
    return _Batches(pipeline(), names, reader_name="files", auto_reset=True, last_batch_policy=LastBatchPolicy.PARTIAL)
