"""torchvision, as the reference for pixels: imported here and nowhere else.

torchvision's wheel registers its compiled operators, which a CPU-only torch beside it may refuse to load; its Python
code then misses two schemas at import. None of the functions that the tests call needs them.
"""

import sys
import warnings

import torch

_libraries: list[torch.library.Library] = []


def _define_missing_schemas() -> None:
    for name in ("nms", "qnms"):
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _libraries.append(library)


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    try:
        import torchvision  # noqa: F401
    except RuntimeError:  # operator torchvision::nms does not exist
        for module in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[module]
        _define_missing_schemas()
    from torchvision.transforms import v2
    from torchvision.transforms.v2 import functional

__all__ = ["functional", "v2"]
