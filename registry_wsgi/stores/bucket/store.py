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
        history/<when>-<random>                              one change, if they are to be kept

The first two are laid out as on disk: a models directory that is copied into a bucket is a store.

An object store has no renames and no links, and a delete often takes whatever is there. So:

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

Many stores behind S3 delete on the condition that the object has not changed; then what another
program writes between the last look and the delete stays. Where a store cannot do that, it goes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ...errors import StoreError
from ..base import Blob, Condemned, Deleted, Folder
from .blobs import Blobs
from .client import connect, identified, impatient, without_repeats
from .history import History
from .lookup import Indices
from .manifests import Manifests, Protection
from .pacing import Tuning
from .probe import Probe, look_at
from .requests import Bucket
from .s3 import S3, ConditionalDeletes, S3Lister
from .tombstones import Tombstones, is_tombstone
from .trash import Trash

__all__ = ["ObjectStore"]


class ObjectStore:
    """
    A `~registry_wsgi.stores.base.Store` in a bucket.

    Args:
        storage: A store of obstore, made with whatever settings it takes. `from_url` makes one
            with time limits. One of S3 without credentials gets those of the environment. Through
            one with a ``credential_provider`` nobody asks for uploads and versions, as obstore
            alone knows these credentials.
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
        name = name or str(storage)
        try:
            storage = identified(storage)
        except StoreError as error:
            raise StoreError(f"{name}: {error}") from None
        # A delete that is repeated may take what has come after the first.
        deleting = without_repeats(storage), without_repeats(storage, bulk=False)
        s3 = S3(storage, name)
        conditional = ConditionalDeletes(s3) if s3.bucket else None
        lister = S3Lister(s3) if s3.bucket else None
        bucket = Bucket(
            storage,
            name,
            tuning,
            deleting=deleting,
            lister=lister,
            remover=conditional,
        )
        self._bucket = bucket
        self._tombstones = tombstones = Tombstones(bucket, clock)
        self._indices = indices = Indices(bucket)
        self._blobs = blobs = Blobs(bucket, tombstones, indices, s3)
        self._probe = probe = Probe(bucket, blobs, clock, conditional)
        manifests = Manifests(bucket, tombstones, indices)
        self._trash = trash = Trash(bucket, tombstones, indices, manifests, probe)
        protection = Protection(bucket, tombstones, probe)
        # These methods are those of a part, as they are.
        self.find, self.read = manifests.find, manifests.read
        self.read_all, self.versions = manifests.read_all, manifests.versions
        self.look, self.open_blob = blobs.look, blobs.open
        self.condemned, self.look_aside, self.purge = blobs.condemned, blobs.look_aside, blobs.purge
        self.deleted, self.recover, self.forget = trash.deleted, trash.recover, trash.forget
        self.read_deleted, self.read_all_deleted = trash.read, trash.read_all
        self.protected = protection.protected
        self.protect, self.unprotect = protection.protect, protection.unprotect
        self._history = History(bucket, clock) if bucket.tuning.history else None
        if self._history is not None:  # else this is no HistoryStore
            self.append_history = self._history.append_history
            self.history = self._history.history
        # A wrong name, key or endpoint is told now, and a store that does not answer soon.
        look_at(Bucket(impatient(storage, bucket.tuning.opening), name, tuning, lister=lister))

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

        Credentials and all else come from the environment, unless given: those of S3 as the AWS
        command line finds them, those of the others as obstore does.

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

    def resolve(self, key: str, *, tag: bool = True) -> str:
        del tag
        return key

    def folders(self) -> Iterator[Folder]:
        """List none: a bucket has keys, and no folders."""
        return iter(())

    def unseen(self) -> Iterator[str]:
        return (meta.key for meta in self._bucket.objects("manifests-v2"))

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

    def own_changes(self) -> tuple[float, float]:
        """Twice 0: it is not told who changed what."""
        return 0.0, 0.0

    def note_own_changes(self, since: float, changed: float) -> None:
        """Nothing is kept."""

    def changed_unseen(self) -> float:
        """When the newest blob or manifest was written, where uploads cannot be listed; else 0."""
        return 0 if self._blobs.uploads.shown else self._bucket.newest("blobs", "manifests")

    def preparing(self) -> float:
        """0: no other program prepares blobs here."""
        return 0.0

    def blob(self, name: str) -> Blob | None:
        return dict(self._blobs.look([name])).get(name)

    def remove_blob(self, name: str) -> bool:
        self._probe.ask()
        return self._blobs.remove(name)

    # What is set aside

    def condemn(self, names: Iterable[str], when: float) -> Iterator[Condemned]:
        self._probe.ask()
        yield from self._blobs.condemn(names, when)

    def condemned_blob(self, blob: Condemned) -> Blob | None:
        return dict(self._blobs.look_aside([blob])).get(blob)

    def pardon(self, blob: Condemned, *, replace: bool = False) -> bool:
        del replace  # there is but one object of a name
        return self._blobs.pardon(blob)

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

    def discard(
        self, key: str, blobs: Iterable[str], when: float, keep: float | None = None
    ) -> Deleted | None:
        """Move the manifest to the trash; *blobs* are kept by the collector, not by the trash."""
        del blobs
        return self._trash.discard(key, when, keep)

    def blob_in_trash(self, entry: Deleted, name: str) -> Blob | None:
        """None: the trash holds no blobs, the collector keeps them."""
        del entry, name
        return None

    def recover_blob(self, entry: Deleted, name: str) -> bool:
        """False: the trash holds no blobs."""
        del entry, name
        return False

    # What others do, and have left

    def claim(self) -> Callable[[], None]:
        """A bucket cannot tell whether the process that has it still lives: everyone has it."""
        return lambda: None

    def check_places(self, keys: Iterable[str], *, blobs: bool = True) -> None:
        """There is one place."""

    def abandoned(self, before: float, *, creates: bool = False) -> dict[str, list[Blob]]:  # noqa: ARG002 - none holds a blob
        return {}

    def tidy(self, before: float, *, creates: bool = False) -> dict[str, StoreError]:  # noqa: ARG002 - no bucket has folders
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
                self._bucket.delete_unchanged([found.meta])
        self._blobs.marks.forget()
        self._indices.write()
        if self._history is not None:
            self._history.tidy()
        return {}
