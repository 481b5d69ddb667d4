"""What a run ran on: versions and the kind of machine, for its report."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from ffcv.cores import available_cores
from ffcv.ssl.distributed import world_size

PACKAGES = ("ffcv-ssl", "torch", "torchvision", "timm", "lightning-fabric", "numpy", "pillow")


def package_version(name: str) -> str | None:
    """The installed version of a distribution, None where there is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def environment(device: torch.device) -> dict[str, str]:
    """Names and values to show, without anything that names the machine or its user."""
    facts = {
        "system": f"{platform.system()} {platform.machine()}",
        "CPU cores": str(available_cores()),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processes": str(world_size()),
        "Python": platform.python_version(),
    }
    if device.type == "cuda":
        facts["CUDA"] = str(torch.version.cuda)
    return facts | {name: found for name in PACKAGES if (found := package_version(name)) is not None}
