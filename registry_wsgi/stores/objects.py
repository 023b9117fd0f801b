"""
A store in a bucket of an object store: S3 and what speaks its language, GCS, Azure.

::

    <bucket>/<prefix>/
        blobs/sha256-<hex>                                   content
        manifests/<host>/<namespace>/<model>/<tag>           small JSON documents
        trash/<when>-<random>/
            manifests/<host>/<namespace>/<model>/<tag>       a deleted manifest
        condemned/sha256-<hex>                               a marker: nothing needs that blob
        protected/<pattern>                                  there as long as it is protected
        index/manifests, index/trash, index/condemned        what these were when read last
        probe/<when>-<random>                                there for a moment

The first two are laid out as on disk: a models directory that is copied into a bucket is a store.

An object store has no renames and no links, and a delete takes whatever is there. So:

- Whoever is to remove a manifest, an entry of the trash or a marker first writes a *tombstone* in
  its place, on the condition that it has not changed: of several, one does. Then it removes the
  tombstone. One that a killed process has left counts as nothing, and a later prune removes it.
- A blob that is set aside stays where it is, and has a marker that says which blob is meant (size,
  ETag, time). It goes with a later run of the collector, and only if it is that blob still.
- Where a bucket of S3 keeps old versions, a delete comes right after the marker. It hides the blob,
  so that no pull finds it. If something needs it, its delete marker is removed; if it goes, that
  version of it is.
- A model is copied to the trash before it is removed, and out of it before the trash forgets it. A
  process that is killed between the two leaves it in both.

What no object store has is a delete on a condition: what another program writes in the moment
between the tombstone and the delete goes with it.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, TypeVar, overload
from urllib.parse import quote as percent_encode
from urllib.parse import unquote as percent_decode

from ..durations import moment
from ..errors import InvalidManifestError, ModelExistsError, StoreError, quote
from ..names import Name
from .base import Blob, Condemned, Deleted, Manifest, Read
from .bucket import Bucket, Content, Meta, TooLargeError, batches, connect
from .index import Index
from .layout import MANIFEST_SIZE, checked, checked_key, entry_id, entry_time, tried
from .s3 import S3
from .uploads import Uploads, is_upload
from .versions import History, Versions

__all__ = ["ObjectStore"]

_log = logging.getLogger("registry_wsgi")

_T = TypeVar("_T")
_U = TypeVar("_U")

# How many requests are under way at once, where there are many.
_THREADS = 16

# Up to how many objects are looked at one by one; of more, the listing is read.
_FEW = 50

# What a tombstone is told by; with the random bytes that follow it has a size of its own, so that
# others are told from it without being read.
_TOMBSTONE = b"registry-wsgi removes this object; it can be deleted. "
_TOMBSTONE_SIZE = len(_TOMBSTONE) + 32

# How much the clock here and that of the store may differ, in seconds.
_SKEW = 300

# From when on a probe is not that of a process at work, in seconds.
_PROBE_AGE = 3600

# From when on a tombstone is not that of a process at work, in seconds: longer than the few
# requests that follow it may take, and the difference of the clocks. Before that nobody may remove
# it or take its place, as that process removes what is there.
_AT_WORK = 600

# How long it may take from the markers to the delete that hides what they mean, in seconds: later
# they may be taken for what a killed process has left.
_SLOW = 150

# How long to wait for such a process, in seconds, and how often to look.
_PATIENCE = 5.0
_PAUSE = 0.05

# A manifest can be written anew just before it is taken: it is read again, but not for ever.
_TRIES = 10


@dataclass(frozen=True, slots=True)
class _Marker:
    """What the marker of a blob says, and the object it is."""

    blob: Condemned
    means: list[Any]
    hides: bool  # whether a delete was to follow
    meta: Meta


@dataclass(frozen=True, slots=True)
class _Aside:
    """A blob that is set aside, with what else there is of it."""

    marker: _Marker
    meta: Meta
    history: History

    @property
    def is_hidden(self) -> bool:
        return self.meta != self.history.current


class ObjectStore:
    """
    A `~registry_wsgi.stores.base.Store` in a bucket.

    Args:
        storage: A store of obstore, made with whatever settings it takes. `from_url` makes one
            with time limits.
        name: What the store is called in messages.

    Raises:
        StoreError: The bucket cannot be listed.
    """

    def __init__(self, storage: Any, *, name: str | None = None) -> None:
        self._bucket = Bucket(storage, name or str(storage))
        s3 = S3(storage, self._bucket.name)
        self._uploads = Uploads(s3)
        self._versions = Versions(s3)
        self._probed = False
        # What processes that were killed have left, as it is met.
        self._leftovers: set[str] = set()
        # The indices that are out of date, until a prune writes them.
        self._indices: dict[str, bytes] = {}
        # The markers that a run has read, by their blobs.
        self._known: dict[str, _Marker] = {}
        self._bucket.folder("manifests")

    @classmethod
    def from_url(
        cls, url: str, *, connect_timeout: float = 5, read_timeout: float = 60, **config: Any
    ) -> ObjectStore:
        """
        Open the bucket (and prefix) at *url*.

        Credentials and all else come from the environment, as obstore takes them, unless given.

        Args:
            url: ``s3://bucket/prefix``, ``gs://bucket/prefix`` or
                ``az://account/container/prefix``.
            connect_timeout: How long to wait for a connection, in seconds.
            read_timeout: How long to wait for the next bytes of an answer, in seconds.
            config: Settings of obstore for this kind of store, such as ``endpoint`` or ``region``.

        Raises:
            StoreError: A setting cannot be used, or the bucket cannot be listed.
        """
        limits: dict[str, Any] = {"connect_timeout": connect_timeout, "read_timeout": read_timeout}
        store = cls(connect(url, **limits, **config), name=url.rstrip("/"))
        # A delete that is repeated may take what has come after the first: that is looked at here.
        store._bucket.deleting = connect(url, **limits, retries=0, **config)
        return store

    def __repr__(self) -> str:
        return f"<ObjectStore {self._bucket.name}>"

    @property
    def sets_aside(self) -> bool:
        """Whether the bucket keeps old versions, so that a delete only hides."""
        return self._versions.on

    # Manifests

    def find(self, name: Name) -> str | None:
        if self._head(f"manifests/{name.key}") is not None:
            return name.key
        return self._search("manifests", list(name))

    def manifests(self) -> Iterator[str]:
        for key, _ in self.versions():
            yield key

    def read(self, key: str) -> Manifest | None:
        return self._read(f"manifests/{checked_key(key)}")

    def read_all(self) -> Iterator[tuple[str, Read]]:
        for meta, found in self._read_listed("manifests", self._manifests()):
            yield meta.key.removeprefix("manifests/"), _manifest(found)

    def version(self, key: str) -> Hashable | None:
        meta = self._head(f"manifests/{checked_key(key)}")
        return None if meta is None else _version(meta)

    def versions(self) -> Iterator[tuple[str, Hashable | None]]:
        for meta in self._manifests():
            yield meta.key.removeprefix("manifests/"), _version(meta)

    def _manifests(self) -> Iterator[Meta]:
        for meta in self._bucket.objects("manifests"):
            if meta.key.count("/") != 4:
                _log.warning("%s: not a manifest, skipped", quote(meta.key))
            elif not self._is_tombstone(meta):
                yield meta

    # Blobs

    def blobs(self) -> Iterator[str]:
        if next(self._bucket.objects("manifests-v2"), None) is not None:
            raise StoreError(
                f"{self._bucket.name}: has models under manifests-v2, which a newer Ollama writes"
                " and which are not understood here: no blob is removed"
            )
        # The markers first: a blob that loses its marker meanwhile is left out, and stays.
        aside = {_name(meta) for meta in self._markers()}
        hides = self.sets_aside  # then what is listed is in its place, marked or not
        for meta in self._bucket.objects("blobs"):
            name = _name(meta)
            if "/" not in name and (hides or name not in aside):
                yield name
        yield from (name for name in self._uploads.names() if name not in aside)

    def blobs_changed(self) -> float:
        """`math.inf`: it is not told what went."""
        return math.inf

    def blob(self, name: str) -> Blob | None:
        meta = self._present(name)
        return None if meta is None else _look(meta)

    def look(self, names: Iterable[str]) -> Iterator[tuple[str, Blob]]:
        for some in batches(names):
            for name, meta in self._presents(some).items():
                yield name, _look(meta)

    def open_blob(self, name: str) -> BinaryIO | None:
        meta = self._present(name)
        return None if meta is None else self._bucket.open(meta.key)

    def remove_blob(self, name: str) -> bool:
        aside = next(self.condemn([name], time.time()), None)
        if aside is None:  # another has marked it
            marker = self._marker(name)
            aside = marker.blob if marker else None
        return aside is not None and any(gone for _, gone in self.purge([(aside, math.inf)]))

    # What is set aside

    def condemn(self, names: Iterable[str], when: float) -> Iterator[Condemned]:
        self._probe()
        run = entry_id(when)
        moment_of_run = entry_time(run) or when
        for some in batches(names):
            self._versions.ask()  # where they are not kept any more, a delete would be for good
            hides = self.sets_aside
            begun = time.monotonic()
            metas = self._heads(some)

            def mark(name: str, metas: dict[str, Meta] = metas, hides: bool = hides) -> str | None:
                marker = {
                    "id": run,
                    "means": _means(metas[name]),
                    "hides": hides and not is_upload(name),
                }
                return self._bucket.create(f"condemned/{name}", json.dumps(marker).encode())

            there = [name for name in some if name in metas]
            tokens = [*self._at_once(mark, there)]
            marked = [name for name, token in zip(there, tokens, strict=True) if token is not None]
            failed = None
            if hides and marked:
                try:
                    self._hide(marked, begun)
                except StoreError as error:  # some may be hidden: all are to be put back
                    failed = error
            for name in marked:
                yield Condemned(moment_of_run, run, name)
            if failed is not None:
                raise failed

    def _hide(self, names: list[str], begun: float) -> None:
        if time.monotonic() > begun + _SLOW:
            raise StoreError(
                f"{self._bucket.name}/condemned/: to mark {len(names)} blobs took more than {_SLOW}"
                " seconds: they stay in their place"
            )
        self._bucket.delete(*(f"blobs/{name}" for name in names if not is_upload(name)))

    def condemned(self) -> Iterator[Condemned]:
        self._versions.ask()
        known = {}
        for _, found in self._read_listed("condemned", self._markers()):
            if isinstance(found, StoreError):
                raise found
            if found is not None and (marker := _parse_marker(found)):
                known[marker.blob.name] = marker
        if not self._versions.kept and any(marker.hides for marker in known.values()):
            raise StoreError(
                f"{self._bucket.name}: has blobs that are hidden as old versions, and these cannot"
                f" be had: {self._versions.refused or 'no versions are kept any more'}"
            )
        self._known = known
        return iter(sorted(marker.blob for marker in known.values()))

    def condemned_blob(self, blob: Condemned) -> Blob | None:
        return next((look for _, look in self.look_aside([blob])), None)

    def look_aside(self, blobs: Iterable[Condemned]) -> Iterator[tuple[Condemned, Blob]]:
        for some in batches(blobs):
            for aside in self._found(self._markers_of(some)):
                yield aside.marker.blob, _look(aside.meta)

    def pardon(self, blob: Condemned) -> bool:
        # There is no way to make it young, and no need: it would be marked anew, and wait anew.
        marker = next(iter(self._markers_of([blob])), None)
        if marker is None:
            return False
        history = self._history(blob.name)
        if history.hidden is None and marker.hides:  # another is there, or it still is
            return False
        if not self._take(marker.meta):
            return False
        self._show({blob.name: history})
        self._bury(marker.meta.key)
        return blob.name in self._heads([blob.name])

    def purge(self, blobs: Iterable[tuple[Condemned, float]]) -> Iterator[tuple[Condemned, bool]]:
        for some in batches(blobs):
            until = dict(some)

            def fits(aside: _Aside, until: dict[Condemned, float] = until) -> bool:
                meta, marker = aside.meta, aside.marker
                return _means(meta) == marker.means and meta.modified <= until[marker.blob]

            markers = self._markers_of([*until])
            if self._versions.kept:
                # What is not hidden may be about to be; and what came too late stays hidden.
                found = [*self._found(markers)]
                late = {aside.marker.blob for aside in found if aside.is_hidden and not fits(aside)}
                yield from ((blob, False) for blob in late)
                markers = [aside.marker for aside in found if aside.marker.blob not in late]
            # As long as its tombstone is there nobody marks a blob anew: one process removes it.
            won = self._at_once(lambda marker: self._take(marker.meta), markers)
            taken = [marker for marker, ours in zip(markers, won, strict=True) if ours]
            found = [*self._found(taken)]
            gone = [aside for aside in found if fits(aside)]
            left = [aside for aside in found if not fits(aside)]
            self._show({aside.marker.blob.name: aside.history for aside in left})
            self._remove(gone)
            self._bury(*(marker.meta.key for marker in taken))
            yield from ((aside.marker.blob, True) for aside in gone)
            yield from ((aside.marker.blob, False) for aside in left)

    def _remove(self, asides: list[_Aside]) -> None:
        """Remove blobs for good, those in their place and those hidden."""
        hidden = {aside.marker.blob.name: aside for aside in asides if aside.is_hidden}
        keys = []
        for aside in asides:
            if is_upload(aside.marker.blob.name):
                self._uploads.abort(aside.marker.blob.name)
            elif not aside.is_hidden:
                keys.append(aside.meta.key)
        self._bucket.delete(*keys)
        self._versions.destroy(
            (name, aside.meta.version or "null") for name, aside in hidden.items()
        )
        # Only now: without its delete markers a pull would have found it. If it was written over
        # what was there before, that stays hidden.
        alone = {name: aside.history for name, aside in hidden.items()}
        self._show({name: history for name, history in alone.items() if len(history.older) == 1})

    def keep(self, names: Iterable[str], *, wait: float = 5) -> list[str]:
        """
        Take the marks off the blobs *names*, show those that are hidden, and tell which are gone.

        A program that puts a model into the bucket calls this when all blobs are there, uploads
        what is gone, and then writes the manifest, within half of the hold from this call on. Then
        no prune, whenever it began, removes a blob that the program has found in its place: without
        its mark none goes, and what is marked anew goes in a run after the hold, which sees the
        manifest. (Where old versions are kept, a prune may hide one in between: the next brings it
        back, and so does a second call, after the manifest.)

        Args:
            names: The blobs that the manifest needs.
            wait: How long to wait for a run that is just removing one of them, in seconds.

        Raises:
            StoreError: The storage failed, or one of them is still being removed: call it again.
        """
        gone = []
        end = time.monotonic() + wait
        for name in names:
            key = f"condemned/{checked(name)}"
            while (mark := self._settled(key, end - time.monotonic())) is not None:
                history = self._history(name)
                marker = self._marker(name)
                # None: a tombstone of a process that was killed. And who means to hide it may be
                # about to: then the mark has to stay, so that a prune brings it back.
                if history.hidden is None and (marker is None or marker.hides):
                    break
                if self._take(mark):
                    self._show({name: history})
                    self._bury(key)
                    break
            if self._present(name) is None:
                gone.append(name)
        return gone

    # Trash

    def discard(self, key: str, blobs: Iterable[str], when: float) -> Deleted | None:
        """Move the manifest to the trash; *blobs* are kept by the collector, not by the trash."""
        del blobs
        source = f"manifests/{checked_key(key)}"
        if not self._probed:
            self._probe()
        for _ in range(_TRIES):
            meta = self._head(source)
            if meta is None:
                return None
            run = entry_id(when)
            copy = f"trash/{run}/manifests/{key}"
            if not self._copy(meta, copy):
                continue
            # If this fails, nobody knows what is in place: then the copy stays.
            if self._take(meta):
                self._bury(source)
                return Deleted(entry_time(run) or when, run, key)
            self._bucket.delete(copy)
        raise StoreError(f"{self._bucket.name}/{source}: is changed again and again")

    def deleted(self, before: float | None = None) -> list[Deleted]:
        return sorted(entry for entry, _ in self._trash(before))

    def read_deleted(self, entry: Deleted) -> Manifest | None:
        return self._read(_place(entry))

    def read_all_deleted(self, known: Container[Deleted] = ()) -> Iterator[tuple[Deleted, Read]]:
        trash = {meta: entry for entry, meta in self._trash()}
        if all(entry in known for entry in trash.values()):
            return
        for meta, found in self._read_listed("trash", trash):
            if trash[meta] not in known:
                yield trash[meta], _manifest(found)

    def _trash(self, before: float | None = None) -> Iterator[tuple[Deleted, Meta]]:
        for meta in self._bucket.objects("trash"):
            run, _, path = meta.key.removeprefix("trash/").partition("/")
            when, key = entry_time(run), path.removeprefix("manifests/")
            if when is None or key == path or key.count("/") != 3:
                continue
            if (before is None or when <= before) and not self._is_tombstone(meta):
                yield Deleted(when, run, key), meta

    def held_blob(self, entry: Deleted, name: str) -> Blob | None:
        """None: the trash holds no blobs, the collector keeps them."""
        del entry, name
        return None

    def recover_blob(self, entry: Deleted, name: str) -> bool:
        """False: the trash holds no blobs."""
        del entry, name
        return False

    def recover(self, entry: Deleted) -> bool:
        target = f"manifests/{checked_key(entry.key)}"
        if not self._probed:
            self._probe()
        for _ in range(_TRIES):
            source = self._get(_place(entry))
            if source is None:
                return False
            token = self._bucket.create(target, source.data)
            if token is None:
                there = self._settled(target, _PATIENCE)
                if there is None:
                    continue
                if not self._is_tombstone(there):
                    raise ModelExistsError(Name.from_key(entry.key))
                token = self._bucket.replace(there, source.data)
            if token is not None:
                break
        else:
            raise StoreError(f"{self._bucket.name}/{target}: is changed again and again")
        if self._take(source.meta):
            self._bury(source.meta.key)
            return True
        # Somebody has meanwhile removed it from the trash for good, and perhaps its blobs: back.
        ours = self._get(target)
        if ours is not None and ours.token == token and self._take(ours.meta):
            self._bury(target)
        return False

    def forget(self, entry: Deleted) -> bool:
        meta = self._head(_place(entry))
        if meta is None or not self._take(meta):
            return False
        self._bury(meta.key)
        return True

    # What is protected

    def protected(self) -> Iterator[str]:
        for meta in self._bucket.objects("protected"):
            if not self._is_tombstone(meta):
                yield percent_decode(meta.key.removeprefix("protected/"))

    def protect(self, pattern: str) -> None:
        key = _protection(pattern)
        if not self._probed:
            self._probe()
        for _ in range(_TRIES):
            if self._bucket.create(key, b"protected"):
                return
            there = self._settled(key, _PATIENCE)
            if there is None:
                continue
            if not self._is_tombstone(there) or self._bucket.replace(there, b"protected"):
                return
        raise StoreError(f"{self._bucket.name}/{key}: is changed again and again")

    def unprotect(self, pattern: str) -> bool:
        meta = self._head(_protection(pattern))
        if meta is None or not self._take(meta):
            return False
        self._bury(meta.key)
        return True

    # What others do, and have left

    def claim(self) -> Callable[[], None]:
        """A bucket cannot tell whether the process that has it still lives: everyone has it."""
        return lambda: None

    def tidy(self, before: float) -> None:
        for key in sorted(self._leftovers):
            found = self._bucket.get(key)
            if found is None or found.meta.modified > before:
                continue
            folder, _, name = key.partition("/")
            if folder != "condemned":
                if _is_tombstone(found.data) and not _is_fresh(found.meta):
                    self._bucket.delete(key)
            elif self._is_left(name, found) and self._take(found.meta):
                self._show({name: self._history(name)})
                self._bury(key)
        self._leftovers.clear()
        self._known = {}
        while self._indices:
            key, data = self._indices.popitem()
            with suppress(StoreError):  # it is only a cache
                self._bucket.overwrite(key, data)

    # Steps

    def _settled(self, key: str, patience: float) -> Meta | None:
        """
        Look at *key*, once no process is at work there.

        Raises:
            StoreError: One still is after *patience* seconds.
        """
        end = time.monotonic() + patience
        while True:
            meta = self._bucket.head(key)
            if meta is None or not self._is_tombstone(meta) or not _is_fresh(meta):
                return meta
            if time.monotonic() >= end:
                raise StoreError(f"{self._bucket.name}/{key}: another process is just removing it")
            time.sleep(_PAUSE)

    def _show(self, histories: Mapping[str, History]) -> None:
        """Bring back those blobs that are hidden; what hides nothing any more goes too."""
        self._versions.destroy(
            (name, id_)
            for name, history in histories.items()
            if history.current is None
            for id_ in history.markers
        )

    def _take(self, meta: Meta) -> bool:
        """
        Put a tombstone in the place of the object *meta*.

        Returns:
            False if it has changed, is gone or was taken by another.
        """
        tombstone = _TOMBSTONE + os.urandom(16).hex().encode()
        return self._bucket.replace(meta, tombstone) is not None

    def _bury(self, *keys: str) -> None:
        """Remove the tombstones at *keys*; if that cannot be had, a later prune does."""
        for pause in (0.1, 0.5, 2.0, None):
            try:
                self._bucket.delete(*keys)
                return
            except StoreError as error:
                if pause is None:
                    _log.warning("left for a later prune to remove: %s", error)
                    return
            time.sleep(pause)
            # It may have happened: then what is there now is not ours to remove.
            with suppress(StoreError):
                found = zip(keys, self._at_once(self._bucket.get, keys), strict=True)
                keys = tuple(key for key, there in found if there and _is_tombstone(there.data))

    def _drop(self, key: str) -> None:
        """Remove a probe, if that can be had."""
        try:
            self._bucket.delete(key)
        except StoreError as error:
            _log.warning("left for a later prune to remove: %s", error)

    def _copy(self, meta: Meta, target: str) -> bool:
        """Copy the object *meta* to *target*; False if it has changed."""
        bucket = self._bucket
        if meta.size > MANIFEST_SIZE:  # no manifest, but the way out when one stops a sweep
            bucket.copy(meta.key, target)
        else:
            found = bucket.get(meta.key)
            if found is None or _version(found.meta) != _version(meta):
                return False
            bucket.create(target, found.data)
        copy = bucket.head(target)
        try:
            self._check_clock(copy)
        except StoreError:
            self._bucket.delete(target)
            raise
        return True

    def _probe(self) -> None:
        """Check that the store keeps to conditions, and that its clock is about ours."""
        bucket = self._bucket
        key = f"probe/{entry_id(time.time())}"
        try:
            bucket.create(key, b"1")
            probe = bucket.head(key)
            if probe is None or not self._keeps_to_conditions(probe):
                raise StoreError(
                    f"{bucket.name}: this store does not keep to the conditions of a write"
                    " (If-Match, If-None-Match; some do not where versioning is on), so that two"
                    " processes would undo each other's work"
                )
        finally:
            self._drop(key)
        self._check_clock(probe)
        keeps = not bucket.numbers and probe.version not in (None, "null")
        if keeps and not self._probed and not self.sets_aside:
            _log.warning(
                "%s: keeps old versions, so that what is removed takes its room until a lifecycle"
                " rule of the bucket removes those%s",
                bucket.name,
                f" ({self._versions.refused})" if self._versions.refused else "",
            )
        for meta in bucket.objects("probe"):  # of processes that were killed
            ours = entry_time(meta.key.removeprefix("probe/")) is not None
            if ours and meta.modified < probe.modified - _PROBE_AGE:
                self._drop(meta.key)
        self._probed = True

    def _keeps_to_conditions(self, probe: Meta) -> bool:
        bucket = self._bucket
        other = replace(probe, e_tag=f"{0:032x}", version=probe.version and "1")
        ignored = bucket.create(probe.key, b"2") or bucket.replace(other, b"3")
        return not ignored and bucket.replace(probe, b"4") is not None

    def _check_clock(self, written: Meta | None) -> None:
        here = time.time()
        if written is None or abs(here - written.modified) <= _SKEW:
            return
        raise StoreError(
            f"{self._bucket.name}: the clock here says {moment(here):%Y-%m-%d %H:%M:%S} UTC, and"
            f" that of the store {moment(written.modified):%Y-%m-%d %H:%M:%S} UTC; with more than"
            f" {_SKEW // 60} minutes between them ages mean nothing, and nothing is removed"
        )

    # Looks

    def _head(self, key: str) -> Meta | None:
        meta = self._bucket.head(key)
        return None if meta is None or self._is_tombstone(meta) else meta

    def _get(self, key: str) -> Content | None:
        found = self._bucket.get(key)
        if found is None or not _is_tombstone(found.data):
            return found
        self._leftovers.add(key)
        return None

    def _read(self, key: str) -> Manifest | None:
        return _manifest(self._content(key))

    def _content(self, key: str) -> Content | None:
        try:
            return self._get(key)
        except TooLargeError as error:
            raise InvalidManifestError(f"not a manifest: {error}") from error

    def _read_listed(
        self, folder: str, metas: Iterable[Meta]
    ) -> Iterator[tuple[Meta, Content | StoreError | None]]:
        """Read the objects *metas* of a whole listing, from the index those that it knows."""
        index = Index(self._bucket, folder)
        for some in batches(metas):
            known = {meta: data for meta in some if (data := index.find(meta)) is not None}
            rest = [meta for meta in some if meta not in known]
            read = self._at_once(lambda meta: tried(self._content, meta.key), rest)
            found = dict(zip(rest, read, strict=True))
            for meta in some:
                content = found.get(meta)
                if meta in known:
                    content = Content(meta, known[meta], None)
                elif isinstance(content, Content):
                    index.add(content)
                yield meta, content
        renewed = index.renewed()
        if renewed is not None:
            self._indices[index.key] = renewed

    def _is_tombstone(self, meta: Meta) -> bool:
        if meta.size != _TOMBSTONE_SIZE:
            return False
        found = self._bucket.get(meta.key)
        if found is None:  # it has just been removed
            return True
        if _is_tombstone(found.data):
            self._leftovers.add(meta.key)
            return True
        return False

    def _search(self, folder: str, parts: list[str]) -> str | None:
        """Look for *parts* below *folder* without regard to case; the lexically first wins."""
        wanted, *rest = parts
        folders, objects = self._bucket.folder(folder)
        if rest:
            names = [path.rpartition("/")[2] for path in folders]
        else:
            names = [
                meta.key.rpartition("/")[2] for meta in objects if not self._is_tombstone(meta)
            ]
        for name in sorted(name for name in names if name.lower() == wanted.lower()):
            if not rest:
                return name
            found = self._search(f"{folder}/{name}", rest)
            if found is not None:
                return f"{name}/{found}"
        return None

    def _present(self, name: str) -> Meta | None:
        return self._presents([name]).get(name)

    def _heads(self, names: Sequence[str]) -> dict[str, Meta]:
        """Look at the blobs *names*: one by one if they are few, else by the page."""
        found = self._listed("blobs", names) if len(names) > _FEW else {}
        rest = [name for name in names if name not in found]
        metas = self._at_once(self._blob, rest)
        return found | {name: meta for name, meta in zip(rest, metas, strict=True) if meta}

    def _listed(self, folder: str, names: Sequence[str]) -> dict[str, Meta]:
        """Look for *names* in the listing of *folder*."""
        found = {}
        wanted = {*map(checked, names)}
        first, last = min(wanted), max(wanted)
        for meta in self._bucket.objects(folder, after=f"{folder}/{first[:-1]}"):
            name = _name(meta)
            if name in wanted:
                found[name] = meta
            elif name > last:
                break
        return found

    def _blob(self, name: str) -> Meta | None:
        if is_upload(name):
            return self._uploads.look(name)
        return self._bucket.head(f"blobs/{checked(name)}")

    def _history(self, name: str) -> History:
        """Look at all versions of the blob *name*, where old ones are kept, or else at itself."""
        if self._versions.kept and not is_upload(name):
            return self._versions.find(checked(name))
        return History(self._blob(name))

    def _histories(self, names: Sequence[str]) -> dict[str, History]:
        """Look at all versions of the blobs *names*."""
        if not self._versions.kept:
            metas = self._heads(names)
            return {name: History(metas.get(name)) for name in names}
        found = self._versions.find_all({*names}) if len(names) > _FEW else {}
        rest = [name for name in names if name not in found]
        return found | dict(zip(rest, self._at_once(self._history, rest), strict=True))

    def _presents(self, names: Sequence[str]) -> dict[str, Meta]:
        """Look at the blobs *names*, or at those with upper-case digits if only these are there."""
        found = self._heads(names)
        others = {}
        for name in names:
            prefix, dash, digits = name.partition("-")
            if name not in found and digits != digits.upper() and not is_upload(name):
                others[f"{prefix}{dash}{digits.upper()}"] = name
        return found | {others[other]: meta for other, meta in self._heads([*others]).items()}

    def _at_once(self, function: Callable[[_T], _U], items: Iterable[_T]) -> Iterator[_U]:
        """Call *function* with each of *items*, several at a time; what it gave, in order."""
        # Not above: who only deletes need not load it.
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

        for some in batches(items):
            if len(some) == 1:
                yield function(some[0])
                continue
            with ThreadPoolExecutor(_THREADS) as pool:
                results = [*pool.map(function, some)]
            yield from results

    def _markers(self) -> Iterator[Meta]:
        for meta in self._bucket.objects("condemned"):
            if "/" not in _name(meta) and not self._is_tombstone(meta):
                yield meta

    def _marker(self, name: str) -> _Marker | None:
        """Read the marker of the blob *name*."""
        found = self._get(f"condemned/{checked(name)}")
        return None if found is None else _parse_marker(found)

    def _markers_of(self, blobs: Sequence[Condemned]) -> list[_Marker]:
        """Read the markers of *blobs*, but for those that are as they were read before."""
        markers = []
        # Where writes have numbers, none takes the place of what was only listed.
        if len(blobs) > _FEW and not self._bucket.numbers:
            now = self._listed("condemned", [blob.name for blob in blobs])
            markers = [
                marker
                for blob in blobs
                if (marker := self._known.get(blob.name))
                and (meta := now.get(blob.name))
                and _version(meta) == _version(marker.meta)
            ]
        names = {marker.blob.name for marker in markers}
        rest = [blob.name for blob in blobs if blob.name not in names]
        markers += [marker for marker in self._at_once(self._marker, rest) if marker]
        wanted = {*blobs}
        return [marker for marker in markers if marker.blob in wanted]

    def _found(self, markers: Sequence[_Marker]) -> Iterator[_Aside]:
        """Look for what *markers* have set aside."""
        histories = self._histories([marker.blob.name for marker in markers])
        for marker in markers:
            history = histories[marker.blob.name]
            meta = self._meant(marker, history)
            if meta is None:
                self._leftovers.add(marker.meta.key)
            else:
                yield _Aside(marker, meta, history)

    def _meant(self, marker: _Marker, history: History) -> Meta | None:
        """Tell what *marker* has set aside; None if that is gone, or not set aside (yet)."""
        if history.hidden is not None:
            # Not the one that is meant, if another came before the delete: its time tells.
            return history.hidden
        if marker.hides or (self.sets_aside and not is_upload(marker.blob.name)):
            return next((meta for meta in history.older if _means(meta) == marker.means), None)
        return history.current

    def _is_left(self, name: str, found: Content) -> bool:
        """Tell whether the marker or tombstone *found* of the blob *name* has no use any more."""
        if _is_tombstone(found.data):
            return not _is_fresh(found.meta)
        marker = self._marker(name)
        if marker is None or (marker.hides and _is_fresh(marker.meta)):
            return False  # the delete may be about to follow
        return self._meant(marker, self._history(name)) is None


@overload
def _manifest(found: Content | None) -> Manifest | None: ...


@overload
def _manifest(found: Content | StoreError | None) -> Read: ...


def _manifest(found: Content | StoreError | None) -> Read:
    if not isinstance(found, Content):
        return found
    return Manifest(found.data, found.meta.modified, _version(found.meta))


def _parse_marker(found: Content) -> _Marker | None:
    try:
        document = json.loads(found.data)
        run, means, hides = document["id"], document["means"], document["hides"]
        when = entry_time(run)
    except (ValueError, LookupError, TypeError):
        when = None
    if when is None:
        _log.warning("%s: not a marker, skipped", quote(found.meta.key))
        return None
    return _Marker(Condemned(when, run, _name(found.meta)), means, hides, found.meta)


def _name(meta: Meta) -> str:
    """Tell the name of the blob that *meta* is, or is the marker of."""
    return meta.key.partition("/")[2]


def _place(entry: Deleted) -> str:
    return f"trash/{checked(entry.id)}/manifests/{checked_key(entry.key)}"


def _protection(pattern: str) -> str:
    return f"protected/{checked(percent_encode(pattern, safe=''))}"


def _is_tombstone(data: bytes) -> bool:
    return data.startswith(_TOMBSTONE)


def _is_fresh(written: Meta) -> bool:
    """Tell whether the process that has written a tombstone or a marker may be at work."""
    return written.modified > time.time() - _AT_WORK


def _look(meta: Meta) -> Blob:
    return Blob(meta.size, meta.modified, meta.modified, meta.key)


def _version(meta: Meta) -> Hashable:
    # What a listing tells too: it has no version.
    return meta.e_tag, meta.size, meta.modified


def _means(meta: Meta) -> list[Any]:
    """What tells a blob from another of the same name, as it is written in a marker."""
    # What a listing tells too: it has no version.
    return [meta.size, meta.e_tag, meta.modified]
