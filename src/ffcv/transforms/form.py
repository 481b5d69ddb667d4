"""What a batch is at one point of a pipeline, as far as that is known before there is one.

Every operation says what it makes of it (`BatchTransform.after`), so that what cannot work fails when a loader is made.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Form:
    """What the next operation is given.

    Attributes:
        is_tensor: A torch tensor (True) or a numpy array (False); None: known only when the batch is there.
        holds_images: RGB images, uint8 or float.
        channels_first: Images are [B, 3, H, W] instead of [B, H, W, 3].
        rescaled_by: What has taken the values out of 0..255; None: nothing that is known.
        is_foreign: A function, module or operation of the user's had it in hand, which may have changed anything.
    """

    is_tensor: bool | None
    holds_images: bool = False
    channels_first: bool = False
    rescaled_by: str | None = None
    is_foreign: bool = False

    def with_(self, **changes: Any) -> Form:
        return replace(self, **changes)

    def in_foreign_hands(self, **changes: Any) -> Form:
        """After something that the user wrote, which is expected to keep the layout of images that are used further."""
        return replace(self, is_foreign=True, **changes)

    def check_tensor(self, operation: object) -> None:
        """Raises ValueError where `operation` would be given an array."""
        if self.is_tensor is False:
            raise ValueError(
                f"{operation!r} works on tensors, but the batch is a numpy array there: put ToTensor() before it"
            )

    def check_array(self, operation: object) -> None:
        """Raises ValueError where `operation` would be given a tensor."""
        if self.is_tensor:
            raise ValueError(f"{operation!r} works on numpy arrays, but the batch is a tensor there")
