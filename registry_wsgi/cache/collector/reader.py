"""Reading manifests and the trash, each version once, into the references."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator

from ...errors import InvalidManifestError, OutOfReachError, StoreError
from ...stores.base import Deleted, Manifest, Read, Store
from ..manifest import mentioned_blobs, needed_blobs
from ..reach import is_empty_host, is_model, why_unknown
from ..reading import read_models
from .progress import Progress, counted
from .references import References

__all__ = ["Reader"]

_log = logging.getLogger("registry_wsgi")

# How long to wait before manifests are read once more, in seconds. Without the last two these add
# up to more than two seconds, as some file systems keep times only to every other second.
_PAUSES = (0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 0.05, 0.05)

# How often to read once more because something moved. Longer waiting does not help where other
# programs are so busy; the next run tries again.
_PATIENCE = 4

_IsOld = Callable[[str, Manifest], bool]


class Reader:
    """
    Reads what needs blobs. Raises before anything is removed if that cannot be told.

    Attributes:
        found: How often a manifest was read.
        progress: Told how far it is.
        empty_hosts: The hosts whose folders have nothing in them.
    """

    def __init__(self, store: Store, references: References, progress: Progress | None) -> None:
        self.found = 0
        self.empty_hosts: list[str] = []
        self._store = store
        self._references = references
        self.progress = progress
        self._seen: set[int] = set()  # hashes of (key, version): there may be millions
        self._old: dict[str, int] = {}  # the manifests that nothing is kept for, by their hash
        self._old_seen: set[int] = set()
        self._trash: set[Deleted] = set()  # an entry of the trash never changes
        self._listed = 0  # all keys and versions of the last walk, in one number
        self._folders = self._look_at_folders()

    def read(self, is_old: _IsOld) -> Iterator[tuple[str, Manifest, Collection[str]]]:
        """
        Read all manifests for the first time, and mark what they need.

        Returns:
            The manifests for which *is_old* is true, with the blobs that they mention: these blobs
            are not marked.
        """

        def parse(key: str, manifest: Manifest) -> tuple[bool, Collection[str]]:
            if is_old(key, manifest):
                return True, mentioned_blobs(manifest.data)
            return False, _needs(key, manifest)

        found = counted(self.progress, "reading manifests", self._store.read_all())
        for key, manifest, (old, blobs) in read_models(found, parse, _refuse):
            self.found += 1
            stamp = hash((key, manifest.version))
            self._listed ^= stamp
            if old:
                self._old[key] = hash(manifest.data)
                if manifest.version is not None:
                    self._old_seen.add(stamp)
                yield key, manifest, blobs
            else:
                if manifest.version is not None:
                    self._seen.add(stamp)
                self._references.need(blobs)

    def one(self, key: str) -> Manifest | None:
        """Read the manifest at *key* again; None if it is gone, or no manifest."""
        found = read_models([(key, self._read(key))], lambda _, manifest: manifest, _refuse)
        return next((manifest for _, manifest, _ in found), None)

    def is_complete(self) -> bool:
        """
        Tell whether the first reading has met all manifests: no folder has changed since before it.

        It costs less than `settle`, and does not notice a manifest that was written over in its
        place. The second reading, which always settles, does.
        """
        folders = self._look_at_folders()
        same = bool(folders) and folders == self._folders and None not in folders.values()
        self._folders = folders
        return same

    def settle(
        self, *, but_old: bool = False, patient: bool = True, deadline: float | None = None
    ) -> bool:
        """
        Read what is new or has changed, until nothing moves any more.

        Args:
            but_old: Do not mark what the old models need, as long as they have not changed.
            patient: Whether to try more than once.
            deadline: After this, by ``time.monotonic()``, try no more.

        Returns:
            Whether there was a reading during which no manifest and no folder changed, came or
            went. Then there was a moment at which all that is needed was known.
        """
        patience = _PATIENCE if patient else 0
        for pause in (*_PAUSES, None):
            moved, fresh = self._mark_changed(but_old=but_old)
            folders = self._look_at_folders()
            moved |= folders != self._folders
            fresh |= None in folders.values()
            self._folders = folders
            if not (moved or fresh):
                return True
            patience -= moved
            if pause is None or not patient or patience < 0:
                return False
            if deadline is not None and time.monotonic() + pause > deadline:
                return False
            time.sleep(pause)
        return False

    def mark_trash(self, but: Iterable[Deleted] = ()) -> None:
        """Mark what those deleted models need that came into the trash since the last call."""
        for entry, found in self._store.read_all_deleted(self._trash.union(but)):
            self._trash.add(entry)
            if isinstance(found, InvalidManifestError):
                _log.warning("%s", found)  # nobody can restore it
            elif isinstance(found, StoreError):
                raise found
            elif found is not None:
                self._references.need(mentioned_blobs(found.data))

    def _mark_changed(self, *, but_old: bool) -> tuple[bool, bool]:
        """
        Read the manifests that are new or have changed.

        Returns:
            Whether a manifest changed, came or went, and whether some were written so recently
            that this cannot be told.
        """
        changed, fresh, listed = False, False, 0
        for key, version in counted(self.progress, "checking manifests", self._store.versions()):
            stamp = hash((key, version))
            listed ^= stamp
            known = stamp in self._seen or (but_old and stamp in self._old_seen)
            if version is not None and known:
                continue
            changed |= version is not None
            fresh |= version is None
            old = self._mark(key, but_old=but_old)
            if version is not None:
                (self._old_seen if old else self._seen).add(stamp)
        changed |= listed != self._listed
        self._listed = listed
        return changed, fresh

    def _mark(self, key: str, *, but_old: bool) -> bool:
        """Read one manifest, mark what it needs, and tell whether it is still an old one."""

        def parse(key: str, manifest: Manifest) -> tuple[bool, Collection[str]]:
            if but_old and self._old.get(key) == hash(manifest.data):
                return True, ()
            return False, _needs(key, manifest)

        for _, _, (old, blobs) in read_models([(key, self._read(key))], parse, _refuse):
            self.found += 1
            self._references.need(blobs)
            return old
        return False

    def _read(self, key: str) -> Read:
        try:
            return self._store.read(key)
        except (InvalidManifestError, OutOfReachError) as error:
            return error

    def _look_at_folders(self) -> dict[str, Hashable | None]:
        marks = {}
        self.empty_hosts.clear()
        for folder in self._store.folders():
            marks[folder.path] = folder.mark
            if is_empty_host(folder):
                self.empty_hosts.append(folder.path)
        return marks


def _needs(key: str, manifest: Manifest) -> Collection[str]:
    try:
        return needed_blobs(manifest.data)
    except InvalidManifestError as error:
        if is_model(key):
            raise
        _refuse(key, error)
        return mentioned_blobs(manifest.data)


def _refuse(key: str, error: StoreError | None) -> None:
    """Stop the run for what cannot be read, unless nothing lists it as a model."""
    stop = why_unknown(key, error)
    if stop is error is not None:
        raise error
    if stop is not None:
        raise stop from error
