"""With ``all=True``: the removal of models that are old."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress

from ...errors import ModelExistsError, NoRoomError, OutOfReachError, UntouchableError
from ...stores.base import Store
from .census import Census
from .limits import Limits
from .report import Tally

__all__ = ["OldRemoval"]

_log = logging.getLogger("registry_wsgi")


class OldRemoval:
    """
    The removal of the old models that a census has found, except those that changed since.

    A model may have several names that are one file, as folders and tags can be links. When the
    file goes, all of these names go, and each counts.
    """

    def __init__(self, store: Store, limits: Limits, census: Census, tally: Tally) -> None:
        self._store = store
        self._tally = tally
        self._limits = limits
        self._census = census
        self._gone: set[int] = set()  # the hashes of the manifests that were removed

    def run(self) -> Iterator[str]:
        """Remove them, and give the key of each that is gone."""
        go = self._census.old.go
        # Models that are reached by a link to a folder go first. The folder goes with the last of
        # its own models; then such a link would lead nowhere, which stops the run.
        for key in sorted(go, key=lambda key: self._store.resolve(key, tag=False) == key):
            content = go[key]
            try:
                gone = self._remove(key, content)
            except UntouchableError as error:
                self._tally.fail(error)
            else:
                if gone:
                    self._gone.add(content)
                    yield key

    def _remove(self, key: str, content: int) -> bool:
        old = self._census.old
        try:
            before = self._census.reader.one(key)
        except OutOfReachError:
            if content not in self._gone:
                raise
            return self._discard(key, content)  # a link whose file has just been removed
        if before is None:
            return content in self._gone
        # Only a write counts, as the removal of another name of the file has changed its ctime.
        changed = before.written > self._limits.cutoff or hash(before.data) != content
        if changed or old.protects(key, self._store.protected()):
            return False  # the second reading marks it
        return self._discard(key, content)

    def _discard(self, key: str, content: int) -> bool:
        try:
            entry = self._store.discard(key, (), self._limits.now)
        except NoRoomError as error:
            _log.warning("%s: kept for now: %s", key, error)
            return False
        if entry is None:
            return False
        manifest = self._store.read_deleted(entry)
        if manifest is None or hash(manifest.data) == content:
            return self._store.forget(entry)
        # Another manifest was written just before. It goes back, unless a third is there by now.
        with suppress(ModelExistsError):
            self._store.recover(entry)
        return False
