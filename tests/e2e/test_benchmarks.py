"""Every script of benchmarks/ runs, on a few images, and gives the figures that it promises."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import re
import runpy
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fork_server

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NUMBER = r"[+-]?\d[\d,]*\.?\d*"
FEW = ("--images", "16", "--turns", "1")


def _run(script: str, arguments: list[str], printed: Path) -> None:
    with printed.open("wb") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    os.environ["COLUMNS"] = "200"  # or rich would break rows
    multiprocessing.set_start_method(None, force=True)  # the usual one again, not that of this process
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(BENCHMARKS))
    runpy.run_path(script, run_name="__main__")


def run(folder: Path, name: str, *arguments: object) -> str:
    """What `python benchmarks/NAME ARGUMENTS` prints, its columns a space apart; it must end well."""
    printed = folder / "printed"
    status = fork_server.run(_run, str(BENCHMARKS / name), [str(argument) for argument in arguments], printed)
    assert status == 0, printed.read_text()
    return re.sub(" +", " ", printed.read_text())


def figures(printed: str, row: str) -> list[float]:
    """The numbers behind the name of the only such row of a table, or of the only line that begins so."""
    (rest,) = re.findall(rf"^[ │|]*{re.escape(row)}(.*)$", printed, re.MULTILINE)
    return [float(number.replace(",", "")) for number in re.findall(NUMBER, rest)]


def jpeg(i: int, width: int, height: int) -> bytes:
    y, x = np.mgrid[:height, :width]
    content = io.BytesIO()
    Image.fromarray(np.stack([y + i, x, x * y // 9], axis=2).astype(np.uint8)).save(content, "JPEG")
    return content.getvalue()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four JPEG files."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(4):
        (folder / f"{i}.jpg").write_bytes(jpeg(i, 90 + 10 * i, 70))
    return folder


def test_checksums(data: Path, tmp_path: Path) -> None:
    printed = run(tmp_path, "checksums.py", "--data", data, *FEW)
    crops = ("JPEG, one crop of 224", "raw image, one crop of 224", "half of either")
    for row in (*crops, "array of 224 x 224 x 3 float32"):
        first, later, microseconds = figures(printed, row)
        assert min(first, later) > -100
        assert microseconds > 0


def test_core(data: Path, tmp_path: Path) -> None:
    printed = run(tmp_path, "core.py", "--data", data, *FEW, "--workloads", "P1", "P4 raw")
    for row in ("P1", "P4 raw"):
        times = figures(printed, row)
        assert times
        assert min(times) > 0


def test_first_batch(data: Path, tmp_path: Path) -> None:
    printed = run(tmp_path, "first_batch.py", "--data", data, *FEW, "--workloads", "P1")
    first_batch, turns, torch_s, _ = figures(printed, "P1")
    assert first_batch > 0
    assert turns == 1
    assert torch_s > 0


def test_kernels(tmp_path: Path) -> None:
    printed = run(tmp_path, "kernels.py", "--turns", 1, "--only", "pack")
    for row in ("copy + pack uint8", "normalise + pack float32", "normalise + pack float16"):
        assert min(figures(printed, f"{row} │")) > 0
    assert "solarize" not in printed
    assert "solarize" in run(tmp_path, "kernels.py", "--turns", 1, "--only", "solarize")


def test_loader(data: Path, tmp_path: Path) -> None:
    printed = run(tmp_path, "loader.py", "--data", data, *FEW, "--samples", 10_000, "--dtypes", "uint8")
    for row in ("two 224 views, batch 16", "two 224 views, os_cache=False", "one 32x32 view, batch 256"):
        *_, images_per_s = figures(printed, f"overhead {row}")
        assert images_per_s > 0
    for ahead in (3, 1):
        peak, before, *_ = figures(printed, f"memory P2 uint8 batches_ahead={ahead}")
        assert peak > before > 0
    samples, constructed_s, *_ = figures(printed, "start")
    assert samples == 10_000
    assert constructed_s > 0


def test_opening(tmp_path: Path) -> None:
    printed = run(tmp_path, "opening.py", "--images", 1000, "--turns", 2, "--folder", tmp_path)
    assert printed.startswith("1,000 images, ")
    for turn in range(2):
        assert len(figures(printed, f"turn {turn}")) == 3
    assert list(tmp_path.glob("*.beton")) == []


def test_parity(tmp_path: Path) -> None:
    pytest.importorskip("torchvision_reference", reason="torchvision is not installed")
    printed = run(tmp_path, "parity.py", "--only", "HorizontalFlip")
    assert "| HorizontalFlip | equal | equal |" in printed


def test_small_images(tmp_path: Path) -> None:
    printed = run(tmp_path, "small_images.py", *FEW, "--batch-size", 8)
    found = re.match(rf"({NUMBER}) images/s in two views, ({NUMBER}) CPU s / 1000 images", printed)
    assert found, printed
    assert float(found[1].replace(",", "")) > 0


def test_views(data: Path, tmp_path: Path) -> None:
    saved = tmp_path / "views.json"
    systems = ("--systems", "ours", "ours_plain", "--workloads", "P1")
    printed = run(tmp_path, "views.py", "--data", data, *FEW, *systems, "--json", saved)
    results = json.loads(saved.read_text())
    assert results["floor_cpu_s_per_1000"] > 0
    assert list(results["results"]["P1"]) == ["ours", "ours_plain"]
    assert all(row["images_per_s"] > 0 for row in results["results"]["P1"].values())
    for system in ("ours", "ours_plain"):
        assert len(figures(printed, f"P1 │ {system} │")) == 4


@pytest.mark.parametrize(
    ("system", "workloads"),
    [
        ("albumentations_cv2", ("P1", "P3")),
        ("dali_cpu", ("P1", "P2", "P2b", "P3", "P4")),
        ("ffcv_original", ("P1", "P4 raw")),
        ("ffcv_ssl", ("P1", "P2", "P4 raw")),
        ("spdl_ffmpeg", ("P1", "P4")),
    ],
)
def test_views_of_peers(system: str, workloads: tuple[str, ...], data: Path, tmp_path: Path) -> None:
    paths = os.environ.get("FFCV_PEERS", "").split()
    if not any(path.startswith(f"{system}=") for path in paths):
        pytest.skip(f"FFCV_PEERS has no {system}=DIR: benchmarks/views.py says how to install it")
    saved = tmp_path / "views.json"
    chosen = ("--systems", system, "--workloads", *workloads, "--path", *paths)
    run(tmp_path, "views.py", "--data", data, *FEW, *chosen, "--json", saved)
    results = json.loads(saved.read_text())["results"]
    assert list(results) == list(workloads)
    assert all(rows[system]["cpu_s_per_1000"] > 0 for rows in results.values())


def test_views_says_what_a_system_cannot_do(data: Path, tmp_path: Path) -> None:
    systems = ("--systems", "ours", "spdl_ffmpeg", "--workloads", "P2b")
    printed = run(tmp_path, "views.py", "--data", data, *FEW, *systems)
    assert "P2b: not done by spdl_ffmpeg" in printed


def test_views_imports_from_path_before_ours(data: Path, tmp_path: Path) -> None:
    (tmp_path / "ffcv").with_suffix(".py").write_text("raise ImportError('the ffcv of --path')")
    chosen = ("--systems", "ffcv_original", "--workloads", "P1")
    for path, why in (((), "No module named 'ffcv._libffcv'"), (("--path", f"ffcv_original={tmp_path}"), "of --path")):
        with pytest.raises(AssertionError, match=why):
            run(tmp_path, "views.py", "--data", data, *FEW, *chosen, *path)


def test_writer(data: Path, tmp_path: Path) -> None:
    printed = run(tmp_path, "writer.py", "--data", data, *FEW, "--workers", 2)
    for row, systems in (
        ("passthrough, every image checked", ("ours", "Pillow pool")),
        ("re-encode to 256 pixels, quality 90", ("ours", "Pillow pool")),
        ("passthrough with restart markers", ("ours",)),
    ):
        for system in systems:
            images_per_s, cpu_s, *_ = figures(printed, f"{row} │ {system} │")
            assert min(images_per_s, cpu_s) > 0


def test_ssl_cifar(tmp_path: Path) -> None:
    archive, out = tmp_path / "images.zip", tmp_path / "rows.json"
    with zipfile.ZipFile(archive, "w") as images:
        for i in range(48):
            part, kind = ("test", "train")[i % 3 > 0], ("cat", "dog")[i % 2]
            images.writestr(f"{part}/{kind}/{i:02}.jpg", jpeg(i, 32, 32))
    small = ("--training.batch_size", 8, "--model.width", 8)
    printed = run(
        tmp_path, "ssl_cifar.py", "--data", archive, "--methods", "simclr", "--epochs", 1, "--threads", 1, "--out", out,
        "--options", *small,
    )  # fmt: skip
    (row,) = json.loads(out.read_text())
    assert (row["method"], row["recipe"], row["epochs"]) == ("simclr", "simclr_cifar10", 1)
    assert 0 <= row["linear"] <= 1
    assert figures(printed, "simclr │")[0] == 1


@pytest.mark.parametrize("name", ["gpu.py", "ssl_gpu.py"])
def test_those_for_a_gpu_can_be_asked_for_help(name: str, tmp_path: Path) -> None:
    assert "--json" in run(tmp_path, name, "--help")


def test_none_is_forgotten() -> None:
    scripts = {path.name for path in BENCHMARKS.glob("*.py") if '__name__ == "__main__"' in path.read_text()}
    assert scripts == set(re.findall(r'"(\w+\.py)"', Path(__file__).read_text()))
