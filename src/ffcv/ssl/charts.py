"""The report's pictures: curves over epochs, as SVG, and maps of features, as PNG."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ffcv.ssl.history import Columns, History

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b6b6b", "#8c564b", "#17becf", "#bcbd22")
"""Told apart also by people who see few colours (Okabe and Ito's, then further ones)."""

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.edgecolor": "#999999",
    "axes.labelcolor": "#444444",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e8e8e8",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.handlelength": 3.0,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "svg.hashsalt": "ffcv",
}

STEPS_SHOWN = 4000


class Series(NamedTuple):
    """A curve: its name in the legend, its values, matplotlib's line style, and which of `COLOURS` it has."""

    name: str
    values: np.ndarray
    style: str = "-"
    colour: int = 0


def curves(history: History) -> list[str]:
    """The run's curves as SVG, one figure a subject; those without figures are left out."""
    epochs = history.epochs
    with rc_context(STYLE):
        pictures = [_loss(history), *_accuracies(epochs), _collapse(epochs), _throughput(epochs), _terms(history)]
        return [_svg(figure) for figure in pictures if figure is not None]


def scatter(points: np.ndarray, labels: np.ndarray | None, names: Sequence[str], axes: tuple[str, str]) -> str:
    """Features in the plane, coloured by class, as a PNG data URI.

    Args:
        points: float [N, 2].
        labels: int [N], or None.
        names: of the classes; with more than 20 the legend is left out.
        axes: the axes' labels.
    """
    with rc_context(STYLE):
        figure, (axis,) = _figure(1, size=(5.6, 4.2))
        axis.grid(False)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_xlabel(axes[0])
        axis.set_ylabel(axes[1])
        size = float(np.clip(4000 / len(points), 4, 24))
        if labels is None:
            axis.scatter(*points.T, s=size, color=COLOURS[0], alpha=0.7, linewidths=0)
        elif len(names) <= 20:
            for i, name in enumerate(names):
                chosen = points[labels == i]
                marker = "o" if i < len(COLOURS) else "^"
                colour = COLOURS[i % len(COLOURS)]
                # As it is: matplotlib leaves out names that begin with _, and takes what is between two $ for formulas.
                label = " " + name.replace("$", r"\$")
                axis.scatter(*chosen.T, s=size, color=colour, marker=marker, alpha=0.75, linewidths=0, label=label)
            axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=max(1.0, (30 / size) ** 0.5))
        else:
            axis.scatter(*points.T, s=size, c=labels, cmap="turbo", alpha=0.7, linewidths=0)
        return data_uri(_bytes(figure, "png"), "png")


