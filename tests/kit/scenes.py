"""Stores filled with what is as old as a test wants it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from kit.clocks import OLD, Clock
from kit.copies import Mould
from kit.kinds import DatedKind, DiskKind, MemoryKind
from kit.trees import HOST, blob, broken, fingerprint, manifest
from kit.views import content, keys
from registry_wsgi import MemoryStore, ModelCache
from registry_wsgi.cache.collector import PruneReport
from registry_wsgi.cache.manifest import parse_manifest
from registry_wsgi.stores.base import Store

#: The key of a model that is there so that a store is not empty.
RESIDENT = "example.com/resident/none/latest"


class Scene:
    """A store with a clock, filled with what is as old as a test wants it."""

    def __init__(self, kind: DatedKind) -> None:
        self.kind = kind
        self.store: Store = kind.store
        self.clock = kind.clock
        self.cache = ModelCache(self.store, clock=self.clock)

    def put_blob(self, name: str, data: bytes, *, age: float = 0) -> None:
        """Put *data* in the place of the blob *name*."""
        self.kind.put_blob(name, data, age=age)

    def put_manifest(self, key: str, data: bytes, *, age: float = 0) -> None:
        """Put *data* in the place of the manifest at *key*."""
        self.kind.put_manifest(key, data, age=age)

    def use(self, *, age: float) -> None:
        """Let a blob have come to the store, or gone, so long ago, and no later."""
        self.kind.use(age=age)

    def blob(self, data: bytes, *, age: float = OLD) -> None:
        """Put a whole blob in place."""
        self.put_blob(blob(data), data, age=age)

    def partial(self, data: bytes, *, age: float = OLD) -> None:
        """Put the first half of a download in place."""
        self.put_blob(f"{blob(data)}-partial", data, age=age)

    def model(self, key: str, *layers: bytes, config: bytes = b"{}", age: float = OLD) -> None:
        """Put a model in place, and those of its blobs that are not there."""
        for data in (*layers, config):
            if self.store.blob(blob(data)) is None:
                self.blob(data, age=age)
        self.put_manifest(full(key), manifest(*layers, config=config), age=age)

    def deleted(self, key: str, *layers: bytes, ago: float, config: bytes = b"{}") -> None:
        """Put a model in place and delete it, *ago* seconds ago."""
        self.model(key, *layers, config=config)
        with self.clock.ago(ago):
            assert self.cache.unlink(name_of(full(key)))

    def inhabit(self) -> None:
        """
        Put a model without blobs in place, which nothing here lists or counts.

        Where there is no model at all, a prune takes the manifests to be on a disk that is absent.
        """
        self.put_manifest(RESIDENT, b'{"layers": []}', age=-100 * OLD)

    def kept(self) -> set[bytes]:
        """The content of all blobs."""
        return {content(self.store, name) or b"" for name in self.store.blobs()}

    def aside(self) -> set[str]:
        """The names of what is set aside."""
        return {blob.name for blob in self.store.condemned()}

    def models(self) -> set[str]:
        """The keys of the models, shortened if they are in the library."""
        return {short(key) for key in keys(self.store) if key != RESIDENT}

    def trash(self) -> set[str]:
        """The keys of the deleted models, shortened if they are in the library."""
        return {short(entry.key) for entry in self.store.deleted()}

    def broken(self) -> list[str]:
        """Each listed model that lacks a blob, or has one of other content."""
        found = []
        for key in keys(self.store):
            document = self.store.read(key)
            for name in parse_manifest(document.data) if document else ():
                data = content(self.store, name)
                if data is None or blob(data) != name:
                    found.append(f"{key}: {name}")
        return found

    def snapshot(self) -> object:
        """All there is, to tell whether anything was touched."""
        store = self.store
        blobs = {name: store.blob(name) for name in store.blobs()}
        aside = {blob: store.condemned_blob(blob) for blob in store.condemned()}
        deleted = {entry: store.read_deleted(entry) for entry in store.deleted()}
        return blobs, aside, deleted, {key: store.read(key) for key in keys(store)}

    def prune(self, **options: Any) -> PruneReport:
        """Prune, after a dry run that touches nothing and reports the same."""
        before = self.snapshot()
        plan = self.cache.prune(**options, dry_run=True)
        assert self.snapshot() == before
        assert plan.dry_run
        report = self.cache.prune(**options)
        assert report == dataclasses.replace(plan, dry_run=False)
        assert (report.items, report.left_out) == (plan.items, plan.left_out)
        return report


class DiskScene(Scene):
    """A store on disk."""

    kind: DiskKind

    def __init__(self, root: Path, clock: Clock | None = None, mould: Mould | None = None) -> None:
        kind = DiskKind(root.parent, clock or Clock.far_ahead(), root.name)
        self.tree = kind.tree
        if mould is not None:
            mould.cast(root)
        super().__init__(kind)

    def date(self, path: Path, age: float) -> None:
        """Make the last write of *path* that old."""
        self.kind.date(path, age)

    def broken(self) -> list[str]:
        return broken(self.tree.root)

    def snapshot(self) -> object:
        return fingerprint(self.tree.root)


class MemoryScene(Scene):
    """A store in memory."""

    store: MemoryStore

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__(MemoryKind(Path(), clock or Clock.far_ahead()))


def full(key: str) -> str:
    """Complete a key of one part, which is of the library."""
    return key if "/" in key else f"{HOST}/library/{key}/latest"


def short(key: str) -> str:
    """Undo `full`."""
    return key.removeprefix(f"{HOST}/library/").removesuffix("/latest")


def name_of(key: str) -> str:
    """The name of the model at *key*."""
    head, _, tag = full(key).rpartition("/")
    return f"{head}:{tag}"
