"""`ffcv train`: arguments to a configuration, a run, and a table of what it learned."""

from __future__ import annotations

import logging

import typer
from rich.console import Console

from ffcv.errors import FfcvError


def train(ctx: typer.Context) -> None:
    """Train an encoder; `ctx.args` is the command line, such as --recipe NAME --data.train X.beton."""
    # Imported late: the other commands work without the [train] extra, and start faster.
    try:
        from ffcv.ssl import config, evaluate
        from ffcv.ssl.train import fit
    except ModuleNotFoundError as error:
        raise FfcvError(f"training needs {error.name}: install it with  pip install 'ffcv-ssl[train]'") from None

    settings = config.parse(ctx.args)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    run = fit(settings)
    if not run.is_main:
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"trained {run.epochs} epochs in {run.train_s / 60:.1f} minutes at {run.images_per_s:,.0f} images/s; "
        f"wrote {run.checkpoint}"
    )
    if settings.data.label is None or len(evaluate.parts(settings)[1]) == 0:
        console.print("no labels or no held-out images: nothing to evaluate")
        return
    scores = evaluate.compare(run.backbone, settings, run.device)
    console.print(evaluate.table(scores, settings, run.images_per_s))
