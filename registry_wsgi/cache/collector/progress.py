"""Telling a hook how far a run is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

__all__ = ["OutOfTimeError", "Progress", "counted", "in_time"]

_T = TypeVar("_T")

#: Called with what is being done, how much of it is done and how much there is (None: not known).
Progress = Callable[[str, int, int | None], None]

# A progress hook is called this often, in seconds, and each time that this part of all is done.
_SECONDS = 0.2
_PARTS = 100


class OutOfTimeError(Exception):
    """A reading took longer than a client is to wait for."""


def in_time(progress: Progress | None, deadline: float | None) -> Progress | None:
    """Make a hook that tells *progress*, and raises `OutOfTimeError` after *deadline*."""
    if deadline is None:
        return progress

    def hook(what: str, done: int, total: int | None) -> None:
        if time.monotonic() > deadline:
            raise OutOfTimeError
        if progress is not None:
            progress(what, done, total)

    return hook


def counted(
    progress: Progress | None,
    what: str,
    steps: Iterable[_T],
    total: int | None = None,
    size: Callable[[_T], int] = lambda _: 1,
) -> Iterable[_T]:
    """Pass *steps* on, and tell *progress* about them; *size* is how much a step gets done."""
    return steps if total == 0 else _count(progress or silent, what, steps, total, size)


def silent(what: str, done: int, total: int | None) -> None:
    """Take no note of the progress."""


def _count(
    progress: Progress,
    what: str,
    steps: Iterable[_T],
    total: int | None,
    size: Callable[[_T], int],
) -> Iterator[_T]:
    done = 0
    told, when = 0, -math.inf
    part = math.inf if total is None else total / _PARTS
    for step in steps:
        now = time.monotonic()
        if now >= when + _SECONDS or done - told >= part:
            progress(what, done, total)
            told, when = done, now
            # Where threads are greenlets (gevent, eventlet), nobody else is served until then.
            time.sleep(0)
        yield step
        done += size(step)
    progress(what, done, done if total is None else total)
