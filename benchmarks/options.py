"""The options that benchmarks share: one name and one meaning each."""

from __future__ import annotations

import argparse
from pathlib import Path


def new_parser(
    doc: str | None, *, data: bool = False, images: int | None = None, turns: int | None = None, only: bool = False
) -> argparse.ArgumentParser:
    """A parser with those options that a script has; few images and turns make it a quick check that it works."""
    result = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if data:
        result.add_argument("--data", type=Path, help="folder or zip of JPEG files (../shared/data, or scikit-learn's)")
    if images is not None:
        result.add_argument("--images", type=int, default=images, help="an epoch, repeated if need be (%(default)s)")
    if turns is not None:
        result.add_argument("--turns", type=int, default=turns, help="of each measurement (%(default)s)")
    if only:
        result.add_argument("--only", default="", help="rows whose name contains this")
    return result
