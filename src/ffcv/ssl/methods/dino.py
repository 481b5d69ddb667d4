"""DINO: Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", ICCV 2021,
https://arxiv.org/abs/2104.14294, equations 1 to 4 and algorithm 1.

With g the head's K scores of a view, c the centre, and the mean over all pairs of a global view x (teacher) and
another view x' (student),

    P_s = softmax(g_s(x') / t_s),   P_t = softmax((g_t(x) - c) / t_t),   loss = mean -sum_k P_t log P_s
    c       <- m_c c + (1 - m_c) mean over the batch's global views of g_t
    teacher <- m teacher + (1 - m) student,   m from `momentum` to 1 along a cosine
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ffcv.ssl import checks
from ffcv.ssl.distributed import all_sum, total_rows
from ffcv.ssl.heads import Prototypes, gelu_mlp
from ffcv.ssl.losses import cross_entropies, in_float32
from ffcv.ssl.methods.base import TaughtMethod, Terms, Views


@in_float32
def dino(student: Views, teacher: Views, centre: Tensor, temperatures: tuple[float, float]) -> Tensor:
    """The loss of scores [N, K] on this rank, one tensor a view; the teacher's are of the first ones.

    Args:
        student: scores of all views.
        teacher: scores of the global views, without gradient.
        centre: float [K].
        temperatures: t_s and t_t above.
    """
    wanted = [((scores - centre) / temperatures[1]).softmax(1) for scores in teacher]
    return cross_entropies(wanted, [scores / temperatures[0] for scores in student])


@torch.no_grad()
@in_float32
def batch_centre(teacher: Views) -> Tensor:
    """The mean [K] of all ranks' teacher scores."""
    scores = torch.cat(list(teacher))
    return all_sum(scores.sum(0)) / total_rows(scores)


@dataclass(frozen=True)
class Options:
    """DINO's own options.

    Attributes:
        student_temperature: t_s above.
        teacher_temperature: t_t above after its warm-up.
        first_temperature: t_t at the start, rising in a line over `warmup_share` of the training.
        warmup_share: 0.3 in the paper (30 of 100 epochs).
        centre_momentum: m_c above.
        momentum: of the teacher at the start.
        frozen_share: share of the training in which the last layer keeps still; the paper's first epoch of 100.
        head: widths of the head's layers before the scores.
        num_scores: K above.
    """

    student_temperature: float = 0.1
    teacher_temperature: float = 0.07
    first_temperature: float = 0.04
    warmup_share: float = 0.3
    centre_momentum: float = 0.9
    momentum: float = 0.996
    frozen_share: float = 0.01
    head: tuple[int, ...] = (2048, 2048, 256)
    num_scores: int = 65536

    def __post_init__(self) -> None:
        checks.above_zero(self, "student_temperature", "teacher_temperature", "first_temperature", "num_scores")
        checks.share(self, "warmup_share", "centre_momentum", "momentum", "frozen_share")
        checks.layers(self, "head")


class DINO(TaughtMethod):
    """Two global views for the teacher, all views for the student, and the teacher to keep."""

    Options = Options
    multi_crop = True
    centre: Tensor

    def __init__(self, backbone: nn.Module, options: Options) -> None:
        super().__init__(backbone, options)
        self.projector = gelu_mlp(self.num_features, *options.head)
        self.prototypes = Prototypes(options.head[-1], options.num_scores)
        self.make_teacher()
        self.register_buffer("centre", torch.zeros(options.num_scores))

    @property
    def encoder(self) -> nn.Module:
        return self.teacher.network[0]

    def followed(self) -> list[nn.Module]:
        return [*super().followed(), self.prototypes]

    @property
    def temperature(self) -> float:
        """The teacher's, t_t, at this step."""
        o = self.options
        done = min(1.0, self.progress / o.warmup_share) if o.warmup_share > 0 else 1.0
        return o.first_temperature + done * (o.teacher_temperature - o.first_temperature)

    def loss(self, embeddings: Views, labels: Tensor | None = None, targets: Views = ()) -> Terms:
        o = self.options
        student = [self.prototypes(z, frozen=self.progress < o.frozen_share) for z in embeddings]
        loss = dino(student, targets, self.centre, (o.student_temperature, self.temperature))
        self.centre.lerp_(batch_centre(targets).to(self.centre.dtype), 1 - o.centre_momentum)
        return {"loss": loss}
