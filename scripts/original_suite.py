"""Runs the originals' own tests and example scripts against this package: docs/compatibility.md has the results.

    pip install --target /tmp/site --no-deps assertpy tqdm psutil fastargs terminaltables matplotlib contourpy cycler \\
        fonttools kiwisolver pyparsing python-dateutil six
    PYTHONPATH=/tmp/site python scripts/original_suite.py FOLDER --cifar10 cifar10-jpeg.zip

FOLDER is a checkout of FFCV or FFCV-SSL, or an unpacked source archive of `ffcv` from PyPI. What runs are copies in a
scratch folder, each in a process of its own. CIFAR-10, which the originals download, comes from the zip
(train/CLASS/NNNN.jpg, test/CLASS/NNNN.jpg). Tests run on the CPU's process groups; example scripts, which were written
for a GPU, for minutes and for an older torchvision, on the CPU and shorter: `SCRIPTS` and `IN_TESTS` are the words
replaced for that.
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

IN_TESTS = {"'nccl'": "'gloo'"}
ON_CPU = {"ch.device('cuda:0')": "ch.device('cpu')", ".cuda()": ""}
SCRIPTS: dict[str, dict[str, str]] = {
    "tests/test_webdataset.py": {},
    "examples/docs_examples/custom_transform.py": {"range(100)": "range(1)"},
    "examples/docs_examples/transform_with_inds.py": {"range(20)": "range(2)"},
    "examples/docs_examples/linear_regression.py": {**ON_CPU, "1000000, 10000": "20000, 50"},
    "examples/cifar/write_datasets.py": {},
    "examples/cifar/train_cifar.py": {**ON_CPU, "ch.float16": "ch.float32"},
    "test_nn_module.py": {},
    "examples/test_ffcv_augmentations_seeding.py": {**ON_CPU, "nrows=4": "nrow=4"},
    "examples/test_ffcv_augmentations_ssl.py": {**ON_CPU, "nrows=4": "nrow=4"},
    "examples/ffcv_test_cropping_with_labels.py": ON_CPU,
}
"""The scripts of FFCV, then those of FFCV-SSL, in the order in which they need each other, and what is replaced."""

FILES = ["--data.train_dataset=/tmp/train.beton", "--data.val_dataset=/tmp/test.beton"]
TRAINING = ["--training.lr=0.5", "--training.epochs=2", "--training.lr_peak_epoch=1", "--training.batch_size=250"]
ARGUMENTS = {"examples/cifar/write_datasets.py": FILES, "examples/cifar/train_cifar.py": [*FILES, *TRAINING]}
DATASET = "data.beton"
"""What FFCV-SSL's scripts are given: CIFAR-10."""


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
    return int(pytest.main([*plain, "--tb=line", "-rfE", "-W", "ignore", str(path)]))


def run_script(scratch: Path, name: str) -> int:
    sys.argv = [name, *(argument.replace("/tmp", str(scratch)) for argument in ARGUMENTS.get(name, []))]
    sys.path.insert(0, str((scratch / name).parent))
    module = ModuleType("__main__")
    sys.modules["__main__"] = module
    exec(compile((scratch / name).read_text(), name, "exec"), vars(module))
    return 0


def write_dataset(path: Path, cifar10: str, limit: int) -> None:
    from ffcv import DatasetWriter
    from ffcv.fields import IntField, RGBImageField

    fields = {"image": RGBImageField(), "label": IntField()}
    DatasetWriter(path, fields, num_workers=1).from_indexed_dataset(Cifar10(cifar10, True, limit))


def copy(folder: Path, scratch: Path) -> list[tuple[str, str]]:
    """Puts what is to be run into `scratch`, changed as said above; returns (kind, name) of each."""
    tests = {f"tests/{path.name}": IN_TESTS for path in sorted(folder.glob("tests/test_*.py"))}
    scripts = {name: changes for name, changes in SCRIPTS.items() if (folder / name).exists()}
    for name, changes in {**tests, **scripts}.items():
        text = (folder / name).read_text()
        for old, new in {**changes, "'/tmp": f"'{scratch}"}.items():
            text = text.replace(old, new)
        (scratch / name).parent.mkdir(parents=True, exist_ok=True)
        (scratch / name).write_text(text)
    return [*(("tests", name) for name in tests), *(("script", name) for name in scripts)]


def child(arguments: argparse.Namespace, scratch: Path, kind: str, name: str) -> tuple[list[str], bool]:
    """(what it printed, whether it succeeded)."""
    command = [sys.executable, __file__, str(scratch), "--limit", str(arguments.limit), "--child", kind, name]
    if arguments.cifar10:
        command += ["--cifar10", arguments.cifar10]
    data = str(scratch / DATASET)
    environment = {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "FFCV_DATAT_PATH": data, "BETON_PATH": data}
    options: dict[str, Any] = {"cwd": scratch, "env": os.environ | environment, "timeout": TIMEOUT_S}
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    except subprocess.TimeoutExpired:
        return [f"no end within {TIMEOUT_S} s"], False
    output = result.stdout if kind == "tests" or result.returncode == 0 else result.stdout + result.stderr
    return output.strip().splitlines() or ["(printed nothing)"], result.returncode in (0, 5)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cifar10", type=os.path.abspath, help="zip of train/CLASS/NNNN.jpg and test/CLASS/NNNN.jpg")
    parser.add_argument("--limit", type=int, default=2500, help="images of CIFAR-10 that are used")
    parser.add_argument("--only", default="", help="files whose name contains this")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        kind, name = arguments.child
        supply(arguments.cifar10, arguments.limit)
        return run_tests(arguments.folder / name) if kind == "tests" else run_script(arguments.folder, name)
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        if arguments.cifar10:
            write_dataset(scratch / DATASET, arguments.cifar10, arguments.limit)
        for kind, name in copy(arguments.folder, scratch):
            if arguments.only not in name:
                continue
            lines, good = child(arguments, scratch, kind, name)
            failures += not good
            print(f"{name:45} {'ok' if good else 'FAILED':6} {lines[-1]}", flush=True)
            if not good:
                print("\n".join(f"    {line}" for line in _reasons(lines)), flush=True)
    return min(failures, 1)


def _reasons(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith(("FAILED", "ERROR", "E  "))] or lines[-8:]


if __name__ == "__main__":
    sys.exit(main())
