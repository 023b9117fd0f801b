"""
Patterns of model names, as a shell has them for files.

``*`` stands for any text, ``?`` for one character, ``[ab]`` for one of several and ``[!ab]`` for
any other. A text without them is a name, and stands for that model alone. Case does not matter. A
pattern is compared with the short name (without the host and namespace that are the defaults), and
if it has a slash also with the full one.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

from ..errors import InvalidNameError
from ..names import MAX_LENGTH, Name

__all__ = ["is_pattern", "matches", "normalize"]

_PATTERN = re.compile(rf"[A-Za-z0-9_.:/*?\[\]!-]{{1,{MAX_LENGTH}}}")


def is_pattern(text: str) -> bool:
    """Tell whether *text* has a wildcard, which no name can have."""
    return any(character in text for character in "*?[")


def normalize(text: str) -> str:
    """
    Write a name or pattern in the one form in which it is kept.

    Raises:
        InvalidNameError: *text* is no valid name, or has a character that no name has.
    """
    if not is_pattern(text):
        return Name.parse(text).short.lower()
    if _PATTERN.fullmatch(text) is None:
        raise InvalidNameError(text)
    return text.lower()


def matches(name: Name, pattern: str) -> bool:
    """Tell whether *pattern*, which `normalize` gave, stands for the model *name*."""
    if fnmatchcase(name.short.lower(), pattern):
        return True
    return "/" in pattern and fnmatchcase(str(name).lower(), pattern)
