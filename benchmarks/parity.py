"""How far each transform's pixels are from torchvision v2's on PIL images, with the same parameters.

    python benchmarks/parity.py                # a table in markdown: mean and greatest difference, in 255ths
    python benchmarks/parity.py --only Blur    # those whose name contains a text

On 53 pictures: 50 photographs (as they are, tiny, upright, grey, enlarged) and three hard ones. `tests/parity` asserts
the bounds; tests/torchvision_cases.py states them, and what each transform is compared with.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import torch

from options import new_parser
from torchvision_cases import CASES, Difference, decoding, measure


def show(difference: Difference) -> str:
    return "equal" if difference.maximum == 0 else f"{difference.mean:.4f}, {difference.maximum}"


def main() -> None:
    only = new_parser(__doc__, only=True).parse_args().only
    torch.set_num_threads(1)
    print("| transform | core: mean, maximum | tensors (`apply_torch`) | why not equal |")
    print("|---|---|---|---|")
    if only in "JPEG decoding":
        print(f"| JPEG decoding | {show(decoding())} | | |")
    for name, case in CASES.items():
        if only not in name:
            continue
        core, tensor = measure(case)
        print(f"| {name} | {show(core)} | {show(tensor)} | {case.why if core.maximum else ''} |")


if __name__ == "__main__":
    main()
