"""The walk through one entry of the trash, which only we make: no link is followed there."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

from ...errors import quote
from .system import Reported

__all__ = ["keys_in_entry"]

_log = logging.getLogger("registry_wsgi")

# How many directories a key has: host, namespace, model.
_DEPTH = 3


def keys_in_entry(path: str) -> Iterator[str]:
    """
    List the keys of the manifests in the entry *path* of the trash, and warn of what else is there.

    Raises:
        StoreError: One of its directories cannot be read.
    """
    yield from _below(f"{path}/manifests", "", 0)


def _below(root: str, path: str, depth: int) -> Iterator[str]:
    place = f"{root}/{path}" if path else root
    if depth == 0 and os.path.islink(place):
        return
    with Reported(place):
        try:
            entries = os.scandir(place)
        except (FileNotFoundError, NotADirectoryError):
            return
        with entries:  # all at once, as it may change meanwhile
            names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in names:
        below = f"{path}/{name}" if path else name
        if is_directory != (depth < _DEPTH):
            _log.warning("%s: not a manifest, skipped", quote(f"{root}/{below}"))
        elif is_directory:
            yield from _below(root, below, depth + 1)
        else:
            yield below
