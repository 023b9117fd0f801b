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

import logging
import math
import time
from collections.abc import Callable, Container, Hashable, Iterable, Iterator
from dataclasses import replace
from typing import Any, BinaryIO, TypeVar, overload
from urllib.parse import quote as percent_encode
from urllib.parse import unquote as percent_decode

from ...durations import moment
from ...errors import InvalidManifestError, ModelExistsError, StoreError, quote
from ...names import Name
from ..base import Blob, Condemned, Deleted, Folder, Manifest, Read
from ..layout import MANIFEST_SIZE, checked, checked_key, entry_id, entry_time
from .blobs import Blobs
from .index import Indices
from .requests import Bucket, Content, Meta, TooLargeError, connect, without_repeats
from .retry import ChangedError, retry
from .s3 import S3
from .tombstones import Tombstones, is_tombstone
from .tuning import Tuning

__all__ = ["ObjectStore"]

_log = logging.getLogger("registry_wsgi")

_T = TypeVar("_T")


class ObjectStore:
    """
    A `~registry_wsgi.stores.base.Store` in a bucket.

    Args:
        storage: A store of obstore, made with whatever settings it takes. `from_url` makes one
            with time limits.
        name: What the store is called in messages.
        tuning: How the store paces its requests, and how long it waits for other processes.
        clock: The time here in seconds since the epoch, which is compared with the bucket's.

    Raises:
        StoreError: The bucket cannot be listed.
    """

    def __init__(
        self,
        storage: Any,
        *,
        name: str | None = None,
        tuning: Tuning | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        # A delete that is repeated may take what has come after the first.
        deleting = without_repeats(storage)
        self._bucket = Bucket(storage, name or str(storage), tuning, deleting=deleting)
        self._clock = clock
        self._tombstones = Tombstones(self._bucket, clock)
        self._indices = Indices(self._bucket)
        s3 = S3(storage, self._bucket.name)
        self._blobs = Blobs(self._bucket, self._tombstones, self._indices, s3)
        self._probed = False
        self._bucket.folder("manifests")

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        connect_timeout: float = 5,
        read_timeout: float = 60,
        tuning: Tuning | None = None,
        **config: Any,
    ) -> ObjectStore:
        """
        Open the bucket (and prefix) at *url*.

        Credentials and all else come from the environment, as obstore takes them, unless given.

        Args:
            url: ``s3://bucket/prefix``, ``gs://bucket/prefix`` or
                ``az://account/container/prefix``.
            connect_timeout: How long to wait for a connection, in seconds.
            read_timeout: How long to wait for the next bytes of an answer, in seconds.
            tuning: As for `ObjectStore` itself.
            config: Settings of obstore for this kind of store, such as ``endpoint`` or ``region``.

        Raises:
            StoreError: A setting cannot be used, or the bucket cannot be listed.
        """
        limits: dict[str, Any] = {"connect_timeout": connect_timeout, "read_timeout": read_timeout}
        return cls(connect(url, **limits, **config), name=url.rstrip("/"), tuning=tuning)

    def __repr__(self) -> str:
        return f"<ObjectStore {self._bucket.name}>"

    @property
    def sets_aside(self) -> bool:
        """Whether the bucket keeps old versions, so that a delete only hides."""
        return self._blobs.versions.on

    # Manifests

    def find(self, name: Name) -> str | None:
        if self._tombstones.head(f"manifests/{name.key}") is not None:
            return name.key
        return self._search("manifests", list(name))

    def read(self, key: str) -> Manifest | None:
        return self._read(f"manifests/{checked_key(key)}")

    def read_all(self) -> Iterator[tuple[str, Read]]:
        for meta, found in self._indices.read("manifests", self._manifests(), self._content):
            yield meta.key.removeprefix("manifests/"), _manifest(found)

    def versions(self) -> Iterator[tuple[str, Hashable | None]]:
        for meta in self._manifests():
            yield meta.key.removeprefix("manifests/"), meta.fingerprint

    def folders(self) -> Iterator[Folder]:
        """List none: a bucket has keys, and no folders."""
        return iter(())

    def _manifests(self) -> Iterator[Meta]:
        for meta in self._bucket.objects("manifests"):
            if meta.key.count("/") != 4:
                _log.warning("%s: not a manifest, skipped", quote(meta.key))
            elif not self._tombstones.is_one(meta):
                yield meta

    # Blobs

    def blobs(self) -> Iterator[str]:
        if next(self._bucket.objects("manifests-v2"), None) is not None:
            raise StoreError(
                f"{self._bucket.name}: has models under manifests-v2, which a newer Ollama writes"
                " and which are not understood here: no blob is removed"
            )
        yield from self._blobs.names()

    def blobs_changed(self) -> float:
        """`math.inf`: it is not told what went."""
        return math.inf

    def blob(self, name: str) -> Blob | None:
        return dict(self._blobs.look([name])).get(name)

    def look(self, names: Iterable[str]) -> Iterator[tuple[str, Blob]]:
        return self._blobs.look(names)

    def open_blob(self, name: str) -> BinaryIO | None:
        return self._blobs.open(name)

    def remove_blob(self, name: str) -> bool:
        self._probe()
        return self._blobs.remove(name)

    # What is set aside

    def condemn(self, names: Iterable[str], when: float) -> Iterator[Condemned]:
        self._probe()
        yield from self._blobs.condemn(names, when)

    def condemned(self) -> Iterator[Condemned]:
        return self._blobs.condemned()

    def condemned_blob(self, blob: Condemned) -> Blob | None:
        return dict(self._blobs.look_aside([blob])).get(blob)

    def look_aside(self, blobs: Iterable[Condemned]) -> Iterator[tuple[Condemned, Blob]]:
        return self._blobs.look_aside(blobs)

    def pardon(self, blob: Condemned) -> bool:
        return self._blobs.pardon(blob)

    def purge(self, blobs: Iterable[tuple[Condemned, float]]) -> Iterator[tuple[Condemned, bool]]:
        return self._blobs.purge(blobs)

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
        return self._blobs.keep(names, wait)

    # Trash

    def discard(self, key: str, blobs: Iterable[str], when: float) -> Deleted | None:
        """Move the manifest to the trash; *blobs* are kept by the collector, not by the trash."""
        del blobs
        source = f"manifests/{checked_key(key)}"
        if not self._probed:
            self._probe()

        def move() -> Deleted | None:
            meta = self._tombstones.head(source)
            if meta is None:
                return None
            run = entry_id(when)
            copy = f"trash/{run}/manifests/{key}"
            if not self._copy(meta, copy):
                raise self._changed(source)
            # If this fails, nobody knows what is in place: then the copy stays.
            if not self._tombstones.take(meta):
                self._bucket.delete(copy)
                raise self._changed(source)
            self._tombstones.bury(source)
            return Deleted(entry_time(run) or when, run, key)

        return self._repeated(move)

    def deleted(self, before: float | None = None) -> list[Deleted]:
        return sorted(entry for entry, _ in self._trash(before))

    def read_deleted(self, entry: Deleted) -> Manifest | None:
        return self._read(_place(entry))

    def read_all_deleted(self, known: Container[Deleted] = ()) -> Iterator[tuple[Deleted, Read]]:
        trash = {meta: entry for entry, meta in self._trash()}
        if all(entry in known for entry in trash.values()):
            return
        for meta, found in self._indices.read("trash", trash, self._content):
            if trash[meta] not in known:
                yield trash[meta], _manifest(found)

    def _trash(self, before: float | None = None) -> Iterator[tuple[Deleted, Meta]]:
        for meta in self._bucket.objects("trash"):
            run, _, path = meta.key.removeprefix("trash/").partition("/")
            when, key = entry_time(run), path.removeprefix("manifests/")
            if when is None or key == path or key.count("/") != 3:
                continue
            if (before is None or when <= before) and not self._tombstones.is_one(meta):
                yield Deleted(when, run, key), meta

    def blob_in_trash(self, entry: Deleted, name: str) -> Blob | None:
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

        def put_back() -> tuple[Content, str] | None:
            source = self._tombstones.get(_place(entry))
            if source is None:
                return None
            token = self._bucket.create(target, source.data)
            if token is None:
                there = self._tombstones.settled(target)
                if there is not None and not self._tombstones.is_one(there):
                    raise ModelExistsError(Name.from_key(entry.key))
                token = self._bucket.replace(there, source.data) if there else None
            if token is None:
                raise self._changed(target)
            return source, token

        done = self._repeated(put_back)
        if done is None:
            return False
        source, token = done
        if self._tombstones.take(source.meta):
            self._tombstones.bury(source.meta.key)
            return True
        # Somebody has meanwhile removed it from the trash for good, and perhaps its blobs: back.
        ours = self._tombstones.get(target)
        if ours is not None and ours.token == token and self._tombstones.take(ours.meta):
            self._tombstones.bury(target)
        return False

    def forget(self, entry: Deleted) -> bool:
        meta = self._tombstones.head(_place(entry))
        if meta is None or not self._tombstones.take(meta):
            return False
        self._tombstones.bury(meta.key)
        return True

    # What is protected

    def protected(self) -> Iterator[str]:
        for meta in self._bucket.objects("protected"):
            if not self._tombstones.is_one(meta):
                yield percent_decode(meta.key.removeprefix("protected/"))

    def protect(self, pattern: str) -> None:
        key = _protection(pattern)
        if not self._probed:
            self._probe()

        def put() -> None:
            if self._bucket.create(key, b"protected"):
                return
            there = self._tombstones.settled(key)
            if there is None:
                raise self._changed(key)
            if self._tombstones.is_one(there) and not self._bucket.replace(there, b"protected"):
                raise self._changed(key)

        self._repeated(put)

    def unprotect(self, pattern: str) -> bool:
        meta = self._tombstones.head(_protection(pattern))
        if meta is None or not self._tombstones.take(meta):
            return False
        self._tombstones.bury(meta.key)
        return True

    # What others do, and have left

    def claim(self) -> Callable[[], None]:
        """A bucket cannot tell whether the process that has it still lives: everyone has it."""
        return lambda: None

    def tidy(self, before: float) -> None:
        leftovers = sorted(self._tombstones.leftovers)
        self._tombstones.leftovers.clear()
        for key in leftovers:
            found = self._bucket.get(key)
            if found is None or found.meta.modified > before:
                continue
            folder, _, name = key.partition("/")
            if folder == "condemned":
                self._blobs.finish(name, found)
            elif is_tombstone(found.data) and not self._tombstones.is_fresh(found.meta):
                self._bucket.delete(key)
        self._blobs.marks.forget()
        self._indices.write()

    # Steps

    def _repeated(self, step: Callable[[], _T]) -> _T:
        """Take *step* again as long as it finds that another program has changed something."""
        pauses = (0,) * (self._bucket.tuning.attempts - 1)
        return retry(step, on=ChangedError, pauses=pauses)

    def _changed(self, key: str) -> ChangedError:
        return ChangedError(f"{self._bucket.name}/{key}: is changed again and again")

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
            if found is None or found.meta.fingerprint != meta.fingerprint:
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
        key = f"probe/{entry_id(self._clock())}"
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
                f" ({self._blobs.versions.refused})" if self._blobs.versions.refused else "",
            )
        for meta in bucket.objects("probe"):  # of processes that were killed
            ours = entry_time(meta.key.removeprefix("probe/")) is not None
            if ours and meta.modified < probe.modified - self._bucket.tuning.probe_age:
                self._drop(meta.key)
        self._probed = True

    def _keeps_to_conditions(self, probe: Meta) -> bool:
        bucket = self._bucket
        other = replace(probe, e_tag=f"{0:032x}", version=probe.version and "1")
        ignored = bucket.create(probe.key, b"2") or bucket.replace(other, b"3")
        return not ignored and bucket.replace(probe, b"4") is not None

    def _check_clock(self, written: Meta | None) -> None:
        here, limit = self._clock(), self._bucket.tuning.clock_skew
        if written is None or abs(here - written.modified) <= limit:
            return
        raise StoreError(
            f"{self._bucket.name}: the clock here says {moment(here):%Y-%m-%d %H:%M:%S} UTC, and"
            f" that of the store {moment(written.modified):%Y-%m-%d %H:%M:%S} UTC; with more than"
            f" {limit / 60:g} minutes between them ages mean nothing, and nothing is removed"
        )

    # Looks

    def _read(self, key: str) -> Manifest | None:
        return _manifest(self._content(key))

    def _content(self, key: str) -> Content | None:
        try:
            return self._tombstones.get(key)
        except TooLargeError as error:
            raise InvalidManifestError(f"not a manifest: {error}") from error

    def _search(self, folder: str, parts: list[str]) -> str | None:
        """Look for *parts* below *folder* without regard to case; the lexically first wins."""
        wanted, *rest = parts
        folders, objects = self._bucket.folder(folder)
        if rest:
            names = [path.rpartition("/")[2] for path in folders]
        else:
            names = [
                meta.key.rpartition("/")[2] for meta in objects if not self._tombstones.is_one(meta)
            ]
        for name in sorted(name for name in names if _equals(name, wanted)):
            if not rest:
                return name
            found = self._search(f"{folder}/{name}", rest)
            if found is not None:
                return f"{name}/{found}"
        return None


@overload
def _manifest(found: Content | None) -> Manifest | None: ...


@overload
def _manifest(found: Content | StoreError | None) -> Read: ...


def _manifest(found: Content | StoreError | None) -> Read:
    if not isinstance(found, Content):
        return found
    modified = found.meta.modified
    return Manifest(found.data, modified, found.meta.fingerprint, modified)


def _equals(one: str, other: str) -> bool:
    """Tell whether both are the same but for the case of ASCII letters."""
    return one.isascii() and one.lower() == other.lower()


def _place(entry: Deleted) -> str:
    return f"trash/{checked(entry.id)}/manifests/{checked_key(entry.key)}"


def _protection(pattern: str) -> str:
    return f"protected/{checked(percent_encode(pattern, safe=''))}"
