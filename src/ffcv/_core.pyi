"""The native core: JPEG decoding, views, random streams."""

from collections.abc import Callable, Sequence
import enum
from typing import Annotated

import numpy
from numpy.typing import NDArray


class DecodeError(ValueError):
    pass

def crc32c(data: Annotated[NDArray[numpy.uint8], dict(shape=(None,), order='C', device='cpu', writable=False)], crc: int = 0, way: str | None = None) -> int:
    """
    The CRC32C of `data`, going on from that of what comes before it; `way` names one to compute it (for tests).
    """

def crc32c_ways() -> list[str]:
    """How this machine can compute a CRC32C, the fastest first."""

def check_jpeg(data: Annotated[NDArray[numpy.uint8], dict(shape=(None,), order='C', device='cpu', writable=False)]) -> tuple[int, int, int]:
    """
    (height, width, components) of a JPEG that decodes as a whole; raises DecodeError otherwise. Faster than decoding.
    """

def index_jpeg(data: Annotated[NDArray[numpy.uint8], dict(shape=(None,), order='C', device='cpu', writable=False)]) -> tuple[int, int, int, bytes]:
    """
    The same check: (height, width, components, entry points), those packed as docs/format.md says, empty where there can be none.
    """

def add_restart_markers(data: Annotated[NDArray[numpy.uint8], dict(shape=(None,), order='C', device='cpu', writable=False)]) -> Annotated[NDArray[numpy.uint8], dict(shape=(None,))]:
    """
    uint8 [size]: the same image, losslessly, with a restart marker after every row of MCUs.
    """

def restart_index(data: Annotated[NDArray[numpy.uint8], dict(shape=(None,), order='C', device='cpu', writable=False)]) -> Annotated[NDArray[numpy.uint32], dict(shape=(None,))]:
    """
    uint32 [rows of MCUs]: where each begins in the file; empty unless restart markers part just the rows.
    """

def start_writeback(descriptor: int, offset: int, size: int) -> None:
    """Lets the disk begin with these bytes of a file; waits for nothing."""

class AllocationTable:
    """A file's allocation table, read where it lies."""

    def __init__(self, rows: Annotated[NDArray[numpy.uint8], dict(shape=(None,), order='C', device='cpu', writable=False)]) -> None: ...

    def __len__(self) -> int: ...

    def check(self, first: int, end: int, page_size: int, num_samples: int, first_section: int) -> str | None:
        """What is wrong with the table, or None. To be called before `find`."""

    def find(self, pointers: Annotated[NDArray[numpy.uint64], dict(shape=(None,), order='C', device='cpu', writable=False)], owners: Annotated[NDArray[numpy.uint64], dict(shape=(None,), order='C', device='cpu', writable=False)] | None = None) -> Annotated[NDArray[numpy.int64], dict(shape=(None,))]:
        """
        int64 [B]: the row that begins at each pointer; -1 where none does, -2 where it is not its owner's.
        """

    def sizes(self, rows: Annotated[NDArray[numpy.int64], dict(shape=(None,), order='C', device='cpu', writable=False)]) -> Annotated[NDArray[numpy.uint64], dict(shape=(None,))]:
        """uint64 [B]: the rows' sizes in bytes."""

def expect_leaks() -> None:
    """
    No report of objects that are left at the end of this process: for a forked one, where the threads that hold them have stayed behind.
    """

def cancel_rendering() -> None:
    """
    At the end of a process: renderers begin no further view, and raise RuntimeError, now and from now on.
    """

class ReadError(OSError):
    pass

def permute(seed: int, stream: int, epoch: int, size: int, positions: Annotated[NDArray[numpy.int64], dict(shape=(None,), order='C', device='cpu', writable=False)]) -> Annotated[NDArray[numpy.int64], dict(shape=(None,))]:
    """
    int64 [B]: where a keyed permutation of 0..size-1 takes `positions` (int64 [B]); O(1) memory.
    """

class StorageFile:
    """A file that is read with pread; errors name the offset."""

    def __init__(self, path: object) -> None:
        """A path as `open` takes it; errors do not name it."""

    def fileno(self) -> int: ...

    def read(self, offset: int, out: Annotated[NDArray[numpy.uint8], dict(shape=(None,), order='C', device='cpu')]) -> None:
        """Fills `out` (uint8) with the bytes at `offset`."""

    def read_rows(self, table: int, row_bytes: int, indices: Annotated[NDArray[numpy.int64], dict(shape=(None,), order='C', device='cpu', writable=False)], out: Annotated[NDArray[numpy.uint8], dict(shape=(None,), order='C', device='cpu')]) -> None:
        """
        Fills `out` (uint8) with rows `indices` of the table that begins at byte `table`.
        """

def philox4x32(counter: Sequence[int], key: Sequence[int]) -> list[int]:
    """One Philox4x32-10 block (for tests)."""

