"""
Sizes, times, numbers and names as people read them.

The command line and the storage page write them alike, so both have them from here.
"""

from __future__ import annotations

from datetime import datetime

from .errors import InvalidNameError, escape
from .names import Name

__all__ = ["counted", "format_day", "format_size", "format_time", "short_name"]

_UNITS = ("kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")


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
