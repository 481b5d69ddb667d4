"""Every import that users of FFCV and FFCV-SSL have at the top of their scripts."""

import importlib
import os
import subprocess
import sys

import pytest

PATHS = {
    "ffcv": "Loader DatasetWriter",
    "ffcv.writer": "DatasetWriter",
    "ffcv.reader": "Reader",
    "ffcv.loader": "Loader OrderOption",
    "ffcv.loader.loader": "Loader OrderOption ORDER_TYPE DEFAULT_OS_CACHE",
    "ffcv.fields": "Field RGBImageField IntField FloatField BytesField NDArrayField JSONField TorchTensorField",
    "ffcv.fields.basics": "IntDecoder FloatDecoder",
    "ffcv.fields.decoders": "IntDecoder FloatDecoder NDArrayDecoder BytesDecoder SimpleRGBImageDecoder "
    "RandomResizedCropRGBImageDecoder CenterCropRGBImageDecoder",
    "ffcv.fields.rgb_image": "RGBImageField SimpleRGBImageDecoder RandomResizedCropRGBImageDecoder "
    "CenterCropRGBImageDecoder",
    "ffcv.fields.bytes": "BytesDecoder",
    "ffcv.fields.ndarray": "NDArrayField NDArrayDecoder",
    "ffcv.transforms.ops": "ToTensor ToDevice ToTorchImage Convert View",
    "ffcv.transforms.common": "Squeeze",
    "ffcv.transforms.module": "ModuleWrapper",
    "ffcv.pipeline": "Compiler PipelineSpec",
    "ffcv.pipeline.operation": "Operation",
    "ffcv.pipeline.state": "State",
    "ffcv.pipeline.allocation_query": "AllocationQuery",
    "ffcv.pipeline.compiler": "Compiler",
    "ffcv.memory_managers": "OSCacheManager ProcessCacheManager MemoryManager MemoryContext",
    "ffcv.memory_managers.base": "MemoryManager MemoryContext",
    "ffcv.memory_managers.os_cache": "OSCacheManager",
    "ffcv.memory_managers.process_cache": "ProcessCacheManager",
    "ffcv.libffcv": "memcpy imdecode resize_crop pad",
    "ffcv.traversal_order.base": "TraversalOrder",
    "ffcv.traversal_order": "Sequential SequentialContiguous Random QuasiRandom",
    "ffcv.transforms": "RandomResizedCrop CenterCrop CornerCrop PadRGBImageDecoder RandomHorizontalFlip "
    "RandomColorJitter RandomGrayscale RandomSolarization GaussianBlur Rotate RandomTranslate RandomErasing Cutout "
    "RandomBrightness RandomContrast RandomSaturation ImageMixup LabelMixup MixupToOneHot Poison ReplaceLabel "
    "NormalizeImage ToTensor ToDevice ToTorchImage Convert View Squeeze ModuleWrapper LabelRandomResizedCrop "
    "LabelColorJitter LabelSolarization LabelGrayscale LabelGaussianBlur LabelTranslate",
}


@pytest.mark.parametrize("module", PATHS)
def test_a_module_has_the_names_that_users_import(module: str) -> None:
    found = vars(importlib.import_module(module))
    assert [name for name in PATHS[module].split() if name not in found] == []


def test_a_star_import_brings_the_transforms() -> None:
    names: dict = {}
    exec("from ffcv.transforms import *", names)
    assert {"RandomResizedCrop", "ToTensor", "NormalizeImage"} <= names.keys()


def test_the_environment_decides_the_default_cache() -> None:
    code = "from ffcv.loader.options import default_os_cache; print(default_os_cache())"

    def run(value: str) -> str:
        environment = {**os.environ, "FFCV_DEFAULT_CACHE_PROCESS": value}
        return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True).stdout

    assert run("1").strip() == "False"
    assert run("0").strip() == "True"
