"""The manifests of a bucket: looked up, and read; and the patterns that protect models."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import overload
from urllib.parse import quote as percent_encode
from urllib.parse import unquote as percent_decode

from ...errors import InvalidManifestError, StoreError, quote
from ...names import Name
from ..base import Manifest, Read
from ..layout import checked, checked_key
from .lookup import Indices
from .pacing import ChangedError, until_unchanged
from .probe import Probe
from .requests import Bucket, Content, Meta, TooLargeError
from .tombstones import Tombstones

__all__ = ["Manifests", "Protection", "manifest_of"]

_log = logging.getLogger("registry_wsgi")

# For how long the next call of a thread may use what the thread has just read, in seconds.
_RECENT = 5


class Manifests:
    """
    The part of `~registry_wsgi.stores.bucket.ObjectStore` that is about manifests.

    `~registry_wsgi.stores.base.ManifestStore` says what its methods do.

    Args:
        bucket: Where they are.
        tombstones: Tells manifests from those that are just being removed.
        indices: Has manifests that were read before.
    """

    def __init__(self, bucket: Bucket, tombstones: Tombstones, indices: Indices) -> None:
        self._bucket = bucket
        self._tombstones = tombstones
        self._indices = indices
        # By thread, what it has just learnt, so that a delete (find, read, discard) and a restore
        # read each object once: ``found`` by `find` for `read`, ``read`` by `read` for `kept`, and
        # ``absent`` for `find`. It may be out of date: a manifest is only removed on the condition
        # that the bucket still holds these bytes.
        self._just = threading.local()

    def find(self, name: Name) -> str | None:
        place = f"manifests/{name.key}"
        if vars(self._just).pop("absent", None) != name.key:
            try:
                found = self._tombstones.get(place)
            except TooLargeError:  # no manifest, but it is there
                return name.key
            if found is not None:
                self._just.found, self._just.end = found, time.monotonic() + _RECENT
                return name.key
        # Nearly always the folders are in the same case: these are asked for at once.
        names = list(name)
        folders = ["/".join(["manifests", *names[:depth]]) for depth in range(len(names))]
        known = dict(zip(folders, self._bucket.at_once(self._bucket.folder, folders), strict=True))
        return self._search("manifests", names, known)

    def read(self, key: str) -> Manifest | None:
        place = f"manifests/{checked_key(key)}"
        found = self._recent("found", place) or self.content(place)
        self._just.read, self._just.end = found, time.monotonic() + _RECENT
        return manifest_of(found)

    def kept(self, place: str) -> Content | None:
        """Give the manifest that this thread read last, once; None if it is not at *place*."""
        return self._recent("read", place)

    def expect_absent(self, key: str) -> None:
        """
        Let the next `find` of *key* in this thread ask for the folders at once.

        It is for a model that is about to be restored. Nearly always nothing has its name, so a
        request for that key would be one too many. If a model does, the folders show it.
        """
        self._just.absent = key

    def _recent(self, which: str, place: str) -> Content | None:
        found: Content | None = vars(self._just).pop(which, None)
        if found is None or found.meta.key != place or time.monotonic() > self._just.end:
            return None
        return found

    def read_all(self) -> Iterator[tuple[str, Read]]:
        for meta, found in self._indices.read("manifests", self._metas(), self.content):
            yield meta.key.removeprefix("manifests/"), manifest_of(found)

    def versions(self) -> Iterator[tuple[str, Hashable | None]]:
        for meta in self._metas():
            yield meta.key.removeprefix("manifests/"), meta.fingerprint

    def content(self, key: str) -> Content | None:
        """
        Read the object at *key*, be it in place or in the trash; None if it is gone.

        Raises:
            InvalidManifestError: It is too large to be a manifest.
        """
        try:
            return self._tombstones.get(key)
        except TooLargeError as error:
            raise InvalidManifestError(f"not a manifest: {error}") from error

    def _metas(self) -> Iterator[Meta]:
        for meta in self._bucket.objects("manifests", depth=4):
            if meta.key.count("/") != 4:
                _log.warning("%s: not a manifest, skipped", quote(meta.key))
            elif not self._tombstones.is_one(meta):
                yield meta

    def _search(
        self, folder: str, parts: list[str], known: Mapping[str, tuple[Sequence[str], list[Meta]]]
    ) -> str | None:
        """
        Look for *parts* below *folder* without regard to case; the lexically first wins.

        Args:
            folder: Where.
            parts: The parts of the name that are to be found there.
            known: What is in some of the folders.
        """
        wanted, *rest = parts
        folders, objects = known.get(folder) or self._bucket.folder(folder)
        if rest:
            names = [path.rpartition("/")[2] for path in folders]
        else:
            names = [
                meta.key.rpartition("/")[2] for meta in objects if not self._tombstones.is_one(meta)
            ]
        for name in sorted(name for name in names if _equals(name, wanted)):
            if not rest:
                return name
            found = self._search(f"{folder}/{name}", rest, known)
            if found is not None:
                return f"{name}/{found}"
        return None


class Protection:
    """
    The part of `~registry_wsgi.stores.bucket.ObjectStore` that is about protected models.

    ``protected/<pattern>`` is there as long as the pattern is protected.

    `~registry_wsgi.stores.base.ProtectionStore` says what its methods do.

    Args:
        bucket: Where the patterns are.
        tombstones: Removes them.
        probe: Asked before anything is changed.
    """

    def __init__(self, bucket: Bucket, tombstones: Tombstones, probe: Probe) -> None:
        self._bucket = bucket
        self._tombstones = tombstones
        self._probe = probe

    def protected(self) -> Iterator[str]:
        for meta in self._bucket.objects("protected"):
            if not self._tombstones.is_one(meta):
                yield percent_decode(meta.key.removeprefix("protected/"))

    def protect(self, pattern: str) -> None:
        key = _protected(pattern)
        self._probe.ask_once()

        def put() -> None:
            if self._bucket.create(key, b"protected"):
                return
            there = self._tombstones.settled(key)
            if there is not None and not self._tombstones.is_one(there):
                return
            if there is None or not self._bucket.replace(there, b"protected"):
                raise ChangedError(f"{self._bucket.name}/{key}: is changed again and again")

        until_unchanged(put, self._bucket.tuning)

    def unprotect(self, pattern: str) -> bool:
        meta = self._tombstones.head(_protected(pattern))
        return meta is not None and self._tombstones.remove(meta)


@overload
def manifest_of(found: Content | None) -> Manifest | None: ...


@overload
def manifest_of(found: Content | StoreError | None) -> Read: ...


def manifest_of(found: Content | StoreError | None) -> Read:
    """Make a manifest of an object that was read; None and errors stay as they are."""
    if not isinstance(found, Content):
        return found
    modified = found.meta.modified
    return Manifest(found.data, modified, found.meta.fingerprint, modified)


def _equals(one: str, other: str) -> bool:
    """Tell whether both are the same but for the case of ASCII letters."""
    return one.isascii() and one.lower() == other.lower()


def _protected(pattern: str) -> str:
    return f"protected/{checked(percent_encode(pattern, safe=''))}"
