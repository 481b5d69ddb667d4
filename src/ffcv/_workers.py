"""Runs `encode_chunk` in this thread, in threads or in worker processes, and yields the chunks in order.

Why not `ProcessPoolExecutor`: its workers share one pipe for their results. One that is killed in the middle of a
result leaves half a message there, for the rest of which the parent waits forever. Here every worker has a pipe of
its own, and its death is the end of that pipe.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_connections
from multiprocessing.process import BaseProcess
from queue import Empty, SimpleQueue
from typing import Any, Literal

from ffcv._encoding import EncodedChunk, Job, Work, encode_chunk
from ffcv.errors import WriteError

Backend = Literal["process", "thread"]

Chunks = Generator[EncodedChunk, None, None]

AHEAD = 2
"""How many chunks beyond the number of workers may wait for their turn to be written."""

Result = EncodedChunk | BaseException
"""What becomes of a chunk."""

EXIT_TIMEOUT_S = 5.0
FAULTS_TIMEOUT_S = 1.0
"""How long a fault waits for those of the chunks before it."""
STRAGGLERS_TIMEOUT_S = 1.0
"""How long a failed write waits for the threads that are still at a sample."""


class WorkerTraceback(Exception):
    """The traceback of an exception in a worker process, as text: the cause of its copy in the parent."""


def encode_all(
    job: Job,
    chunks: Iterable[Work],
    workers: int,
    backend: Backend,
    not_for_workers: Sequence[int] = (),
    timeout_s: float | None = None,
) -> Chunks:
    """Encodes the chunks in parallel and yields them in order; at most `workers + AHEAD` are held at a time.

    Args:
        job: What every worker needs to know.
        chunks: Which samples, a chunk each.
        workers: How many chunks are encoded at a time.
        backend: Threads or processes.
        not_for_workers: Descriptors that worker processes close at once: one that outlives its parent by a moment
            would keep the lock on the parent's file.
        timeout_s: How long no chunk may be finished before the workers count as hanging; None for ever. Without effect
            for one worker, which is this thread.

    Raises:
        WriteError: Soon after any worker has failed or died, whichever chunk it was at; or all hang. Of several bad
            samples it names the first, as with one worker, unless the chunks before take long to end.
    """
    if workers == 1:
        return (encode_chunk(job, work) for work in chunks)
    if backend == "thread":
        return _encode_in_threads(job, iter(chunks), workers, timeout_s)
    if multiprocessing.current_process().daemon:
        raise WriteError(
            f"{job.path}: this process is a daemon, as the workers of multiprocessing.Pool are, and may not start "
            "others: write with num_workers=1"
        )
    return _encode_in_processes(job, iter(chunks), workers, not_for_workers, timeout_s)


def _raise_first_fault(
    finished: dict[int, Result], next_out: int, collect: Callable[[float], dict[int, Result]]
) -> None:
    """Raises the fault of the first chunk that has failed, if any has.

    Chunks are begun in order, so that all before a failed one are finished or under way. They are waited for, but no
    longer than `FAULTS_TIMEOUT_S`.

    Args:
        finished: By number, what was collected.
        next_out: The first chunk whose turn has not come.
        collect: `collect(timeout)` gives what is finished within so many seconds.
    """
    give_up = time.monotonic() + FAULTS_TIMEOUT_S
    while faults := {number: result for number, result in finished.items() if isinstance(result, BaseException)}:
        first, left = min(faults), give_up - time.monotonic()
        if left <= 0 or all(number in finished for number in range(next_out, first)):
            raise faults[first]
        finished.update(collect(left))


def _hanging(job: Job, next_out: int, timeout_s: float | None) -> WriteError:
    return WriteError(
        f"{job.path}: no worker finished anything for {timeout_s} s, at chunk {next_out} or those that follow: "
        "stopped, deadlocked, or only slow? Run with num_workers=1 to see where, or raise timeout_s"
    )


def _encode_in_threads(job: Job, chunks: Iterator[Work], workers: int, timeout_s: float | None) -> Chunks:
    stop = threading.Event()
    waiting: SimpleQueue[tuple[int, Work] | None] = SimpleQueue()
    done: SimpleQueue[tuple[int, Result]] = SimpleQueue()
    threads: list[threading.Thread] = []
    finished: dict[int, Any] = {}
    numbered = enumerate(chunks)
    next_out = next_in = 0

    def collect(timeout: float | None) -> dict[int, Result]:
        try:
            number, result = done.get(timeout=timeout)
        except Empty:
            return {}
        return {number: result}

    try:
        while True:
            while next_in < next_out + workers + AHEAD and (work := next(numbered, None)) is not None:
                if len(threads) < workers:  # no more of them than there are chunks
                    thread = threading.Thread(target=_encode_queue, args=(job, stop, waiting, done), daemon=True)
                    thread.start()
                    threads.append(thread)
                waiting.put(work)
                next_in += 1
            if next_out == next_in:
                break
            while next_out not in finished or not done.empty():  # whichever fails, not only the next one
                if not (results := collect(timeout_s)):
                    raise _hanging(job, next_out, timeout_s)
                finished.update(results)
                _raise_first_fault(finished, next_out, collect)
            yield finished.pop(next_out)
            next_out += 1
    finally:
        stop.set()
        for _ in threads:
            waiting.put(None)
        # Not longer: a sample may take any time, and its thread ends with the process at the latest.
        deadline = time.monotonic() + STRAGGLERS_TIMEOUT_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def _encode_queue(
    job: Job,
    stop: threading.Event,
    waiting: SimpleQueue[tuple[int, Work] | None],
    done: SimpleQueue[tuple[int, Result]],
) -> None:
    """A worker thread: encodes what it is given until it is given None."""
    while (work := waiting.get()) is not None and not stop.is_set():
        try:
            done.put((work[0], encode_chunk(job, work[1], stop, BaseException)))
        except BaseException as error:
            done.put((work[0], error))


class _Worker:
    """A process that encodes chunks, one at a time."""

    def __init__(self, job: Job, not_for_it: Sequence[int]) -> None:
        # Forking lets scripts without a main guard and datasets that cannot be pickled work, as in the original.
        forks = sys.platform == "linux"
        context = multiprocessing.get_context("fork" if forks else None)
        self.connection, theirs = context.Pipe()
        inherited = tuple(not_for_it) if forks else ()
        self.process: BaseProcess = context.Process(target=_serve, args=(theirs, job, inherited), name="ffcv-write")
        with warnings.catch_warnings():
            # Python 3.12 warns of forking beside threads; `_serve` uses nothing that theirs could have locked.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.process.start()
        theirs.close()  # so that the worker holds the only other end, and its death closes the pipe
        self.number = -1
        self.work: Work = ()

    def send(self, number: int, work: Work, path: str) -> None:
        self.number, self.work = number, work
        try:
            self.connection.send(work)
        except OSError as error:
            raise self._death(path, "before") from error

    def receive(self, path: str) -> EncodedChunk | WriteError:
        try:
            result, report = self.connection.recv()
        except (EOFError, OSError) as error:
            death = self._death(path, "at one of")
            death.__cause__ = error
            return death
        if isinstance(result, WriteError):
            result.__cause__ = WorkerTraceback(f"in the worker process:\n{report}")
        return result

    def _death(self, path: str, when: str) -> WriteError:
        first, last = self.work[0][0], self.work[-1][0]
        return WriteError(
            f"{path}: a worker process died {when} the samples {first} to {last} (out of memory, or a crash in native "
            "code?); run with num_workers=1 to see where",
            first,
        )

    def stop(self, graceful: bool) -> None:
        if graceful:
            try:
                self.connection.send(None)
                self.process.join(EXIT_TIMEOUT_S)
            except OSError:
                pass  # it has died meanwhile, with its work done
        self.process.kill()
        self.process.join()
        self.process.close()
        self.connection.close()


def _encode_in_processes(
    job: Job, chunks: Iterator[Work], workers: int, not_for_workers: Sequence[int], timeout_s: float | None
) -> Chunks:
    pool: list[_Worker] = []
    finished: dict[int, Any] = {}
    numbered = enumerate(chunks)
    next_out = next_in = 0
    complete = False
    idle, busy = list[_Worker](), dict[Connection, _Worker]()

    def collect(timeout: float | None) -> dict[int, Result]:
        results: dict[int, Result] = {}
        for connection in wait_connections(list(busy), timeout):
            worker = busy.pop(connection)  # type: ignore[arg-type]
            results[worker.number] = worker.receive(job.path)
            idle.append(worker)
        return results

    try:
        while True:
            while len(busy) < workers and next_in < next_out + workers + AHEAD:
                if (numbered_work := next(numbered, None)) is None:
                    break
                if not idle:  # no more of them than there are chunks
                    pool.append(_Worker(job, not_for_workers))
                    idle.append(pool[-1])
                worker = idle.pop()
                worker.send(*numbered_work, job.path)
                busy[worker.connection] = worker
                next_in += 1
            if next_out in finished:
                yield finished.pop(next_out)
                next_out += 1
            elif busy:
                if not (results := collect(timeout_s)):
                    raise _hanging(job, next_out, timeout_s)
                finished.update(results)
                _raise_first_fault(finished, next_out, collect)
            else:
                break
        complete = True
    finally:
        for worker in pool:
            worker.stop(graceful=complete)


def _serve(connection: Connection, job: Job, inherited: Sequence[int]) -> None:
    """The worker process: encodes what it is sent until it is sent None."""
    for descriptor in inherited:
        os.close(descriptor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends us
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)  # the parent's handlers clean up after the parent
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    if "torch" in sys.modules:
        # A forked process inherits torch's record of threads that do not run here, and would wait for them.
        sys.modules["torch"].set_num_threads(1)
    while (work := connection.recv()) is not None:
        try:
            connection.send((encode_chunk(job, work, named=BaseException), ""))
        except WriteError as error:
            connection.send((error, traceback.format_exc()))


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_connections([parent.sentinel])
        os._exit(1)
