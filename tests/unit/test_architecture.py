"""Arrows go one way: ssl -> loader -> pipeline -> transforms, fields -> _core."""

import ast
import subprocess
import sys
from pathlib import Path

import ffcv

SOURCE = Path(ffcv.__file__).parent
LAYERS = [{"ssl"}, {"loader", "memory_managers"}, {"pipeline"}, {"transforms", "fields"}]


def imported_packages(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    type_checking_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    names = set()
    for node in ast.walk(tree):
        if id(node) in type_checking_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ffcv."):
            names.add(node.module.split(".")[1])
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[1] for alias in node.names if alias.name.startswith("ffcv."))
    return names


def test_no_import_points_upwards() -> None:
    upwards = []
    for depth, layer in enumerate(LAYERS):
        above = set().union(*LAYERS[:depth])
        for package in layer:
            for path in (SOURCE / package).rglob("*.py"):
                upwards += [(str(path.relative_to(SOURCE)), name) for name in imported_packages(path) & above]
    assert upwards == []


def test_importing_ffcv_needs_no_optional_package() -> None:
    code = (
        "import sys; import ffcv; "
        "optional = {'torchvision', 'lightning_fabric', 'jsonargparse', 'timm', 'numba', 'cv2', 'sklearn', 'rich'}; "
        "print(sorted(optional & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
