"""Phase 1: what is there, and who needs it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from ...errors import InvalidManifestError, StoreError
from ...stores.base import Blob, Deleted, Manifest, Store
from ..listing import total
from ..manifest import blob_name, is_blob_name, mentioned_blobs, parse_manifest
from ..patterns import matches
from ..reach import check_for_absent_manifests
from ..reading import name_of
from .limits import Activity, Limits
from .progress import Progress, counted
from .reader import Reader
from .references import References

__all__ = ["Census", "Expired", "OldModels", "check_manifests", "take_census"]

_log = logging.getLogger("registry_wsgi")


@dataclass
class OldModels:
    """With ``all=True``: the models that are old enough to go, each with what it was then."""

    go: dict[str, int] = field(default_factory=dict)
    looks: dict[str, tuple[float, int]] = field(default_factory=dict)  # when it changed, its size
    blobs: set[str] = field(default_factory=set)
    protected: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)  # the keys of all that is protected, old or not

    def add(self, key: str, manifest: Manifest, blobs: Iterable[str]) -> None:
        """Add the model at *key*, which needs *blobs*."""
        self.go[key] = hash(manifest.data)
        self.looks[key] = manifest.modified, size_of(manifest)
        self.blobs.update(blobs)

    def protects(self, key: str, patterns: Iterable[str]) -> bool:
        """Tell whether one of *patterns* protects the model at *key*, and remember it."""
        if self.keeps(key, patterns):
            self.protected.add(key)
        return key in self.protected

    def keeps(self, key: str, patterns: Iterable[str]) -> bool:
        """Tell whether one of *patterns* stands for the model at *key*, be it old or not."""
        name = name_of(key)
        if name is None or any(matches(name, pattern) for pattern in patterns):
            self.kept.add(key)
        return key in self.kept

    def keep_what_is_led_to(self, store: Store) -> None:
        """Keep each manifest, and each link, by which a protected model is reached."""
        if not self.kept or not self.go:
            return
        real = {store.resolve(key) for key in self.kept}
        for key in [key for key in self.go if store.resolve(key) in real]:
            del self.go[key]
            self.protected.add(key)


@dataclass
class Expired:
    """
    The deleted models that go.

    Attributes:
        held: For each, the blobs that the trash holds for it.
        sizes: For each, the bytes of all its blobs.
        deleted: The names of all blobs that they mention, each with when the last of these models
            was deleted.
        only: Whether nothing else is to go.
    """

    held: dict[Deleted, dict[str, Blob]] = field(default_factory=dict)
    sizes: dict[Deleted, int] = field(default_factory=dict)
    deleted: dict[str, float] = field(default_factory=dict)
    only: bool = False

    def add_in_place(self, key: str, when: float, manifest: Manifest, blobs: Iterable[str]) -> None:
        """Add the model in place at *key*, as if it was deleted at *when* and had to go."""
        entry = Deleted(when, "", key)
        self.held[entry] = {}
        self.sizes[entry] = size_of(manifest)
        self.deleted.update(dict.fromkeys(blobs, when))


@dataclass
class Census:
    """
    All that phase 1 has found out.

    Attributes:
        settled: Whether a reading of the manifests was at rest. If not, absence says nothing.
    """

    references: References
    reader: Reader
    activity: Activity
    expired: Expired
    old: OldModels
    settled: bool = True

    def reason(self, name: str) -> str:
        """Tell why the blob *name* goes."""
        canonical = blob_name(name)
        if canonical is None:
            return "partial"
        if canonical in self.expired.deleted:
            return "expired"
        return "all" if canonical in self.old.blobs else "unreferenced"


def take_census(
    store: Store,
    limits: Limits,
    expired: list[Deleted],
    *,
    every_model: bool,
    as_deleted: Collection[str] = (),
    progress: Progress | None,
) -> Census:
    """
    List the blobs, then read the trash, the manifests and the trash.

    The models at the keys *as_deleted* count as deleted just now.

    Raises:
        InvalidManifestError: A manifest cannot be read.
        OutOfReachError: A part of the manifests is out of reach.
        StoreError: The storage failed.
    """
    references = References()
    activity = Activity()
    references.add_aside(store.condemned())
    references.add_listed(counted(progress, "listing blobs", store.blobs()))
    reader = Reader(store, references, progress)
    census = Census(references, reader, activity, _look_at_expired(store, expired), OldModels())
    reader.mark_trash(but=expired)
    patterns = list(store.protected()) if every_model else []

    def is_old(key: str, manifest: Manifest) -> bool:
        if key in as_deleted:
            return True
        if not every_model or name_of(key) is None:
            return False
        kept = bool(patterns) and census.old.keeps(key, patterns)
        old = manifest.modified <= limits.cutoff
        return old and not (kept and census.old.protects(key, patterns))

    for key, manifest, blobs in reader.read(is_old):
        if key in as_deleted:
            census.expired.add_in_place(key, limits.time, manifest, blobs)
        else:
            census.old.add(key, manifest, blobs)
    census.old.keep_what_is_led_to(store)
    reader.mark_trash(but=expired)
    return census


def _look_at_expired(store: Store, entries: list[Deleted]) -> Expired:
    found = Expired()
    for entry in entries:
        try:
            manifest = store.read_deleted(entry)
        except StoreError as error:
            _log.warning("removed all the same: %s", error)
            manifest = None
        names = mentioned_blobs(manifest.data) if manifest else set()
        for name in names:
            found.deleted[name] = max(entry.when, found.deleted.get(name, entry.when))
        found.sizes[entry] = size_of(manifest)
        looks = {name: store.blob_in_trash(entry, name) for name in names}
        found.held[entry] = {name: blob for name, blob in looks.items() if blob is not None}
    return found


def size_of(manifest: Manifest | None) -> int:
    """Add up the blobs of a model, as its manifest has them; one that is damaged counts nothing."""
    try:
        return total(parse_manifest(manifest.data if manifest else b"").values())
    except InvalidManifestError:
        return 0


def check_manifests(store: Store, census: Census) -> None:
    """
    Refuse to take manifests for gone that may be on a disk which is not mounted.

    Raises:
        OutOfReachError: As `check_for_absent_manifests` has it.
    """
    check_for_absent_manifests(
        census.reader.found,
        census.reader.empty_hosts,
        lambda: _has_blobs_without_a_trace(census.references, census.expired.deleted),
        store.deleted,
    )


def _has_blobs_without_a_trace(references: References, expired: Mapping[str, float]) -> bool:
    return any(
        is_blob_name(name) and name not in expired and not references.is_aside(name)
        for name in references.unneeded()
    )
