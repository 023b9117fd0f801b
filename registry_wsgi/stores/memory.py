"""
A store in memory, for tests and for trying things out.

It keeps the same promises as the other stores, under one lock, and forgets all with the process.
"""

from __future__ import annotations

import io
import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Container, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ..errors import ModelExistsError, StoreError
from ..names import Name
from .base import Blob, Condemned, Deleted, Folder, Manifest, Read
from .layout import kept_for, was_kept

__all__ = ["MemoryStore"]

# How many lines of the history are kept.
_HISTORY = 1_000


class MemoryStore:
    """
    A `~registry_wsgi.stores.base.Store` in memory.

    Args:
        clock: Gives the times of what is put in, in seconds since the epoch.
    """

    sets_aside = True

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._serial = itertools.count(1)
        self._changes = 0  # the number of the last change of the manifests
        self._manifests: dict[str, Manifest] = {}
        self._blobs: dict[str, _Content] = {}
        self._blobs_changed = 0.0
        self._own_changes = (0.0, 0.0)
        self._trash: dict[Deleted, tuple[Manifest, dict[str, _Content]]] = {}
        self._condemned: dict[Condemned, _Content] = {}
        self._protected: set[str] = set()
        self._history: deque[str] = deque(maxlen=_HISTORY)
        self._claim = threading.Lock()

    def __repr__(self) -> str:
        return f"<MemoryStore of {len(self._manifests)} manifests>"

    # What an application puts in, as there is no other program that does.

    def put_manifest(self, key: str, data: bytes) -> None:
        """Store *data* as the manifest at *key*, ``host/namespace/model/tag``."""
        key = Name.from_key(key).key
        with self._lock:
            self._put_manifest(key, data)

    def put_blob(self, name: str, data: bytes) -> None:
        """Store *data* as the blob *name*, ``sha256-<hex>``."""
        with self._lock:
            self._blobs_changed = self._clock()
            self._blobs[name] = _Content(data, self._blobs_changed)

    def get_blob(self, name: str) -> bytes | None:
        """Read the blob *name*; None if there is none."""
        with self._lock:
            return self._blobs[name].data if name in self._blobs else None

    # The Store protocol

    def find(self, name: Name) -> str | None:
        with self._lock:
            if name.key in self._manifests:
                return name.key
            wanted = name.key.lower()
            found = (key.split("/") for key in self._manifests if key.lower() == wanted)
            return "/".join(min(found, default=())) or None

    def resolve(self, key: str, *, tag: bool = True) -> str:
        del tag
        return key

    def read(self, key: str) -> Manifest | None:
        with self._lock:
            return self._manifests.get(key)

    def read_all(self) -> Iterator[tuple[str, Read]]:
        return ((key, self.read(key)) for key, _ in self.versions())

    def versions(self) -> Iterator[tuple[str, Hashable | None]]:
        with self._lock:
            return iter([(key, found.version) for key, found in self._manifests.items()])

    def folders(self) -> Iterator[Folder]:
        with self._lock:
            return iter([Folder("", self._changes, not self._manifests)])

    def unseen(self) -> Iterator[str]:
        """List none: there is one layout."""
        return iter(())

    def blobs(self) -> Iterator[str]:
        with self._lock:
            return iter(list(self._blobs))

    def blobs_changed(self) -> float:
        with self._lock:
            return self._blobs_changed

    def own_changes(self) -> tuple[float, float]:
        with self._lock:
            return self._own_changes

    def note_own_changes(self, since: float, changed: float) -> None:
        with self._lock:
            if changed == self._blobs_changed:
                self._own_changes = since, math.nextafter(changed, math.inf)

    def changed_unseen(self) -> float:
        return 0

    def preparing(self) -> float:
        """0: no other program prepares blobs here."""
        return 0.0

    def blob(self, name: str) -> Blob | None:
        with self._lock:
            return self._look(self._blobs.get(name))

    def look(self, names: Iterable[str]) -> Iterator[tuple[str, Blob]]:
        return ((name, blob) for name in names if (blob := self.blob(name)))

    def open_blob(self, name: str) -> BinaryIO | None:
        with self._lock:
            return io.BytesIO(self._blobs[name].data) if name in self._blobs else None

    def remove_blob(self, name: str) -> bool:
        with self._lock:
            self._blobs_changed = self._clock()
            return self._blobs.pop(name, None) is not None

    def condemn(self, names: Iterable[str], when: float) -> Iterator[Condemned]:
        run = f"{next(self._serial):012}"
        for name in names:
            with self._lock:
                content = self._blobs.pop(name, None)
                if content is None:
                    continue
                self._blobs_changed = self._clock()
                blob = Condemned(when, run, name)
                self._condemned[blob] = content
            yield blob

    def condemned(self) -> Iterator[Condemned]:
        with self._lock:
            return iter(sorted(self._condemned))

    def condemned_blob(self, blob: Condemned) -> Blob | None:
        with self._lock:
            return self._look(self._condemned.get(blob))

    def look_aside(self, blobs: Iterable[Condemned]) -> Iterator[tuple[Condemned, Blob]]:
        return ((blob, look) for blob in blobs if (look := self.condemned_blob(blob)))

    def pardon(self, blob: Condemned, *, replace: bool = False) -> bool:
        with self._lock:
            taken = blob.name in self._blobs and not replace
            if blob not in self._condemned or taken:
                return False
            self._blobs[blob.name] = content = self._condemned.pop(blob)
            content.changed = self._blobs_changed = self._clock()
            return True

    def purge(self, blobs: Iterable[tuple[Condemned, float]]) -> Iterator[tuple[Condemned, bool]]:
        for blob, until in blobs:
            with self._lock:
                content = self._condemned.get(blob)
                if content is None:
                    continue
                gone = content.changed <= until
                if gone:
                    del self._condemned[blob]
            yield blob, gone

    def discard(
        self, key: str, blobs: Iterable[str], when: float, keep: float | None = None
    ) -> Deleted | None:
        with self._lock:
            manifest = self._manifests.pop(key, None)
            if manifest is None:
                return None
            self._changes = next(self._serial)
            held = {name: self._blobs[name] for name in blobs if name in self._blobs}
            kept = "" if keep is None else kept_for(keep)
            entry = Deleted(when, f"{next(self._serial):012}{kept}", key)
            self._trash[entry] = manifest, held
            return entry

    def deleted(self, before: float | None = None, keep: float | None = None) -> list[Deleted]:
        with self._lock:
            return sorted(e for e in self._trash if was_kept(e.when, e.id, before, keep))

    def read_deleted(self, entry: Deleted) -> Manifest | None:
        with self._lock:
            return self._trash[entry][0] if entry in self._trash else None

    def read_all_deleted(self, known: Container[Deleted] = ()) -> Iterator[tuple[Deleted, Read]]:
        entries = (entry for entry in self.deleted() if entry not in known)
        return ((entry, self.read_deleted(entry)) for entry in entries)

    def blob_in_trash(self, entry: Deleted, name: str) -> Blob | None:
        with self._lock:
            return self._look(self._trash[entry][1].get(name)) if entry in self._trash else None

    def recover_blob(self, entry: Deleted, name: str) -> bool:
        with self._lock:
            if entry not in self._trash or name not in self._trash[entry][1]:
                return False
            self._blobs[name] = self._trash[entry][1][name]
            self._blobs_changed = self._clock()
            return True

    def recover(self, entry: Deleted) -> bool:
        with self._lock:
            if entry not in self._trash:
                return False
            if entry.key in self._manifests:
                raise ModelExistsError(Name.from_key(entry.key))
            manifest, _ = self._trash.pop(entry)
            self._put_manifest(entry.key, manifest.data)
            return True

    def forget(self, entry: Deleted) -> bool:
        with self._lock:
            return self._trash.pop(entry, None) is not None

    def protected(self) -> Iterator[str]:
        with self._lock:
            return iter(list(self._protected))

    def protect(self, pattern: str) -> None:
        with self._lock:
            self._protected.add(pattern)

    def unprotect(self, pattern: str) -> bool:
        with self._lock:
            kept = pattern in self._protected
            self._protected.discard(pattern)
            return kept

    def append_history(self, line: str) -> None:
        self._history.append(line)

    def history(self) -> list[str]:
        return list(self._history)

    def claim(self) -> Callable[[], None] | None:
        return self._claim.release if self._claim.acquire(blocking=False) else None

    def check_places(self, keys: Iterable[str], *, blobs: bool = True) -> None:
        """Check nothing: all is in one place."""

    def abandoned(self, before: float, *, creates: bool = False) -> dict[str, list[Blob]]:  # noqa: ARG002 - all is done whole
        return {}

    def tidy(self, before: float, *, creates: bool = False) -> dict[str, StoreError]:  # noqa: ARG002 - all is done whole
        return {}

    def _put_manifest(self, key: str, data: bytes) -> None:
        now = self._clock()
        self._changes = version = next(self._serial)
        self._manifests[key] = Manifest(data, now, version, now)

    def _look(self, content: _Content | None) -> Blob | None:
        if content is None:
            return None
        held = [blobs.values() for _, blobs in self._trash.values()]
        places = itertools.chain(self._blobs.values(), self._condemned.values(), *held)
        links = sum(place is content for place in places)
        size, changed = len(content.data), content.changed
        return Blob(size, changed, changed, id(content), links)


@dataclass(eq=False, slots=True)
class _Content:
    """The space that a blob takes, under whatever names."""

    data: bytes
    changed: float
