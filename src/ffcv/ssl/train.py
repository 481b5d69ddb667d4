"""Training: one loop, top to bottom. `_fit` is the whole of it; what it calls is short, in files named after it."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from signal import Signals

import torch
from lightning_fabric import Fabric
from torch import nn

from ffcv._words import counted
from ffcv.ssl import backbones, evaluate, methods, optim, readout
from ffcv.ssl.config import Config
from ffcv.ssl.distributed import average_gradients, equal_shares, from_all_ranks
from ffcv.ssl.errors import DivergedError, Interrupted
from ffcv.ssl.feed import Feed
from ffcv.ssl.interrupt import StopSignals
from ffcv.ssl.launch import launch
from ffcv.ssl.logs import RunLog
from ffcv.ssl.position import Position
from ffcv.ssl.probes import OnlineProbes
from ffcv.ssl.readout import Readout
from ffcv.ssl.recent import RecentFeatures
from ffcv.ssl.run_state import RunState, require_free_folder


@dataclass(frozen=True)
class Run:
    """What a training run leaves.

    Attributes:
        config: that it was made with; `data.label` is null where the file has no labels.
        backbone: the trained encoder.
        device: where it is.
        parts: the images that it was trained on, and those held out.
        images_per_s: source images over the time spent training (evaluation and checkpoints left out).
        train_s: that time, seconds, in the epochs that this process finished.
        epochs: how many are behind it, fewer than configured where `training.max_minutes` ended it.
        checkpoint: path of the last checkpoint.
        is_main: whether this is the process that reports (rank 0).
    """

    config: Config
    backbone: nn.Module
    device: torch.device
    parts: evaluate.Parts
    images_per_s: float
    train_s: float
    epochs: int
    checkpoint: Path
    is_main: bool


def fit(config: Config) -> Run:
    """Train as `config` says; leave config.yaml, steps.csv, epochs.csv and last.ckpt in the logging folder.

    Raises:
        FileNotFoundError: a data file, or the checkpoint to resume from, is missing.
        ConfigError: the configuration, the data and the checkpoint do not fit together, or the folder has another run,
            be it over or not.
        DivergedError: the loss became NaN or infinite; the message gives the step and the learning rate, and
            diverged.ckpt has the state in which it did, to look at.
        Interrupted: SIGTERM or SIGUSR2 came; last.ckpt has the state, `resume='auto'` goes on with the next step.
    """
    with StopSignals() as signals:
        return _fit(config, signals)


def _fit(config: Config, signals: StopSignals) -> Run:
    # Longer than 60 lines on purpose: whoever wants to know what a step does reads it here, in order.
    training, logging = config.training, config.logging
    require_free_folder(config)
    parts = train_part, val_part = evaluate.parts(config)
    asked_for, config = config, evaluate.with_labels_there_are(config, train_part)
    fabric = launch(training)
    if config is not asked_for and fabric.is_global_zero:
        print(
            f"note: {train_part.path} has no field {asked_for.data.label!r}: training without probes", file=sys.stderr
        )
    method, probe = _modules(config, evaluate.count_classes(config, train_part, val_part), fabric)
    model, optimizer = fabric.setup(method, optim.build(method, config.optim))
    probe_optimizer = optim.build_probe(probe, config.optim)
    feed = Feed(config, method, train_part, fabric)
    total_steps = feed.steps * training.epochs
    schedule = optim.Schedule(config.optim, training.batch_size, feed.steps, total_steps)
    recent = RecentFeatures(config.evaluation.recent, fabric.device)
    stateful = {
        "feed": feed,  # first, because it tells other data by name
        "method": method,
        "probe": probe,
        "optimizer": optimizer,
        "probe_optimizer": probe_optimizer,
        "scaler": fabric.strategy.precision,
    }
    state = RunState(config, fabric, stateful, {"recent": recent})

    with state.lock(), RunLog(config, feed.steps, at := state.resume(), fabric.is_global_zero, fabric.device) as log:
        for epoch in range(at.epoch, training.epochs):
            batches = log.timed(feed.epoch(epoch))
            for step in range(at.step, (epoch + 1) * feed.steps):
                lr = schedule.apply(optimizer, step)
                method.step, method.total_steps = step, total_steps
                readouts = []
                for part in range(training.accumulate):
                    views, labels = next(batches)
                    with fabric.no_backward_sync(model, enabled=part + 1 < training.accumulate), equal_shares():
                        output = model(views, labels)
                        stop = torch.full((), float(signals.received is not None), device=fabric.device)
                        terms = {**output.terms, "stop": stop}
                        if labels is not None:
                            probe_loss, accuracies = probe(output.features, output.layers, labels)
                            (probe_loss / training.accumulate).backward()
                            terms |= accuracies
                        recent.add(output.features, labels)
                        readouts.append(Readout(terms))
                        fabric.backward(output.terms["loss"] / training.accumulate)

                values = readout.mean(readouts)
                stopping = values.pop("stop") > 0
                if not all(map(math.isfinite, values.values())):
                    raise _diverged(values["loss"], lr, at, state)
                if config.optim.clip_norm is not None:
                    fabric.clip_gradients(model, optimizer, max_norm=config.optim.clip_norm, error_if_nonfinite=False)
                optimizer.step()
                optimizer.zero_grad()
                method.after_step(step, total_steps)
                if config.data.label:
                    average_gradients(probe)
                    probe_optimizer.step()
                    probe_optimizer.zero_grad()
                log.step(step, epoch, lr, values)
                at = Position(step + 1, epoch)
                if stopping or _due(step, logging.checkpoint_every_steps):
                    with log.checkpointing():
                        state.save(at)
                if stopping:
                    raise _interrupted(signals, at, state)

            evaluates = _due(epoch, training.eval_every) and config.data.label and len(val_part)
            if evaluates:  # a death in the evaluation costs no epoch
                with log.checkpointing():
                    state.save(at)
            row = log.end_epoch(epoch)
            if epoch + 1 < training.epochs:
                feed.begin(epoch + 1)  # they are made while this one is judged
            if evaluates:
                judge = partial(evaluate.held_out, method, probe, parts, config, fabric.device, signals.watched)
                row |= signals.unless_stopped(judge) or {}
            if any(from_all_ranks(signals.received is not None)):  # the resumed run evaluates again
                state.save(at)
                raise _interrupted(signals, at, state)
            log.epoch(row | recent.take(config.evaluation.k, config.evaluation.temperature))
            at = Position(at.step, epoch + 1)
            last = at.epoch == training.epochs or fabric.broadcast(log.out_of_time)
            if last or _due(epoch, logging.checkpoint_every):
                state.save(at)
            if last:
                break
    feed.close()

    return Run(
        config=config,
        backbone=method.encoder,
        device=fabric.device,
        parts=parts,
        images_per_s=log.images_per_s,
        train_s=log.train_s,
        epochs=at.epoch,
        checkpoint=state.path,
        is_main=fabric.is_global_zero,
    )


def _modules(config: Config, classes: int | None, fabric: Fabric) -> tuple[methods.Method, OnlineProbes]:
    """The method and its online probe, with the initial weights of `config.seed` on every rank."""
    torch.manual_seed(config.seed)
    backbone = backbones.build(config.model)
    backbones.require_sides(backbone, config.views.sides(config.training.epochs))
    method = backbones.channels_last(methods.load(config.method)(backbone, config.options))
    if config.training.sync_batchnorm and fabric.world_size > 1 and fabric.device.type == "cuda":
        backbones.synchronise_batchnorm(method)
    if config.training.compile:
        for module in method.modules():
            if type(module) is type(backbone):  # the encoder and its teacher
                module.compile()
    method.check_labels(classes)
    return method, OnlineProbes(method.num_features, method.layer_widths, classes or 1).to(fabric.device)


def _due(count: int, every: int) -> bool:
    return every > 0 and (count + 1) % every == 0


def _diverged(loss: float, lr: float, at: Position, state: RunState) -> DivergedError:
    saved = state.save(at, diverged=True)
    before = f"{state.path} is of an earlier step" if state.path.is_file() else "no earlier state was saved"
    return DivergedError(
        f"the loss is {loss} at step {at.step} with learning rate {lr:.3g}: lower --optim.lr, or compute in 32 bits "
        f"with --training.precision 32-true ({saved} holds the weights that gave it; {before})"
    )


def _interrupted(signals: StopSignals, at: Position, state: RunState) -> Interrupted:
    name = "a signal to another process" if signals.received is None else Signals(signals.received).name
    message = f"stopped by {name} after {counted(at.step, 'step')}: {state.path} goes on from there with --resume auto"
    return Interrupted(message, signals.received)
