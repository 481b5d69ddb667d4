"""`ffcv eval`: a frozen encoder, judged on labelled images."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ffcv._words import counted
from ffcv.cli.extras import need_training


@dataclass(frozen=True)
class EvalOptions:
    """The command's options.

    Attributes:
        protocol: knn, linear or logreg.
        val: file to judge on; None: the share of the data that training holds out.
        few_shot: share of the training labels to use, the same of every class.
        k: knn: numbers of neighbours.
        crops: linear, logreg: random crops of every training image beside its centre.
        label: name of the label field; None: as in training.
        seed: of the draw of labels, and of the probes.
        device: 'auto', 'cpu', 'cuda', ...
    """

    protocol: str = "knn"
    val: Path | None = None
    few_shot: float | None = None
    k: tuple[int, ...] = (20, 200)
    crops: int = 0
    label: str | None = None
    seed: int = 0
    device: str = "auto"


def evaluate_encoder(checkpoint: Path, data: Path, options: EvalOptions, as_json: bool) -> None:
    """Prints how well the encoder's features tell the classes of `data` apart."""
    summary = summarise(checkpoint, data, options)
    if as_json:
        print(json.dumps(summary, indent=2))
    else:
        Console(highlight=False, soft_wrap=True).print(_table(summary))


def summarise(checkpoint: Path, data: Path, options: EvalOptions) -> dict[str, Any]:
    """The results and what they are results of, as JSON values."""
    need_training("eval")
    import torch

    from ffcv.ssl import evaluate, probes, protocols, trained, views
    from ffcv.ssl.errors import ConfigError

    judge = protocols.protocol(options.protocol)
    device = trained.device(options.device)
    found = trained.load(checkpoint, device)
    config = _configure(found.config, data, options)
    train_part, test_part = evaluate.parts(config)
    if len(test_part) == 0:
        raise ConfigError(f"{test_part.path}: has no images to judge on: give others with --val FILE")
    _say_if_seen(found.config, config)

    label = config.data.label
    assert label is not None
    known = evaluate.read_labels(train_part, label)
    if options.few_shot is not None:
        chosen = probes.share_of_labels(known, options.few_shot, options.seed)
        train_part, known = replace(train_part, indices=train_part.indices[chosen.numpy()]), known[chosen]
    pipelines = [None] + [views.crop_and_flip(config.views)] * options.crops
    train_views = [
        evaluate.features_of(found.encoder, train_part, config, device, view, seed=options.seed + i)
        for i, view in enumerate(pipelines)
    ]
    train = protocols.Labelled(torch.stack(train_views), known.to(device))
    test = protocols.Labelled(
        evaluate.features_of(found.encoder, test_part, config, device)[None],
        evaluate.read_labels(test_part, label).to(device),
    )
    if unknown := int((~torch.isin(test.labels, train.labels)).sum()):
        print(
            f"note: {unknown:,} of {counted(len(test.labels), 'test image')} have labels that no training image has: "
            "they count as wrong",
            file=sys.stderr,
        )
    results = judge(train, test, protocols.Options(k=options.k, seed=options.seed))
    return {
        "checkpoint": str(found.path),
        "method": config.method,
        "backbone": config.model.backbone,
        "epochs": found.epochs,
        "num_features": found.num_features,
        "data": train_part.path,
        "val": test_part.path if options.val else None,
        "protocol": options.protocol,
        "few_shot": options.few_shot,
        "crops": options.crops,
        "seed": options.seed,
        "classes": len(known.unique()),
        "train_labels": len(known),
        "test_images": len(test.labels),
        "results": [asdict(result) for result in results],
    }


def _configure(trained: Any, data: Path, options: EvalOptions) -> Any:
    """The run's configuration with the data to judge on."""
    from ffcv.reader import Reader
    from ffcv.ssl.errors import ConfigError

    if options.few_shot is not None and not 0 < options.few_shot <= 1:
        raise ConfigError(f"--few-shot is a share of the labels above 0 and up to 1, got {options.few_shot}")
    if options.crops < 0 or (options.crops and options.protocol == "knn"):
        raise ConfigError(f"--crops is 0 or more, for linear and logreg; got {options.crops} with {options.protocol}")
    if any(k < 1 for k in options.k):
        raise ConfigError(f"--k must be above 0, got {', '.join(map(str, options.k))}")
    label = options.label or trained.data.label or "label"
    for path in filter(None, (data, options.val)):
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; make one with 'ffcv write IMAGE_FOLDER {path}'")
        fields = Reader(path).field_names
        for name, advice in ((label, "name the labels with --label"), (trained.data.image, "write it with that name")):
            if name not in fields:
                raise ConfigError(f"{path}: has no field {name!r} but {', '.join(fields)}: {advice}")
    val = None if options.val is None else str(options.val)
    held_out = trained.data.held_out
    if val is None and held_out == 0:
        raise ConfigError("the run held no images out: give others to judge on with --val FILE")
    return replace(trained, data=replace(trained.data, train=str(data), val=val, label=label))


def _say_if_seen(trained: Any, config: Any) -> None:
    same = Path(trained.data.train).resolve() == Path(config.data.train).resolve()
    if same and trained.data.val is not None and config.data.val is None:
        print(
            "note: the encoder was trained on all images of this file, if without labels; --val FILE judges on others",
            file=sys.stderr,
        )


def _table(summary: dict[str, Any]) -> Table:
    few = "" if summary["few_shot"] is None else f" ({summary['few_shot']:g} of them, seed {summary['seed']})"
    images, classes = counted(summary["test_images"], "image"), counted(summary["classes"], "class")
    table = Table(
        title=f"{summary['protocol']} on {images} of {classes}",
        caption=f"{summary['method']}, {summary['backbone']}, {counted(summary['epochs'], 'epoch')}; "
        f"{counted(summary['train_labels'], 'label')}{few}",
    )
    for heading, justify in (("setting", "left"), ("top-1 %", "right"), ("top-5 %", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for result in summary["results"]:
        setting = ", ".join(f"{name} {value:g}" for name, value in result["setting"].items())
        top5 = "" if result["top5"] is None else f"{100 * result['top5']:.1f}"
        table.add_row(setting, f"{100 * result['top1']:.1f}", top5)
    return table
