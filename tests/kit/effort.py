"""How much of all that could be tried a run of the tests tries."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import TypeVar

_T = TypeVar("_T")

# Read here: the fixtures clear the environment of each test.
_SHARD = os.environ.get("REGISTRY_WSGI_SHARD") or "1/1"
_EXAMPLES = os.environ.get("REGISTRY_WSGI_EXAMPLES")


def sample(items: Iterable[_T], size: int) -> list[_T]:
    """At most *size* of *items*, always the same: the first, the last, and some evenly between."""
    given = list(items)
    if len(given) <= size:
        return given
    return [given[number * (len(given) - 1) // (size - 1)] for number in range(size)]


def shard(items: Iterable[_T], which: str = _SHARD) -> list[_T]:
    """
    One part of *items*.

    Args:
        which: ``k/n``, from 1/n to n/n, for the k-th of n parts, which together have each item
            once. It comes from ``REGISTRY_WSGI_SHARD``; without that, all are one part.
    """
    numbers = re.fullmatch(r"(\d+)/(\d+)", which)
    part, parts = map(int, numbers.groups()) if numbers else (0, 0)
    if not 1 <= part <= parts:
        raise ValueError(f"REGISTRY_WSGI_SHARD is {which!r}: write k/n, with k from 1 to n")
    return list(items)[part - 1 :: parts]


class Effort:
    """
    How much a test tries; see the fixture ``effort``.

    Args:
        everything: Whether to try all, or the part of it that the environment names.
    """

    def __init__(self, *, everything: bool) -> None:
        self.everything = everything

    def choose(self, items: Iterable[_T], size: int = 12) -> list[_T]:
        """Those of *items* to try: a `shard` of them, or else a `sample` of that *size*."""
        return shard(items) if self.everything else sample(items, size)

    def examples(self, usual: int) -> int:
        """How many generated examples to try: *usual* ones, or as many as the environment says."""
        return int(_EXAMPLES or 10_000) if self.everything else usual
