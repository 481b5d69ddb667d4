"""What a transform is: parameters, how they are drawn, and what they do to pixels.

The kinds, by what they work on:

- `ImageDecoder` turns an encoded image into a view of a fixed size: it draws the crop box.
- `ArrayDecoder` stands in its place where a view of an image holds no pixels: labels of what was done, masks.
- `ImageTransform` changes the pixels of a view: it draws parameters and lowers them to the core's operations. On
  tensors, `apply_torch` runs the same operations.
- `BatchTransform` works on a finished batch (array or tensor); where it can, it is folded into the core's last step
  (`fold`), which writes the batch in its final dtype and layout.
- `SampleTransform` does so too, but what it does depends on which samples the batch holds.

Everything is vectorised over the batch: the code below runs once a batch, the pixels are the core's business.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from ffcv._by_hand import CalledByHand
from ffcv._core import Interpolation, OpCode
from ffcv.transforms import torch_ops
from ffcv.transforms.form import Form
from ffcv.transforms.image_code import ImageCode

UINT8 = np.dtype(np.uint8)
INTERPOLATIONS = tuple(Interpolation.__members__)


class Op(NamedTuple):
    """One operation of the core with its parameters: float32 [B, columns], see csrc/program.h."""

    code: OpCode
    parameters: np.ndarray


def side_by_side(dtype: Any, *columns: np.ndarray | float) -> np.ndarray:
    """`dtype` [B, columns], in C order, of one array [B] (or one number for all) a column; at least one is an array."""
    rows = next(len(column) for column in columns if isinstance(column, np.ndarray))
    table = np.empty((rows, len(columns)), dtype)
    for place, column in enumerate(columns):
        table[:, place] = column
    return table


def op(code: OpCode, *columns: np.ndarray | float) -> Op:
    """Builds an `Op` from one array [B] (or one number for all) a column."""
    return Op(code, side_by_side(np.float32, *columns))


def only(rows: np.ndarray, ops: list[Op]) -> list[Op]:
    """The same operations for the samples in `rows` (bool [B]); the others stay as they are."""
    masked = [Op(code, parameters.copy()) for code, parameters in ops]
    for _, parameters in masked:
        parameters[~rows, 0] = np.nan
    return masked


class RandomTransform(ABC):
    """Something whose parameters are drawn for each sample.

    Attributes:
        draws: Uniforms that one sample's parameters take; fixed, so that streams never shift.
        family: Names the random stream that operations with the same explicit seed share.
        seed: None for a stream of its own; a number to share parameters with every operation of the family that has
            the same number (an image pipeline and its label twin, or two views).
        further_seeds: Seeds of the family whose draws `sample` gets as well, after its own.
    """

    draws: ClassVar[int] = 0
    family: ClassVar[str] = ""
    seed: int | None
    further_seeds: tuple[int, ...] = ()

    @abstractmethod
    def sample(self, u: np.ndarray, sizes: np.ndarray) -> Any:
        """Draws the parameters of a batch.

        Args:
            u: float64 [B, draws], uniforms in [0, 1).
            sizes: int64 [B, 2], heights and widths in pixels of what the transform is given.

        Returns:
            A NamedTuple of arrays [B]: what is done to each sample; also its label.
        """

    def label(self, params: Any) -> np.ndarray:
        """The parameters as a table [B, columns], for label pipelines."""
        return np.stack(params, axis=1)


class ImageDecoder(CalledByHand, RandomTransform):
    """Decodes an image to a view of a fixed size. Its parameters begin with the crop box in source pixels.

    Attributes:
        output_size: (height, width) of the view in pixels. May be changed between epochs (progressive resolution).
        interpolation: 'bilinear' (antialiased, as torchvision on PIL images), 'bicubic', 'nearest', or 'area' (OpenCV's
            INTER_AREA, which the original uses).
    """

    output_size: tuple[int, int]
    interpolation: str = "bilinear"
    pad: ClassVar[bool] = False  # the view holds the box as it is, with zeros to its right and below

    def bound(self, heights: np.ndarray, widths: np.ndarray) -> ImageDecoder:
        """This decoder for a field whose images have these sizes, int [N] each: itself, or a copy that remembers them.

        A copy, because one decoder may be given to several pipelines and loaders. May refuse the sizes.
        """
        del heights, widths
        return self

    def generate_code(self) -> ImageCode:
        """As `CalledByHand.generate_code`, for decoders that draw nothing: by hand, there is no epoch to draw for.

        Raises:
            TypeError: It draws, or `bound` refuses the images' sizes.
        """
        if self.draws:
            raise TypeError(
                f"{self!r} draws random numbers for each sample and epoch, which only ffcv.Loader gives it: called by "
                "hand, take SimpleRGBImageDecoder, CenterCrop, CornerCrop or PadRGBImageDecoder"
            )
        self._check_globals()
        return ImageCode(self.bound(self.metadata["height"], self.metadata["width"]), self.memory_read)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @staticmethod
    def boxes(params: Any) -> np.ndarray:
        """int32 [B, 4]: top, left, height, width of the crops."""
        return side_by_side(np.int32, params.top, params.left, params.height, params.width)


class ArrayDecoder(RandomTransform):
    """A view of an image field that holds an array instead of pixels."""

    def bound(self, heights: np.ndarray, widths: np.ndarray) -> ArrayDecoder:
        """As `ImageDecoder.bound`."""
        del heights, widths
        return self

    @abstractmethod
    def array(self, params: Any) -> np.ndarray:
        """What the batch holds, samples along the first axis."""


class TensorTransform(RandomTransform):
    """Changes tensors of images."""

    @abstractmethod
    def apply_torch(self, images: torch.Tensor, params: Any) -> torch.Tensor:
        """Does what `params` (as `sample` returned them) say.

        Args:
            images: uint8 or float [B, 3, H, W] on any device, values in 0..255; not changed.
            params: For these B samples.

        Returns:
            Images of the same dtype and memory layout; uint8 agrees with the core's pixels.
        """

    def output_sizes(self, sizes: np.ndarray) -> np.ndarray:
        """int64 [B, 2]: heights and widths after it, from those before it."""
        return sizes


class ImageTransform(TensorTransform):
    """Changes the pixels of a uint8 RGB view."""

    @abstractmethod
    def lower(self, params: Any) -> list[Op]:
        """The core's operations that apply `params` (as `sample` returned them)."""

    def apply_torch(self, images: torch.Tensor, params: Any) -> torch.Tensor:
        return torch_ops.run(self.lower(params), images)


