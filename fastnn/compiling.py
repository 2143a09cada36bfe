"""While kernels are compiled: who waits is told, and the garbage collector does not wait along.

A first training on a machine waits some seconds for its kernels. Whoever shows progress asks to be
told (`told`); if nobody does, a wait that has taken `SILENT_SECONDS` is logged once, as a warning,
which Python shows on standard error.
"""

import contextlib
import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO, TypeAlias

Listener: TypeAlias = Callable[[float], object]
"""A function of the seconds that the present wait has taken so far."""

SILENT_SECONDS = 3.0
"""So long may a wait be without a word, if nobody shows progress."""
NOTICED_SECONDS = 1.0
"""A wait of so many seconds is worth a word where progress is shown."""

# Kernels that are compiled one shortly after the other are one wait.
_SECONDS_BETWEEN_WAITS = 1.0

_SECONDS_BETWEEN_COLLECTIONS = 4.0

_logger = logging.getLogger("fastnn")


def message(seconds: float) -> str:
    """Return the line that tells of a wait.

    Examples
    --------
    >>> from fastnn.compiling import message
    >>> message(3.4)
    'compiling kernels, once on this machine: 3 s'
    """
    return f"compiling kernels, once on this machine: {seconds:.0f} s"


class _Wait:
    """The wait for kernels that goes on, or the last one, and the listeners of this process."""

    def __init__(self) -> None:
        self.listeners: list[Listener] = []
        self.total = 0.0  # seconds of all waits before
        self.seconds = 0.0  # of this wait, without what goes on
        self.collects = False  # whether garbage was collected before
        self.uncollected = 0.0  # seconds of compiling without
        self.depth = 0
        self.start_anew()

    def start_anew(self) -> None:
        """Forget what other threads compiled when this process was forked off."""
        if self.depth > 0 and self.collects:
            gc.enable()
        self.lock = threading.Lock()
        self.depth = 0  # compilations that go on, in all threads
        self.began, self.ended = 0.0, -float("inf")
        self.told_by: object = None  # a line, or this object, by the logger

    def begin(self) -> None:
        with self.lock:
            self.depth += 1
            if self.depth > 1:
                return
            self.began = time.perf_counter()
            if self.began - self.ended > _SECONDS_BETWEEN_WAITS:
                self.total, self.seconds, self.told_by = self.total + self.seconds, 0.0, None
            # A seventh of the time of compiling would go to searches for garbage in the compiler's
            # trees, which live until its end.
            self.collects = gc.isenabled()
            gc.disable()

    def end(self) -> None:
        with self.lock:
            self.depth -= 1
            if self.depth > 0:
                return
            self.uncollected += time.perf_counter() - self.began
            if self.collects:
                if self.uncollected > _SECONDS_BETWEEN_COLLECTIONS:
                    gc.collect()  # now, where it is part of the wait, and not in the training
                    self.uncollected = 0.0
                gc.enable()
            self.ended = time.perf_counter()
            self.seconds += self.ended - self.began
            listener = self.listeners[-1] if self.listeners else self.log
            seconds = self.seconds
        listener(seconds)

    def log(self, seconds: float) -> None:
        if seconds >= SILENT_SECONDS and self.told_by is None:
            self.told_by = self
            _logger.warning("%s", message(seconds))


_wait = _Wait()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_wait.start_anew)


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Surround what compiles a kernel. May be nested, also by several threads."""
    _wait.begin()
    try:
        yield
    finally:
        _wait.end()


def seconds_compiled() -> float:
    """Return how many seconds this process has compiled kernels, or loaded them from the cache."""
    with _wait.lock:
        return _wait.total + _wait.seconds


@contextlib.contextmanager
def told(listener: Listener) -> Iterator[None]:
    """Tell a function of each kernel that is compiled meanwhile; nothing is logged then.

    Parameters
    ----------
    listener : callable
        Called after each kernel with the seconds that this wait has taken so far. Of several
        listeners the last one is told.

    Examples
    --------
    >>> from fastnn.compiling import compiling, told
    >>> heard = []
    >>> with told(heard.append), compiling():
    ...     pass
    >>> len(heard)
    1
    """
    with _wait.lock:
        _wait.listeners.append(listener)
    try:
        yield
    finally:
        with _wait.lock:
            _wait.listeners.remove(listener)


def silent() -> contextlib.AbstractContextManager[None]:
    """Tell nobody of kernels that are compiled meanwhile."""
    return told(lambda seconds: None)


class Line:
    """A listener that tells of a wait on one line, once it is worth a word.

    On a terminal the line is written anew with each kernel, elsewhere it is written once. Of
    several lines only the first one tells of a wait.

    Parameters
    ----------
    stream : file, optional
        Default: standard error as it is at each call.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def __call__(self, seconds: float) -> None:
        """Tell of a wait that has taken some seconds so far."""
        stream = self._stream or sys.stderr
        if seconds < NOTICED_SECONDS or stream is None or _wait.told_by not in (None, self):
            return
        if _wait.told_by is None:
            print(message(seconds), file=stream, flush=True)
        elif stream.isatty():  # from the line above, which is cleared
            print(f"\x1b[A\r\x1b[K{message(seconds)}", file=stream, flush=True)
        _wait.told_by = self
