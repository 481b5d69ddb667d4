"""The parts of the training configuration: typed, frozen, checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ffcv.ssl.errors import ConfigError


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True)
class DataConfig:
    """Where the images come from.

    Attributes:
        train: the `.beton` file to train on.
        val: the `.beton` file to evaluate on; without it a share of `train` is held out.
        held_out: that share, drawn once by `seed`; the encoder never sees it, with or without labels.
        image: name of the image field.
        label: name of the label field; null where there are no labels (then nothing is evaluated).
        num_workers: threads of the loader, -1 for one per core.
        os_cache: keep the file in the operating system's cache (False: read page by page, for files beyond
            memory).
    """

    train: str
    val: str | None = None
    held_out: float = 0.1
    image: str = "image"
    label: str | None = "label"
    num_workers: int = -1
    os_cache: bool = True

    def __post_init__(self) -> None:
        _check(0 <= self.held_out < 1, f"data.held_out must be in [0, 1), got {self.held_out}")


@dataclass(frozen=True)
class ViewConfig:
    """What a view looks like; probabilities are per image, 0 leaves the operation out.

    Attributes:
        size: side of the views and of the evaluated images, pixels.
        size_schedule: (epoch, side) points of the two large views' side while training (progressive resolution,
            such as [[10, 160], [30, 224]]): constant before the first and after the last, between them a line,
            rounded to multiples of 32. Empty: always `size`.
        scale: crop's share of the image's area.
        ratio: crop's width / height.
        flip: probability of a horizontal flip.
        jitter: probability of colour jitter with the four strengths that follow.
        grayscale: probability of grayscale.
        blur: probability of a Gaussian blur, with `blur_kernel` pixels and sigma within `blur_sigma` pixels.
        solarize: probability of inverting bytes from 128 up.
        second_blur: `blur` of the second view; null for the first one's.
        second_solarize: `solarize` of the second view; null for the first one's.
        num_local: small views beside the two large ones (multi-crop: dino, swav, lejepa).
        local_size: their side, pixels.
        local_scale: their crop's share of the image's area.
        local_blur: their `blur`; null for the first view's.
        centre_ratio: side of the evaluated centre crop / shorter side of the image.
        mean: per channel, 0..255.
        std: per channel, 0..255.
    """

    size: int = 224
    size_schedule: tuple[tuple[int, int], ...] = ()
    scale: tuple[float, float] = (0.2, 1.0)
    ratio: tuple[float, float] = (0.75, 4 / 3)
    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    grayscale: float = 0.2
    blur: float = 0.0
    blur_kernel: int = 5
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize: float = 0.0
    second_blur: float | None = None
    second_solarize: float | None = None
    num_local: int = 0
    local_size: int = 96
    local_scale: tuple[float, float] = (0.05, 0.4)
    local_blur: float | None = None
    centre_ratio: float = 1.0
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)

    def __post_init__(self) -> None:
        for name in ("size", "local_size"):
            side = getattr(self, name)
            _check(side > 0, f"views.{name} must be above 0, got {side}")
        epochs = [epoch for epoch, _ in self.size_schedule]
        _check(
            epochs == sorted(set(epochs)) and all(side > 0 for _, side in self.size_schedule),
            "views.size_schedule must be [[epoch, side], ...] with epochs that rise and sides above 0, got "
            f"{[list(point) for point in self.size_schedule]}",
        )
        for name in ("scale", "local_scale"):
            low, high = getattr(self, name)
            _check(0 < low <= high <= 1, f"views.{name} must be 0 < low <= high <= 1, got {(low, high)}")
        shared = ("flip", "jitter", "grayscale", "blur", "solarize")
        for name in (*shared, "second_blur", "second_solarize", "local_blur"):
            p = getattr(self, name)
            _check(p is None or 0 <= p <= 1, f"views.{name} is a probability, got {p}")
        _check(self.num_local >= 0, f"views.num_local must be 0 or more, got {self.num_local}")
        _check(min(self.std) > 0, f"views.std must be above 0, got {self.std}")

    def size_at(self, epoch: int) -> int:
        """Side of the large views in `epoch`, from 0, pixels."""
        if not self.size_schedule:
            return self.size
        epochs, sides = zip(*self.size_schedule, strict=True)
        if epoch <= epochs[0] or epoch >= epochs[-1]:
            return sides[0] if epoch <= epochs[0] else sides[-1]
        return max(32, round(float(np.interp(epoch, epochs, sides)) / 32) * 32)


@dataclass(frozen=True)
class ModelConfig:
    """The encoder.

    Attributes:
        backbone: 'convnet' (ours, for small images and CPUs), or a timm or torchvision model's name.
        width: convnet: channels of the first stage, doubled by each further one.
        depths: convnet: residual blocks in each stage.
        norm: convnet: batch or group normalisation. A batch is what one process has of it; with group
            normalisation the loss does not depend on the number of processes.
        small_images: give a ResNet the stem for 32x32 pixels: 3x3 without stride, no max pooling.
        pretrained: load timm's or torchvision's published weights.
    """

    backbone: str = "convnet"
    width: int = 32
    depths: tuple[int, ...] = (1, 1, 1)
    norm: Literal["batch", "group"] = "batch"
    small_images: bool = False
    pretrained: bool = False

    def __post_init__(self) -> None:
        _check(self.width > 0, f"model.width must be above 0, got {self.width}")
        _check(len(self.depths) > 0, "model.depths must name one stage or more")


@dataclass(frozen=True)
class OptimConfig:
    """How the weights move.

    Attributes:
        name: adamw, sgd, or lars (for very large batches).
        lr: peak learning rate at 256 images a step; scaled linearly with the global batch.
        weight_decay: for weights only, never for biases and normalisation.
        final_weight_decay: reached along half a cosine (DINO); null: constant.
        betas: of adamw.
        momentum: of sgd and lars.
        nesterov: Nesterov's momentum in sgd.
        trust: lars: trust coefficient, the largest step of a layer relative to its weights at learning rate 1.
        clip_norm: largest L2 norm of the gradient of all parameters; null: not clipped.
        warmup_epochs: linear warm-up, may be a fraction.
        final_ratio: last learning rate / peak.
        probe_lr: learning rate of the online probe (AdamW).
    """

    name: Literal["adamw", "sgd", "lars"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.01
    final_weight_decay: float | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    nesterov: bool = True
    trust: float = 1e-3
    clip_norm: float | None = None
    warmup_epochs: float = 2.0
    final_ratio: float = 0.0
    probe_lr: float = 3e-3

    def __post_init__(self) -> None:
        for name in ("lr", "weight_decay", "warmup_epochs"):
            _check(getattr(self, name) >= 0, f"optim.{name} must be 0 or more, got {getattr(self, name)}")
        _check(all(0 <= beta < 1 for beta in self.betas), f"optim.betas must be in [0, 1), got {self.betas}")
        _check(0 <= self.momentum < 1, f"optim.momentum must be in [0, 1), got {self.momentum}")
        _check(self.trust > 0, f"optim.trust must be above 0, got {self.trust}")
        clip, final = self.clip_norm, self.final_weight_decay
        _check(clip is None or clip > 0, f"optim.clip_norm must be above 0 or null, got {clip}")
        _check(final is None or final >= 0, f"optim.final_weight_decay must be 0 or more or null, got {final}")


@dataclass(frozen=True)
class TrainingConfig:
    """How long and on what.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step over all devices (each seen in every view).
        accumulate: batches whose gradients make one step, each of batch_size / accumulate images. For less memory;
            a loss that compares images compares those of one such batch.
        accelerator: auto, cpu or gpu.
        devices: processes, one a device. torchrun, SLURM and dist.use_submitit say it themselves.
        precision: auto (bf16 where the device computes in it, else 32-bit), or lightning.fabric's names.
        compile: torch.compile the encoder.
        sync_batchnorm: batch statistics over all processes instead of one (GPUs only).
        eval_every: epochs between evaluations on the held-out images (k-NN, online probe) while training; 0 for none.
        max_minutes: stop, with a checkpoint, before an epoch that would train beyond this; null for no limit.
        cpu_threads: threads that torch computes with on a CPU; null for all cores. One is faster for very small
            networks, whose threads would mostly wait for each other.
    """

    epochs: int = 100
    batch_size: int = 256
    accumulate: int = 1
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"] = "auto"
    devices: int = 1
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true"] = "auto"
    compile: bool = False
    sync_batchnorm: bool = False
    eval_every: int = 10
    max_minutes: float | None = None
    cpu_threads: int | None = None

    def __post_init__(self) -> None:
        threads = self.cpu_threads
        _check(threads is None or threads > 0, f"training.cpu_threads must be above 0 or null, got {threads}")
        _check(self.epochs > 0, f"training.epochs must be above 0, got {self.epochs}")
        _check(self.devices > 0, f"training.devices must be above 0, got {self.devices}")
        _check(self.accumulate > 0, f"training.accumulate must be above 0, got {self.accumulate}")
        _check(
            self.batch_size > 1,
            f"training.batch_size must be 2 or more, got {self.batch_size}: "
            "a batch of one image has nothing to be told apart from",
        )
        self.images_at_once(self.devices)

    def images_at_once(self, processes: int) -> int:
        """Images in a batch of one of so many processes.

        Raises:
            ConfigError: the batch is not divisible by them, or leaves one image, whose batch has no statistics.
        """
        parts = processes * self.accumulate
        divided = (
            f"training.batch_size {self.batch_size} over {processes} processes (training.devices) x {self.accumulate} "
            "batches (training.accumulate)"
        )
        _check(self.batch_size % parts == 0, f"{divided} is no whole number: choose a multiple of {parts}")
        images = self.batch_size // parts
        _check(
            images > 1,
            f"{divided} is one image, of which batch normalisation makes nothing: choose {2 * parts} or more",
        )
        return images


@dataclass(frozen=True)
class EvalConfig:
    """How encoders are compared.

    Attributes:
        labels_per_class: labels the probes may use, drawn by `seed`; null for all.
        draws: how many such draws are averaged.
        k: neighbours.
        temperature: of the neighbours' weights exp(cosine / temperature).
        l2: weight decay of the linear probe.
        batch_size: images a step when extracting features.
        recent: the last images of each training epoch, so many, whose features give RankMe and the online k-NN.
    """

    labels_per_class: int | None = None
    draws: int = 10
    k: int = 20
    temperature: float = 0.07
    l2: float = 1e-3
    batch_size: int = 500
    recent: int = 4096

    def __post_init__(self) -> None:
        for name in ("k", "batch_size", "recent"):
            _check(getattr(self, name) > 0, f"evaluation.{name} must be above 0, got {getattr(self, name)}")
        _check(self.temperature > 0, f"evaluation.temperature must be above 0, got {self.temperature}")
        _check(
            self.labels_per_class is None or self.labels_per_class > 0,
            f"evaluation.labels_per_class must be above 0 or null, got {self.labels_per_class}",
        )


@dataclass(frozen=True)
class LoggingConfig:
    """What is left behind.

    Attributes:
        folder: gets config.yaml, environment.json, steps.csv, epochs.csv and last.ckpt.
        checkpoint_every: epochs between checkpoints (and one at the end).
        checkpoint_every_steps: steps between further checkpoints, also within an epoch; 0 for none.
        progress: show a progress bar, and a line for each epoch.
        tensorboard: also write event files for TensorBoard into the folder.
        wandb: also log to this project at Weights & Biases.
    """

    folder: str = "runs/ssl"
    checkpoint_every: int = 5
    checkpoint_every_steps: int = 0
    progress: bool = True
    tensorboard: bool = False
    wandb: str | None = None

    def __post_init__(self) -> None:
        _check(
            self.checkpoint_every > 0,
            f"logging.checkpoint_every must be above 0, got {self.checkpoint_every}",
        )
        steps = self.checkpoint_every_steps
        _check(steps >= 0, f"logging.checkpoint_every_steps must be 0 or more, got {steps}")


@dataclass(frozen=True)
class DistConfig:
    """Where a submitted run works: by submitit on a SLURM cluster.

    Attributes:
        use_submitit: 1: hand the run to the cluster and return.
        cluster: slurm; local for processes on this machine, to try it out.
        nodes: machines.
        gpus_per_node: processes on each, one a GPU.
        cpus_per_task: cores of each process: its share of decoding.
        timeout_min: time limit of one run of the job, minutes; a job that runs out of it is requeued and goes on.
        max_timeouts: how often.
        partition: SLURM's; null for the cluster's default.
        comment: SLURM's.
        slurm: further sbatch options by their long names, such as {account: vision, constraint: h100}.
    """

    use_submitit: Literal[0, 1] = 0
    cluster: Literal["slurm", "local"] = "slurm"
    nodes: int = 1
    gpus_per_node: int = 8
    cpus_per_task: int = 10
    timeout_min: int = 2800
    max_timeouts: int = 10
    partition: str | None = None
    comment: str | None = None
    slurm: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("nodes", "cpus_per_task", "timeout_min"):
            _check(getattr(self, name) > 0, f"dist.{name} must be above 0, got {getattr(self, name)}")
        for name in ("gpus_per_node", "max_timeouts"):
            _check(getattr(self, name) >= 0, f"dist.{name} must be 0 or more, got {getattr(self, name)}")


@dataclass(frozen=True)
class Config:
    """Everything that defines a run.

    Attributes:
        method: a file of ffcv/ssl/methods.
        options: that method's own `Options`; on the command line and in YAML they are named after the method.
        resume: 'auto' (go on from the folder's last.ckpt if there is one) or a checkpoint's path.
        seed: of the initial weights, the order, the views and the held-out part.
    """

    data: DataConfig
    method: str = "simclr"
    options: Any = None
    views: ViewConfig = field(default_factory=ViewConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvalConfig = field(default_factory=EvalConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    dist: DistConfig = field(default_factory=DistConfig)
    resume: str | None = None
    seed: int = 0
