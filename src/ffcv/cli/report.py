"""`ffcv report`: a run's curves and pictures as one HTML file."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from ffcv.cli.extras import need, need_training


def report(folder: Path, out: Path | None, images: int, seed: int, device: str) -> None:
    """Writes the report of the run in `folder`."""
    need_training("report")
    need({"matplotlib": "matplotlib"}, "ffcv report", "report")
    from ffcv._atomic_file import atomic_file
    from ffcv.ssl.report import report as make

    target = out or folder / "report.html"
    text = make(folder, images, seed, device)
    with atomic_file(target) as file:
        file.write(text.encode())
    Console(highlight=False, soft_wrap=True).print(f"wrote {target}: {len(text) / 2**20:.1f} MiB", markup=False)
