"""`ffcv export`: the encoder of a checkpoint as a file for other programs."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from ffcv.cli.extras import need_training


def export(checkpoint: Path, out: Path) -> None:
    """Writes the encoder to `out` and says how to use it."""
    need_training("export")
    from ffcv.ssl import trained
    from ffcv.ssl.export import export as write

    found = trained.load(checkpoint)
    difference = write(found, out)
    size = out.stat().st_size / 2**20
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"wrote {out}: {found.config.model.backbone}, {found.num_features} features, {size:,.1f} MiB", markup=False
    )
    if out.suffix == ".onnx":
        told = "onnxruntime is not installed: outputs not compared with torch's"
        if difference is not None:
            told = f"onnxruntime's outputs differ from torch's by {difference:.1g} of the largest at most"
        console.print(told, markup=False)
