"""Training from a real `.beton`: it learns, resumes to the bit, and stops with a sentence when it must."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from digits import arguments, configuration, rows, write
from ffcv.cli.main import main
from ffcv.errors import FfcvError
from ffcv.fields import FloatField, IntField, RGBImageField
from ffcv.ssl import backbones, config, evaluate, methods, protocols
from ffcv.ssl.errors import ConfigError, DivergedError
from ffcv.ssl.feed import Batch, Feed
from ffcv.ssl.train import fit
from ffcv.writer import DatasetWriter

pytestmark = pytest.mark.filterwarnings(
    # lightning-fabric, on machines with a GPU when the run is on the CPU
    "ignore:GPU available but not used"
)


def test_the_loss_falls_and_the_books_are_kept(digits: Path, tmp_path: Path) -> None:
    extra = ("--training.epochs", "6", "--training.eval_every", "3", "--evaluation.draws", "2")
    settings = configuration(digits, tmp_path, *extra)
    run = fit(settings)
    steps, epochs = rows(tmp_path / "steps.csv"), rows(tmp_path / "epochs.csv")
    assert [int(row["step"]) for row in steps] == list(range(6 * 5))  # 240 images, batches of 48
    assert float(epochs[-1]["loss"]) < float(epochs[0]["loss"]) - 0.3
    assert float(epochs[-1]["probe_accuracy"]) > 0.2
    assert [row["knn_accuracy"] != "" for row in epochs] == [False, False, True, False, False, True]
    assert run.images_per_s > 0
    assert config.parse(["--config", str(tmp_path / "config.yaml")]) == settings
    scores = evaluate.compare(run.backbone, run.parts, settings, run.device)
    assert list(scores) == ["raw pixels", "random initialisation", "trained"]
    assert all(0.1 < s.knn <= 1 and 0.1 < s.linear <= 1 for s in scores.values())


def test_resume_refuses_another_run(digits: Path, tmp_path: Path) -> None:
    fit(configuration(digits, tmp_path, "--training.epochs", "1"))
    for given in (tmp_path / "last.ckpt", tmp_path):
        with pytest.raises(ConfigError, match=r"last\.ckpt: was made with training\.epochs=1 \(now 3\)"):
            fit(configuration(digits, tmp_path, "--resume", str(given)))


def test_resume_takes_moved_data_and_refuses_others(digits: Path, tmp_path: Path) -> None:
    halted = ("--training.max_minutes", "1e-9")
    fit(configuration(digits, tmp_path / "run", *halted))
    moved = tmp_path / "moved.beton"
    moved.write_bytes(digits.read_bytes())
    resumed = ("--resume", "auto", *halted)
    with pytest.raises(ConfigError, match=r"data\.held_out=0\.2 \(now 0\.5\)"):
        fit(configuration(moved, tmp_path / "run", *resumed, "--data.held_out", "0.5"))
    others = write(tmp_path / "others.beton", [(np.zeros((16, 16, 3), np.uint8), i % 3) for i in range(300)])
    with pytest.raises(ConfigError, match=r"last\.ckpt: its feed does not fit this run: .* belongs to another dataset"):
        fit(configuration(others, tmp_path / "run", *resumed))
    with pytest.raises(ConfigError, match=r"its feed does not fit this run: .* of other samples"):
        fit(configuration(moved, tmp_path / "run", *resumed, "--data.val", str(others)))
    fit(configuration(moved, tmp_path / "run", *resumed))
    assert len(rows(tmp_path / "run" / "epochs.csv")) == 2


def test_divergence_stops_with_the_step_and_the_rate(digits: Path, tmp_path: Path) -> None:
    settings = configuration(digits, tmp_path, "--optim.name", "sgd", "--optim.lr", "1e30")
    with pytest.raises(DivergedError, match=r"the loss is nan at step \d+ with learning rate \d") as caught:
        fit(settings)
    steps = len(rows(tmp_path / "steps.csv"))
    assert steps >= 1
    saved = torch.load(tmp_path / "diverged.ckpt", weights_only=True)
    assert (saved["step"], saved["epoch"]) == (steps, steps // 5)
    assert f"at step {steps} with" in str(caught.value)
    assert "diverged.ckpt holds the weights that gave it" in str(caught.value)
    with pytest.raises(ConfigError, match=r"diverged\.ckpt: holds the weights that gave a loss that is no number"):
        fit(replace(settings, resume=str(tmp_path / "diverged.ckpt")))


def test_labels_can_be_left_alone(digits: Path, tmp_path: Path) -> None:
    fit(configuration(digits, tmp_path, "--training.epochs", "1", "--data.label", "null"))
    assert "probe_accuracy" not in rows(tmp_path / "epochs.csv")[0]


def test_a_file_without_labels_trains_without_probes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No option is needed, with or without a file to evaluate on, also when going on; a field that was named must be
    there."""
    path = tmp_path / "images.beton"
    pixels = np.random.default_rng(0).integers(0, 256, (60, 16, 16, 3), dtype=np.uint8)
    DatasetWriter(path, {"image": RGBImageField("raw")}, num_workers=1).from_indexed_dataset([(p,) for p in pixels])
    for folder, extra in (("one", ()), ("two", ("--data.val", str(path)))):
        command(path, tmp_path / folder, "--training.eval_every", "1", *extra)
        printed = capsys.readouterr()
        assert "nothing to evaluate" in printed.out
        assert printed.err == f"note: {path} has no field 'label': training without probes\n"
        (row,) = rows(tmp_path / folder / "epochs.csv")
        assert math.isfinite(float(row["loss"]))
        assert not [name for name in row if "probe" in name or "knn" in name]
        assert config.parse(["--config", str(tmp_path / folder / "config.yaml")]).data.label is None
        command(path, tmp_path / folder, "--training.eval_every", "1", *extra, "--resume", "auto")
        assert "nothing left to train" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"has no field 'kind' but image: set --data.label"):
        fit(configuration(path, tmp_path / "three", "--data.label", "kind"))
    with pytest.raises(ConfigError, match="supervised training needs labels"):
        fit(configuration(path, tmp_path / "three", recipe="supervised_cifar10"))


