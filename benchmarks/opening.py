"""How long it takes to open a large file, and what is kept of it in memory:

    python benchmarks/opening.py --images 6000000

The file is one of JPEGs of 100 kB (600 GB for 6 million) with labels and checksums, its pages a hole, which takes no
room on the disk. Opening reads and checks the header, the metadata, the allocation table and the checksums, and none of
the pages. All turns read from the system's page cache what has just been written. The memory is bounded by
tests/unit/test_large_files.py.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from ffcv import _core
from ffcv._checksums import Checksums
from ffcv.fields import IntField, RGBImageField
from ffcv.format import (
    ALLOCATION,
    DEFAULT_PAGE_SIZE,
    FIELD_DESCRIPTOR,
    HEADER,
    VERSION,
    FieldType,
    Section,
    align_up,
    metadata_dtype,
)
from ffcv.reader import Reader
from options import new_parser

IMAGE_BYTES = 100_000


def write_sparse_file(path: Path, images: int) -> None:
    """A valid file of `images` JPEGs (300 x 400 pixels, if they were there) and labels, whose pages are a hole."""
    fields = {"image": RGBImageField(), "label": IntField()}
    metadata = np.zeros(images, metadata_dtype((name, field.metadata_type) for name, field in fields.items()))
    descriptors = np.zeros(len(fields), FIELD_DESCRIPTOR)
    for descriptor, name, kind in zip(descriptors, fields, (FieldType.IMAGE, FieldType.INT), strict=True):
        descriptor["type_id"] = kind
        descriptor["name"][: len(name)] = np.frombuffer(name.encode(), np.uint8)
    first = align_up(HEADER.itemsize + descriptors.nbytes + metadata.nbytes, DEFAULT_PAGE_SIZE)
    number, in_a_page = np.arange(images, dtype=np.uint64), DEFAULT_PAGE_SIZE // IMAGE_BYTES
    pointers = np.uint64(first) + number // in_a_page * DEFAULT_PAGE_SIZE + number % in_a_page * IMAGE_BYTES
    metadata["image"]["height"], metadata["image"]["width"] = 300, 400
    metadata["image"]["data_ptr"] = pointers
    section, size = align_up(int(pointers[-1]) + IMAGE_BYTES, 8), Checksums.section_size(images)
    table = np.zeros(images + 1, ALLOCATION)
    table["sample_id"][:images], table["ptr"][:images], table["size"][:images] = number, pointers, IMAGE_BYTES
    table[images] = (Section.CHECKSUMS, section, size)
    header = np.zeros((), HEADER)
    header["version"], header["num_fields"], header["page_size"] = VERSION, len(fields), DEFAULT_PAGE_SIZE
    header["num_samples"], header["alloc_table_ptr"] = images, align_up(section + size, DEFAULT_PAGE_SIZE)
    head = header.tobytes() + descriptors.tobytes() + metadata.tobytes()
    sums = [_core.crc32c(np.frombuffer(part, np.uint8)) for part in (head, table.tobytes())]
    with open(path, "wb") as file:
        file.write(head)
        file.seek(section)
        file.write(Checksums(*sums, np.zeros(images, np.uint32)).to_bytes())
        file.seek(int(header["alloc_table_ptr"]))
        file.write(table.tobytes())


def main() -> None:
    parser = new_parser(__doc__, images=6_000_000, turns=3)
    parser.add_argument("--folder", type=Path, default=None, help="where the file is made; default a temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder, "large.beton")
        write_sparse_file(path, arguments.images)
        size, on_disk = path.stat().st_size, path.stat().st_blocks * 512
        print(f"{arguments.images:,} images, {size / 1e9:,.0f} GB, {on_disk / 1e6:,.0f} MB on disk")
        for turn in range(arguments.turns):
            start, cpu = time.perf_counter(), time.process_time()
            reader = Reader(path)
            seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
            kept = reader.allocations.nbytes + (0 if reader.checksums is None else reader.checksums.rows.nbytes)
            print(f"turn {turn}: {seconds:.2f} s ({cpu_seconds:.2f} CPU s), {kept / 2**20:,.0f} MiB of tables kept")
            del reader


if __name__ == "__main__":
    main()
