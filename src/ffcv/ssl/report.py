"""A run's report: one HTML file that needs nothing else, to keep and to send."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib.metadata import version
from pathlib import Path

import numpy as np

from ffcv._words import counted
from ffcv.errors import OUR_ERRORS, message_of
from ffcv.ssl import charts, pictures, trained
from ffcv.ssl.history import History, read

QUERIES, NEIGHBOURS = 8, 5

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 1120px; margin: 2rem auto;
  padding: 0 1.5rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .6rem; }
p.note, p.sub { color: #666; margin: .2rem 0 1rem; max-width: 50rem; }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; }
.tile { border: 1px solid #ddd; border-radius: 8px; padding: .6rem 1rem; min-width: 7.5rem; }
.tile b { display: block; font-size: 1.35rem; font-weight: 600; } .tile span { color: #666; font-size: .85rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr)); gap: 1.2rem;
  align-items: start; }
.charts svg, .charts img { width: 100%; height: auto; } figure { margin: 0; max-width: 620px; }
figcaption { color: #666; font-size: .85rem; }
.sheet { overflow-x: auto; } .sheet table { border-collapse: separate; border-spacing: 6px; }
.sheet td { text-align: center; vertical-align: top; font-size: .75rem; color: #666; line-height: 1.25;
  max-width: 110px; }
.sheet td:first-child { padding-right: 1.2rem; }
.sheet img { width: 88px; height: 88px; object-fit: contain; image-rendering: auto; display: block; margin: 0 auto 2px;
  border: 3px solid #fff; border-radius: 4px; } .sheet img.small { image-rendering: pixelated; }
.sheet img.same { border-color: #009e73; } .sheet img.other { border-color: #d55e00; }
table.facts { border-collapse: collapse; } .facts td { padding: .15rem 1.5rem .15rem 0; border-bottom: 1px solid #eee; }
.facts td:first-child { color: #666; }
details { margin-top: 1.2rem; } summary { cursor: pointer; }
pre { background: #f6f6f6; padding: 1rem; border-radius: 8px; font-size: .8rem; overflow-x: auto; }
.columns { display: flex; flex-wrap: wrap; gap: 3rem; align-items: flex-start; }
"""


