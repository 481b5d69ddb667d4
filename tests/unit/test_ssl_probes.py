"""k-NN and linear probes against brute force and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from ffcv.ssl import probes


@pytest.fixture(scope="module")
def digits() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    images, labels = (torch.from_numpy(a) for a in load_digits(return_X_y=True))
    return images[:600].float(), labels[:600], images[600:900].float(), labels[600:900]


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (5, 0.5), (20, 0.07), (10_000, 0.01)])
def test_knn_is_the_weighted_vote(digits, k: int, temperature: float) -> None:
    train, labels, test, _ = digits
    predictions = probes.knn_predict(train, labels, test, k, temperature, chunk=7)
    a, b, y = train.double().numpy(), test.double().numpy(), labels.numpy()
    cosine = (b / np.linalg.norm(b, axis=1)[:, None]) @ (a / np.linalg.norm(a, axis=1)[:, None]).T
    expected = []
    for row in cosine:
        nearest = np.argsort(-row)[:k]
        expected.append(np.argmax([np.exp(row[nearest] / temperature)[y[nearest] == c].sum() for c in range(10)]))
    assert (predictions.numpy() == np.array(expected)).all()


def test_knn_survives_a_tiny_temperature(digits) -> None:
    train, labels, test, wanted = digits
    predictions = probes.knn_predict(train, labels, test, k=5, temperature=1e-4)
    assert probes.accuracy(predictions, wanted) > 0.9


def test_linear_is_logistic_regression(digits) -> None:
    train, labels, test, wanted = digits
    ours = probes.linear_predict(train, labels, test, l2=1e-3, iterations=500)
    mean, std = train.mean(0), train.std(0, correction=0).clamp(min=1e-5)
    # scikit-learn minimises C * sum of losses + |W|^2 / 2; ours is mean loss + l2 |W|^2, thus C = 1 / (2 l2 N).
    reference = LogisticRegression(C=1 / (2 * 1e-3 * len(train)), max_iter=2000)
    reference.fit(((train - mean) / std).numpy(), labels.numpy())
    theirs = reference.predict(((test - mean) / std).numpy())
    assert np.mean(ours.numpy() == theirs) > 0.99
    assert probes.accuracy(ours, wanted) == pytest.approx(np.mean(theirs == wanted.numpy()), abs=0.01)


def test_probes_work_with_one_class() -> None:
    train, labels = torch.randn(5, 3), torch.zeros(5, dtype=torch.int64)
    assert probes.knn_predict(train, labels, train).tolist() == [0] * 5
    assert probes.linear_predict(train, labels, train).tolist() == [0] * 5


def test_online_probe_learns_and_sends_nothing_back() -> None:
    torch.manual_seed(0)
    features = torch.randn(256, 8, requires_grad=True)
    labels = (features[:, 0] > 0).long()
    probe = probes.OnlineProbe(8, 2)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=0.05)
    for _ in range(60):
        loss, right = probe(features, labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert float(right) > 0.95
    assert features.grad is None


def test_few_labels_draws_every_class_alike_and_repeats() -> None:
    labels = torch.tensor([0] * 30 + [1] * 5 + [2] * 9)
    draws = list(probes.few_labels(labels, per_class=4, draws=3, seed=7))
    for chosen in draws:
        assert labels[chosen].bincount().tolist() == [4, 4, 4]
        assert len(chosen.unique()) == 12
    assert not torch.equal(draws[0], draws[1])
    again = list(probes.few_labels(labels, per_class=4, draws=3, seed=7))
    assert all(torch.equal(a, b) for a, b in zip(draws, again, strict=True))
    with pytest.raises(ValueError, match="only 5"):
        next(probes.few_labels(labels, per_class=6, draws=1, seed=0))
