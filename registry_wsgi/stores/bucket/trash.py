"""The trash of a bucket: deleted manifests, at ``trash/<when>-<random>/manifests/``."""

from __future__ import annotations

from collections.abc import Container, Iterator

from ...errors import ModelExistsError, StoreError
from ...names import Name
from ..base import Deleted, Manifest, Read
from ..layout import checked, checked_key, entry_id, entry_time, was_kept
from .lookup import Indices
from .manifests import Manifests, manifest_of
from .pacing import ChangedError, until_unchanged
from .probe import Probe
from .requests import Bucket, Content, Meta, TooLargeError, Written
from .tombstones import Tombstones

__all__ = ["Trash"]


class Trash:
    """
    The part of `~registry_wsgi.stores.bucket.ObjectStore` that is about what was deleted.

    `~registry_wsgi.stores.base.TrashStore` says what its methods do. The trash of a bucket
    holds no blobs: these stay in their place, where the collector spares them.

    Args:
        bucket: Where it is.
        tombstones: Removes manifests, and entries of the trash.
        indices: Has entries that were read before.
        manifests: The manifests that are in place.
        probe: Asked before anything is changed.
    """

    def __init__(
        self,
        bucket: Bucket,
        tombstones: Tombstones,
        indices: Indices,
        manifests: Manifests,
        probe: Probe,
    ) -> None:
        self._bucket = bucket
        self._tombstones = tombstones
        self._indices = indices
        self._manifests = manifests
        self._probe = probe

    def discard(self, key: str, when: float, keep: float | None) -> Deleted | None:
        source = f"manifests/{checked_key(key)}"
        self._probe.ask_once()

        def move() -> Deleted | None:
            meta, data = self._source(source)
            if meta is None:
                return None
            run = entry_id(when, keep)
            copy = f"trash/{run}/manifests/{key}"
            self._copy(meta, data, copy)
            # If this fails, nobody knows what is in place: then the copy stays.
            tombstone = self._tombstones.take(meta)
            if tombstone is None:
                self._bucket.delete(copy)
                raise self._changed(source)
            self._tombstones.bury(tombstone)
            return Deleted(entry_time(run) or when, run, key)

        return until_unchanged(move, self._bucket.tuning)

    def deleted(self, before: float | None = None, keep: float | None = None) -> list[Deleted]:
        return sorted({entry for entry, _ in self._entries(before, keep)})

    def read(self, entry: Deleted) -> Manifest | None:
        self._manifests.expect_absent(entry.key)
        return manifest_of(self._manifests.content(_place(entry)))

    def read_all(self, known: Container[Deleted] = ()) -> Iterator[tuple[Deleted, Read]]:
        trash = {meta: entry for entry, meta in self._entries()}
        if all(entry in known for entry in trash.values()):
            return
        for meta, found in self._indices.read("trash", trash, self._manifests.content):
            if trash[meta] not in known:
                yield trash[meta], manifest_of(found)

    def recover(self, entry: Deleted) -> bool:
        target = f"manifests/{checked_key(entry.key)}"
        self._probe.ask_once()

        def put_back() -> tuple[Content, Written] | None:
            # Read anew: meanwhile another may have restored the model, and deleted it once more.
            source = self._tombstones.get(_place(entry))
            if source is None:
                return None
            written = self._bucket.create(target, source.data)
            if written is None:
                there = self._tombstones.settled(target)
                if there is not None and not self._tombstones.is_one(there):
                    raise ModelExistsError(Name.from_key(entry.key))
                written = self._bucket.replace(there, source.data) if there else None
            if written is None:
                raise self._changed(target)
            return source, written

        done = until_unchanged(put_back, self._bucket.tuning)
        if done is None:
            return False
        source, written = done
        if self._tombstones.remove(source.meta):
            return True
        # Somebody has removed the entry for good meanwhile, and perhaps its blobs. So the manifest
        # that was just written goes again.
        ours = self._tombstones.get(target)
        if ours is not None and ours.token == written.token:
            self._tombstones.remove(ours.meta)
        return False

    def forget(self, entry: Deleted) -> bool:
        meta = self._tombstones.head(_place(entry))
        return meta is not None and self._tombstones.remove(meta)

    def _entries(
        self, before: float | None = None, keep: float | None = None
    ) -> Iterator[tuple[Deleted, Meta]]:
        for meta in self._bucket.objects("trash", depth=6):
            run, _, path = meta.key.removeprefix("trash/").partition("/")
            when, key = entry_time(run), path.removeprefix("manifests/")
            if when is None or key == path or key.count("/") != 3:
                continue
            if was_kept(when, run, before, keep) and not self._tombstones.is_one(meta):
                yield Deleted(when, run, key), meta

    def _source(self, key: str) -> tuple[Meta | None, bytes | None]:
        """Look at a manifest that is to be moved, and read it unless it is too large."""
        found = self._manifests.kept(key)
        try:
            found = found or self._tombstones.get(key)
        except TooLargeError:  # no manifest, but it stops each prune until it is deleted
            return self._tombstones.head(key), None
        return (found.meta, found.data) if found else (None, None)

    def _copy(self, meta: Meta, data: bytes | None, target: str) -> None:
        """Copy the object *meta* with its *data* to *target*, where nothing is."""
        bucket = self._bucket
        if data is None:
            bucket.copy(meta.key, target)
        else:
            bucket.create(target, data)
        if self._probe.knows_clock():
            return
        copy = bucket.head(target)
        try:
            self._probe.check_clock(copy)
        except StoreError:
            self._bucket.delete(target)
            raise

    def _changed(self, key: str) -> ChangedError:
        return ChangedError(f"{self._bucket.name}/{key}: is changed again and again")


def _place(entry: Deleted) -> str:
    return f"trash/{checked(entry.id)}/manifests/{checked_key(entry.key)}"
