"""
The marks of blobs that are set aside.

A mark is a small JSON document at ``condemned/<name of the blob>``. It says which run has made it,
which blob is meant (ETag, size and time), and whether a delete was to follow that hides the blob.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import StoreError, quote
from ..base import Condemned
from ..layout import checked, entry_time
from .lookup import Indices, listed, name_of
from .requests import Bucket, Content, Meta
from .tombstones import Tombstones

__all__ = ["Mark", "Marks"]

_log = logging.getLogger("registry_wsgi")


@dataclass(frozen=True, slots=True)
class Mark:
    """
    A mark as it was read.

    Attributes:
        blob: Which blob it is on, and which run has put it there.
        means: The fingerprint that the blob had then.
        hides: Whether a delete was to follow.
        meta: The object that the mark itself is.
    """

    blob: Condemned
    means: tuple[Any, ...]
    hides: bool
    meta: Meta


class Marks:
    """
    The marks in a bucket.

    Args:
        bucket: Which bucket.
        tombstones: Tells marks from those that are just being removed.
        indices: Has marks that were read before.
    """

    def __init__(self, bucket: Bucket, tombstones: Tombstones, indices: Indices) -> None:
        self._bucket = bucket
        self._tombstones = tombstones
        self._indices = indices
        # The marks that the run under way has read, by the names of their blobs.
        self._known: dict[str, Mark] = {}

    def put(self, blob: Meta, run: str, *, hides: bool) -> bool:
        """Mark *blob*; False if it has a mark already."""
        document = {"id": run, "means": blob.fingerprint, "hides": hides}
        key = f"condemned/{name_of(blob)}"
        return self._bucket.create(key, json.dumps(document).encode()) is not None

    def metas(self) -> Iterator[Meta]:
        """List the objects that are marks."""
        for meta in self._bucket.objects("condemned"):
            if "/" not in name_of(meta) and not self._tombstones.is_one(meta):
                yield meta

    def read_all(self) -> Iterator[Mark]:
        """
        Read all marks, and remember them until `forget`.

        Raises:
            StoreError: One of them cannot be read.
        """
        known = {}
        for _, found in self._indices.read("condemned", self.metas(), self._tombstones.get):
            if isinstance(found, StoreError):
                raise found
            if found is not None and (mark := parse(found)):
                known[mark.blob.name] = mark
        self._known = known
        return iter(known.values())

    def forget(self) -> None:
        """Forget the marks that `read_all` remembers."""
        self._known = {}

    def read(self, name: str) -> Mark | None:
        """Read the mark of the blob *name*; None if it has none."""
        found = self._tombstones.get(f"condemned/{checked(name)}")
        return None if found is None else parse(found)

    def read_those_of(self, blobs: Sequence[Condemned]) -> list[Mark]:
        """Read the marks of *blobs*, if they still are those of the same runs."""
        marks = self._unchanged(blobs)
        names = {mark.blob.name for mark in marks}
        rest = [blob.name for blob in blobs if blob.name not in names]
        marks += [mark for mark in self._bucket.at_once(self.read, rest) if mark]
        wanted = {*blobs}
        return [mark for mark in marks if mark.blob in wanted]

    def _unchanged(self, blobs: Sequence[Condemned]) -> list[Mark]:
        """Take those that were read before, if a listing says that they have not changed."""
        # Where each write has a number, a listing does not tell it, and so an object that was only
        # seen in a listing cannot be replaced.
        if len(blobs) <= self._bucket.tuning.few or self._bucket.numbers:
            return []
        now = listed(self._bucket, "condemned", [blob.name for blob in blobs])
        return [
            mark
            for blob in blobs
            if (mark := self._known.get(blob.name))
            and (meta := now.get(blob.name))
            and meta.fingerprint == mark.meta.fingerprint
        ]


def parse(found: Content) -> Mark | None:
    """Read what a mark says; None, with a warning in the log, if it is no mark."""
    try:
        document = json.loads(found.data)
        run, means, hides = document["id"], tuple(document["means"]), document["hides"]
        when = entry_time(run)
    except (ValueError, LookupError, TypeError):
        when = None
    if when is None:
        _log.warning("%s: not a mark, skipped", quote(found.meta.key))
        return None
    return Mark(Condemned(when, run, name_of(found.meta)), means, hides, found.meta)
