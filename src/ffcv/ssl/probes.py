"""What a frozen representation knows about the labels: k-NN, linear probes, while training and after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ffcv.ssl.distributed import total_rows, world_size
from ffcv.ssl.errors import ConfigError


class LinearProbe(nn.Module):
    """A linear classifier on standardised features.

    Batch normalisation without weights keeps the features' scale out of it, as is usual for linear probes (He et al.,
    https://arxiv.org/abs/2111.06377, appendix A.1).
    """

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(num_features, affine=False)
        self.linear = nn.Linear(num_features, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Float [B, D] to logits float32 [B, C]."""
        with torch.autocast(features.device.type, enabled=False):
            return self.linear(self.norm(features.float()))


class OnlineProbes(nn.Module):
    """Linear probes that train beside the encoder, on the representation and on every layer of the projector.

    They see the features of the training's own forward pass, detached: no further pass, and the encoder never sees a
    label. Their losses are added, which with an optimiser that treats every parameter by itself trains each alone.

    Args:
        num_features: width of the representation.
        layer_widths: of the projector's layers (`Method.layer_widths`).
        num_classes: more than the largest label.
    """

    def __init__(self, num_features: int, layer_widths: Sequence[int], num_classes: int) -> None:
        super().__init__()
        widths = {"probe": num_features}
        widths |= {f"probe_layer{i}": width for i, width in enumerate(layer_widths, start=1)}
        self.probes = nn.ModuleDict({name: LinearProbe(width, num_classes) for name, width in widths.items()})
        self.tops = {"accuracy": 1, "top5": 5} if num_classes > 5 else {"accuracy": 1}

    def forward(self, features: Tensor, layers: Sequence[Tensor], labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The summed cross-entropy, and accuracies: 'probe_accuracy', 'probe_layer1_accuracy', ... and with more
        than five classes 'probe_top5', ...

        Args:
            features: float [B, D] on this rank.
            layers: float [B, width] each.
            labels: int64 [B].

        Returns:
            Scalars whose mean over ranks is that of the whole batch, also where ranks hold different numbers of rows.
        """
        weight = world_size() / total_rows(labels)
        losses, accuracies = [], {}
        for (name, probe), x in zip(self.probes.items(), (features, *layers), strict=True):
            logits = probe(x.detach())
            losses.append(F.cross_entropy(logits, labels, reduction="sum") * weight)
            for measure, k in self.tops.items():
                accuracies[f"{name}_{measure}"] = in_top(logits.detach(), labels, k).float().sum() * weight
        return torch.stack(losses).sum(), accuracies


def knn_votes(
    train: Tensor,
    labels: Tensor,
    test: Tensor | None = None,
    k: int = 20,
    temperature: float = 0.07,
    cosines_at_once: int = 1 << 27,
) -> Tensor:
    """Weighted k-nearest-neighbour vote (Wu et al., https://arxiv.org/abs/1805.01978, section 3.4).

    Each of the k training images of the largest cosine s votes for its class with weight exp(s / temperature).

    Args:
        train: float [N, D].
        labels: int64 [N], from 0.
        test: float [M, D]; None: each training image by its neighbours among the others (leave one out).
        k: neighbours; all where there are fewer.
        temperature: small: the nearest decide; large: a plain majority.
        cosines_at_once: bound on the memory, about 8 bytes for each.

    Returns:
        float32 [M, C]: votes for each class, up to a factor of each row.
    """
    train = F.normalize(train.float(), dim=1)
    queries = train if test is None else F.normalize(test.float(), dim=1)
    classes = int(labels.max()) + 1
    k = min(k, len(train) - (test is None))
    votes = torch.zeros(len(queries), classes, device=train.device)
    chunk = max(1, cosines_at_once // len(train))
    for start in range(0, len(queries), chunk):
        cosine = queries[start : start + chunk] @ train.T
        if test is None:
            cosine.diagonal(start).fill_(-2)
        nearest, index = cosine.topk(k, dim=1)
        # Only ratios matter: the largest weight is 1, so that no temperature overflows.
        weight = ((nearest - nearest[:, :1]) / temperature).exp()
        votes[start : start + chunk].scatter_add_(1, labels[index], weight)
    return votes


def logistic_scores(train: Tensor, labels: Tensor, test: Tensor, l2: float = 1e-3, iterations: int = 100) -> Tensor:
    """Multinomial logistic regression on standardised features, to convergence by L-BFGS from zero.

    Minimises mean cross-entropy + l2 * |W|^2 (no penalty on the biases). Deterministic.

    Args:
        train: float [N, D].
        labels: int64 [N], from 0.
        test: float [M, D].
        l2: penalty.
        iterations: at most.

    Returns:
        float32 [M, C], the logits.
    """
    train, test = standardise(train, test)
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
    return test @ weight.detach() + bias.detach()


def standardise(train: Tensor, *others: Tensor) -> list[Tensor]:
    """All as float32, shifted and scaled so that the columns of `train` have mean 0 and deviation 1.

    A column that is constant in `train` is exactly 0 there, so that no weight of it is learned.
    """
    train = train.float()
    # From the first row: a sum of equal numbers is rounded, and 1e-5 makes much of it where others differ.
    mean = train[0] + (train - train[0]).mean(0)
    std = train.std(0, correction=0).clamp(min=1e-5)
    return [(x.float() - mean) / std for x in (train, *others)]


def in_top(scores: Tensor, labels: Tensor, k: int = 1) -> Tensor:
    """Whether each row's label is among its k highest scores; with no more than k classes it is.

    Args:
        scores: float [M, C].
        labels: int64 [M].
        k: above 0.

    Returns:
        bool [M].
    """
    return (scores.topk(min(k, scores.shape[1]), dim=1).indices == labels[:, None]).any(1)


def accuracy(scores: Tensor, labels: Tensor, k: int = 1) -> float:
    """Share of rows whose label is among their k highest scores (`in_top`), 0..1."""
    return float(in_top(scores, labels, k).double().mean())


def few_labels(labels: Tensor, per_class: int, draws: int, seed: int) -> Iterator[Tensor]:
    """`draws` random subsets with `per_class` images of every class, as indices int64 [classes * per_class].

    Raises:
        ConfigError: a class has fewer images than that.
    """
    require_per_class(labels, per_class)
    generator = torch.Generator().manual_seed(seed)
    members = [(labels == c).nonzero()[:, 0] for c in labels.unique()]
    for _ in range(draws):
        yield torch.cat([m[torch.randperm(len(m), generator=generator)[:per_class]] for m in members])


def require_per_class(labels: Tensor, per_class: int) -> None:
    """Raise a `ConfigError` unless every class that there is has `per_class` images."""
    classes, counts = labels.unique(return_counts=True)
    smallest = int(counts.argmin())
    if counts[smallest] < per_class:
        raise ConfigError(
            f"evaluation.labels_per_class is {per_class}, but class {int(classes[smallest])} has only "
            f"{int(counts[smallest])} training images"
        )


def share_of_labels(labels: Tensor, share: float, seed: int, at_least: int = 1) -> Tensor:
    """A random subset with `share` of every class's images, rounded, `at_least` so many where the class has them.

    Returns:
        int64, ascending indices.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for c in labels.unique():
        members = (labels == c).nonzero()[:, 0]
        number = min(len(members), max(at_least, round(share * len(members))))
        order = torch.randperm(len(members), generator=generator).to(labels.device)
        chosen.append(members[order[:number]])
    return torch.cat(chosen).sort().values
