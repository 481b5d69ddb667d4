"""`ffcv train`: arguments to a configuration, a run, and a table of what it learned."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from ffcv._words import counted
from ffcv.cli.extras import need_training
from ffcv.errors import one_line

if TYPE_CHECKING:
    from ffcv.ssl.config import Config


def train(ctx: typer.Context) -> None:
    """Train an encoder; `ctx.args` is the command line, such as --recipe NAME --data.train X.beton."""
    need_training("train")
    # Imported late: the other commands work without the [train] extra, and start faster.
    from ffcv.ssl import config, slurm
    from ffcv.ssl.errors import DivergedError, Interrupted
    from ffcv.ssl.interrupt import EXIT_STATUS
    from ffcv.ssl.launch import started_by_launch

    settings = config.parse(ctx.args)
    if settings.dist.use_submitit:
        job = slurm.submit(settings, run)
        print(f"submitted job {job.job_id}; its output goes to {job.paths.stdout}")
        return
    try:
        run(settings)
    except Interrupted as stopped:
        print(f"{stopped}\n", end="", file=sys.stderr)  # in one piece, beside other processes
        raise typer.Exit(0 if started_by_launch() else EXIT_STATUS) from None
    except DivergedError:  # of all processes alike: the first one says so
        if not started_by_launch():
            raise
        raise typer.Exit(0) from None


def run(settings: Config) -> None:
    """Train, and print how good the encoder is beside the pixels and an untrained one."""
    from ffcv.ssl import evaluate
    from ffcv.ssl.train import fit

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    done = fit(settings)
    if not done.is_main:
        return
    settings = done.config
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if done.train_s:
        console.print(
            f"trained {counted(done.epochs, 'epoch')} in {done.train_s / 60:.1f} minutes at "
            f"{done.images_per_s:,.0f} images/s; wrote {done.checkpoint}"
        )
    else:
        console.print(f"nothing left to train; {done.checkpoint} has {counted(done.epochs, 'epoch')}")
    if settings.data.label is None or len(done.parts[1]) == 0:
        console.print("no labels or no held-out images: nothing to evaluate")
    elif settings.evaluation.table:
        try:
            scores = evaluate.compare(done.backbone, done.parts, settings, done.device)
        except Exception as error:  # whatever it is, memory included: the training is done and saved
            console.print(f"no table of accuracies: {one_line(error)}")
        else:
            console.print(evaluate.table(scores, done.parts, settings, done.images_per_s))