def test_one_class(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    path = write(tmp_path / "one.beton", [(image, 0) for image in pixels])
    fit(configuration(path, tmp_path / "run", "--training.batch_size", "8", "--training.eval_every", "1"))
    row = rows(tmp_path / "run" / "epochs.csv")[-1]
    assert (float(row["probe_accuracy"]), float(row["knn_accuracy"])) == (1, 1)
    assert math.isfinite(float(row["loss"]))


def test_a_last_partial_batch_is_left_out(digits: Path, tmp_path: Path) -> None:
    """240 images make 4 steps of 50, and with two batches a step no half step."""
    for accumulate in (1, 2):
        folder = tmp_path / str(accumulate)
        fit(configuration(digits, folder, "--training.batch_size", "50", "--training.accumulate", str(accumulate)))
        assert len(rows(folder / "steps.csv")) == 3 * 4


def curve(digits: Path, folder: Path, *extra: str, recipe: str = "simclr_digits") -> list[float]:
    fit(configuration(digits, folder, "--model.norm", "group", "--optim.name", "sgd", *extra, recipe=recipe))
    return [float(row["loss"]) for row in rows(folder / "steps.csv")]


def test_accumulated_gradients_are_those_of_the_whole_batch(digits: Path, tmp_path: Path) -> None:
    """With a loss of each image by itself, no batch statistics, and a rate at which roundings do not grow."""
    whole, parts = (
        curve(digits, tmp_path / n, "--training.accumulate", n, "--optim.lr", "0.1", recipe="supervised_cifar10")
        for n in ("1", "4")
    )
    assert whole[-1] < whole[0] - 0.01
    assert parts == pytest.approx(whole, rel=1e-4)


def test_clipped_gradients_bound_the_steps(digits: Path, tmp_path: Path) -> None:
    """Plain SGD moves the weights by at most rate * norm a step."""
    plain = ("--optim.momentum", "0", "--optim.weight_decay", "0", "--optim.lr", "1", "--optim.clip_norm", "0.01")
    curve(digits, tmp_path, *plain)
    settings = configuration(digits, tmp_path, "--model.norm", "group")
    torch.manual_seed(settings.seed)
    fresh = methods.load("simclr")(backbones.build(settings.model), settings.options)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["method"]
    moved = sum(float((saved[name] - p.detach()).square().sum()) for name, p in fresh.named_parameters()) ** 0.5
    bound = 0.01 * sum(float(row["lr"]) for row in rows(tmp_path / "steps.csv"))
    assert 0.2 * bound < moved <= 1.001 * bound


def test_in_mixed_precision_weights_and_teachers_stay_float32(digits: Path, tmp_path: Path) -> None:
    """In bf16; 16-mixed needs a GPU (tests/gpu)."""
    extra = ("--training.precision", "bf16-mixed", "--training.epochs", "1", "--training.eval_every", "1")
    fit(configuration(digits, tmp_path, *extra, "--byol.momentum", "0.99", recipe="byol_cifar10"))
    assert 0 < float(rows(tmp_path / "epochs.csv")[0]["knn_accuracy"]) <= 1
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["method"]
    assert {v.dtype for v in saved.values() if v.is_floating_point()} == {torch.float32}


def test_resolution_follows_the_schedule(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    epoch = Feed.epoch

    def watched(self: Feed, number: int) -> Iterator[Batch]:
        for batch in epoch(self, number):
            seen.append(batch.views[0].shape[-1])
            assert [view.shape[2:] for view in batch.views] == [(seen[-1], seen[-1])] * 2
            yield batch

    monkeypatch.setattr(Feed, "epoch", watched)
    fit(configuration(digits, tmp_path, "--views.size_schedule", "[[0, 24], [2, 40]]"))
    assert seen == [24] * 5 + [32] * 5 + [40] * 5


def test_compiled_encoders_train_alike(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the compiler's front end; making machine code takes a minute and is not ours to test."""
    compiled: list[object] = []

    def front_end(function: Callable[..., object], **options: object) -> Callable[..., object]:
        compiled.append(function)
        return compile(function, backend="aot_eager")

    compile = torch.compile
    monkeypatch.setattr(torch, "compile", front_end)
    plain, fast = (
        curve(digits, tmp_path / value, "--training.compile", value, "--training.epochs", "1", recipe="byol_cifar10")
        for value in ("false", "true")
    )
    assert len(compiled) == 2  # the encoder and its teacher
    assert fast == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--data.train", "nowhere.beton"], "nowhere.beton: no such file; make one with 'ffcv write"),
        (["--data.image", "label"], "'label' is IntField, no image: name another field with --data.image"),
        (["--data.label", "target"], "has no field 'target' but image, label: set --data.label"),
        (
            ["--training.batch_size", "512"],
            "240 training images, less than .*: choose .* of up to 240",
        ),
        (["--resume", "nowhere.ckpt"], "nowhere.ckpt: no such checkpoint"),
        (["--model.backbone", "resnet1000"], "unknown backbone 'resnet1000'"),
        (["--views.size_schedule", "[[0, 16], [2, 1]]"], "the backbone takes no images of 1 x 1 pixels"),
        (
            ["--views.blur", "1", "--views.blur_kernel", "4"],
            "no view can be made of --views: kernel_size must",
        ),
        (["--views.jitter", "1", "--views.hue", "3"], "no view can be made of --views: hue must be"),
        (["--training.accelerator", "mps"], "this machine cannot train with training.accelerator=mps"),
    ],
)
def test_errors_name_what_to_do(digits: Path, tmp_path: Path, extra: list[str], message: str) -> None:
    with pytest.raises((FfcvError, FileNotFoundError), match=message):
        fit(configuration(digits, tmp_path / "run", *extra))
    assert not (tmp_path / "run" / "last.ckpt").exists()


def command(digits: Path, folder: Path, *extra: str) -> None:
    """`ffcv train`, which must end well."""
    few = ("--training.epochs", "1", "--evaluation.draws", "2", "--evaluation.labels_per_class", "5")
    try:
        main(["train", *arguments(digits, folder, *few, *extra)])
    except SystemExit as end:
        assert not end.code  # noqa: PT017


def test_the_command_ends_with_a_table(digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "[bold]lr[" / "b]"  # has what rich would take for markup: a style, and the end of none
    command(digits, folder)
    printed = capsys.readouterr().out
    assert f"wrote {folder / 'last.ckpt'}\n" in printed
    for word in ("images/s", "raw pixels", "random initialisation", "trained", "linear probe"):
        assert word in printed
    command(digits, folder, "--resume", "auto")
    printed = capsys.readouterr().out
    assert f"nothing left to train; {folder / 'last.ckpt'} has 1 epoch\n" in printed
    assert "raw pixels" in printed
    assert "images/s" not in printed


def test_a_table_that_memory_has_no_room_for_is_left_out(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """300 images: 32 features take 38 kB, raw pixels 922 kB."""
    for bound, printed in (
        (100_000, {"random initialisation": True, "raw pixels": False}),
        (10_000, {"trained ": True}),
    ):
        monkeypatch.setattr(evaluate, "TABLE_BYTES", bound)
        command(digits, tmp_path / str(bound))
        text = capsys.readouterr().out
        assert {word: word in text for word in printed} == printed
        assert ("no table of accuracies: the features of 300 images take more than" in text) is (bound == 10_000)


def test_a_finished_run_does_not_fail_for_its_table(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("tried to allocate 753 GiB")

    monkeypatch.setattr(evaluate, "compare", out_of_memory)
    command(digits, tmp_path / "on")
    assert "no table of accuracies: OutOfMemoryError: tried to allocate 753 GiB" in capsys.readouterr().out
    command(digits, tmp_path / "off", "--evaluation.table", "false")
    assert "table" not in capsys.readouterr().out


def test_the_table_is_judged_by_the_protocols_of_ffcv_eval() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    train, test = (torch.randn(60, 8, generator=generator) + 0.5 * labels[:, None] for _ in range(2))
    score = evaluate.score((train, labels), (test, labels), config.EvalConfig(k=7), seed=3)
    pair = protocols.Labelled(train[None], labels), protocols.Labelled(test[None], labels)
    options = protocols.Options(k=(7,), seed=3)
    assert score.knn == protocols.knn(*pair, options)[0].top1
    assert score.linear == protocols.linear(*pair, options)[0].top1


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, -1, 1], r"labels count from 0, but that of image 2 is -1: .* --data\.label null"),
        ([0, 10**12, 1, 1], r"labels count from 0 to 999,999 at most, but that of image 1 is 1000000000000: "),
        ([0.0, 1.0, 2.0, 1.0], r"labels are whole numbers \(IntField\), but 'label' is FloatField"),
    ],
)
@pytest.mark.parametrize("broken", ["train", "val"])
def test_labels_that_are_none_stop_before_training(
    broken: str, labels: list[float], message: str, digits: Path, tmp_path: Path
) -> None:
    path = tmp_path / "broken.beton"
    kind = FloatField() if isinstance(labels[0], float) else IntField()
    writer = DatasetWriter(str(path), {"image": RGBImageField("raw"), "label": kind}, num_workers=1)
    writer.from_indexed_dataset([(np.zeros((16, 16, 3), np.uint8), label) for label in labels])
    files = {"train": digits, "val": digits} | {broken: path}
    extra = ("--data.val", str(files["val"]), "--training.batch_size", "2")
    with pytest.raises(ConfigError, match=message):
        fit(configuration(files["train"], tmp_path / "run", *extra))
    assert not (tmp_path / "run").exists()


def test_too_few_labels_are_noticed_before_training(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"labels_per_class is 99, but class \d has only \d+ training images"):
        fit(configuration(digits, tmp_path / "run", "--evaluation.labels_per_class", "99"))
    assert not (tmp_path / "run").exists()


def test_the_command_prints_one_line_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["train", "--recipe", "simclr_digits", "--data.train", str(tmp_path / "nowhere.beton")])
    assert end.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "nowhere.beton: no such file" in error


def test_training_stops_in_time(digits: Path, tmp_path: Path) -> None:
    fit(configuration(digits, tmp_path, "--training.max_minutes", "1e-6"))
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 1
    fit(configuration(digits, tmp_path, "--resume", "auto"))
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 3
