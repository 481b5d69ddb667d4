"""`--custom-field NAME=MODULE:CLASS`: the classes that read a file's fields of custom types."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from ffcv.errors import SourceError, one_line
from ffcv.fields import FIELD_TYPES
from ffcv.fields.base import Field
from ffcv.reader import Reader


def custom_fields(options: Sequence[str]) -> dict[str, type[Field]]:
    """The classes that `NAME=MODULE:CLASS` options name, imported as from the current folder.

    Raises:
        SourceError: An option is of another form, or names no `Field`.
    """
    if options and "" not in sys.path:
        sys.path.insert(0, "")
    return dict(_custom_field(option) for option in options)


def custom_types(reader: Reader) -> dict[str, type[Field]]:
    """The classes that read the open file's fields of custom types, to open it once more."""
    return {name: type(field) for name, field in reader.fields.items() if type(field) not in FIELD_TYPES.values()}


def _custom_field(option: str) -> tuple[str, type[Field]]:
    name, _, target = option.partition("=")
    module, _, attribute = target.partition(":")
    if not (name and module and attribute):
        raise SourceError(f"--custom-field {option}: write NAME=MODULE:CLASS, as in pose=my_project.fields:PoseField")
    try:
        field = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise SourceError(f"--custom-field {option}: {one_line(error)}") from error
    if not (isinstance(field, type) and issubclass(field, Field)):
        raise SourceError(f"--custom-field {option}: {field!r} is no subclass of ffcv.fields.Field")
    return name, field