def uniforms(seed: int, stream: int, epoch: int, samples: Annotated[NDArray[numpy.int64], dict(shape=(None,), order='C', device='cpu', writable=False)], count: int) -> Annotated[NDArray[numpy.float64], dict(shape=(None, None))]:
    """
    float64 [B, count] in [0, 1): row i is a function of (seed, stream, epoch, samples[i]) alone.
    """

def jpeg_info(data: Annotated[NDArray[numpy.uint8], dict(shape=(None,), order='C', device='cpu', writable=False)]) -> tuple[int, int, int]:
    """(height, width, components) of a JPEG's header; raises DecodeError."""

class JpegEngine(enum.Enum):
    """Who decodes a JPEG; the pixels are the same (for tests)."""

    any = 0

    ours = 1

    libjpeg = 2

def decode_jpeg(data: Annotated[NDArray[numpy.uint8], dict(shape=(None,), order='C', device='cpu', writable=False)], engine: JpegEngine = JpegEngine.any, max_side: int | None = None) -> Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None))]:
    """
    uint8 [H, W, 3] of a whole JPEG, as by `shrink` where `max_side` is given; raises DecodeError, also where data are missing or damaged, or where `engine` does not take it.
    """

def shrink(pixels: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, 3), order='C', device='cpu', writable=False)], max_side: int) -> Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None))]:
    """
    uint8 [height, width, 3]: `pixels`, uint8 [H, W, 3], with at most `max_side` pixels in the longer side: a larger image is averaged by area.
    """

def encode_jpeg(pixels: Annotated[NDArray[numpy.uint8], dict(order='C', device='cpu', writable=False)], quality: int, halve_chroma: bool = True) -> bytes:
    """
    A JPEG of uint8 [H, W, 3], or grey [H, W], with Pillow's bytes; `quality` 1 to 100; chroma 4:2:0 or 4:4:4.
    """

def libjpeg_turbo_version() -> str:
    """The release of libjpeg-turbo that the core was compiled with."""

def isa() -> str:
    """The instruction set of the kernels in use."""

def select_isa(isa: str) -> bool:
    """
    Uses the kernels built for `isa`; False if this machine or build has none (for tests).
    """

class OpCode(enum.Enum):
    """What the core can do to a view; csrc/program.h gives the parameters."""

    flip_horizontal = 0

    color_jitter = 1

    grayscale = 2

    solarize = 3

    gaussian_blur = 4

    flip_vertical = 5

    affine = 6

    fill_box = 7

    posterize = 8

    equalize = 9

    autocontrast = 10

    sharpness = 11

    noise = 12

class Interpolation(enum.Enum):
    """How an image is resized."""

    bilinear = 0

    bicubic = 1

    nearest = 2

    area = 3

class View:
    """
    One view of every image of a batch: what to do, and the array to do it into.
    """

    def __init__(self, boxes: Annotated[NDArray[numpy.int32], dict(shape=(None, 4), order='C', device='cpu', writable=False)], flips: object | None, height: int, width: int, ops: Sequence[tuple[OpCode, Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)]]], out: Annotated[NDArray, dict(order='C', device='cpu')], channels_first: bool, scale: Sequence[float], bias: Sequence[float], pad: bool = False, interpolation: Interpolation = Interpolation.bilinear) -> None: ...

class Renderer:
    """A thread pool that renders batches."""

    def __init__(self, num_threads: int) -> None: ...

    @property
    def num_threads(self) -> int: ...

    def another(self) -> Renderer:
        """Another one on the same threads, which can be cancelled by itself."""

    def cancel(self) -> None:
        """
        From any thread: `render` begins no further view, now and from now on, and raises RuntimeError.
        """

    def render(self, storage: Annotated[NDArray[numpy.uint8], dict(shape=(None,), order='C', device='cpu', writable=False)], offsets: Annotated[NDArray[numpy.uint64], dict(shape=(None,), order='C', device='cpu', writable=False)], sizes: Annotated[NDArray[numpy.uint64], dict(shape=(None,), order='C', device='cpu', writable=False)], modes: Annotated[NDArray[numpy.uint8], dict(shape=(None,), order='C', device='cpu', writable=False)], shapes: Annotated[NDArray[numpy.int32], dict(shape=(None, 2), order='C', device='cpu', writable=False)], views: Sequence[View], checksums: Annotated[NDArray[numpy.uint32], dict(shape=(None,), order='C', device='cpu', writable=False)] | None = None, file: StorageFile | None = None, behind: Annotated[NDArray[numpy.uint64], dict(shape=(None,), order='C', device='cpu', writable=False)] | None = None, compared: Annotated[NDArray[numpy.bool_], dict(shape=(None,), order='C', device='cpu', writable=False)] | None = None, meanwhile: Callable | None = None) -> list[tuple[int, str]]:
        """
        Renders `views`; the bytes come from `storage`, or from `file`, and so many `behind` each JPEG, which may be its entry points. They are compared with `checksums`, where `compared` (bool [B]) is True. Returns (position, message) of each sample that failed, whose outputs are zeros. `meanwhile` is called in this thread while the others work.
        """
