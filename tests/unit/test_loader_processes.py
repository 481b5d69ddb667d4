"""Loaders and processes: forked, spawned, pickled, interrupted, ended in mid-epoch."""

import os
import pickle
import signal
import subprocess
from pathlib import Path

import pytest
import torch

import own_process
from ffcv import Loader, OrderOption
from ffcv.cores import available_cores
from photo_loaders import centre_crops

COUNT = 24


def test_a_loader_works_in_a_forked_process(beton: Path) -> None:
    result = own_process.run(f"""
        import os, sys
        from pathlib import Path
        from ffcv import Loader
        from ffcv.transforms import CenterCrop
        pipelines = {{"image": [CenterCrop((16, 16), 1.0)]}}
        loader = Loader(Path({str(beton)!r}), 4, num_workers=2, seed=1, pipelines=pipelines)
        iterator = iter(loader)
        next(iterator)
        child = os.fork()
        if child == 0:
            try:
                next(iterator)
            except RuntimeError as error:
                assert "forked" in str(error), error
                batches = list(loader)
                assert len(batches) == 6, len(batches)
                loader.close()
                sys.exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(list(iterator)))
    """)
    assert (result.returncode, result.stdout) == (0, "7 5\n"), result.stderr


def test_a_forked_process_ends_in_silence(beton: Path) -> None:
    """The loader's thread has stayed in the parent, and what it held is never let go in the child."""
    result = own_process.run(f"""
        import os, sys
        from ffcv import Loader
        from ffcv.transforms import CenterCrop
        iterator = iter(Loader({str(beton)!r}, 4, pipelines={{"image": [CenterCrop((16, 16), 1.0)]}}))
        next(iterator)
        child = os.fork()
        if child == 0:
            del iterator
            sys.exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(list(iterator)))
    """)
    assert (result.returncode, result.stdout, result.stderr) == (0, "7 5\n", "")


def test_a_pickled_loader_goes_on_where_it_is_opened(beton: Path) -> None:
    loader = centre_crops(beton, order=OrderOption.RANDOM, seed=None)
    list(loader)
    other = pickle.loads(pickle.dumps(loader))
    for one, two in zip(loader, other, strict=True):
        assert torch.equal(one.image, two.image)
    state = centre_crops(beton, order=OrderOption.RANDOM, seed=77).state_dict()
    pickle.loads(pickle.dumps(loader)).load_state_dict(state)  # its seed was drawn, and may still be another
    loader.load_state_dict(loader.state_dict() | {"epoch": 3, "samples_consumed": 8})
    assert len(list(pickle.loads(pickle.dumps(loader)))) == COUNT // 4 - 2
    loader.load_state_dict(loader.state_dict() | {"epoch": 3, "samples_consumed": COUNT})
    loader.set_epoch(3)  # nothing is left of it, and that was asked for
    assert list(pickle.loads(pickle.dumps(loader))) == []


def test_a_pickled_loader_keeps_the_parts_of_a_contiguous_order(beton: Path) -> None:
    two = centre_crops(beton, order=OrderOption.SEQUENTIAL_CONTIGUOUS, rank=0, world_size=2)
    next(iter(two))
    one = centre_crops(beton, order=OrderOption.SEQUENTIAL_CONTIGUOUS)
    one.load_state_dict(two.state_dict())
    other = pickle.loads(pickle.dumps(one))
    assert [batch.label.tolist() for batch in other] == [batch.label.tolist() for batch in one]


class Images(torch.utils.data.Dataset):
    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.loader[index].image


def test_a_loader_serves_a_torch_data_loader_of_spawned_processes(
    beton: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    loader = centre_crops(beton, seed=5)
    loader[0]  # used before
    plain = torch.utils.data.DataLoader(Images(loader), 12, num_workers=1, multiprocessing_context="spawn")
    whole = torch.cat(list(plain))
    assert torch.equal(whole, torch.stack([loader[i].image for i in range(COUNT)]))
    assert "leaked" not in capfd.readouterr().err  # the worker's threads keep its dataset to the end


def test_ctrl_c_ends_a_wait(beton: Path) -> None:
    code = f"""
        import signal, threading, torch
        from ffcv import Loader
        from ffcv.transforms import CenterCrop, ToTensor
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits "ignore"
        class Stuck(torch.nn.Module):
            def forward(self, x):
                print("waiting", flush=True)
                threading.Event().wait(3)
                return x
        loader = Loader({str(beton)!r}, 4, pipelines={{"image": [CenterCrop((16, 16), 1.0), ToTensor(), Stuck()]}})
        try:
            next(iter(loader))
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    process = subprocess.Popen(own_process.command(code), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[0].splitlines()[-1] == "interrupted"
    assert process.returncode == 0


def test_leaving_in_mid_epoch_is_clean(beton: Path) -> None:
    result = own_process.run(f"""
        from ffcv import Loader
        from ffcv.transforms import RandomResizedCrop
        loaders = [Loader({str(beton)!r}, 1, os_cache=c, pipelines={{"image": [RandomResizedCrop((224, 224))]}})
                   for c in (True, False)]
        iterators = [iter(loader) for loader in loaders for _ in range(3)]
        for iterator in iterators:
            next(iterator)
        iter(loaders[0])
        print("leaving")
    """)
    assert (result.returncode, result.stdout, result.stderr) == (0, "leaving\n", "")


def test_a_daemon_thread_may_keep_a_loader_to_the_end(beton: Path) -> None:
    result = own_process.run(f"""
        import threading
        from ffcv import Loader
        from ffcv.transforms import CenterCrop
        begun = threading.Event()
        def consume():
            for batch in Loader({str(beton)!r}, 1, pipelines={{"image": [CenterCrop((16, 16), 1.0)]}}):
                begun.set()
                threading.Event().wait()
        threading.Thread(target=consume, daemon=True).start()
        print(begun.wait(30))
    """)
    assert (result.returncode, result.stdout, result.stderr) == (0, "True\n", "")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity masks")
def test_cores_follow_the_affinity_mask() -> None:
    one = min(os.sched_getaffinity(0))
    result = own_process.run(f"""
        import os
        os.sched_setaffinity(0, {{{one}}})
        from ffcv.cores import available_cores
        print(available_cores())
    """)
    assert result.stdout == "1\n", result.stderr
    assert 1 <= available_cores() <= len(os.sched_getaffinity(0))
