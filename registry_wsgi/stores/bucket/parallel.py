"""Many requests at once, and many objects by one request."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from .tuning import Tuning

__all__ = ["at_once", "batches"]

_T = TypeVar("_T")
_U = TypeVar("_U")


def batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """Split *items* into lists of at most *size*."""
    rest = iter(items)
    while some := [*itertools.islice(rest, size)]:
        yield some


def at_once(function: Callable[[_T], _U], items: Iterable[_T], tuning: Tuning) -> Iterator[_U]:
    """Call *function* with each of *items*, several at a time; what it gave, in order."""
    # Not above: who only deletes a model need not load it.
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    for some in batches(items, tuning.page):
        if len(some) == 1:
            yield function(some[0])
            continue
        with ThreadPoolExecutor(tuning.threads) as pool:
            results = [*pool.map(function, some)]
        yield from results
