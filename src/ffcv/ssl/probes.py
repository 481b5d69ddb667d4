"""What a frozen representation knows about the labels: k-NN, linear probes, while training and after it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ffcv.ssl.errors import ConfigError


class OnlineProbe(nn.Module):
    """A linear classifier that trains beside the encoder, on the features of the same forward pass.

    The features come detached: the encoder never sees a label. Batch normalisation without weights keeps
    their scale out of it, as is usual for linear probes (He et al., https://arxiv.org/abs/2111.06377,
    appendix A.1).
    """

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(num_features, affine=False)
        self.linear = nn.Linear(num_features, num_classes)

    def forward(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Features float [B, D] and labels int64 [B] to the cross-entropy and the share of right answers."""
        with torch.autocast(features.device.type, enabled=False):
            logits = self.linear(self.norm(features.detach().float()))
            return F.cross_entropy(logits, labels), (logits.argmax(1) == labels).float().mean()


def knn_predict(
    train: Tensor, labels: Tensor, test: Tensor, k: int = 20, temperature: float = 0.07, chunk: int = 1024
) -> Tensor:
    """Weighted k-nearest-neighbour vote (Wu et al., https://arxiv.org/abs/1805.01978, section 3.4).

    Each of the k training images of the largest cosine s votes for its class with weight exp(s /
    temperature).

    Args:
        train: float [N, D].
        labels: int64 [N], from 0.
        test: float [M, D].
        k: neighbours; N where there are fewer.
        temperature: small: the nearest decide; large: a plain majority.
        chunk: test images compared at a time.

    Returns:
        int64 [M], the predicted classes.
    """
    train, test = F.normalize(train.float(), dim=1), F.normalize(test.float(), dim=1)
    classes = int(labels.max()) + 1
    predictions = []
    for part in test.split(chunk):
        cosine, index = (part @ train.T).topk(min(k, len(train)), dim=1)
        # Only ratios matter: the largest weight is 1, so that no temperature overflows.
        weight = ((cosine - cosine[:, :1]) / temperature).exp()
        votes = torch.zeros(len(part), classes, device=part.device).scatter_add_(1, labels[index], weight)
        predictions.append(votes.argmax(1))
    return torch.cat(predictions)


def linear_predict(train: Tensor, labels: Tensor, test: Tensor, l2: float = 1e-3, iterations: int = 100) -> Tensor:
    """Multinomial logistic regression on standardised features, to convergence by L-BFGS from zero.

    Minimises mean cross-entropy + l2 * |W|^2 (no penalty on the biases). Deterministic; nothing to tune by
    hand.

    Args:
        train: float [N, D].
        labels: int64 [N], from 0.
        test: float [M, D].
        l2: penalty.
        iterations: at most.

    Returns:
        int64 [M], the predicted classes.
    """
    train, test = train.float(), test.float()
    mean, std = train.mean(0), train.std(0, correction=0).clamp(min=1e-5)
    train, test = (train - mean) / std, (test - mean) / std
    weight = torch.zeros(train.shape[1], int(labels.max()) + 1, device=train.device, requires_grad=True)
    bias = torch.zeros(weight.shape[1], device=train.device, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=iterations, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(train @ weight + bias, labels) + l2 * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        solver.step(objective)
    return (test @ weight.detach() + bias.detach()).argmax(1)


def accuracy(predictions: Tensor, labels: Tensor) -> float:
    """Share of right answers, 0..1."""
    return float((predictions == labels).double().mean())


def few_labels(labels: Tensor, per_class: int, draws: int, seed: int) -> Iterator[Tensor]:
    """`draws` random subsets with `per_class` images of every class, as indices int64 [classes * per_class].

    Raises:
        ConfigError: a class has fewer images than that.
    """
    generator = torch.Generator().manual_seed(seed)
    members = [(labels == c).nonzero()[:, 0] for c in labels.unique()]
    smallest = min(len(m) for m in members)
    if smallest < per_class:
        raise ConfigError(f"labels_per_class is {per_class}, but one class has only {smallest} training images")
    for _ in range(draws):
        yield torch.cat([m[torch.randperm(len(m), generator=generator)[:per_class]] for m in members])
