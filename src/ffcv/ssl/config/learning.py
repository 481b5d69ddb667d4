"""What learns, and how: encoder, optimiser, training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ffcv.ssl.config.checking import check


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
        check(self.width > 0, f"model.width must be above 0, got {self.width}")
        check(
            len(self.depths) > 0 and min(self.depths) >= 0,
            f"model.depths must be numbers of blocks, 0 or more, of one stage or more, got {list(self.depths)}",
        )
        ours = self.backbone == "convnet"
        check(not (ours and self.pretrained), "model.pretrained: convnet has no published weights")
        check(not (ours and self.small_images), "model.small_images: convnet is for small images as it is")


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
        for name in ("lr", "weight_decay", "warmup_epochs", "final_ratio", "probe_lr"):
            check(getattr(self, name) >= 0, f"optim.{name} must be 0 or more, got {getattr(self, name)}")
        check(all(0 <= beta < 1 for beta in self.betas), f"optim.betas must be in [0, 1), got {self.betas}")
        check(0 <= self.momentum < 1, f"optim.momentum must be in [0, 1), got {self.momentum}")
        check(self.trust > 0, f"optim.trust must be above 0, got {self.trust}")
        clip, final = self.clip_norm, self.final_weight_decay
        check(clip is None or clip > 0, f"optim.clip_norm must be above 0 or null, got {clip}")
        check(final is None or final >= 0, f"optim.final_weight_decay must be 0 or more or null, got {final}")


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
        precision: auto (bf16 where the device computes in it, else 32-bit), or lightning.fabric's names. Weights are
            always 32-bit: moving averages of weights in bf16 would stand still.
        compile: torch.compile the encoder.
        sync_batchnorm: batch statistics over all processes instead of one (GPUs only; on CPUs a note says so).
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
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    compile: bool = False
    sync_batchnorm: bool = False
    eval_every: int = 10
    max_minutes: float | None = None
    cpu_threads: int | None = None

    def __post_init__(self) -> None:
        threads = self.cpu_threads
        minutes = self.max_minutes
        check(minutes is None or minutes > 0, f"training.max_minutes must be above 0 or null, got {minutes}")
        check(self.eval_every >= 0, f"training.eval_every must be 0 or more, got {self.eval_every}")
        check(threads is None or threads > 0, f"training.cpu_threads must be above 0 or null, got {threads}")
        check(self.epochs > 0, f"training.epochs must be above 0, got {self.epochs}")
        check(self.devices > 0, f"training.devices must be above 0, got {self.devices}")
        check(self.accumulate > 0, f"training.accumulate must be above 0, got {self.accumulate}")
        check(
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
        check(self.batch_size % parts == 0, f"{divided} is no whole number: choose a multiple of {parts}")
        images = self.batch_size // parts
        check(
            images > 1,
            f"{divided} is one image, of which batch normalisation makes nothing: choose {2 * parts} or more",
        )
        return images