def report(folder: Path, images: int = 2000, seed: int = 0, device: str = "auto") -> str:
    """The report of the run in `folder`, as HTML.

    Args:
        folder: the run's `logging.folder`.
        images: most of them to make features of.
        seed: of the images drawn.
        device: where to make features, see `trained.device`.

    Raises:
        FileNotFoundError, ConfigError: the folder is no run's, or its books are damaged.
    """
    history = read(folder)
    config = history.config
    done, planned = int(history.epochs["epoch"][-1]) + 1, config.training.epochs
    title = f"{config.method} · {config.model.backbone}"
    subtitle = (
        f"{done:,} of {counted(planned, 'epoch')}, {config.training.batch_size} images a step, seed {config.seed}; "
        f"trained on {config.data.train}"
    )
    body = [
        f"<h1>{escape(title)}</h1><p class=sub>{escape(subtitle)}</p>",
        _tiles(history),
        "<h2>Training</h2>",
        f"<div class=charts>{''.join(f'<figure>{svg}</figure>' for svg in charts.curves(history))}</div>",
        *_features(folder, images, seed, device),
        "<h2>Environment and configuration</h2>",
        _facts(history),
        f"<details><summary>config.yaml</summary><pre>{escape(history.config_text)}</pre></details>",
        f"<p class=note>Made by ffcv-ssl {version('ffcv-ssl')}: ffcv report {escape(folder.name)}</p>",
    ]
    return (
        f"<!doctype html>\n<html lang=en><head><meta charset=utf-8><title>{escape(title)}</title>"
        f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _tiles(history: History) -> str:
    """The last finite value of the figures that people look at first."""
    shown = [
        ("loss", "loss", "{:.4g}"),
        ("probe_accuracy", "linear probe, training views", "{:.1%}"),
        ("val_probe_accuracy", "linear probe, held-out", "{:.1%}"),
        ("knn_accuracy", "k-NN, held-out", "{:.1%}"),
        ("rank_me", "RankMe", "{:.1f}"),
        ("images_per_s", "images/s", "{:,.0f}"),
        ("data_stall", "data stall", "{:.1%}"),
    ]
    tiles = []
    for name, label, form in shown:
        values = history.epochs.get(name, np.array([]))
        values = values[np.isfinite(values)]
        if len(values):
            tiles.append(f"<div class=tile><b>{form.format(values[-1])}</b><span>{escape(label)}</span></div>")
    tiles.append(
        f"<div class=tile><b>{_duration(float(history.epochs['seconds'].sum()))}</b><span>training</span></div>"
    )
    return f"<div class=tiles>{''.join(tiles)}</div>"


def _features(folder: Path, images: int, seed: int, device_name: str) -> list[str]:
    """The map of features and the sheet of neighbours; a sentence where checkpoint or data are gone."""
    try:
        found = trained.load(folder, trained.device(device_name))
        sample = pictures.draw_sample(found, images, seed, next(found.encoder.parameters()).device)
    except (*OUR_ERRORS, OSError) as error:
        return ["<h2>Features</h2>", f"<p class=note>No pictures of the features: {escape(message_of(error))}</p>"]
    which = "held-out images" if sample.held_out else "training images"
    return [
        "<h2>Features</h2>",
        f"<p class=note>Of {len(sample.unit):,} {which} drawn with seed {seed}, centre crops, after "
        f"{counted(found.epochs, 'epoch')}; {found.num_features} features an image, scaled to length 1.</p>",
        f"<div class=charts>{''.join(_maps(sample, seed))}</div>",
        "<h2>Nearest neighbours</h2>",
        *_neighbours(sample, found, seed),
    ]


def _maps(sample: pictures.Sample, seed: int) -> Iterable[str]:
    points, shares = pictures.principal_components(sample.unit)
    axes = (f"first component, {shares[0]:.0%} of the variance", f"second component, {shares[1]:.0%}")
    maps = [("PCA", points, axes)]
    if (projected := pictures.umap_or_none(sample.unit, seed)) is not None:
        maps.append(("UMAP", projected, ("", "")))
    for name, coordinates, labels in maps:
        uri = charts.scatter(coordinates, sample.labels, sample.names, labels)
        yield f'<figure><img src="{uri}" alt="{name} of the features"><figcaption>{name}</figcaption></figure>'


def _neighbours(sample: pictures.Sample, found: trained.Trained, seed: int) -> list[str]:
    if len(sample.unit) < 2:
        return ["<p class=note>One image has no neighbours.</p>"]
    rows = pictures.nearest(sample.unit, QUERIES, NEIGHBOURS, seed)
    thumbnails = pictures.thumbnails(sample, found, [n for row in rows for n in row.images])
    small = " small" if found.config.views.size <= 64 else ""

    def cell(number: int, caption: str, kind: str) -> str:
        uri = charts.data_uri(thumbnails[number], "png")
        name = "" if sample.labels is None else escape(sample.names[sample.labels[number]])
        return f'<td><img class="{kind}{small}" src="{uri}" alt="{name}">{name}<br>{caption}</td>'

    lines = []
    for row in rows:
        query, *others = row.images
        cells = [cell(query, "query", "query")]
        for number, cosine in zip(others, row.cosines, strict=True):
            kind = "" if sample.labels is None else "same" if sample.labels[number] == sample.labels[query] else "other"
            cells.append(cell(number, f"cosine {cosine:.2f}", kind))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    legend = "" if sample.labels is None else " Green: the query's class; orange: another."
    return [
        f"<p class=note>Random queries and, of the images above, those most similar to each.{legend}</p>",
        f"<div class=sheet><table>{''.join(lines)}</table></div>",
    ]


def _facts(history: History) -> str:
    config = history.config
    run = {
        "method": config.method,
        "backbone": config.model.backbone,
        "training file": config.data.train,
        "judged on": config.data.val or f"{config.data.held_out:.0%} of it, held out",
        "optimiser": f"{config.optim.name}, peak rate {config.optim.lr:g} at 256 images a step",
        "images a step": str(config.training.batch_size),
        "precision": config.training.precision,
    }

    def table(facts: dict[str, str]) -> str:
        cells = (f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in facts.items())
        return f"<table class=facts>{''.join(cells)}</table>"

    return f"<div class=columns>{table(run)}{table(history.environment)}</div>"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
