"""The parts of the training configuration: typed, frozen, checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

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
        for name in ("scale", "local_scale"):
            low, high = getattr(self, name)
            _check(0 < low <= high <= 1, f"views.{name} must be 0 < low <= high <= 1, got {(low, high)}")
        shared = ("flip", "jitter", "grayscale", "blur", "solarize")
        for name in (*shared, "second_blur", "second_solarize", "local_blur"):
            p = getattr(self, name)
            _check(p is None or 0 <= p <= 1, f"views.{name} is a probability, got {p}")
        _check(self.num_local >= 0, f"views.num_local must be 0 or more, got {self.num_local}")
        _check(min(self.std) > 0, f"views.std must be above 0, got {self.std}")


@dataclass(frozen=True)
class ModelConfig:
    """The encoder.

    Attributes:
        backbone: 'convnet' (ours, for small images and CPUs), or a timm or torchvision model's name.
        width: convnet: channels of the first stage, doubled by each further one.
        depths: convnet: residual blocks in each stage.
        pretrained: load timm's or torchvision's published weights.
    """

    backbone: str = "convnet"
    width: int = 32
    depths: tuple[int, ...] = (1, 1, 1)
    pretrained: bool = False

    def __post_init__(self) -> None:
        _check(self.width > 0, f"model.width must be above 0, got {self.width}")
        _check(len(self.depths) > 0, "model.depths must name one stage or more")


@dataclass(frozen=True)
class OptimConfig:
    """How the weights move.

    Attributes:
        name: adamw or sgd.
        lr: peak learning rate at 256 images a step; scaled linearly with the global batch.
        weight_decay: for weights only, never for biases and normalisation.
        momentum: of sgd.
        warmup_epochs: linear warm-up, may be a fraction.
        final_ratio: last learning rate / peak.
        probe_lr: learning rate of the online probe (AdamW).
    """

    name: Literal["adamw", "sgd"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.01
    momentum: float = 0.9
    warmup_epochs: float = 2.0
    final_ratio: float = 0.0
    probe_lr: float = 3e-3

    def __post_init__(self) -> None:
        _check(self.lr >= 0, f"optim.lr must be 0 or more, got {self.lr}")
        _check(self.warmup_epochs >= 0, f"optim.warmup_epochs must be 0 or more, got {self.warmup_epochs}")


@dataclass(frozen=True)
class TrainingConfig:
    """How long and on what.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step over all devices (each seen in every view).
        accelerator: lightning.fabric's: auto, cpu, gpu, ...
        devices: processes, one a device.
        precision: auto (bf16 where the device computes in it, else 32-bit), or lightning.fabric's names.
        eval_every: epochs between evaluations on the held-out images (k-NN, online probe) while training; 0 for none.
        max_minutes: stop, with a checkpoint, before an epoch that would train beyond this; null for no limit.
        cpu_threads: threads that torch computes with on a CPU; null for all cores. One is faster for very small
            networks, whose threads would mostly wait for each other.
    """

    epochs: int = 100
    batch_size: int = 256
    accelerator: str = "auto"
    devices: int = 1
    precision: str = "auto"
    eval_every: int = 10
    max_minutes: float | None = None
    cpu_threads: int | None = None

    def __post_init__(self) -> None:
        threads = self.cpu_threads
        _check(threads is None or threads > 0, f"training.cpu_threads must be above 0 or null, got {threads}")
        _check(self.epochs > 0, f"training.epochs must be above 0, got {self.epochs}")
        _check(self.devices > 0, f"training.devices must be above 0, got {self.devices}")
        _check(
            self.batch_size > 1,
            f"training.batch_size must be 2 or more, got {self.batch_size}: "
            "a batch of one image has nothing to be told apart from",
        )
        _check(
            self.batch_size % self.devices == 0,
            f"training.batch_size {self.batch_size} must be a multiple of training.devices {self.devices}",
        )


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
        progress: show a progress bar, and a line for each epoch.
        tensorboard: also write event files for TensorBoard into the folder.
        wandb: also log to this project at Weights & Biases.
    """

    folder: str = "runs/ssl"
    checkpoint_every: int = 5
    progress: bool = True
    tensorboard: bool = False
    wandb: str | None = None

    def __post_init__(self) -> None:
        _check(
            self.checkpoint_every > 0,
            f"logging.checkpoint_every must be above 0, got {self.checkpoint_every}",
        )


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
    resume: str | None = None
    seed: int = 0
