"""`ffcv report`: one file with curves, the map of the features and the nearest neighbours."""

from __future__ import annotations

import io
import re
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from command_line import command
from digits import SIDE
from ffcv.ssl import charts, config, evaluate, history, pictures, trained
from ffcv.ssl.errors import ConfigError
from ffcv.ssl.train import fit

pytestmark = pytest.mark.filterwarnings(
    # lightning-fabric, on machines with a GPU when the run is on the CPU
    "ignore:GPU available but not used"
)


def test_the_report_is_one_file_with_everything(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.html"
    command("report", folder / "run", "--out", out, "--images", 60, capsys=capsys)
    text = out.read_text()
    for heading in (
        "simclr · convnet",
        "3 of 3 epochs",
        "data stall",
        "k-NN, held-out",
        "RankMe",
        "Of 60 held-out images",
        "Nearest neighbours",
        "epochs: 3",
        torch.__version__,
    ):
        assert heading in text
    # Loss, three accuracies, collapse, throughput; each is sound XML.
    svgs = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(svgs) == 6
    assert all(ET.fromstring(svg).tag.endswith("svg") for svg in svgs)
    # The map and 8 queries with 5 neighbours; nothing is fetched from elsewhere.
    sources = re.findall(r'src="([^"]{0,30})', text)
    assert len(sources) == 1 + 8 * 6
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r'(src|href)="(http|//)', text)


def test_a_measure_looks_the_same_while_training_and_held_out() -> None:
    one = np.array([0.5])
    measures = {"probe_accuracy": one, "probe_top5": one, "online_knn_accuracy": one}
    held_out = {"val_probe_accuracy": one, "val_probe_top5": one, "knn_accuracy": one}
    looks = []
    for figure in charts._accuracies({"epoch": np.array([0.0]), **measures, **held_out})[:2]:
        assert figure is not None
        (axis,) = figure.axes
        looks.append([(line.get_color(), line.get_linestyle()) for line in axis.lines])
        first, last = axis.get_xlim()
        assert [tick for tick in axis.get_xticks() if first <= tick <= last] == [1]  # there is no half an epoch
    assert looks[0] == looks[1]
    assert len(set(looks[0])) == 3


