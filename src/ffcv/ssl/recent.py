"""Features of the latest training images, kept for figures at the end of an epoch."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from torch import Tensor

from ffcv.ssl import probes
from ffcv.ssl.collapse import rank_me
from ffcv.ssl.distributed import gather, world_size


class RecentFeatures:
    """The representations that training itself made of its last images: RankMe and k-NN without a further pass.

    They are those of augmented views, made by weights that moved meanwhile; each image is in them once.

    Args:
        capacity: images to keep over all ranks, up to a batch more.
        device: of the features.
    """

    def __init__(self, capacity: int, device: torch.device) -> None:
        self._device = device
        self._capacity = max(1, capacity // world_size())
        self._batches: deque[tuple[Tensor, Tensor | None]] = deque()
        self._rows = 0

    def add(self, features: Tensor, labels: Tensor | None) -> None:
        """Keep this rank's features float [B, D] and labels int64 [B]; forget the oldest that are not needed."""
        self._batches.append((features.detach().float(), labels))
        self._rows += len(features)
        while self._rows - len(self._batches[0][0]) >= self._capacity:
            self._rows -= len(self._batches.popleft()[0])

    def state_dict(self) -> dict[str, Any]:
        """What is kept on this rank."""
        return {"batches": [list(batch) for batch in self._batches]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep what `state_dict` gave."""
        for features, labels in state["batches"]:
            self._batches.append((features.to(self._device), None if labels is None else labels.to(self._device)))
        self._rows = sum(len(features) for features, _ in self._batches)

    @torch.no_grad()
    def take(self, k: int, temperature: float) -> dict[str, float]:
        """'rank_me' (`collapse.rank_me`) and, with labels, 'online_knn_accuracy': each image by its k nearest others
        (`probes.knn_votes`). Over all ranks, all of which must call it. Afterwards nothing is kept."""
        if not self._batches:
            return {}
        features = gather(torch.cat([features for features, _ in self._batches])).rows
        labels = [labels for _, labels in self._batches if labels is not None]
        figures = {"rank_me": float(rank_me(features))}
        if labels:
            wanted = gather(torch.cat(labels)).rows
            if len(wanted) > 1:
                votes = probes.knn_votes(features, wanted, k=k, temperature=temperature)
                figures["online_knn_accuracy"] = probes.accuracy(votes, wanted)
        self._batches.clear()
        self._rows = 0
        return figures
