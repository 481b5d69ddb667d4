"""`ffcv`: the command line. Each subcommand has a file of its own, imported when it is called."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ffcv.errors import OUR_ERRORS, message_of

app = typer.Typer(
    name="ffcv",
    help="Convert image datasets to .beton files, look into them, and train encoders on them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _root() -> None:
    """Makes `ffcv` a group of commands, however few there are."""


@app.command("write")
def _write(
    folder: Annotated[Path, typer.Argument(help="Folder of images with one sub-folder a class.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="The .beton file to write.", show_default=False)],
    max_resolution: Annotated[
        int | None, typer.Option(min=1, help="Shrink images whose longer side has more pixels than this.")
    ] = None,
    quality: Annotated[
        int | None, typer.Option(min=1, max=100, help="Compress every image again, at this JPEG quality.")
    ] = None,
    write_mode: Annotated[
        str | None,
        typer.Option(help="Encode every image again: raw, jpg, smart or proportion.", show_default=False),
    ] = None,
    smart_threshold: Annotated[
        int | None, typer.Option(min=0, help="For smart: compress images of more bytes of pixels than this.")
    ] = None,
    compress_probability: Annotated[
        float | None, typer.Option(min=0, max=1, help="For proportion: the share to compress.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Images encoded at a time; -1 for one per core.")] = -1,
) -> None:
    """Convert a folder of images.

    Without options no quality is lost: JPEG files are checked and stored as they are, other images as pixels.
    With --max-resolution, only images that are too large or not JPEG yet are compressed (quality 90).
    """
    from ffcv.cli.write import write

    write(folder, out, max_resolution, quality, write_mode, smart_threshold, compress_probability, workers)


@app.command("info")
def _info(
    file: Annotated[Path, typer.Argument(help="A .beton file.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what a .beton file holds."""
    from ffcv.cli.info import info

    info(file, as_json)


@app.command(
    "train",
    # Its options are read, and its help printed, by the training's own parser.
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def _train(ctx: typer.Context) -> None:
    """Train an encoder without labels (ffcv train --help lists the options)."""
    from ffcv.cli.train import train

    train(ctx)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; errors that a user can act on become one line on stderr and exit status 1."""
    try:
        app(args=None if arguments is None else list(arguments))
    except (*OUR_ERRORS, OSError) as error:
        print(f"error: {_message(error)}", file=sys.stderr)
        sys.exit(1)


def _message(error: Exception) -> str:
    # An OSError of the system's has a number and a file; ours have a sentence only.
    if isinstance(error, OSError) and error.errno is not None:
        return f"{error.filename}: {error.strerror}" if error.filename is not None else str(error.strerror)
    return message_of(error)


if __name__ == "__main__":
    main()
