"""Sources to convert from."""

from ffcv.data.beton import BetonSource
from ffcv.data.folder import ImageFolder
from ffcv.data.huggingface import HuggingFaceSource
from ffcv.data.images import ImageReader
from ffcv.data.paths import PathList
from ffcv.data.source import Source, open_source
from ffcv.data.webdataset import WebDatasetSource

__all__ = [
    "BetonSource",
    "HuggingFaceSource",
    "ImageFolder",
    "ImageReader",
    "PathList",
    "Source",
    "WebDatasetSource",
    "open_source",
]
