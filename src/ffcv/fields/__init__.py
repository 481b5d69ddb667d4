"""The kinds of columns that a `.beton` file has."""

from ffcv.fields.base import Field
from ffcv.fields.basics import FloatField, IntField
from ffcv.fields.bytes import BytesField
from ffcv.fields.json import JSONField
from ffcv.fields.ndarray import NDArrayField, TorchTensorField
from ffcv.fields.rgb_image import EncodedImage, RGBImageField
from ffcv.format import FieldType

__all__ = [
    "FIELD_TYPES",
    "BytesField",
    "EncodedImage",
    "Field",
    "FloatField",
    "IntField",
    "JSONField",
    "NDArrayField",
    "RGBImageField",
    "TorchTensorField",
]

FIELD_TYPES: dict[int, type[Field]] = {
    FieldType.FLOAT: FloatField,
    FieldType.INT: IntField,
    FieldType.IMAGE: RGBImageField,
    FieldType.BYTES: BytesField,
    FieldType.NDARRAY: NDArrayField,
    FieldType.JSON: JSONField,
    FieldType.TORCH_TENSOR: TorchTensorField,
}
"""Which class reads a descriptor's type id; `FieldType.CUSTOM` stands for every other class."""
