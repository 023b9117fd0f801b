"""Clocks that a test moves, and what goes by them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from registry_wsgi import DiskStore, ModelCache

HOUR = 3_600
DAY = 24 * HOUR
OLD = 30 * DAY
A_DAY = timedelta(days=1)


class Clock:
    """
    A clock that stands still until a test moves it.

    Args:
        now: Where it begins, in seconds; by default at the time of the system, which dates files.
    """

    def __init__(self, now: float | None = None) -> None:
        self.now = time.time() if now is None else now

    @classmethod
    def far_ahead(cls) -> Clock:
        """
        A clock far ahead of the system's: what a test makes is old until the test dates it.

        The time of a file's last change of any kind cannot be set, the one of its last write can.
        """
        return cls(int(time.time()) + 1_000 * DAY)

    def __call__(self) -> float:
        return self.now

    def move(self, **delta: float) -> None:
        """Move it by ``timedelta(**delta)``."""
        self.now += timedelta(**delta).total_seconds()

    @contextmanager
    def ago(self, seconds: float) -> Iterator[None]:
        """Do something in the past."""
        self.now -= seconds
        try:
            yield
        finally:
            self.now += seconds


def later(root: Path, passed: timedelta = timedelta(), **options: Any) -> ModelCache:
    """Open the models directory *root*, when so much time has *passed*."""
    seconds = passed.total_seconds()
    return ModelCache(DiskStore(root), clock=lambda: time.time() + seconds, **options)


def dated(status: os.stat_result, when: float) -> os.stat_result:
    """The same as *status*, but for all times."""
    times = {f"st_{kind}time": float(when) for kind in "amc"}
    nanos = {f"st_{kind}time_ns": int(when) * 1_000_000_000 for kind in "amc"}
    return os.stat_result((*status[:7], *3 * [int(when)]), times | nanos)