@dataclass(frozen=True)
class Output:
    """How the core writes a view into the batch: value = (pixel - mean) / std, cast to `dtype`.

    Attributes:
        dtype: numpy's uint8, float16 or float32, or torch.bfloat16.
        mean: On the 0..255 scale, one for each of R, G, B; only for float dtypes.
        std: Likewise.
        channels_first: Memory is [B, 3, H, W] instead of [B, H, W, 3].
        is_tensor: Handed out as a torch tensor instead of a numpy array.
        is_torch_image: Shown as [B, 3, H, W] whatever the memory layout.
    """

    dtype: np.dtype | torch.dtype = UINT8
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    channels_first: bool = False
    is_tensor: bool = False
    is_torch_image: bool = False

    def with_(self, **changes: Any) -> Output:
        return replace(self, **changes)

    @property
    def memory_dtype(self) -> np.dtype:
        """Of the arrays that the core fills; int16 holds the bits of bfloat16, which numpy does not have."""
        return self.dtype if isinstance(self.dtype, np.dtype) else np.dtype(np.int16)

    @property
    def is_normalised(self) -> bool:
        """Whether the values are no pixels in 0..255 any more."""
        return self.mean != (0.0, 0.0, 0.0) or self.std != (1.0, 1.0, 1.0)

    def converted(self, dtype: Any) -> Output | None:
        """With another dtype, where rounding once gives the same bits as rounding on the way; else None."""
        target = None if isinstance(dtype, torch.dtype) != self.is_tensor else _output_dtype(dtype)
        if target is None or (self.dtype != UINT8 and self.dtype != np.float32) or target == UINT8:
            return self if target is not None and target == self.dtype else None
        return replace(self, dtype=target)

    def wrap(self, rendered: np.ndarray) -> np.ndarray | torch.Tensor:
        """What the core has filled, as the batch holds it."""
        if not self.is_tensor:
            return rendered
        if self.is_torch_image and not self.channels_first:
            rendered = rendered.transpose(0, 3, 1, 2)
        tensor = torch.from_numpy(rendered)
        return tensor if isinstance(self.dtype, np.dtype) else tensor.view(self.dtype)

    @property
    def form(self) -> Form:
        """What the operations after rendering are given."""
        rescaled_by = "NormalizeImage" if self.is_normalised else None
        return Form(self.is_tensor, holds_images=True, channels_first=self.is_torch_image, rescaled_by=rescaled_by)

    @cached_property
    def scale_and_bias(self) -> tuple[np.ndarray, np.ndarray]:
        """float32 [3] each: value = float32(pixel) * scale + bias, each step rounded to float32."""
        mean, std = np.asarray(self.mean, np.float64), np.asarray(self.std, np.float64)
        return (1 / std).astype(np.float32), (-mean / std).astype(np.float32)


