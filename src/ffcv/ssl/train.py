"""Training: one loop, top to bottom. `fit` is the whole of it; what it calls is short and stands below."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ffcv.cores import available_cores
from ffcv.fields.decoders import IntDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.ssl import backbones, checkpoint, evaluate, methods, optim
from ffcv.ssl.config import Config, to_yaml
from ffcv.ssl.errors import ConfigError, DivergedError
from ffcv.ssl.logs import RunLog
from ffcv.ssl.probes import OnlineProbes
from ffcv.ssl.recent import RecentFeatures
from ffcv.transforms import Squeeze, ToDevice, ToTensor


@dataclass(frozen=True)
class Run:
    """What a training run leaves.

    Attributes:
        backbone: the trained encoder.
        device: where it is.
        images_per_s: source images over the time spent training (evaluation and checkpoints left out).
        train_s: that time, seconds, in this process (without what a resumed run did before).
        epochs: how many are behind it, fewer than configured where `training.max_minutes` ended it.
        checkpoint: path of the last checkpoint.
        is_main: whether this is the process that reports (rank 0).
    """

    backbone: nn.Module
    device: torch.device
    images_per_s: float
    train_s: float
    epochs: int
    checkpoint: Path
    is_main: bool


def fit(config: Config) -> Run:
    """Train as `config` says; leave config.yaml, steps.csv, epochs.csv and last.ckpt in the logging folder.

    Raises:
        FileNotFoundError: a data file, or the checkpoint to resume from, is missing.
        ConfigError: the configuration, the data and the checkpoint do not fit together.
        DivergedError: the loss became NaN or infinite; the message gives the step and the learning rate.
    """
    # Longer than 60 lines on purpose: whoever wants to know what a step does reads it here, in order.
    train_part, val_part = evaluate.parts(config)
    fabric = _launch(config)
    torch.manual_seed(config.seed)
    method = methods.load(config.method)(backbones.build(config.model), config.options)
    method = backbones.channels_last(method)
    probe = _probe(config, method, train_part)
    model, optimizer = fabric.setup(method, optim.build(method, config.optim))
    online, online_optimizer = fabric.setup(probe, optim.build_probe(probe, config.optim))
    loader, view_names = _loader(config, method, train_part, fabric)

    steps, label = len(loader), config.data.label
    total, warmup = steps * config.training.epochs, round(steps * config.optim.warmup_epochs)
    peak = config.optim.lr * config.training.batch_size / 256
    folder = Path(config.logging.folder)
    parts = {"method": method, "probe": probe, "optimizer": optimizer, "probe_optimizer": online_optimizer}
    first = _resume(config, folder, parts)
    step = first * steps

    recent = RecentFeatures(config.evaluation.recent)
    with RunLog(config, steps, step, fabric.is_global_zero, fabric.device) as log:
        for epoch in range(first, config.training.epochs):
            loader.set_epoch(epoch)
            for batch in log.timed(loader):
                views = [getattr(batch, name) for name in view_names]
                labels = getattr(batch, label) if label else None
                lr = optim.learning_rate(step, total, warmup, peak, config.optim.final_ratio)
                for group in optimizer.param_groups:
                    group["lr"] = lr

                method.step, method.total_steps = step, total
                output = model(views, labels)
                values: dict[str, float | Tensor] = {name: float(term.detach()) for name, term in output.terms.items()}
                _stop_if_diverged(values, step, lr, folder)
                fabric.backward(output.terms["loss"])
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                method.after_step(step, total)

                if labels is not None:
                    probe_loss, accuracies = online(output.features, output.layers, labels)
                    fabric.backward(probe_loss)
                    online_optimizer.step()
                    online_optimizer.zero_grad(set_to_none=True)
                    values |= accuracies

                recent.add(output.features, labels)
                log.step(step, epoch, lr, values)
                step += 1

            summary = log.end_epoch(epoch)
            summary |= recent.take(config.evaluation.k, config.evaluation.temperature)
            if _due(epoch, config.training.eval_every) and label and len(val_part):
                summary |= evaluate.held_out(method, probe, config, fabric.device)
            log.epoch(summary)
            last = epoch + 1 == config.training.epochs or fabric.broadcast(log.out_of_time)
            if last or _due(epoch, config.logging.checkpoint_every):
                _save(config, folder, parts, epoch + 1, step, fabric)
            if last:
                break

    return Run(
        backbone=method.encoder,
        device=fabric.device,
        images_per_s=log.images_per_s,
        train_s=log.train_s,
        epochs=step // steps,
        checkpoint=folder / "last.ckpt",
        is_main=fabric.is_global_zero,
    )


def _launch(config: Config) -> Fabric:
    """Device, precision and processes. 'auto' precision: bf16 where the device has instructions for it."""
    training, precision = config.training, config.training.precision
    if precision == "auto":
        if training.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
            bf16 = torch.cuda.get_device_capability() >= (8, 0)
        else:
            has = getattr(torch.cpu, "get_capabilities", dict)()
            bf16 = bool(has.get("avx512_bf16") or has.get("amx_bf16"))
        precision = "bf16-mixed" if bf16 else "32-true"
    fabric = Fabric(accelerator=training.accelerator, devices=training.devices, precision=precision)  # type: ignore[arg-type]
    fabric.launch()
    if fabric.device.type == "cpu":
        # torch counts the machine's cores; in a container with a share of them that stalls every parallel loop.
        torch.set_num_threads(training.cpu_threads or min(torch.get_num_threads(), available_cores()))
    return fabric


def _loader(config: Config, method: methods.Method, part: evaluate.Part, fabric: Fabric) -> tuple[Loader, list[str]]:
    """The loader that feeds every view of the method from one file, and the views' names in its batches."""
    if len(part) < config.training.batch_size:
        raise ConfigError(
            f"{part.path}: {len(part)} training images are less than one batch; "
            f"choose training.batch_size below {config.training.batch_size}"
        )
    data, views = config.data, method.views(config.views)
    names = [data.image, *(f"{data.image}{i}" for i in range(2, len(views) + 1))]
    pipelines = evaluate.nothing_but(part.path, data.image, data.label)
    to_device = ToDevice(fabric.device)
    pipelines |= {name: [*view, to_device] for name, view in zip(names, views, strict=True)}
    if data.label:
        pipelines[data.label] = [IntDecoder(), ToTensor(), Squeeze(1), to_device]
    loader = Loader(
        part.path,
        config.training.batch_size // fabric.world_size,
        order=OrderOption.RANDOM,
        num_workers=data.num_workers,
        os_cache=data.os_cache,
        distributed=fabric.world_size > 1,
        seed=config.seed,
        indices=part.indices,
        pipelines=pipelines,
        custom_field_mapper=dict.fromkeys(names[1:], data.image),
        drop_last=True,
    )
    return loader, names


