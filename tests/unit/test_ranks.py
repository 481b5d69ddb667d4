"""The ranks' parts of an epoch, and which rank this is."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DistributedSampler

from ffcv import Loader, OrderOption
from ffcv.loader.cut import Cut
from ffcv.traversal_order import TraversalOrder
from small_files import NUMBERS_ONLY, batches_of, flat, loader_of

COUNT = 103

pytestmark = pytest.mark.filterwarnings("ignore:the last global batch has")  # of fewer samples than ranks: its own test


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("order", list(OrderOption))
@pytest.mark.parametrize(("drop_last", "pad"), [(True, False), (False, False), (False, True)])
def test_the_ranks_together_have_the_dataset_once(
    numbers: Path, world_size: int, order: OrderOption, drop_last: bool, pad: bool
) -> None:
    ranks = [
        loader_of(numbers, order=order, rank=rank, world_size=world_size, drop_last=drop_last, pad=pad)
        for rank in range(world_size)
    ]
    parts = [batches_of(loader) for loader in ranks]
    assert [len(loader) for loader in ranks] == [len(part) for part in parts]
    together = sorted(flat([flat(part) for part in parts]))
    if drop_last:
        assert len(together) == len(set(together)) == COUNT // (4 * world_size) * 4 * world_size
    elif not pad:
        assert together == list(range(COUNT))
    else:
        assert set(together) == set(range(COUNT))
        assert len(together) - COUNT < world_size
        assert len({tuple(map(len, part)) for part in parts}) == 1  # the same sizes on every rank
    if order == OrderOption.SEQUENTIAL_CONTIGUOUS and not pad:
        for part in parts:
            assert np.all(np.diff(flat(part)) == 1)


@pytest.mark.parametrize("order", [OrderOption.SEQUENTIAL, OrderOption.RANDOM, OrderOption.QUASI_RANDOM])
def test_global_batches_do_not_depend_on_the_number_of_ranks(numbers: Path, order: OrderOption) -> None:
    def global_batches(world_size: int) -> list[list[int]]:
        options = {"order": order, "world_size": world_size, "batch_size": 24 // world_size}
        parts = [batches_of(loader_of(numbers, rank=rank, **options)) for rank in range(world_size)]
        return [flat([part[i] for part in parts if i < len(part)]) for i in range(len(parts[0]))]

    reference = global_batches(1)
    for world_size in (2, 3, 4, 8):
        assert global_batches(world_size) == reference


def test_ranks_that_would_disagree_are_warned_of(numbers: Path) -> None:
    less = "has 7 samples for 8 ranks: ranks from 7 on get one batch less"
    with pytest.warns(UserWarning, match=less) as made:
        Loader(numbers, 12, seed=0, rank=0, world_size=8, drop_last=False, pipelines=NUMBERS_ONLY)
    loader = loader_of(numbers, 8, rank=0, world_size=8)
    with pytest.warns(UserWarning, match=less) as changed:
        loader.batch_size = 12
    assert [warning.filename for warning in (*made, *changed)] == [__file__] * 2  # where the user is
    loader_of(numbers, 12, rank=0, world_size=8, pad=True)
    with pytest.raises(ValueError, match="on_error='skip' makes batches smaller on the rank"):
        loader_of(numbers, 12, rank=0, world_size=8, on_error="skip")


class OneRanksPart(TraversalOrder):
    """As FFCV's documentation and its users write orders for several ranks."""

    def __init__(self, loader: Loader) -> None:
        super().__init__(loader)
        if self.distributed:
            self.sampler = DistributedSampler(
                self.indices,  # type: ignore[arg-type]
                num_replicas=loader.world_size,
                rank=loader.rank,
                shuffle=False,
                seed=self.seed,
                drop_last=False,
            )

    def sample_order(self, epoch: int) -> np.ndarray:
        if not self.distributed:
            return self.indices[::-1]
        self.sampler.set_epoch(epoch)
        return self.indices[np.array(list(self.sampler))]


def test_orders_written_for_ffcv_are_cut_once(numbers: Path) -> None:
    loaders = [loader_of(numbers, order=OneRanksPart, rank=rank, world_size=2) for rank in range(2)]
    assert sorted(flat(flat(batches_of(loader)) for loader in loaders)) == list(range(COUNT))
    for size in (51, 52):
        with pytest.warns(UserWarning, match=rf"has {size} of 103 samples for 2 ranks: .* cut a second time"):
            loader_of(numbers, order=None, sampler=list(range(size)), rank=0, world_size=2)
    loader_of(numbers, order=None, sampler=list(range(50)), rank=0, world_size=2)
    loader_of(numbers, order=None, sampler=list(range(51)))


def test_ranks_from_the_environment(numbers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    loader = loader_of(numbers, distributed=True)
    assert (loader.rank, loader.world_size) == (3, 4)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    loader = loader_of(numbers, distributed=True)
    assert (loader.rank, loader.world_size) == (1, 2)
    loader = loader_of(numbers, distributed=True, rank=0, world_size=8)
    assert (loader.rank, loader.world_size) == (0, 8)
    loader = loader_of(numbers)
    assert (loader.rank, loader.world_size) == (0, 1)
    with pytest.warns(UserWarning, match="all use seed 0"):
        assert loader_of(numbers, distributed=True, seed=None).seed == 0
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(ValueError, match="RANK and WORLD_SIZE cannot be used"):
        loader_of(numbers, distributed=True)
    with pytest.raises(ValueError, match="belong together"):
        loader_of(numbers, rank=1)
    with pytest.raises(ValueError, match="got 2 of 2"):
        loader_of(numbers, rank=2, world_size=2)


def _seed_of_rank(rank: int, path: Path, folder: Path) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder / 'meet'}", rank=rank, world_size=2)
    loader = loader_of(path, distributed=True, seed=None)
    result = [loader.seed, loader.rank, *flat(batches_of(loader))]
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    (folder / f"rank{rank}").write_text(" ".join(map(str, result)))


def test_ranks_agree_on_a_seed_over_torch_distributed(numbers: Path, tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_seed_of_rank, args=(numbers, tmp_path), nprocs=2)
    results = [list(map(int, (tmp_path / f"rank{rank}").read_text().split())) for rank in range(2)]
    assert results[0][0] == results[1][0]
    assert [result[1] for result in results] == [0, 1]
    assert sorted(results[0][2:] + results[1][2:]) == list(range(COUNT))


def test_too_few_samples_for_a_batch(numbers: Path) -> None:
    with pytest.raises(ValueError, match=r"batch_size 60 on each of 2 ranks is more than the 103 samples.*at most 51"):
        loader_of(numbers, 60, rank=0, world_size=2, drop_last=True)
    assert len(loader_of(numbers, 200)) == 1


def test_cut_counts_what_it_cuts() -> None:
    for samples in range(30):
        for world_size in (1, 2, 3):
            for drop_last, pad in ((True, False), (False, False), (False, True)):
                for start in range(0, samples + 1, 6):
                    cuts = [Cut(2, rank, world_size, drop_last, pad) for rank in range(world_size)]
                    for cut in cuts:
                        assert len(list(cut.batches(samples, start))) == cut.count(samples - start)
