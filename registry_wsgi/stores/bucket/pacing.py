"""
How requests to a bucket are paced: how many run at once, how long each waits, and when to repeat.

Three parts repeat requests. obstore and botocore repeat one that got no answer, or the answer that
the store is busy: `obstore_retries` and `botocore_retries` are their settings. `retry` repeats a
step of ours that takes several requests, such as one that met an object that had just changed.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import StoreError

if TYPE_CHECKING:
    from obstore.store import RetryConfig

__all__ = [
    "REPEATS",
    "BusyError",
    "ChangedError",
    "Tuning",
    "at_once",
    "batches",
    "botocore_retries",
    "obstore_retries",
    "polling",
    "retry",
    "until_unchanged",
]

_T = TypeVar("_T")
_U = TypeVar("_U")


#: How often a request is repeated, if repeating it does no harm.
REPEATS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """
    How a store in a bucket paces its requests, and how long it waits for other processes.

    The defaults are safe on every store that the documentation names. The times belong together:
    *marking* must stay well below *at_work*, and every process that uses a bucket must have the
    same *at_work*.

    Attributes:
        page: How many objects are listed, or deleted, by one request. S3 allows 1,000.
        threads: How many requests are under way at once, where there are many.
        few: Up to how many objects are looked at one by one. For more, the listing is read: one
            page of it costs as much as one look.
        density: How many entries of a listing are read for each object that is looked for in it.
            If more other entries lie between them, the objects are looked at one by one. So a few
            objects never cost all pages of a large bucket.
        index_after: How many objects a reading must have added to the index to write it at once,
            rather than leave that to the next prune.
        attempts: How often a step is taken again because the object was changed just before it.
        at_work: For how long a tombstone or a mark may belong to a process that is still at work,
            in seconds. It must be longer than the few requests that follow it can take (each is
            given *read_timeout*, and repeated), plus the difference of the clocks. Until then
            nobody removes a tombstone or takes its place, as that process deletes whatever is
            there.
        marking: How long it may take from the first mark of a batch to the delete that hides its
            blobs, in seconds. Later than *at_work* others may take the marks for abandoned.
        opening: How long the request that opens a bucket waits for an answer, in seconds. It is
            tried twice: a store that accepts and never answers is given up before the time limit
            of a worker of a server.
        patience: How long *restore* and *protect* wait for a process that is just removing what
            is in their place, in seconds.
        poll: How long such a wait sleeps between two looks, in seconds.
        bury_pauses: How long to wait before each further try to remove a tombstone, in seconds.
        clock_skew: How much the clock here and that of the store may differ, in seconds. Ages are
            meaningless with more.
        probe_age: From what age on an object below ``probe/`` was left by a killed process, in
            seconds.
        history: How many of the last changes are kept for `registry_wsgi.ModelCache.history`, each
            an object below ``history/``; a prune removes older ones. That is one more request for
            each change, for which no delete waits, and one for each when they are listed. 0: none
            are kept.
    """

    page: int = 1_000
    threads: int = 16
    few: int = 50
    density: int = 100
    index_after: int = 200
    attempts: int = 10
    at_work: float = 600
    marking: float = 150
    opening: float = 4
    patience: float = 5
    poll: float = 0.05
    bury_pauses: tuple[float, ...] = (0.1, 0.5, 2.0)
    clock_skew: float = 300
    probe_age: float = 3600
    history: int = 0


class ChangedError(StoreError):
    """An object has changed just before the write that was to replace it."""


class BusyError(StoreError):
    """Another process is just removing an object."""


def retry(
    step: Callable[[], _T],
    *,
    on: type[Exception] | tuple[type[Exception], ...],
    pauses: Iterable[float],
) -> _T:
    """
    Take *step*, and take it again after each of *pauses* (seconds) as long as it raises *on*.

    Raises:
        Exception: What the last try has raised.
    """
    for pause in pauses:
        try:
            return step()
        except on:
            if pause:
                time.sleep(pause)
    return step()


def until_unchanged(step: Callable[[], _T], tuning: Tuning) -> _T:
    """
    Take *step*, again and again if it raises `ChangedError`.

    Raises:
        ChangedError: It still does after as many tries as the store is tuned to.
    """
    return retry(step, on=ChangedError, pauses=(0,) * (tuning.attempts - 1))


def polling(patience: float, pause: float) -> Iterator[float]:
    """Give *pause* again and again, until *patience* seconds have passed."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        yield pause


def obstore_retries(repeats: int, read_timeout: float) -> RetryConfig:
    """Make the settings by which obstore repeats a request *repeats* times."""
    return {
        "max_retries": repeats,
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=3),
            "base": 2,
        },
        "retry_timeout": timedelta(seconds=2 * read_timeout),
    }


def botocore_retries() -> dict[str, Any]:
    """Make the settings by which botocore repeats a request as often as obstore does."""
    return {"total_max_attempts": 1 + REPEATS, "mode": "standard"}


def batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """Split *items* into lists of at most *size*."""
    rest = iter(items)
    while some := [*itertools.islice(rest, size)]:
        yield some


def at_once(function: Callable[[_T], _U], items: Iterable[_T], tuning: Tuning) -> Iterator[_U]:
    """Call *function* with each of *items*, several at a time; what it gave, in order."""
    # Not imported above: a delete of a model does not need it.
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    for some in batches(items, tuning.page):
        if len(some) == 1:
            yield function(some[0])
            continue
        with ThreadPoolExecutor(tuning.threads) as pool:
            results = [*pool.map(function, some)]
        yield from results