def _probe(config: Config, method: methods.Method, part: evaluate.Part) -> OnlineProbes:
    classes = int(evaluate.read_labels(part, config.data.label).max()) + 1 if config.data.label else None
    method.check_labels(classes)
    return OnlineProbes(method.num_features, method.layer_widths, classes or 1)


def _due(epoch: int, every: int) -> bool:
    return every > 0 and (epoch + 1) % every == 0


def _stop_if_diverged(values: Mapping[str, float | Tensor], step: int, lr: float, folder: Path) -> None:
    if all(math.isfinite(value) for value in values.values()):
        return
    path = folder / "last.ckpt"
    saved = f"{path} holds the last good epoch" if path.is_file() else "no epoch was saved yet"
    raise DivergedError(
        f"the loss is {values['loss']} at step {step} with learning rate {lr:.3g}: lower --optim.lr, "
        f"or compute in 32 bits with --training.precision 32-true ({saved})"
    )


def _save(config: Config, folder: Path, parts: dict[str, Any], epoch: int, step: int, fabric: Fabric) -> None:
    """The learning rate needs no state (a function of the step), nor do the views (of seed and epoch)."""
    if fabric.is_global_zero:
        states = {name: part.state_dict() for name, part in parts.items()}
        rest = {"config": to_yaml(config), "epoch": epoch, "step": step, "rng": checkpoint.rng_state()}
        checkpoint.save(folder / "last.ckpt", {**states, **rest})
    fabric.barrier()


def _resume(config: Config, folder: Path, parts: dict[str, Any]) -> int:
    """Load the checkpoint that `config.resume` asks for; the epoch to go on with, 0 for a fresh start."""
    path = folder / "last.ckpt" if config.resume == "auto" else Path(config.resume or "")
    if config.resume is None or (config.resume == "auto" and not path.is_file()):
        return 0
    state = checkpoint.load(path)
    checkpoint.require_same(state["config"], to_yaml(config), path)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    checkpoint.set_rng_state(state["rng"])
    return int(state["epoch"])
