"""
Removing objects of a bucket so that of several who want to, one does.

No delete of an object store asks what it deletes. So whoever is to remove an object first writes a
*tombstone* in its place, on the condition that it has not changed, and then deletes that. One that
a killed process has left counts as nothing, and a later prune removes it.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress

from ...errors import StoreError
from .requests import Bucket, Content, Meta, at_once

__all__ = ["PATIENCE", "Tombstones", "is_fresh", "is_tombstone"]

_log = logging.getLogger("registry_wsgi")

# What a tombstone is told by; with the random bytes that follow it has a size of its own, so that
# others are told from it without being read.
_TOMBSTONE = b"registry-wsgi removes this object; it can be deleted. "
_TOMBSTONE_SIZE = len(_TOMBSTONE) + 32

# From when on a tombstone is not that of a process at work, in seconds: longer than the few
# requests that follow it may take, and the difference of the clocks. Before that nobody may remove
# it or take its place, as that process removes what is there.
_AT_WORK = 600

#: How long to wait for such a process, in seconds, and how often to look.
PATIENCE = 5.0
_PAUSE = 0.05


class Tombstones:
    """
    The objects of a bucket, where one that is just being removed counts as gone.

    Any number of threads may use it.

    Args:
        bucket: Which bucket.

    Attributes:
        leftovers: The keys of tombstones that were met, which a killed process may have left.
    """

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.leftovers: set[str] = set()

    def head(self, key: str) -> Meta | None:
        """Look at the object at *key*; None if there is none."""
        meta = self.bucket.head(key)
        return None if meta is None or self.is_one(meta) else meta

    def get(self, key: str) -> Content | None:
        """
        Read the object at *key*; None if there is none.

        Raises:
            TooLargeError: It is too large for what this store keeps in memory.
        """
        found = self.bucket.get(key)
        if found is None or not is_tombstone(found.data):
            return found
        self.leftovers.add(key)
        return None

    def is_one(self, meta: Meta) -> bool:
        """Tell whether the object *meta* is a tombstone, or gone by now."""
        if meta.size != _TOMBSTONE_SIZE:
            return False
        found = self.bucket.get(meta.key)
        if found is None:  # it has just been removed
            return True
        if is_tombstone(found.data):
            self.leftovers.add(meta.key)
            return True
        return False

    def settled(self, key: str, patience: float) -> Meta | None:
        """
        Look at *key*, once no process is at work there.

        Raises:
            StoreError: One still is after *patience* seconds.
        """
        end = time.monotonic() + patience
        while True:
            meta = self.bucket.head(key)
            if meta is None or not self.is_one(meta) or not is_fresh(meta):
                return meta
            if time.monotonic() >= end:
                raise StoreError(f"{self.bucket.name}/{key}: another process is just removing it")
            time.sleep(_PAUSE)

    def take(self, meta: Meta) -> bool:
        """
        Put a tombstone in the place of the object *meta*.

        Returns:
            False if it has changed, is gone or was taken by another.
        """
        tombstone = _TOMBSTONE + os.urandom(16).hex().encode()
        return self.bucket.replace(meta, tombstone) is not None

    def bury(self, *keys: str) -> None:
        """Remove the tombstones at *keys*; if that cannot be had, a later prune does."""
        for pause in (0.1, 0.5, 2.0, None):
            try:
                self.bucket.delete(*keys)
                return
            except StoreError as error:
                if pause is None:
                    _log.warning("left for a later prune to remove: %s", error)
                    return
            time.sleep(pause)
            # It may have happened: then what is there now is not ours to remove.
            with suppress(StoreError):
                found = zip(keys, at_once(self.bucket.get, keys), strict=True)
                keys = tuple(key for key, there in found if there and is_tombstone(there.data))


def is_tombstone(data: bytes) -> bool:
    """Tell whether an object of this content is a tombstone."""
    return data.startswith(_TOMBSTONE)


def is_fresh(written: Meta) -> bool:
    """Tell whether the process that has written a tombstone or a marker may be at work."""
    return written.modified > time.time() - _AT_WORK
