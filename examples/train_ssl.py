"""The training command of the original FFCV-SSL, run by `ffcv train`.

    python examples/train_ssl.py --config-file examples/rn50_configs/rn50_baseline.yaml \
        --data.train_dataset=TRAIN.beton --data.val_dataset=VAL.beton --data.num_workers=10 --data.in_memory=1 \
        --logging.folder FOLDER --training.batch_size 32 --training.epochs 100 --model.mlp 8192-8192-8192 \
        --training.loss simclr --training.optimizer adamw --training.base_lr 0.0005

Every option of the original is taken, on the command line and in the file, with its default. The same run in today's
options is printed first: use that from then on. As in the original, views are two crops of 0.08 to 1 of the image, the
first blurred, the second solarised one time in five; learning rates warm up for ten epochs; a run goes on from what
its folder holds. An option that means nothing any more is named once.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

METHODS = ("simclr", "vicreg", "barlow", "byol", "supervised")


@dataclass(frozen=True)
class Option:
    """One of the original's options.

    Attributes:
        default: the original's; its type is the option's.
        help: what it says.
        to: `ffcv train`'s name for the same thing; None where `translate` decides, or nothing is left of it.
        ignored: why it means nothing any more.
        choices: the values there are, where it is a name.
    """

    default: Any
    help: str
    to: str | None = None
    ignored: str | None = None
    choices: tuple[str, ...] | None = None


UNUSED = "the original did not use it either"
OPTIONS = {
    "model.arch": Option("resnet50", "encoder: a timm or torchvision name", to="model.backbone"),
    "model.remove_head": Option(0, "1: train the representation itself, without a projector"),
    "model.mlp": Option("2048-512", "widths of the projector's layers"),
    "model.mlp_coeff": Option(1.0, "factor on the width of the last layer but one"),
    "model.patch_keep": Option(1.0, "share of patches", ignored=UNUSED),
    "model.fc": Option(0, "1: a linear layer of 256 after the encoder", ignored="encoders keep their own width"),
    "model.proj_relu": Option(0, "1: ReLU after the projector", ignored="no loss here compares positive parts only"),
    "resolution.min_res": Option(64, "side of the views until start_ramp, pixels"),
    "resolution.max_res": Option(224, "side of the views from end_ramp, pixels"),
    "resolution.end_ramp": Option(30, "epoch"),
    "resolution.start_ramp": Option(10, "epoch"),
    "data.train_dataset": Option("", ".beton file to train on", to="data.train"),
    "data.val_dataset": Option("", ".beton file to evaluate on", to="data.val"),
    "data.num_workers": Option(10, "threads of the loader", to="data.num_workers"),
    "data.in_memory": Option(1, "1: the file fits into memory", to="data.os_cache"),
    "vicreg.sim_coeff": Option(25.0, "weight of the invariance term"),
    "vicreg.std_coeff": Option(25.0, "weight of the variance term, the mean of both views'"),
    "vicreg.cov_coeff": Option(1.0, "weight of the covariance term"),
    "simclr.temperature": Option(0.5, "temperature"),
    "barlow.lambd": Option(0.0051, "weight of the redundancy term"),
    "byol.momentum_teacher": Option(0.996, "of the teacher at the start"),
    "logging.folder": Option("", "where logs and checkpoints go", to="logging.folder"),
    "logging.log_level": Option(2, "0: no progress bar"),
    "logging.checkpoint_freq": Option(5, "epochs between checkpoints", to="logging.checkpoint_every"),
    "validation.batch_size": Option(256, "images a step when evaluating", to="evaluation.batch_size"),
    "validation.resolution": Option(224, "side of evaluated images, pixels", to="views.size"),
    "validation.lr_tta": Option(0, "", ignored=UNUSED),
    "training.eval_only": Option(0, "1: refused, since 'ffcv eval' does it"),
    "training.eval_freq": Option(1.0, "epochs between evaluations"),
    "training.batch_size": Option(512, "images a step and device"),
    "training.num_crops": Option(1, "", ignored=UNUSED),
    "training.optimizer": Option("adamw", "optimiser", to="optim.name", choices=("adamw", "sgd", "lars")),
    "training.momentum": Option(0.9, "of sgd and lars", to="optim.momentum"),
    "training.weight_decay": Option(4e-5, "for weights", to="optim.weight_decay"),
    "training.epochs": Option(30, "passes over the images", to="training.epochs"),
    "training.base_lr": Option(0.0005, "learning rate at 256 images a step", to="optim.lr"),
    "training.end_lr_ratio": Option(0.001, "last learning rate / base_lr", to="optim.final_ratio"),
    "training.label_smoothing": Option(0.0, "of supervised training"),
    "training.distributed": Option(0, "1: on all GPUs of this machine"),
    "training.clip_grad": Option(0.0, "largest gradient norm, 0: not clipped"),
    "training.use_ssl": Option(0, "", ignored=UNUSED),
    "training.loss": Option("simclr", "method", to="method", choices=METHODS),
    "training.train_probes_only": Option(0, "1: refused, since 'ffcv eval' does it"),
    "training.bn_wd": Option(0, "", ignored=UNUSED),
    "training.use_blurpool": Option(0, "", ignored=UNUSED),
    "dist.use_submitit": Option(0, "1: hand the run to a SLURM cluster", to="dist.use_submitit"),
    "dist.world_size": Option(1, "", ignored="the number of processes follows from devices and nodes"),
    "dist.ngpus": Option(8, "GPUs of each node", to="dist.gpus_per_node"),
    "dist.nodes": Option(1, "nodes", to="dist.nodes"),
    "dist.comment": Option("", "for SLURM", to="dist.comment"),
    "dist.timeout": Option(2800, "minutes", to="dist.timeout_min"),
    "dist.partition": Option("learnlab", "of the cluster", to="dist.partition"),
    "dist.address": Option("localhost", "", ignored="SLURM or torchrun gives it"),
    "dist.port": Option("58492", "", ignored="SLURM or torchrun gives it"),
    "lr.lr": Option(0.0, "", ignored="training.base_lr is what the original used"),
    "lr.lr_schedule_type": Option("", "", ignored="the schedule is warm-up and a cosine"),
}
"""The original's options by name, in its order; the last two only stand in its example file."""