def data_uri(content: bytes, kind: str) -> str:
    """An image as a URI that needs no further file."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _loss(history: History) -> Figure | None:
    epochs = history.epochs
    if not history.steps:  # a run that went on, into another folder, behind the last step
        return None
    figure, (axis,) = _figure(1)
    axis.set_title("Loss")
    axis.set_ylabel("loss")
    number = len(history.steps["step"])
    # Enough to show the scatter: a long run has millions.
    shown = np.unique(np.linspace(0, number - 1, min(number, STEPS_SHOWN)).astype(int))
    step = (history.steps["step"][shown] + 1) / _steps_per_epoch(history)
    axis.set_xlim(0, float(epochs["epoch"][-1]) + 1.02)
    axis.plot(step, history.steps["loss"][shown], color=COLOURS[0], alpha=0.3, linewidth=0.8, label="step")
    # The mean over an epoch stands in its middle.
    axis.plot(
        epochs["epoch"] + 0.5, epochs["loss"], color=COLOURS[0], marker=_marker(epochs), label="mean of the epoch"
    )
    _legend(axis, 2)
    return figure


def _terms(history: History) -> Figure | None:
    """What the loss is made of, each divided by its largest value: their scales differ by orders."""
    known = {"epoch", "seconds", "wait_s", "data_stall", "images_per_s", "lr", "loss", "feature_spread", "rank_me"}
    terms = [n for n in history.epochs if n not in known and "accuracy" not in n and "top5" not in n]
    series = []
    for name in terms:
        values = history.epochs[name]
        largest = np.nanmax(np.abs(values))
        if largest > 0:
            series.append(Series(f"{name} (at most {largest:.3g})", values / largest, colour=len(series)))
    return _lines(history.epochs, "Terms of the loss", "share of its largest value", series) if series else None


def _accuracies(epochs: Columns) -> list[Figure | None]:
    # One measure looks the same in both pictures.
    looks = (("-", 0), ("--", 1), (":", 2))

    def there(*candidates: tuple[str, str]) -> list[Series]:
        rows = zip(candidates, looks, strict=True)
        return [Series(name, epochs[column], *look) for (name, column), look in rows if column in epochs]

    training = there(
        ("linear probe, top-1", "probe_accuracy"),
        ("linear probe, top-5", "probe_top5"),
        ("k-NN among themselves", "online_knn_accuracy"),
    )
    held_out = there(
        ("online linear probe, top-1", "val_probe_accuracy"),
        ("online linear probe, top-5", "val_probe_top5"),
        ("k-NN", "knn_accuracy"),
    )
    layers = {
        f"projector layer {column[11:-9]}": values
        for column, values in epochs.items()
        if column.startswith("probe_layer") and column.endswith("_accuracy")
    }
    probes = {"representation": epochs["probe_accuracy"], **layers} if layers else {}
    by_layer = [Series(name, values, colour=i) for i, (name, values) in enumerate(probes.items())]
    return [
        _lines(epochs, "Accuracy on training views, while training", "accuracy", training, percent=True),
        _lines(epochs, "Accuracy on held-out images", "accuracy", held_out, percent=True),
        _lines(epochs, "Linear probes by layer, top-1", "accuracy", by_layer, percent=True),
    ]


def _collapse(epochs: Columns) -> Figure | None:
    if not {"rank_me", "feature_spread"} <= epochs.keys():
        return None
    figure, (above, below) = _figure(2)
    _draw(above, epochs, [Series("", epochs["rank_me"])])
    above.set_title("Collapse: both fall when images look alike")
    above.set_ylabel("RankMe")
    above.set_ylim(0, 1.15 * float(np.nanmax(epochs["rank_me"])))
    _draw(below, epochs, [Series("", epochs["feature_spread"], colour=1)])
    below.set_ylabel("feature spread")
    below.set_ylim(0, max(1.0, float(np.nanmax(epochs["feature_spread"])) * 1.1))
    return figure


def _throughput(epochs: Columns) -> Figure:
    figure, (above, below) = _figure(2)
    _draw(above, epochs, [Series("", epochs["images_per_s"], colour=2)])
    above.set_title("Throughput")
    above.set_ylabel("images/s")
    above.set_ylim(0, 1.15 * float(np.nanmax(epochs["images_per_s"])))
    stall = epochs["data_stall"]
    below.bar(epochs["epoch"] + 1, stall, color=COLOURS[1], width=0.7 if len(stall) <= 40 else 1.0)
    below.set_ylabel("data stall")
    below.yaxis.set_major_formatter(PercentFormatter(1.0))
    below.set_ylim(0, max(0.01, float(np.nanmax(stall)) * 1.15))
    return figure


def _lines(epochs: Columns, title: str, label: str, series: list[Series], percent: bool = False) -> Figure | None:
    """One axis over epochs, None without any series."""
    if not series:
        return None
    figure, (axis,) = _figure(1)
    axis.set_title(title)
    axis.set_ylabel(label)
    _draw(axis, epochs, series)
    if percent:
        axis.yaxis.set_major_formatter(PercentFormatter(1.0))
        highest = max(float(np.nanmax(each.values)) for each in series)
        axis.set_ylim(0, min(1.02, highest * 1.1))
    elif all(np.nanmin(each.values) >= 0 for each in series):
        axis.set_ylim(bottom=0)
    _legend(axis, len(series))
    return figure


def _legend(axis: Any, entries: int) -> None:
    """Below the axes, where no curve can run through it."""
    legend = axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=min(2, entries))
    for line in legend.legend_handles:
        line.set_linewidth(STYLE["lines.linewidth"])  # also of the thinnest curve


def _draw(axis: Any, epochs: Columns, series: list[Series]) -> None:
    # The same epochs below one another, also for figures that not every epoch has.
    axis.set_xlim(0.5, float(epochs["epoch"][-1]) + 1.5)
    for name, values, style, colour in series:
        there = np.isfinite(values)
        axis.plot(
            epochs["epoch"][there] + 1,
            values[there],
            style,
            color=COLOURS[colour % len(COLOURS)],
            marker=_marker(epochs) or (None if there.all() else "o"),
            label=name,
        )


def _marker(epochs: Columns) -> str | None:
    """Points while there are few."""
    return "o" if len(epochs["epoch"]) <= 12 else None


def _figure(rows: int, size: tuple[float, float] = (5.6, 3.5)) -> tuple[Figure, list[Any]]:
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    axes[-1].set_xlabel("epoch")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.align_ylabels()
    return figure, list(axes)


def _steps_per_epoch(history: History) -> float:
    # A run that went on from another folder's checkpoint has a part of its first epoch only.
    return float(np.unique(history.steps["epoch"], return_counts=True)[1].max())


def _svg(figure: Figure) -> str:
    text = _bytes(figure, "svg").decode()
    return text[text.index("<svg") :]


def _bytes(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=160, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()
