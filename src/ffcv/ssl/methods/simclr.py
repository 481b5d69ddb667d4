"""SimCLR: Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual
Representations", ICML 2020, https://arxiv.org/abs/2002.05709, equation 1 and algorithm 1.

With z the 2N unit-length embeddings of N images seen twice and j(i) the other view of i's image,

    loss = 1/2N  sum_i  -log( exp(z_i . z_j(i) / t)  /  sum_{k != i} exp(z_i . z_k / t) )
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ffcv.ssl import checks
from ffcv.ssl.distributed import gather, world_size
from ffcv.ssl.heads import mlp
from ffcv.ssl.losses import in_float32
from ffcv.ssl.methods.base import Method, Terms, Views


@in_float32
def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """The NT-Xent loss of two views, each [N, E] on this rank; N may differ between ranks.

    Every rank's anchors meet the embeddings of all ranks. What a rank returns is weighted such that the
    *mean* over the ranks (which is what data parallelism takes of gradients) is the loss of the whole batch,
    as if on one rank. Computed in float32, or float64 if that is what comes in.
    """
    anchors = [F.normalize(z, dim=1) for z in (first, second)]
    everyone = [gather(z) for z in anchors]
    keys, offset, total = torch.cat([g.rows for g in everyone]), everyone[0].offset, len(everyone[0].rows)
    own = torch.arange(offset, offset + len(first), device=first.device)
    itself, partner = torch.cat([own, own + total]), torch.cat([own + total, own])
    logits = torch.cat(anchors) @ keys.T / temperature
    logits = logits.scatter(1, itself[:, None], -torch.inf)
    return F.cross_entropy(logits, partner, reduction="sum") * world_size() / (2 * total)


@dataclass(frozen=True)
class Options:
    """SimCLR's own options.

    Attributes:
        temperature: t above; 0.5 in the paper for CIFAR-10, 0.1 for ImageNet.
        projector: widths of the projector's layers, the last one the embedding's.
    """

    temperature: float = 0.2
    projector: tuple[int, ...] = (512, 128)

    def __post_init__(self) -> None:
        checks.above_zero(self, "temperature")


class SimCLR(Method):
    """Two views, an MLP projector, and `nt_xent`."""

    Options = Options

    def __init__(self, backbone: nn.Module, options: Options) -> None:
        super().__init__(backbone, options)
        self.projector = mlp(self.num_features, *options.projector)

    def loss(self, embeddings: Views, labels: Tensor | None = None, targets: Views = ()) -> Terms:
        first, second = embeddings
        return {"loss": nt_xent(first, second, self.options.temperature)}