def test_classes_may_be_called_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matplotlib would leave the first out of the legend, and fail to read the second as a formula."""
    drawn: list[Figure] = []

    def draw(figure: Figure, kind: str) -> bytes:
        drawn.append(figure)
        figure.savefig(io.BytesIO(), format=kind)
        return b""

    monkeypatch.setattr(charts, "_bytes", draw)
    names = ["_background", "$_$", "cat"]
    charts.scatter(np.zeros((3, 2)), np.arange(3), names, ("", ""))
    legend = drawn[0].axes[0].get_legend()
    assert legend is not None
    assert [text.get_text().replace("\\$", "$").strip() for text in legend.get_texts()] == names


def test_a_first_epoch_may_be_a_part_of_one(folder: Path) -> None:
    """Where a run went on, into another folder, from the middle of an epoch."""
    books = history.read(folder / "run")
    whole = charts._steps_per_epoch(books)
    part = {name: values[2:] for name, values in books.steps.items()}
    assert charts._steps_per_epoch(replace(books, steps=part)) == whole == 5


@pytest.mark.parametrize("highest", [0.004, 0.05, 0.2, 1.0])
def test_percentages_stand_where_they_belong(highest: float) -> None:
    """Also where ticks are 2.5% apart."""
    figure = charts._lines(
        {"epoch": np.arange(2.0)}, "", "accuracy", [charts.Series("probe", np.array([0.0, highest]))], percent=True
    )
    assert figure is not None
    axis = figure.axes[0].yaxis
    ticks = axis.get_majorticklocs()
    shown = [float(text.rstrip("%")) / 100 for text in axis.get_major_formatter().format_ticks(ticks)]
    assert len(shown) > 2
    assert shown == pytest.approx(ticks, abs=1e-12)


def test_the_sheet_shows_the_nearest(folder: Path) -> None:
    found = trained.load(folder / "run")
    sample = pictures.draw_sample(found, 50, 0, torch.device("cpu"))
    assert set(sample.part.indices) <= set(evaluate.parts(found.config)[1].indices)
    for row in pictures.nearest(sample.unit, 8, 5, seed=0):
        query, *others = row.images
        cosine = (sample.unit @ sample.unit[query]).numpy()
        expected = [i for i in np.argsort(-cosine) if i != query][:5]
        np.testing.assert_allclose(cosine[others], cosine[expected], rtol=1e-5)
        np.testing.assert_allclose(row.cosines, cosine[expected], rtol=1e-5)


def test_principal_components_are_scikit_learns() -> None:
    from sklearn.decomposition import PCA

    x = np.random.default_rng(0).normal(size=(40, 6)) * [5, 3, 1, 1, 1, 1]
    points, shares = pictures.principal_components(torch.from_numpy(x))
    reference = PCA(2).fit(x)
    np.testing.assert_allclose(np.abs(points), np.abs(reference.transform(x)), atol=1e-6)
    np.testing.assert_allclose(shares, reference.explained_variance_ratio_, atol=1e-6)


def test_umap_is_drawn_where_it_is_installed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    umap = SimpleNamespace(UMAP=lambda **_: SimpleNamespace(fit_transform=lambda x: x[:, :2]))
    monkeypatch.setitem(sys.modules, "umap", umap)
    command("report", folder / "run", "--out", tmp_path / "r.html", "--images", 30, capsys=capsys)
    assert "UMAP of the features" in (tmp_path / "r.html").read_text()


def test_a_run_without_labels_data_or_checkpoint_is_reported(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without labels there are no accuracies, no colours and no class names; without data, a sentence."""
    data = tmp_path / "unlabelled.beton"
    data.write_bytes((folder / "test.beton").read_bytes())
    line = (
        f"--recipe simclr_digits --data.train {data} --data.label null --logging.folder {tmp_path / 'run'} "
        f"--views.size {SIDE} --model.width 8 --data.num_workers 1 --training.batch_size 64 --training.epochs 1 "
        "--training.accelerator cpu --logging.progress false --training.cpu_threads 1"
    )
    fit(config.parse(line.split()))
    command("report", tmp_path / "run", capsys=capsys)
    text = (tmp_path / "run" / "report.html").read_text()
    assert "linear probe" not in text
    assert "Nearest neighbours" in text
    assert 'class="same' not in text
    error = command("eval", tmp_path / "run", data, "--label", "none", capsys=capsys, fails=True)
    assert "name the labels with --label" in error
    for damage in (lambda: data.write_bytes(data.read_bytes()[:1000]), data.unlink):
        damage()
        command("report", tmp_path / "run", capsys=capsys)
        text = (tmp_path / "run" / "report.html").read_text()
        assert f"No pictures of the features: {data}: " in text
        assert "<svg" in text
    (tmp_path / "run" / "epochs.csv").write_text("")
    assert "no epoch has been finished" in command("report", tmp_path / "run", capsys=capsys, fails=True)
    assert "missing; give the --logging.folder" in command("report", tmp_path, capsys=capsys, fails=True)


def test_books_without_steps_and_damaged_facts(folder: Path, tmp_path: Path) -> None:
    """Of a run that went on, into another folder, behind its last step; and of one that was killed while writing."""
    books = history.read(folder / "run")
    whole = charts.curves(books)
    assert charts.curves(replace(books, steps={})) == whole[1:]
    for name in ("config.yaml", "steps.csv", "epochs.csv"):
        (tmp_path / name).write_bytes((folder / "run" / name).read_bytes())
    (tmp_path / "environment.json").write_text('{"system": "Li')
    with pytest.raises(ConfigError, match=r"environment\.json: not JSON .*; restore it, or delete it"):
        history.read(tmp_path)


def test_a_seed_below_0_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (("report", folder / "run"), ("eval", folder / "run", folder / "train.beton")):
        assert "--seed" in command(*arguments, "--seed", -1, capsys=capsys, fails=True)
