"""k-NN and linear probes against brute force and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from ffcv.ssl import collapse, probes
from ffcv.ssl.recent import RecentFeatures


@pytest.fixture(scope="module")
def digits() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    images, labels = (torch.from_numpy(a) for a in load_digits(return_X_y=True))
    return images[:600].float(), labels[:600], images[600:900].float(), labels[600:900]


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (5, 0.5), (20, 0.07), (10_000, 0.01)])
def test_knn_is_the_weighted_vote(digits, k: int, temperature: float) -> None:
    train, labels, test, _ = digits
    predictions = probes.knn_votes(train, labels, test, k, temperature, cosines_at_once=7 * 600).argmax(1)
    a, b, y = train.double().numpy(), test.double().numpy(), labels.numpy()
    cosine = (b / np.linalg.norm(b, axis=1)[:, None]) @ (a / np.linalg.norm(a, axis=1)[:, None]).T
    expected = []
    for row in cosine:
        nearest = np.argsort(-row)[:k]
        expected.append(np.argmax([np.exp(row[nearest] / temperature)[y[nearest] == c].sum() for c in range(10)]))
    assert (predictions.numpy() == np.array(expected)).all()


def test_knn_survives_a_tiny_temperature(digits) -> None:
    train, labels, test, wanted = digits
    votes = probes.knn_votes(train, labels, test, k=5, temperature=1e-4)
    assert probes.accuracy(votes, wanted) > 0.9


def test_linear_is_logistic_regression(digits) -> None:
    train, labels, test, wanted = digits
    ours = probes.logistic_scores(train, labels, test, l2=1e-3, iterations=500)
    mean, std = train.mean(0), train.std(0, correction=0).clamp(min=1e-5)
    # scikit-learn minimises C * sum of losses + |W|^2 / 2; ours is mean loss + l2 |W|^2, thus C = 1 / (2 l2 N).
    reference = LogisticRegression(C=1 / (2 * 1e-3 * len(train)), max_iter=2000)
    reference.fit(((train - mean) / std).numpy(), labels.numpy())
    theirs = reference.predict(((test - mean) / std).numpy())
    assert np.mean(ours.argmax(1).numpy() == theirs) > 0.99
    assert probes.accuracy(ours, wanted) == pytest.approx(np.mean(theirs == wanted.numpy()), abs=0.01)


def test_what_is_constant_in_training_decides_nothing(digits) -> None:
    """Border pixels, alike in the few images that have labels and not in all others."""
    train, labels, test, _ = digits
    constants = torch.randn(20, generator=torch.Generator().manual_seed(0))
    more_train = torch.cat([train, constants.expand(len(train), -1)], 1)
    more_test = torch.cat([test, constants.expand(len(test), -1).flip(1)], 1)
    assert not probes.standardise(more_train)[0][:, -20:].any()
    without, beside = (probes.logistic_scores(a, labels, b) for a, b in ((train, test), (more_train, more_test)))
    assert (without.argmax(1) == beside.argmax(1)).float().mean() > 0.99  # solved to 100 iterations, not to the end


def test_probes_work_with_one_class() -> None:
    train, labels = torch.randn(5, 3), torch.zeros(5, dtype=torch.int64)
    assert probes.knn_votes(train, labels, train).argmax(1).tolist() == [0] * 5
    assert probes.logistic_scores(train, labels, train).argmax(1).tolist() == [0] * 5


def test_online_probes_learn_each_alone_and_send_nothing_back() -> None:
    """Beside a probe on noise, the one on the representation ends where it would alone."""
    torch.manual_seed(0)
    features, noise = torch.randn(256, 8, requires_grad=True), torch.randn(256, 5)
    labels = (features[:, 0] > 0).long()
    both, alone = probes.OnlineProbes(8, [5], 2), probes.OnlineProbes(8, [], 2)
    alone.probes["probe"].load_state_dict(both.probes["probe"].state_dict())
    accuracies = {}
    for online, layers in ((both, [noise]), (alone, [])):
        optimizer = torch.optim.AdamW(online.parameters(), lr=0.05, weight_decay=0)
        for _ in range(60):
            loss, accuracies = online(features, layers, labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        assert list(accuracies) == ["probe_accuracy", "probe_layer1_accuracy"][: 1 + len(layers)]
        assert float(accuracies["probe_accuracy"]) > 0.95
    assert torch.equal(both.probes["probe"].linear.weight, alone.probes["probe"].linear.weight)
    assert features.grad is None


@pytest.mark.parametrize("classes", [1, 3, 5, 6, 12])
@pytest.mark.parametrize("k", [1, 5])
def test_in_top_counts_rows_with_fewer_than_k_better_scores(classes: int, k: int) -> None:
    generator = torch.Generator().manual_seed(classes)
    scores = torch.randn(200, classes, generator=generator)
    labels = torch.randint(classes, (200,), generator=generator)
    own = scores.gather(1, labels[:, None])
    assert torch.equal(probes.in_top(scores, labels, k), (scores > own).sum(1) < k)
    assert probes.accuracy(scores, labels, k) == pytest.approx(float(((scores > own).sum(1) < k).double().mean()))


def test_top5_is_logged_only_where_it_says_something() -> None:
    labels = torch.arange(12) % 6
    _, five = probes.OnlineProbes(4, [], 5)(torch.randn(12, 4), [], labels % 5)
    _, six = probes.OnlineProbes(4, [], 6)(torch.randn(12, 4), [], labels)
    assert list(five) == ["probe_accuracy"]
    assert list(six) == ["probe_accuracy", "probe_top5"]


def test_leave_one_out_knn_asks_the_others_only(digits) -> None:
    x, labels, _, _ = digits
    votes = probes.knn_votes(x[:60], labels[:60], k=5, temperature=0.07, cosines_at_once=7 * 60)
    for i in range(60):
        others = torch.arange(60) != i
        expected = probes.knn_votes(x[:60][others], labels[:60][others], x[i : i + 1], k=5, temperature=0.07)
        torch.testing.assert_close(votes[i, : expected.shape[1]], expected[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(40, 7), (7, 40), (16, 16)])
def test_rank_me_is_the_equation(shape: tuple[int, int]) -> None:
    z = np.random.default_rng(3).normal(size=shape) * np.geomspace(1, 1e-3, shape[1])
    values = np.linalg.svd(z, compute_uv=False)
    share = values / values.sum() + 1e-7
    expected = np.exp(-(share * np.log(share)).sum())
    assert float(collapse.rank_me(torch.from_numpy(z))) == pytest.approx(expected, rel=1e-6)


def test_recent_features_are_the_last_ones_of_the_epoch() -> None:
    generator = torch.Generator().manual_seed(0)
    batches = [(torch.randn(8, 4, generator=generator), torch.arange(8) % 2) for _ in range(5)]
    recent = RecentFeatures(16, torch.device("cpu"))
    for features, labels in batches:
        recent.add(features, labels)
    last, labels = (torch.cat(column) for column in zip(*batches[-2:], strict=True))
    figures = recent.take(k=3, temperature=0.1)
    assert figures["rank_me"] == pytest.approx(float(collapse.rank_me(last)))
    votes = probes.knn_votes(last, labels, k=3, temperature=0.1)
    assert figures["online_knn_accuracy"] == probes.accuracy(votes, labels)
    assert recent.take(k=3, temperature=0.1) == {}
    recent.add(last, None)
    assert list(recent.take(k=3, temperature=0.1)) == ["rank_me"]


def test_a_share_of_labels_is_the_same_share_of_every_class() -> None:
    labels = torch.tensor([0] * 300 + [1] * 50 + [2] * 9)
    chosen = probes.share_of_labels(labels, 0.1, seed=7)
    assert labels[chosen].bincount().tolist() == [30, 5, 1]
    assert torch.equal(chosen, chosen.unique())
    assert torch.equal(chosen, probes.share_of_labels(labels, 0.1, seed=7))
    assert not torch.equal(chosen, probes.share_of_labels(labels, 0.1, seed=8))
    assert labels[probes.share_of_labels(labels, 1e-9, seed=0)].tolist() == [0, 1, 2]


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
