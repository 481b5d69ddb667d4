"""The section that says in JSON what the data are: what may be in it, the same for writers and readers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ffcv.errors import one_line


def manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """The section's content.

    Raises:
        ValueError: It is not what a reader takes: a JSON object that UTF-8 can hold, its `classes` a list of names.
    """
    try:
        content = json.dumps(dict(manifest), sort_keys=True, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the manifest is not JSON ({one_line(error)})") from error
    parse_manifest(content)
    return content


def parse_manifest(content: bytes) -> dict[str, Any]:
    """Reads the section.

    Raises:
        ValueError: It is not a JSON object in UTF-8, or `classes` is not a list of names.
    """
    try:
        manifest = json.loads(content)
        json.dumps(manifest, ensure_ascii=False).encode()  # refuses halves of surrogate pairs, which no file name holds
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the manifest is not JSON in UTF-8 ({one_line(error)})") from error
    if not isinstance(manifest, dict):
        raise ValueError("the manifest is not a JSON object")
    classes = manifest.get("classes")
    if classes is not None and not (isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
        raise ValueError("the manifest's class names are not a list of texts")
    return manifest