def main() -> None:
    """Translates the command line and becomes `ffcv train`."""
    try:
        values, ignored = read(sys.argv[1:])
        arguments = translate(values)
    except ValueError as error:
        sys.exit(f"error: {error}")
    for name in ignored:
        print(f"ignored: {name}: {OPTIONS[name].ignored}", file=sys.stderr)
    print("ffcv train " + shlex.join(arguments), flush=True)
    # In place of this process: data parallelism starts further ones with the command line that it finds.
    os.execv(sys.executable, [sys.executable, "-m", "ffcv", "train", *arguments])


def read(arguments: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The value of every option, and the names of those that were set to something and mean nothing any more.

    Raises:
        ValueError: an option that is none of the original's; the message names near ones.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("unused", nargs="?", help="the original wanted a folder here, and did nothing with it")
    parser.add_argument("--config-file", action="append", default=[], metavar="FILE", help="YAML; options override it")
    for name, option in OPTIONS.items():
        text = f"{option.help or 'ignored: ' + str(option.ignored)} ({option.default})".replace("%", "%%")
        kind = type(option.default)
        parser.add_argument(f"--{name}", type=kind, choices=option.choices, help=text, default=argparse.SUPPRESS)
    known, unknown = parser.parse_known_args(arguments)
    given = {name: value for name, value in vars(known).items() if name in OPTIONS}
    from_files: dict[str, Any] = {}
    for path in known.config_file:
        from_files |= _read_file(path)
    for name in [*from_files, *(argument.partition("=")[0].removeprefix("--") for argument in unknown)]:
        if name not in OPTIONS:
            near = difflib.get_close_matches(name, OPTIONS, n=3, cutoff=0.5)
            raise ValueError(f"no option {name!r}" + (f"; did you mean {', '.join(near)}?" if near else ""))
    set_values = {**from_files, **given}
    values = {name: set_values.get(name, option.default) for name, option in OPTIONS.items()}
    ignored = [name for name in set_values if OPTIONS[name].ignored and values[name] != OPTIONS[name].default]
    return values, ignored


def _read_file(path: str) -> dict[str, Any]:
    import yaml

    if not Path(path).is_file():
        raise ValueError(f"{path}: no such configuration file")
    try:
        sections = yaml.safe_load(Path(path).read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from None
    if not isinstance(sections, dict) or not all(isinstance(options, dict) for options in sections.values()):
        raise ValueError(f"{path}: expected sections of options, such as 'training: {{epochs: 100}}'")
    named = {f"{section}.{name}": value for section, options in sections.items() for name, value in options.items()}
    return {name: _typed(path, name, value) for name, value in named.items()}


def _typed(path: str, name: str, value: Any) -> Any:
    """The value of a file as the command line would take it."""
    if name not in OPTIONS:
        return value
    option = OPTIONS[name]
    try:
        typed = type(option.default)(value)
    except (TypeError, ValueError):
        raise ValueError(f"{path}: {name} must be of type {type(option.default).__name__}, got {value!r}") from None
    if option.choices and typed not in option.choices:
        raise ValueError(f"{path}: {name} is one of {', '.join(option.choices)}, got {value!r}")
    return typed


def translate(v: dict[str, Any], gpus: int | None = None) -> list[str]:
    """The arguments of `ffcv train` for the original's values (of `read`); `gpus` of this machine, None to look.

    Raises:
        ValueError: a value that cannot be met: a required one that is missing, or what 'ffcv eval' does today.
    """
    for name in ("data.train_dataset", "logging.folder"):
        if not v[name]:
            raise ValueError(f"--{name} is required")
    for name in ("training.eval_only", "training.train_probes_only"):
        if v[name]:
            raise ValueError(f"--{name}: evaluate a trained encoder with 'ffcv eval CHECKPOINT DATA --protocol linear'")
    if v["resolution.min_res"] > v["resolution.max_res"]:
        raise ValueError("--resolution.min_res is above --resolution.max_res")
    method = v["training.loss"]
    settings = {option.to: v[name] for name, option in OPTIONS.items() if option.to}
    settings |= _views(v) | _method_options(v)
    settings["optim.warmup_epochs"] = 10
    if v["training.optimizer"] == "sgd":
        settings["optim.nesterov"] = False
    settings["data.os_cache"] = bool(v["data.in_memory"])
    settings["data.val"] = v["data.val_dataset"] or None
    settings["optim.clip_norm"] = v["training.clip_grad"] or None
    settings["training.eval_every"] = max(1, round(v["training.eval_freq"]))
    settings["logging.progress"] = v["logging.log_level"] > 0
    settings["resume"] = "auto"

    processes = 1
    if v["dist.use_submitit"]:
        processes = v["dist.ngpus"] * v["dist.nodes"]
    else:
        settings = {name: value for name, value in settings.items() if not name.startswith("dist.")}
        if v["training.distributed"]:
            processes = max(1, _gpus() if gpus is None else gpus)
            settings["training.devices"] = processes
    settings["training.batch_size"] = v["training.batch_size"] * processes
    settings["training.sync_batchnorm"] = processes > 1
    return [f"--{name}={_text(value)}" for name, value in {"method": method, **settings}.items()]


def _views(v: dict[str, Any]) -> dict[str, Any]:
    """The original's two views, and its rising resolution."""
    first, last = v["resolution.start_ramp"], v["resolution.end_ramp"]
    # As in the original: the smallest up to the first epoch, also where the ramp ends before it.
    schedule = [[first, v["resolution.min_res"]], [max(last, first + 1), v["resolution.max_res"]]]
    return {
        "views.size_schedule": schedule,
        "views.centre_ratio": 0.875,
        "views.scale": [0.08, 1.0],
        "views.brightness": 0.4,
        "views.contrast": 0.4,
        "views.saturation": 0.2,
        "views.hue": 0.1,
        "views.blur": 1.0,
        "views.second_blur": 0.0,
        "views.blur_kernel": 9,
        "views.second_solarize": 0.2,
    }


def _method_options(v: dict[str, Any]) -> dict[str, Any]:
    """Of the one method that trains."""
    method, widths = v["training.loss"], _widths(v["model.mlp"])
    if len(widths) > 1:
        widths[-2] = int(widths[-2] * v["model.mlp_coeff"])
    if method == "supervised":
        return {"supervised.smoothing": v["training.label_smoothing"]}
    own = {
        # The original halves the sum of both views' variance terms; VICReg's paper and ours add them.
        "vicreg": {"invariance": "sim_coeff", "variance": "std_coeff", "covariance": "cov_coeff"},
        "simclr": {"temperature": "temperature"},
        "barlow": {"off_diagonal": "lambd"},
        "byol": {"momentum": "momentum_teacher"},
    }[method]
    options = {name: v[f"{method}.{original}"] for name, original in own.items()}
    if method == "vicreg":
        options["variance"] /= 2
    if method == "byol":
        options["hidden"] = widths[0]
    options["projector"] = [] if v["model.remove_head"] else widths
    return {f"{method}.{name}": value for name, value in options.items()}


def _widths(mlp: str) -> list[int]:
    try:
        return [int(width) for width in mlp.split("-")]
    except ValueError:
        raise ValueError(f"--model.mlp is widths such as 2048-512, got {mlp!r}") from None


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


if __name__ == "__main__":
    main()
