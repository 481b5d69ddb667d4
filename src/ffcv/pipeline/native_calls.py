"""Functions that call the core, for users' code: plain, or compiled by numba, which then calls back into Python."""

from __future__ import annotations

import contextlib
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ffcv._forks import ForkSafeLock

Function = TypeVar("Function", bound=Callable[..., Any])


class _Here(threading.local):
    errors: list[Exception] | None = None  # of the code that runs in this thread


_here = _Here()
_running: dict[int, list[Exception]] = {}  # the errors of all code that runs now, by id
_unknown: list[Callable[..., Any]] = []  # what numba has not been told of
_TELLING = ForkSafeLock()


def native(function: Function) -> Function:
    """Lets code that numba compiles call `function`, by position, which returns an int or None (0 there).

    `Compiler.compile` leaves it as it is. Compiled code may be in the middle of a parallel loop, which cannot raise:
    there, what fails returns 1, and `raising` raises; outside of it, the error is printed.
    """
    vars(function)["is_native"] = True
    _unknown.append(function)
    return function


def tell_numba(numba: Any) -> None:
    """Tells numba of all `native` functions, once."""
    with _TELLING:
        while _unknown:
            _tell(numba, _unknown[-1])
            _unknown.pop()


def _tell(numba: Any, function: Callable[..., Any]) -> None:
    def call(arguments: tuple[Any, ...]) -> int:
        try:
            return int(function(*arguments) or 0)
        except Exception as error:
            # numba's own threads do not know for whom they work: better one error too many than a wrong pixel
            waiting = list(_running.values()) if _here.errors is None else [_here.errors]
            for errors in waiting:
                errors.append(error)
            if not waiting:  # called outside of a loader
                traceback.print_exception(error)
            return 1

    objmode = numba.objmode

    def compiled(*arguments: Any) -> Any:
        with objmode(status="int64"):
            status = call(arguments)
        return status

    def implementation(*arguments: Any) -> Any:  # numba wants the same signature, annotations included
        return compiled

    numba.extending.overload(function)(implementation)


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """Around users' code: raises the first error that `native` functions had in compiled code meanwhile."""
    errors: list[Exception] = []
    outer, _here.errors = _here.errors, errors
    _running[id(errors)] = errors
    try:
        yield
    finally:
        _here.errors = outer
        del _running[id(errors)]
    if errors:
        raise errors[0]
