"""Compiles users' operations with numba, where it is installed; without it they run as plain Python."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import os
import warnings
from collections.abc import Callable
from typing import Any

from ffcv._forks import ForkSafeLock
from ffcv.pipeline.native_calls import tell_numba

_PARALLEL = ForkSafeLock()  # numba's own thread pool serves one caller at a time, and may end the process otherwise
_launched: int | None = None  # the process in which numba has made its threads


class Compiler:
    """The original's switchboard. What is set here holds for the whole process.

    Attributes:
        is_enabled: Compile at all.
        num_threads: Above 1, operations with `is_parallel` run their `get_iterator()` loops in parallel.
    """

    is_enabled: bool = True
    num_threads: int = 1

    @classmethod
    def set_enabled(cls, b: bool) -> None:
        cls.is_enabled = bool(b)

    @classmethod
    def set_num_threads(cls, n: int) -> None:
        """Threads of parallel operations; below 1: all cores. torch's own threads are left alone."""
        from ffcv.cores import available_cores

        cls.num_threads = available_cores() if n < 1 else n

    @classmethod
    def available(cls) -> bool:
        """Whether code will be compiled."""
        return cls.is_enabled and _numba() is not None

    @classmethod
    def get_iterator(cls) -> Callable[..., Any]:
        """numba's `prange` where loops can run in parallel, else `range`."""
        numba = _numba()
        return numba.prange if cls.is_enabled and cls.num_threads > 1 and numba is not None else range

    @classmethod
    def compile(cls, code: Callable[..., Any], signature: Any = None) -> Callable[..., Any]:
        """`code`, compiled by numba without the GIL at its first call, or now for a `signature`; `code` itself where
        numba is absent or switched off, or has compiled it, or where it `is_native`: calls the core."""
        if not cls.available() or _is_compiled(code):
            return code
        parallel = bool(getattr(code, "is_parallel", False)) and cls.num_threads > 1
        return _jit(code, parallel, *(() if signature is None else (signature,)))

    @classmethod
    def guarded(cls, code: Callable[..., Any]) -> Callable[..., Any]:
        """What the loader calls: `code` compiled, or plain, with a warning, as soon as numba fails to compile it."""
        if cls.available() and not _is_compiled(code) and not inspect.isfunction(code):
            _warn(code, "it compiles functions, but no methods or other objects")
            return code
        compiled = cls.compile(code)
        if compiled is code:
            return code
        return _Guarded(code, compiled)


class _Guarded:
    def __init__(self, plain: Callable[..., Any], compiled: Any) -> None:
        self._plain = plain
        self._compiled: Any = compiled
        self._parallel = bool(compiled.targetoptions.get("parallel")) if hasattr(compiled, "targetoptions") else True

    def __call__(self, *args: Any) -> Any:
        if self._compiled is None:
            return self._plain(*args)
        numba: Any = _numba()
        if self._parallel and _threads_stayed_behind():
            self._compiled, self._parallel = _jit(self._plain, parallel=False), False
        try:
            if not self._parallel:
                return self._run(args)
            with _PARALLEL:
                _note_launch()
                numba.set_num_threads(min(Compiler.num_threads, numba.config.NUMBA_NUM_THREADS))
                return self._run(args)
        except Exception as error:
            of_numba = isinstance(error, numba.core.errors.NumbaError | numba.core.errors.UnsupportedBytecodeError)
            if not of_numba and getattr(self._compiled, "signatures", ()):  # compiled: the error is the code's own
                raise
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            _warn(self._plain, first)
            self._compiled = None
            return self._plain(*args)

    def _run(self, args: tuple[Any, ...]) -> Any:
        compiled = self._compiled  # None where another thread has met the error meanwhile
        return self._plain(*args) if compiled is None else compiled(*args)


def _is_compiled(code: Callable[..., Any]) -> bool:
    return hasattr(code, "py_func") or bool(getattr(code, "is_native", False))


def _warn(code: Callable[..., Any], reason: str) -> None:
    name = getattr(code, "__qualname__", repr(code))
    warnings.warn(f"numba cannot compile {name}, which now runs as plain Python: {reason}", stacklevel=3)


def _jit(code: Callable[..., Any], parallel: bool, *signature: Any) -> Any:
    numba: Any = _numba()
    options = {"nopython": True, "nogil": True, "error_model": "numpy", "parallel": parallel}
    return numba.jit(*signature, **options)(code)


def _note_launch() -> None:
    global _launched
    _launched = os.getpid()


def _threads_stayed_behind() -> bool:
    """Whether this is a fork of the process that has numba's threads: numba ends it at the next parallel loop."""
    return _launched is not None and _launched != os.getpid()


@functools.cache
def _numba() -> Any:
    if importlib.util.find_spec("numba") is None:
        return None
    numba = importlib.import_module("numba")
    tell_numba(numba)
    return numba
