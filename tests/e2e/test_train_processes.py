"""Several processes, started by torchrun and by submitit: the loss curve of one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import digits
from ffcv.cli.train import run
from ffcv.ssl import slurm
from ffcv.ssl.config import Config
from ffcv.ssl.logs import RunLog
from ffcv.ssl.train import fit

pytestmark = pytest.mark.filterwarnings("ignore:GPU available but not used")

# Group normalisation and no projector, so that no batch statistics depend on how the batch is divided.
ENCODER = ("--model.norm", "group", "--simclr.projector", "[]", "--training.cpu_threads", "1")
EXTRA = (*ENCODER, "--training.sync_batchnorm", "true", "--optim.name", "sgd", "--optim.lr", "0.1")
"""SGD, because the size of the gradient matters, too; at 0.5, roundings grow to a thousandth on some processors."""
QUICK = ("--evaluation.draws", "1", "--evaluation.labels_per_class", "5")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return digits.write(tmp_path_factory.mktemp("data") / "digits.beton")


@pytest.fixture(scope="module")
def losses(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Of the 15 steps of a run in one process."""
    folder = tmp_path_factory.mktemp("one")
    fit(digits.configuration(data, folder, *EXTRA))
    return _losses(folder)


def _losses(folder: Path) -> list[float]:
    return [float(row["loss"]) for row in digits.rows(folder / "steps.csv")]


def _ended_well(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What `python ARGUMENTS` prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done


def test_two_processes_go_on_along_the_curve_of_one(data: Path, losses: list[float], tmp_path: Path) -> None:
    """One process makes the first epoch, two of `ffcv train`'s own the second, two of torchrun's the last."""
    one_epoch = ("--training.max_minutes", "1e-9")
    fit(digits.configuration(data, tmp_path, *EXTRA, *one_epoch))
    assert len(_losses(tmp_path)) == 5
    own = ("--training.devices", "2", "--evaluation.table", "false", "--resume", "auto")
    done = _ended_well("-m", "ffcv", "train", *digits.arguments(data, tmp_path, *EXTRA, *one_epoch, *own))
    assert done.stdout.count("trained 2 epochs") == 1
    assert len(_losses(tmp_path)) == 10
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port)]
    done = _ended_well(
        *launcher, "-m", "ffcv", "train", *digits.arguments(data, tmp_path, *EXTRA, *QUICK), "--resume", "auto"
    )
    assert done.stdout.count("trained 3 epochs") == 1  # rank 0 alone reports
    assert done.stderr.count("note: training.sync_batchnorm is left out") == 1
    assert "deprecated" not in done.stderr
    assert _losses(tmp_path) == pytest.approx(losses, rel=1e-4)
    assert max(losses) - min(losses) > 0.01  # a curve, not a line


def preempted_once(config: Config) -> None:
    """Trains; the first time, the last of the processes gets SIGUSR2 after step 6."""
    step = RunLog.step

    def signalled(self: RunLog, number: int, *rest: object) -> None:
        step(self, number, *rest)
        if number == 6 and config.resume is None and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGUSR2)

    RunLog.step = signalled
    run(config)


def test_submitit_requeues_what_was_preempted(
    data: Path, losses: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes on this machine; a signal to one stops both at the same step, and the requeued job ends the run."""
    pytest.importorskip("submitit", reason="the package submitit is not installed")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    cluster = ("--dist.use_submitit", "1", "--dist.cluster", "local", "--dist.gpus_per_node", "2")
    config = digits.configuration(data, tmp_path, *EXTRA, "--evaluation.table", "false", *cluster)
    job = slurm.submit(config, preempted_once)
    assert job.wait() is None
    outputs = [path.read_text() for path in sorted(job.paths.folder.glob("*_log.*"))]
    assert job.exception() is None, outputs
    assert sum("stopped by SIGUSR2 after 8 steps" in text for text in outputs) == 1
    assert sum("stopped by a signal to another process after 8 steps" in text for text in outputs) == 1
    assert _losses(tmp_path) == pytest.approx(losses, rel=1e-4)


def test_submitit_is_asked_for_by_name(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ffcv.errors import FfcvError

    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(FfcvError, match=r"needs submitit: install it with  pip install 'ffcv-ssl\[slurm\]'"):
        slurm.submit(digits.configuration(data, tmp_path), run)
