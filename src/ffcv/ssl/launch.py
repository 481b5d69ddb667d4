"""Processes, devices and precision: what `fit` runs on."""

from __future__ import annotations

import inspect
import os
import sys
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch.nn.parallel import DistributedDataParallel

from ffcv.cores import available_cores
from ffcv.errors import one_line
from ffcv.ssl.config import TrainingConfig
from ffcv.ssl.errors import ConfigError


def launch(training: TrainingConfig) -> Fabric:
    """Join the processes that torchrun, submitit or srun started; else start `training.devices` of them here."""
    cluster: ClusterEnvironment = LightningEnvironment()
    devices, nodes = training.devices, 1
    if {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"} <= os.environ.keys():  # torchrun, submitit
        cluster = TorchElasticEnvironment()
        devices = int(os.environ.get("LOCAL_WORLD_SIZE", cluster.world_size()))
        nodes = cluster.world_size() // devices
    elif _started_by_srun() and int(os.environ["SLURM_NTASKS"]) > 1:
        cluster = SLURMEnvironment()
        nodes = int(os.environ.get("SLURM_NNODES", "1"))
        devices = int(os.environ["SLURM_NTASKS"]) // nodes
    training.images_at_once(devices * nodes)
    if training.accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ConfigError("training.accelerator is gpu, but torch finds none: choose cpu, or auto")
    try:
        fabric = Fabric(
            accelerator=training.accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy=DDPStrategy(**_without_buffers()) if devices * nodes > 1 else "auto",
            precision=_precision(training),  # pyright: ignore[reportArgumentType]
            plugins=[cluster],
        )
    except (RuntimeError, ValueError, MisconfigurationException) as error:
        told = f"training.accelerator={training.accelerator}, devices={devices}, precision={training.precision}"
        raise ConfigError(f"this machine cannot train with {told}: {one_line(error)}") from None
    fabric.launch()
    torch.backends.cudnn.benchmark = True  # few shapes, each thousands of times
    if fabric.device.type == "cpu":
        # torch counts the machine's cores; in a container with a share of them that stalls every parallel loop.
        torch.set_num_threads(training.cpu_threads or min(torch.get_num_threads(), available_cores()))
        if training.sync_batchnorm and fabric.world_size > 1 and fabric.is_global_zero:
            print("note: training.sync_batchnorm is left out: torch has it for GPUs alone", file=sys.stderr)
    return fabric


def started_by_launch() -> bool:
    """Whether `launch` of another process started this one. That process sees its exit status, and at any but 0 kills
    all others and itself, whatever it is still closing."""
    return os.environ.get("LOCAL_RANK", "0") != "0" and "RANK" not in os.environ


def _without_buffers() -> dict[str, Any]:
    """Buffers that matter (queues, centres) are the same on all ranks, and running statistics are rank 0's when it
    saves or judges: none needs to be sent in every step. torch 2.13 has a new name for that, and warns of the old."""
    known = inspect.signature(DistributedDataParallel).parameters
    return {"forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False}


def _started_by_srun() -> bool:
    """Whether this is a task of a step. A shell of salloc and a script of sbatch know the number of tasks, too, but
    are none of them: at most steps that SLURM numbers from the top (interactive, batch, extern)."""
    step = os.environ.get("SLURM_STEP_ID", "")
    return "SLURM_PROCID" in os.environ and step.isdigit() and int(step) < 0xFFFF_FFF0


def _precision(training: TrainingConfig) -> str:
    """'auto' is bf16 where the device has instructions for it."""
    if training.precision != "auto":
        return training.precision
    if training.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        bf16 = torch.cuda.get_device_capability() >= (8, 0)
    else:
        has = getattr(torch.cpu, "get_capabilities", dict)()
        bf16 = bool(has.get("avx512_bf16") or has.get("amx_bf16"))
    return "bf16-mixed" if bf16 else "32-true"
