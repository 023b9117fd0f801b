"""Telling a hook how far a run is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

__all__ = ["Progress", "counted"]

_T = TypeVar("_T")

#: Called with what is being done, how much of it is done and how much there is (None: not known).
Progress = Callable[[str, int, int | None], None]

_EVERY = 1_000  # how many steps lie between two calls of a progress hook


def counted(
    progress: Progress | None, what: str, steps: Iterable[_T], total: int | None = None
) -> Iterable[_T]:
    """Pass *steps* on, and tell *progress* about them."""
    return steps if progress is None else _count(progress, what, steps, total)


def _count(progress: Progress, what: str, steps: Iterable[_T], total: int | None) -> Iterator[_T]:
    done = 0
    for step in steps:
        if done % _EVERY == 0:
            progress(what, done, total)
        yield step
        done += 1
    progress(what, done, done if total is None else total)
