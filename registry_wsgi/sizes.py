"""
Sizes as people write them: ``0``, ``500MB``, ``200GB``, ``1.5TB``, ``50GiB``.

As where sizes are shown, 1 GB is 1,000,000,000 bytes; 1 GiB is 1,073,741,824. A number alone is of
bytes.
"""

from __future__ import annotations

import re

from .errors import InvalidSizeError, quote

__all__ = ["Size", "to_bytes"]

#: A size: a number of bytes, or the written form.
Size = int | str

_WRITTEN = re.compile(
    r"([0-9]{1,15})(\.[0-9]{1,9})?(?: ?([kmgtp])?(i)?b)?", re.ASCII | re.IGNORECASE
)


def to_bytes(size: Size) -> int:
    """
    Turn *size* into a number of bytes.

    Raises:
        InvalidSizeError: *size* is negative, no whole number, or not of the written form.
    """
    if isinstance(size, str):
        match = _WRITTEN.fullmatch(size)
        if match is None or (match[4] and not match[3]) or (match[2] and not match[3]):
            raise InvalidSizeError(f"invalid size {quote(size)}: write 0, 500MB, 200GB or 50GiB")
        power = " kmgtp".index((match[3] or " ").lower())
        unit: int = (1024 if match[4] else 1000) ** power
        return int(match[1]) * unit + int(float(match[2] or 0) * unit)
    if type(size) is not int or size < 0:
        raise InvalidSizeError(f"invalid size {size!r:.60}: it must be a number of bytes, or text")
    return size
