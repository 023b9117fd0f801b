"""
How often a request to a bucket is repeated, and how long is waited in between.

Three things repeat requests. obstore and botocore repeat what got no answer, or the answer that the
store is busy: `obstore_retries` and `botocore_retries` are their settings. `retry` repeats a step
of ours that several requests make up, such as one that found that the object had just changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import StoreError
from .tuning import Tuning

if TYPE_CHECKING:
    from obstore.store import RetryConfig

__all__ = [
    "BusyError",
    "ChangedError",
    "botocore_retries",
    "obstore_retries",
    "polling",
    "retry",
    "until_unchanged",
]

_T = TypeVar("_T")

#: How often a request is repeated that may be.
REPEATS = 4


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
