"""
Removing objects of a bucket so that of several who want to, one does.

Not every object store can delete on the condition that an object has not changed. So whoever is to
remove an object first writes a *tombstone* in its place on that condition, which every store can
do, and then deletes the tombstone. One that a killed process has left counts as nothing, and a
later prune removes it.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence

from ...errors import StoreError
from ..layout import TOMBSTONE
from .pacing import BusyError, polling, retry
from .requests import Bucket, Content, Meta

__all__ = ["Tombstones", "is_tombstone"]

_log = logging.getLogger("registry_wsgi")

# The size of a tombstone, with its random end. Hardly any other object has just this size, so that
# nearly all are told from a tombstone without being read.
_TOMBSTONE_SIZE = len(TOMBSTONE) + 32


class Tombstones:
    """
    The objects of a bucket, where one that is just being removed counts as gone.

    Any number of threads may use it.

    Args:
        bucket: Which bucket.
        clock: The time in seconds since the epoch.

    Attributes:
        leftovers: The keys of tombstones that were met, which a killed process may have left.
    """

    def __init__(self, bucket: Bucket, clock: Callable[[], float] = time.time) -> None:
        self.bucket = bucket
        self._clock = clock
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

    def settled(self, key: str, patience: float | None = None) -> Meta | None:
        """
        Look at *key*, once no process is at work there.

        Args:
            key: Which object.
            patience: How long to wait for such a process, in seconds; None: as the store is tuned.

        Raises:
            BusyError: A process is still at work there after that.
        """

        def look() -> Meta | None:
            meta = self.bucket.head(key)
            if meta is None or not self.is_one(meta) or not self.is_fresh(meta):
                return meta
            raise BusyError(f"{self.bucket.name}/{key}: another process is just removing it")

        tuning = self.bucket.tuning
        patience = tuning.patience if patience is None else patience
        return retry(look, on=BusyError, pauses=polling(patience, tuning.poll))

    def is_fresh(self, written: Meta) -> bool:
        """Tell whether the process that has written a tombstone or a mark may be at work."""
        return written.modified > self._clock() - self.bucket.tuning.at_work

    def take(self, meta: Meta) -> Meta | None:
        """
        Put a tombstone in the place of the object *meta*.

        Returns:
            The tombstone; None if the object has changed, is gone or was taken by another.
        """
        tombstone = TOMBSTONE + os.urandom(16).hex().encode()
        written = self.bucket.replace(meta, tombstone)
        if written is None:
            return None
        return Meta(meta.key, len(tombstone), int(self._clock()), written.e_tag, None)

    def remove(self, meta: Meta) -> bool:
        """
        Remove the object *meta* by way of a tombstone.

        Returns:
            False if it has changed, is gone or was taken by another.
        """
        tombstone = self.take(meta)
        if tombstone is None:
            return False
        self.bury(tombstone)
        return True

    def bury(self, tombstone: Meta) -> None:
        """Remove *tombstone*; if that fails, a later prune does."""
        self._bury([tombstone.key], lambda: self.bucket.delete_unchanged([tombstone]))

    def bury_many(self, *keys: str) -> None:
        """Remove the tombstones at *keys*, in whose place no other program puts anything."""
        self._bury(keys, lambda: self.bucket.delete(*keys))

    def _bury(self, keys: Sequence[str], remove: Callable[[], object]) -> None:
        tries = itertools.count()

        def step() -> None:
            if next(tries) == 0:
                remove()
            else:
                # The first delete may have happened although it failed. Then another object can be
                # there by now, which is not ours to remove.
                self.bucket.delete_unchanged([*self._tombstones_at(keys)])

        try:
            retry(step, on=StoreError, pauses=self.bucket.tuning.bury_pauses)
        except StoreError as error:
            _log.warning("left for a later prune to remove: %s", error)

    def _tombstones_at(self, keys: Sequence[str]) -> Iterator[Meta]:
        for found in self.bucket.at_once(self.bucket.get, keys):
            if found is not None and is_tombstone(found.data):
                yield found.meta


def is_tombstone(data: bytes) -> bool:
    """Tell whether an object of this content is a tombstone."""
    return data.startswith(TOMBSTONE)
