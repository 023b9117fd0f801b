"""Reading manifests and the trash, each version once, into the references."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

from ...errors import InvalidManifestError, InvalidNameError, OutOfReachError, StoreError, escape
from ...names import Name
from ...stores.base import Deleted, Manifest, Read, Store
from ..manifest import mentioned_blobs, needed_blobs
from .progress import Progress, counted
from .references import References

__all__ = ["Reader", "is_model"]

_log = logging.getLogger("registry_wsgi")


class Reader:
    """Reads what needs blobs. Raises before anything is removed if that cannot be told."""

    def __init__(self, store: Store, references: References, progress: Progress | None) -> None:
        self._store = store
        self._references = references
        self._progress = progress
        self._seen: set[int] = set()  # hashes of (key, version): there may be millions
        self._trash: set[Deleted] = set()  # an entry of the trash never changes

    def all(self) -> Iterator[tuple[str, Manifest]]:
        for key, found in counted(self._progress, "reading manifests", self._store.read_all()):
            manifest = self._checked(key, found)
            if manifest is not None:
                yield key, manifest

    def one(self, key: str) -> Manifest | None:
        try:
            return self._checked(key, self._store.read(key))
        except (InvalidManifestError, OutOfReachError) as error:
            return self._checked(key, error)

    def mark(self, key: str, manifest: Manifest) -> None:
        if manifest.version is not None:
            self._seen.add(hash((key, manifest.version)))
        try:
            self._references.need(needed_blobs(manifest.data))
        except InvalidManifestError as error:
            _refuse(key, error)
            self._references.need(mentioned_blobs(manifest.data))

    def mark_changed(self) -> None:
        for key, version in counted(self._progress, "checking manifests", self._store.versions()):
            if version is None or hash((key, version)) not in self._seen:
                manifest = self.one(key)
                if manifest is not None:
                    self.mark(key, manifest)

    def mark_trash(self, but: Iterable[Deleted] = ()) -> None:
        for entry, found in self._store.read_all_deleted(self._trash.union(but)):
            self._trash.add(entry)
            if isinstance(found, InvalidManifestError):
                _log.warning("%s", found)  # nobody can restore it
            elif isinstance(found, StoreError):
                raise found
            elif found is not None:
                self._references.need(mentioned_blobs(found.data))

    def _checked(self, key: str, found: Read) -> Manifest | None:
        if isinstance(found, InvalidManifestError):
            _refuse(key, found)
            return None
        if isinstance(found, StoreError):
            if isinstance(found, OutOfReachError) and key.count("/") == 3 and not is_model(key):
                _log.warning("manifests/%s: not a manifest, skipped", escape(key))
                return None
            raise found
        if found is None:
            _log.warning("manifests/%s: not a file, or gone: skipped", escape(key))
        return found


def is_model(key: str) -> bool:
    try:
        Name.from_key(key)
    except InvalidNameError:
        return False
    return True


def _refuse(key: str, error: InvalidManifestError) -> None:
    """Stop the run for a manifest that cannot be read, unless nothing lists it as a model."""
    if is_model(key):
        raise InvalidManifestError(
            f"manifests/{key}: {error}; no blob is removed until this model is deleted or its"
            " manifest is put right"
        ) from error
    _log.warning("manifests/%s: not a manifest, skipped", escape(key))
