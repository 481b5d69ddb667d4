"""What the copies to GPUs do in which order, on a CPU with stand-ins; the real thing is tests/gpu."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ffcv.loader import cuda
from ffcv.loader.cuda import Copies, SideStreams, hand_over, tensors_in
from ffcv.loader.production import Production


class Event:
    """Done as soon as somebody has waited for it."""

    def __init__(self) -> None:
        self.done = False

    def query(self) -> bool:
        return self.done

    def synchronize(self) -> None:
        self.done = True


class Stream:
    def __init__(self, index: int = 0) -> None:
        self.device = torch.device("cuda", index)
        self.events: list[Event] = []
        self.waited_for: list[Any] = []

    def record_event(self) -> Event:
        self.events.append(Event())
        return self.events[-1]

    def wait_stream(self, other: Any) -> None:
        self.waited_for.append(other)

    def wait_event(self, event: Any) -> None:
        self.waited_for.append(event)


@pytest.fixture
def current(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stands in for torch.cuda; says which device is the caller's."""
    state = SimpleNamespace(device=0, streams={index: Stream(index) for index in range(3)}, entered=[])
    monkeypatch.setattr(torch.cuda, "current_device", lambda: state.device)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: state.streams[torch.device(device).index])
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext(state.entered.append(stream.device.index)))
    monkeypatch.setattr(torch.cuda, "device", lambda index: nullcontext(state.entered.append(f"current {index}")))
    return state


def test_a_device_without_a_number_is_the_callers_and_streams_are_made_once(current: SimpleNamespace) -> None:
    streams = SideStreams([torch.device("cuda")])
    current.device = 1
    first, second = streams.begin(), streams.begin()
    assert first is not None
    assert second is not None
    assert [stream.device.index for stream in first._streams] == [1]
    assert first._streams[0] is second._streams[0]
    assert first._streams[0].waited_for == [current.streams[1]] * 2  # type: ignore[attr-defined]
    assert SideStreams([]).begin() is None


def test_every_device_has_its_stream_and_event(current: SimpleNamespace) -> None:
    copies = SideStreams([torch.device("cuda", 2), torch.device("cuda")]).begin()
    assert copies is not None
    batch, copied = copies.make(lambda held: "batch")
    assert batch == "batch"
    assert current.entered == [0, 2, "current 0"]
    assert copied == [stream.events[0] for stream in copies._streams]  # type: ignore[attr-defined]
    assert len(copied) == 2


def test_memory_is_kept_until_its_copies_have_ended_also_where_making_fails(current: SimpleNamespace) -> None:
    stream = Stream()
    copies = Copies([stream], 0)  # type: ignore[list-item]
    slot = np.zeros(3)

    def fails(held: list[np.ndarray]) -> None:
        held.append(slot)
        raise RuntimeError("no good")

    with pytest.raises(RuntimeError, match="no good"):
        copies.make(fails)
    assert [held for _, held in copies._pending] == [[slot]]
    copies.drain()
    assert stream.events[0].done
    assert not copies._pending


def test_at_most_two_copies_are_under_way(current: SimpleNamespace) -> None:
    stream = Stream()
    copies = Copies([stream], 0)  # type: ignore[list-item]
    for number in range(4):
        copies.make(lambda held: None)
        assert [event.done for event in stream.events] == [True] * max(0, number - 1) + [False] * min(2, number + 1)


def test_copies_are_waited_for_even_if_reading_ends_badly() -> None:
    class Pairs:
        def close(self) -> None:
            raise OSError("reading")

    drained = []
    production = Production.__new__(Production)
    production._maker = SimpleNamespace(copies=SimpleNamespace(drain=lambda: drained.append(1)))  # type: ignore[assignment]
    production._inputs = Pairs()
    with pytest.raises(OSError, match="reading"):
        production.close()
    assert drained == [1]


def test_tensors_are_found_wherever_they_are() -> None:
    one, two, three, four = (torch.tensor(i) for i in range(4))
    batch = (one, {"a": [two, "text"], "b": np.zeros(2)}, (three, {"deep": (four,)}), None)
    assert [int(tensor) for tensor in tensors_in(batch)] == [0, 1, 2, 3]


def test_handing_over_reaches_nested_tensors_on_every_device(
    current: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = []

    def tensor(index: int) -> Any:
        return SimpleNamespace(is_cuda=True, device=torch.device("cuda", index), record_stream=recorded.append)

    monkeypatch.setattr(cuda, "tensors_in", lambda batch: iter(batch))
    events = [Event(), Event()]
    hand_over([tensor(0), tensor(1), tensor(1)], events)
    assert current.streams[0].waited_for == current.streams[1].waited_for == events
    assert recorded == [current.streams[0], current.streams[1], current.streams[1]]
