"""`ffcv`: the command line. Each subcommand has a file of its own, imported when it is called."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ffcv import __version__
from ffcv.errors import OUR_ERRORS, message_of

app = typer.Typer(
    name="ffcv",
    help="Convert image datasets to .beton files, look into them, and train encoders on them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


_CustomField = Annotated[
    list[str] | None,
    typer.Option(help="A field of a custom type: NAME=MODULE:CLASS. May be repeated.", show_default=False),
]

# What `ffcv write` is given, where it takes more than a line to say.
_Source = Annotated[
    str,
    typer.Argument(
        help="Folder with one sub-folder of images a class, shards/{000..099}.tar (WebDataset), .parquet, .csv of "
        "paths and labels, .beton, or hf:NAME[:SPLIT].",
        show_default=False,
    ),
]
_MaxResolution = Annotated[
    int | None, typer.Option(min=1, help="Shrink images whose longer side has more pixels than this.")
]
_Quality = Annotated[int | None, typer.Option(min=1, max=100, help="Compress every image again, at this JPEG quality.")]
_WriteMode = Annotated[
    str | None, typer.Option(help="Encode every image again: raw, jpg, smart or proportion.", show_default=False)
]
_SmartThreshold = Annotated[
    int | None, typer.Option(min=0, help="For smart: compress images of more bytes of pixels than this.")
]
_CompressProbability = Annotated[
    float | None, typer.Option(min=0, max=1, help="For proportion: the share to compress.")
]
_OnError = Annotated[
    str, typer.Option(help="raise: stop at the first bad image; skip: leave bad ones out and list them.")
]
_EntryPoints = Annotated[
    bool, typer.Option(help="Keep behind each JPEG where decoding can begin inside it: faster crops, 3% more bytes.")
]
_RestartMarkers = Annotated[
    bool, typer.Option(help="Transcode JPEGs, losslessly, so that every row of blocks can be decoded alone.")
]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ffcv-ssl {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)] = (
        False
    ),
) -> None:
    """Makes `ffcv` a group of commands, however few there are."""


@app.command("write")
def _write(
    source: _Source,
    out: Annotated[Path, typer.Argument(help="The .beton file to write.", show_default=False)],
    max_resolution: _MaxResolution = None,
    quality: _Quality = None,
    write_mode: _WriteMode = None,
    smart_threshold: _SmartThreshold = None,
    compress_probability: _CompressProbability = None,
    workers: Annotated[int, typer.Option(help="Images encoded at a time; -1 for one per core.")] = -1,
    shuffle: Annotated[int | None, typer.Option(min=0, help="Shuffle the samples, with this seed.")] = None,
    on_error: _OnError = "raise",
    exif_orientation: Annotated[bool, typer.Option(help="Turn images as their EXIF orientation says.")] = False,
    restart_markers: _RestartMarkers = False,
    entry_points: _EntryPoints = True,
    shards: Annotated[int, typer.Option(min=1, help="Write so many files, OUT-00000-of-... .")] = 1,
    select: Annotated[str | None, typer.Option(help="Only these samples: START:STOP[:STEP], before shuffling.")] = None,
    where: Annotated[str | None, typer.Option(help="Of a .beton: only samples with FIELD=VALUE[,VALUE...].")] = None,
    image_column: Annotated[str | None, typer.Option(help="Of a table: the column of images.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Of a table: the column of labels.")] = None,
    custom_field: _CustomField = None,
) -> None:
    """Convert a dataset of images.

    Without options no quality is lost: JPEG files are checked and stored as they are, other images as pixels.
    With --max-resolution, only images that are too large or not JPEG yet are compressed (quality 90).
    """
    from ffcv.cli.custom_fields import custom_fields
    from ffcv.cli.write import WriteOptions, write

    options = WriteOptions(
        max_resolution=max_resolution,
        quality=quality,
        write_mode=write_mode,
        smart_threshold=smart_threshold,
        compress_probability=compress_probability,
        workers=workers,
        shuffle=shuffle,
        on_error=on_error,
        exif_orientation=exif_orientation,
        restart_markers=restart_markers,
        entry_points=entry_points,
        shards=shards,
        select=select,
        where=where,
        image_column=image_column,
        label_column=label_column,
        custom_fields=custom_fields(custom_field or ()),
    )
    write(source, out, options)


@app.command("merge")
def _merge(
    out: Annotated[Path, typer.Argument(help="The .beton file to write.", show_default=False)],
    files: Annotated[list[Path], typer.Argument(help="The .beton files to merge, in this order.", show_default=False)],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it is there.")] = False,
    custom_field: _CustomField = None,
) -> None:
    """Write the samples of several .beton files with the same fields into one, as they are stored."""
    from ffcv.cli.custom_fields import custom_fields
    from ffcv.cli.write import merge

    merge(files, out, overwrite, custom_fields(custom_field or ()))


@app.command("info")
def _info(
    file: Annotated[Path, typer.Argument(help="A .beton file.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    custom_field: _CustomField = None,
) -> None:
    """Show what a .beton file holds."""
    from ffcv.cli.custom_fields import custom_fields
    from ffcv.cli.info import info

    info(file, as_json, custom_fields(custom_field or ()))


@app.command("verify")
def _verify(
    file: Annotated[Path, typer.Argument(help="A .beton file.", show_default=False)],
    decode: Annotated[bool, typer.Option("--decode", help="Decode every sample, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    custom_field: _CustomField = None,
) -> None:
    """Check a .beton file: structure, checksums and, with --decode, every sample.

    Exit status 0: all good. 1: it does not open, or has bad samples, which are listed.
    """
    from ffcv.cli.custom_fields import custom_fields
    from ffcv.cli.verify import verify

    if not verify(file, decode, as_json, custom_fields(custom_field or ())):
        raise typer.Exit(1)


@app.command("view")
def _view(
    file: Annotated[Path, typer.Argument(help="A .beton file.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="The picture to write: OUT.png.", show_default=False)],
    samples: Annotated[
        int | None,
        typer.Option(min=1, max=500, help="How many, spread over the file (6; with --plain 36).", show_default=False),
    ] = None,
    indices: Annotated[
        list[str] | None,
        typer.Option(help="These samples: 3,17,40. May be repeated.", show_default=False),
    ] = None,
    views: Annotated[
        int | None, typer.Option(min=1, help="Views of each (2, or as many as the recipe has).", show_default=False)
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="The views of ffcv train --recipe NAME, not SimCLR's.", show_default=False)
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="The images alone, without views.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the augmentations.")] = 0,
    epoch: Annotated[
        int, typer.Option(min=0, max=(1 << 32) - 1, help="Of the augmentations: every epoch has others.")
    ] = 0,
    field: Annotated[str | None, typer.Option(help="The image field, where there are several.")] = None,
    custom_field: _CustomField = None,
) -> None:
    """Draw what a training will see: images, and what is cropped out of them and done to it.

    With --recipe, the pixels are those that ffcv train with that recipe, --seed and the same file gets in that epoch.
    """
    from ffcv.cli.custom_fields import custom_fields
    from ffcv.cli.view import ViewOptions, view

    options = ViewOptions(samples, tuple(indices or ()), views, recipe, plain, seed, epoch, field)
    view(file, out, options, custom_fields(custom_field or ()))


@app.command("bench")
def _bench(
    file: Annotated[Path, typer.Argument(help="A .beton file with images.", show_default=False)],
    workers: Annotated[int, typer.Option(help="Most threads; -1 for one per core.")] = -1,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images in a batch (256, or an eighth of them).", show_default=False)
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.05, help="For each measurement.")] = 1.0,
    recipe: Annotated[
        str | None, typer.Option(help="Measure the views of ffcv train --recipe NAME, too.", show_default=False)
    ] = None,
    field: Annotated[str | None, typer.Option(help="The image field, where there are several.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    custom_field: _CustomField = None,
) -> None:
    """Measure how many images a second this machine delivers from a .beton file, and what limits it.

    For the first epoch, the images that are measured are dropped from the system's page cache.
    """
    from ffcv.cli.bench import BenchOptions, bench
    from ffcv.cli.custom_fields import custom_fields

    options = BenchOptions(workers, batch_size, seconds, recipe, field)
    bench(file, options, as_json, custom_fields(custom_field or ()))


@app.command("extract")
def _extract(
    file: Annotated[Path, typer.Argument(help="A .beton file.", show_default=False)],
    folder: Annotated[Path, typer.Argument(help="A new folder.", show_default=False)],
    select: Annotated[str | None, typer.Option(help="Only these samples: START:STOP[:STEP].")] = None,
    custom_field: _CustomField = None,
) -> None:
    """Write a .beton file's samples as ordinary files, with a table of them (samples.csv).

    Exit status 1: bad samples were left out, and are listed.
    """
    from ffcv.cli.custom_fields import custom_fields
    from ffcv.cli.extract import extract

    extract(file, folder, select, custom_fields(custom_field or ()))


@app.command("doctor")
def _doctor(
    file: Annotated[Path | None, typer.Argument(help="A .beton file to check, too.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    custom_field: _CustomField = None,
) -> None:
    """Check the installation, the machine and, if given, a file: what goes wrong most, and what a bug report needs.

    Exit status 0: no problems (there may be warnings). 1: problems, each with what to do.
    """
    from ffcv.cli.custom_fields import custom_fields
    from ffcv.cli.doctor import doctor

    if not doctor(file, as_json, custom_fields(custom_field or ())):
        raise typer.Exit(1)


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


@app.command("eval")
def _eval(
    checkpoint: Annotated[
        Path, typer.Argument(help="A run's folder, its last.ckpt, or an exported .safetensors.", show_default=False)
    ],
    data: Annotated[Path, typer.Argument(help="A .beton file with labels.", show_default=False)],
    protocol: Annotated[str, typer.Option(help="knn, linear or logreg.")] = "knn",
    val: Annotated[
        Path | None, typer.Option(help="File to judge on; without it, the share of DATA that training holds out.")
    ] = None,
    few_shot: Annotated[
        float | None, typer.Option(help="Use this share of the labels, the same of every class: 0.01, 0.1.")
    ] = None,
    k: Annotated[list[int] | None, typer.Option(help="knn: neighbours; may be repeated (20 and 200).")] = None,
    crops: Annotated[int, typer.Option(help="linear, logreg: random crops of every image beside its centre.")] = 0,
    label: Annotated[str | None, typer.Option(help="Field of labels; without it, as in training.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw of labels and the probe.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Judge a frozen encoder on labelled images.

    The protocols are described in docs/training.md. What they choose, they choose on training images.
    """
    from ffcv.cli.eval import EvalOptions, evaluate_encoder

    options = EvalOptions(protocol, val, few_shot, tuple(k or (20, 200)), crops, label, seed, device)
    evaluate_encoder(checkpoint, data, options, as_json)


