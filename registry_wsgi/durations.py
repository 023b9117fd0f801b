"""
Durations as people write them: ``0``, ``90s``, ``15m``, ``12h``, ``7d``, ``2w``.

Python code passes `datetime.timedelta`, or a number of seconds; the command line, the environment
and JSON use the written form.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta

from .errors import InvalidDurationError, quote

__all__ = ["Duration", "moment", "to_micros", "to_seconds"]

#: A duration: a `datetime.timedelta`, a number of seconds, or the written form.
Duration = timedelta | float | str

_WRITTEN = re.compile(r"([0-9]{1,9})([smhdw])|0", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def to_seconds(duration: Duration) -> float:
    """
    Turn *duration* into seconds.

    Raises:
        InvalidDurationError: *duration* is negative, no number, or not of the written form.
    """
    if isinstance(duration, str):
        match = _WRITTEN.fullmatch(duration)
        if match is None:
            raise InvalidDurationError(
                f"invalid duration {quote(duration)}: write 0, 90s, 15m, 12h, 7d or 2w"
            )
        return float(match[1] or 0) * _SECONDS[match[2] or "s"]
    try:
        seconds = duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
    except OverflowError:
        seconds = math.inf
    if not (math.isfinite(seconds) and seconds >= 0):
        raise InvalidDurationError(
            f"invalid duration {duration!r:.60}: it must be neither negative nor endless"
        )
    return seconds


def to_micros(when: float) -> int:
    """Turn seconds since the epoch into whole microseconds, never later than *when*."""
    micros = round(when * 1_000_000)
    return micros - (micros / 1_000_000 > when)


def moment(when: float) -> datetime:
    """Turn seconds since the epoch into a time (UTC); past the calendar, the last time there is."""
    try:
        return datetime.fromtimestamp(when, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.max.replace(tzinfo=UTC)
