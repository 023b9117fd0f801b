"""
Sizes, times, numbers and names as people read them.

The command line and the storage page write them alike, so both have them from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from .errors import InvalidNameError, escape
from .names import Name

__all__ = [
    "counted",
    "format_day",
    "format_size",
    "format_time",
    "made_by",
    "short_name",
    "short_names",
]

_UNITS = ("kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")

# How many names stand in one line of a table.
_NAMED = 3


def format_size(size: int) -> str:
    """Write a size in bytes with a unit; an absurd one, as a manifest may have, as 1,000 YB."""
    if size < 1_000:
        return counted(size, "byte")
    power = min((len(str(min(size, 10**27))) - 1) // 3, len(_UNITS))
    return f"{min(size, 10**27) / 1_000**power:,.1f} {_UNITS[power - 1]}"


def format_time(when: datetime) -> str:
    """Write a time by the clock of this machine."""
    try:
        return f"{when.astimezone():%Y-%m-%d %H:%M}"
    except (OverflowError, ValueError):  # past the last date of the calendar: never
        return f"{when:%Y-%m-%d %H:%M}"


def format_day(when: datetime) -> str:
    """Write a day by the clock of this machine."""
    return format_time(when).partition(" ")[0]


def counted(number: int, noun: str) -> str:
    """Write a number with a noun, in the plural unless the number is 1."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def short_name(name: str) -> str:
    """
    Write the name of a model without the host and namespace that are the defaults.

    What is no valid name, as the path of a manifest in the wrong place, is only made printable.
    """
    try:
        return Name.parse(name).short
    except InvalidNameError:
        return escape(name)


def short_names(names: Sequence[str], count: int) -> str:
    """Write the first of *names*, and how many more there are of *count* models."""
    if not names:
        return counted(count, "model") if count else ""
    more = max(count, len(names)) - min(len(names), _NAMED)
    first = ", ".join(map(short_name, names[:_NAMED]))
    return f"{first} and {more:,} more" if more else first


def made_by(user: str | None, source: str | None) -> str:
    """Write who made a change and from where, as far as that is known."""
    return ", ".join(escape(text) for text in (user, source) if text)
