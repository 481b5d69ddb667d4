"""torchvision, as the reference for pixels: imported here and nowhere else.

torchvision's wheel registers its compiled operators, which a CPU-only torch beside it may refuse to load; its Python
code then misses two schemas at import. None of the functions that the tests call needs them.
"""

import warnings

import torch


def _define_missing_schemas() -> None:
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library = torch.library.Library("torchvision", "FRAGMENT")
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _libraries.append(library)


_libraries: list[torch.library.Library] = []
_define_missing_schemas()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torchvision.transforms import v2
    from torchvision.transforms.v2 import functional

__all__ = ["functional", "v2"]