@app.command("export")
def _export(
    checkpoint: Annotated[Path, typer.Argument(help="A run's folder, or its last.ckpt.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="OUT.safetensors or OUT.onnx.", show_default=False)],
) -> None:
    """Write a trained encoder, without heads, as safetensors (timm's layout) or ONNX."""
    from ffcv.cli.export import export

    export(checkpoint, out)


@app.command("report")
def _report(
    folder: Annotated[Path, typer.Argument(help="A run's folder (--logging.folder).", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="The HTML file to write; without it, report.html in the folder.")
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Most images to look at the features of.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of the images drawn.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
) -> None:
    """Write a run's curves, a map of its features and nearest neighbours as one HTML file."""
    from ffcv.cli.report import report

    report(folder, out, images, seed, device)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; errors that a user can act on become one line on stderr and exit status 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        app(args=None if arguments is None else list(arguments))
    except (*OUR_ERRORS, OSError, MemoryError) as error:
        print(f"error: {_message(error)}", file=sys.stderr)
        sys.exit(1)


def _message(error: Exception) -> str:
    if isinstance(error, MemoryError) and str(error) in ("", "std::bad_alloc"):
        return "not enough memory: end other programs, or take a machine with more"
    # An OSError of the system's has a number and a file; ours have a sentence only.
    if isinstance(error, OSError) and error.errno is not None:
        return f"{error.filename}: {error.strerror}" if error.filename is not None else str(error.strerror)
    return message_of(error)


if __name__ == "__main__":
    main()