def _output_dtype(dtype: Any) -> np.dtype | torch.dtype | None:
    """The `Output.dtype` for what users write; None for those that the core does not write."""
    known = {torch.uint8: np.uint8, torch.float16: np.float16, torch.float32: np.float32}
    if dtype is torch.bfloat16:
        return torch.bfloat16
    if isinstance(dtype, torch.dtype):
        return np.dtype(known[dtype]) if dtype in known else None
    return np.dtype(dtype) if np.dtype(dtype) in (np.uint8, np.float16, np.float32) else None


class BatchTransform(ABC):
    """Works on a whole batch after rendering."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """What a class derived by a user does anew, the core does not do as the class above it did."""
        super().__init_subclass__(**kwargs)
        if "__call__" in vars(cls) and "fold" not in vars(cls):
            cls.fold = BatchTransform.fold

    @abstractmethod
    def __call__(self, batch: Any) -> Any:
        """Transforms a batch: a numpy array or a torch tensor, samples along the first axis."""

    def fold(self, output: Output) -> Output | None:
        """`output` with this transform done by the core's last step, or None if it has to run by itself."""
        return None

    def after(self, form: Form) -> Form:
        """What the batch is after this transform.

        Raises:
            ValueError: It cannot work on a batch of this form; says what to do.
        """
        return form

    def at(self, form: Form) -> BatchTransform:
        """This transform for batches of `form`, where it cannot tell everything from the batch itself."""
        del form
        return self


class SampleTransform(ABC):
    """Works on a whole batch after rendering, depending on which samples it holds.

    Attributes:
        draws, family, seed, further_seeds: See `RandomTransform`.
        shared: Without a seed, all operations of the family under one loader use one stream, whatever the view.
    """

    draws: ClassVar[int] = 0
    family: ClassVar[str] = ""
    shared: ClassVar[bool] = False
    seed: int | None = None
    further_seeds: tuple[int, ...] = ()

    @abstractmethod
    def sample(self, u: np.ndarray, samples: np.ndarray) -> Any:
        """Decides what is done to each sample.

        Args:
            u: float64 [B, draws], uniforms in [0, 1).
            samples: int64 [B], indices in the dataset.

        Returns:
            A NamedTuple of arrays [B].
        """

    @abstractmethod
    def apply(self, batch: Any, params: Any) -> Any:
        """Does what `params` say to an array or a tensor, samples along the first axis."""
