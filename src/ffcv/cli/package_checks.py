"""`ffcv doctor` on packages: which ones there are, whether they work, and whether they get in each other's way."""

from __future__ import annotations

import importlib
import os
import platform
import sys
import warnings
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

import ffcv
from ffcv.cli.checks import Check, ok, problem, warning
from ffcv.errors import one_line

NEEDED = ("numpy", "torch", "pillow", "rich", "typer")

OPTIONAL = {
    "torchvision": "torchvision",
    "timm": "timm",
    "lightning-fabric": "lightning_fabric",
    "jsonargparse": "jsonargparse",
    "numba": "numba",
    "matplotlib": "matplotlib",
}
"""Distributions and what is imported of them: what the extras bring, and timm's torchvision."""

VARIABLES = ("FFCV_", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "MALLOC_ARENA_MAX")


def versions() -> list[Check]:
    """What runs. A version that is not there is named as such."""
    python = f"Python {platform.python_version()}"
    named = ", ".join(f"{name} {_version(name) or 'is missing'}" for name in NEEDED)
    try:
        return [ok("versions", f"ffcv-ssl {version('ffcv-ssl')}, {python}, {named}")]
    except PackageNotFoundError:
        advice = "install it (pip install ffcv-ssl), or what is imported is a folder that happens to lie here"
        return [problem("versions", f"ffcv-ssl is not installed, {python}, {named}", advice)]


def optional() -> list[Check]:
    """Each optional package that is installed, imported: those that belong to another torch do not."""
    found: list[str] = []
    broken: list[Check] = []
    for name, module in OPTIONAL.items():
        if (its_version := _version(name)) is None:
            continue
        found.append(f"{name} {its_version}")
        if (error := _import(module)) is None:
            continue
        if broken and error == broken[0].found:
            broken.append(warning(name, error, f"mend {broken[0].name} first, which it imports"))
        else:
            advice = (
                f"install {name} again, from where torch {_version('torch')} comes from: a build belongs to a torch"
            )
            broken.append(warning(name, error, advice))
    return [ok("optional", ", ".join(found) or "none of the extras' packages"), *broken]


def _import(module: str) -> str | None:
    """What is wrong with a package; None where it imports."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(module)
    except Exception as error:  # whatever a broken package raises
        return f"does not import: {one_line(error)}"
    return None


def installation() -> list[Check]:
    """Where ffcv comes from, and what decides how it runs."""
    where = str(Path(ffcv.__file__).parent)
    checks = [ok("imported from", where)]
    if any((each.metadata["Name"] or "").lower() == "ffcv" for each in distributions()):
        advice = "both install a package named ffcv: pip uninstall ffcv ffcv-ssl, then pip install ffcv-ssl"
        checks.append(problem("other ffcv", f"the original ffcv {_version('ffcv')} is installed, too", advice))
    if sys.platform != "linux":
        checks.append(warning("system", platform.system(), "only Linux is tested"))
    given = {name: value for name, value in sorted(os.environ.items()) if name.startswith(VARIABLES)}
    shown = ", ".join(f"{name}={value}" for name, value in given.items())
    return [*checks, ok("environment", shown or "nothing that changes how it runs")]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
