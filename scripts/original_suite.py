"""Runs FFCV's own tests and example scripts against this package: docs/compatibility.md has the results.

    pip install --target /tmp/site assertpy tqdm fastargs psutil opencv-python-headless
    PYTHONPATH=/tmp/site python scripts/original_suite.py FOLDER --cifar10 cifar10-jpeg.zip

FOLDER is an unpacked release of FFCV: a checkout, or the source archive of `ffcv` on PyPI. Its tests run as they are, except
that CIFAR-10, which they download, comes from the zip (train/CLASS/NNNN.jpg). Its example scripts were written for a
GPU and for minutes: the words that say so are replaced in memory, see `EXAMPLES`. Everything runs in processes of its own.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

REPOSITORY = Path(__file__).parents[1]
TIMEOUT_S = 900

ON_CPU = {"ch.device('cuda:0')": "ch.device('cpu')", ".cuda()": ""}
EXAMPLES: dict[str, dict[str, str]] = {
    "docs_examples/custom_transform.py": {"range(100)": "range(1)"},
    "docs_examples/transform_with_inds.py": {"range(20)": "range(2)"},
    "docs_examples/linear_regression.py": {**ON_CPU, "1000000, 10000": "20000, 50"},
    "cifar/write_datasets.py": {},
    "cifar/train_cifar.py": {**ON_CPU, "ch.float16": "ch.float32"},
}
"""The example scripts, in the order in which they need each other, and what is replaced in each."""

FILES = ["--data.train_dataset=/tmp/train.beton", "--data.val_dataset=/tmp/test.beton"]
TRAINING = ["--training.lr=0.5", "--training.epochs=2", "--training.lr_peak_epoch=1", "--training.batch_size=250"]
ARGUMENTS = {"cifar/write_datasets.py": FILES, "cifar/train_cifar.py": [*FILES, *TRAINING]}


class Cifar10:
    """Stands in for `torchvision.datasets.CIFAR10`.

    Args:
        archive: The zip.
        train: Which part.
        limit: Images used, spread over all classes: whole epochs would take minutes on a CPU.
    """

    def __init__(self, archive: str, train: bool, limit: int) -> None:
        part = "train" if train else "test"
        with zipfile.ZipFile(archive) as content:
            names = sorted(name for name in content.namelist() if re.match(rf"{part}/\w+/\d+\.jpg$", name))
            classes = sorted({name.split("/")[1] for name in names})
            names = names[:: max(1, len(names) // limit)][:limit]
            self._items = [(content.read(name), classes.index(name.split("/")[1])) for name in names]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from PIL import Image

        encoded, label = self._items[index]
        return Image.open(io.BytesIO(encoded)).convert("RGB"), label


def supply(cifar10: str | None, limit: int) -> None:
    """Gives the original's code the torchvision that it expects."""
    sys.path.insert(0, str(REPOSITORY / "tests"))
    import torchvision_reference

    assert torchvision_reference.v2
    import torchvision.datasets

    def dataset(root: str, train: bool = True, download: bool = False) -> Cifar10:
        if cifar10 is None:
            raise FileNotFoundError("this one needs --cifar10")
        return Cifar10(cifar10, train, limit)

    torchvision.datasets.CIFAR10 = dataset  # pyright: ignore


def run_tests(path: Path) -> int:
    import pytest

    plain = ["-q", "--no-header", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", str(path.parent)]
    return int(pytest.main([*plain, "--tb=line", "-rfEs", "-W", "ignore", str(path)]))


def run_example(folder: Path, name: str, scratch: str) -> int:
    replaced = {**EXAMPLES[name], "'/tmp": f"'{scratch}"}
    text = (folder / "examples" / name).read_text()
    for old, new in replaced.items():
        text = text.replace(old, new)
    sys.argv = [name, *(argument.replace("/tmp", scratch) for argument in ARGUMENTS.get(name, []))]
    module = ModuleType("__main__")
    sys.modules["__main__"] = module
    exec(compile(text, name, "exec"), vars(module))
    return 0


def child(arguments: argparse.Namespace, *what: str) -> tuple[str, bool]:
    """(last lines of what it printed, whether it succeeded)."""
    command = [sys.executable, __file__, str(arguments.folder), "--limit", str(arguments.limit), "--child", *what]
    if arguments.cifar10:
        command += ["--cifar10", arguments.cifar10]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, cwd=what[-1], env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
    except subprocess.TimeoutExpired:
        return f"no end within {TIMEOUT_S} s", False
    output = result.stdout if what[0] == "tests" else result.stdout + result.stderr
    return output.strip(), result.returncode in (0, 5)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cifar10", help="zip of train/CLASS/NNNN.jpg and test/CLASS/NNNN.jpg")
    parser.add_argument("--limit", type=int, default=2500, help="images of CIFAR-10 that are used")
    parser.add_argument("--only", default="", help="files whose name contains this")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        kind, name, scratch = arguments.child
        supply(arguments.cifar10, arguments.limit)
        if kind == "tests":
            return run_tests(arguments.folder / "tests" / name)
        return run_example(arguments.folder, name, scratch)
    arguments.folder = arguments.folder.resolve()
    failures = 0
    with tempfile.TemporaryDirectory() as scratch:
        tests = [("tests", path.name) for path in sorted((arguments.folder / "tests").glob("test_*.py"))]
        for kind, name in [*tests, *(("example", name) for name in EXAMPLES)]:
            if arguments.only not in name:
                continue
            output, good = child(arguments, kind, name, scratch)
            failures += not good
            lines = output.splitlines() or ["printed nothing"]
            print(f"{name:40} {lines[-1]}", flush=True)
            if not good:
                shown = [line for line in lines if line.startswith(("FAILED", "ERROR", "/"))] or lines[-5:]
                print("\n".join(f"    {line}" for line in shown), flush=True)
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
