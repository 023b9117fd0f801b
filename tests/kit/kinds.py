"""
The kinds of store, each with the ways of the other programs that use the same storage.

A new kind of storage is one more subclass of `Kind` and one more entry in `KINDS`.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kit import azurite, gcs, s3
from kit.clocks import Clock
from kit.inside import ask_through
from kit.requirements import require
from kit.trees import Tree, blob, manifest
from registry_wsgi import DiskStore, MemoryStore
from registry_wsgi.stores.base import Store

if TYPE_CHECKING:
    from registry_wsgi.stores.bucket import Tuning


#: What a program does between two steps of a pull.
Pause = Callable[[], None]


def no_pause() -> None:
    """Go on at once."""


class Kind(ABC):
    """
    An empty store of one kind, and the ways of the other programs that use the same storage.

    Attributes:
        clock: Gives the time of what is stored, where the storage lets us.
        holds: Whether the trash keeps the content of blobs that another program removes.
        threads: Whether several threads may use the storage at once.
        remote: Whether each step takes requests that are waited for.
    """

    holds: bool
    threads = True
    remote = False

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    @cached_property
    def store(self) -> Store:
        """The store, opened when a test first asks for it."""
        return self.another()

    @abstractmethod
    def another(self) -> Store:
        """Open the same storage once more, as another process would."""

    @abstractmethod
    def download(self, name: str, data: bytes, pause: Pause = no_pause, *, part: float = 1) -> bool:
        """
        Fetch a blob bit by bit, as a pull does.

        Args:
            name: Its name.
            data: Its content.
            pause: Called between the bits.
            part: How much of it comes; less than 1: the download ends there.

        Returns:
            Whether the blob is in its place in the end. Another program may have removed it.
        """

    @abstractmethod
    def write_manifest(self, key: str, pieces: Sequence[bytes], pause: Pause = no_pause) -> None:
        """Write a manifest as a pull does, with a pause between its *pieces* if that can be."""

    @abstractmethod
    def put_manifest(self, key: str, data: bytes) -> None:
        """Write *data* as the manifest at *key*, as a pull does."""

    @abstractmethod
    def settle(self) -> None:
        """Let what was written not be of just now, where that makes a difference."""

    @abstractmethod
    def put_blob(self, name: str, data: bytes) -> None:
        """Write *data* as the blob *name*, as a pull does."""

    @abstractmethod
    def sweep_blob(self, name: str) -> None:
        """Remove the blob *name*, as another program's clean-up does."""

    def put(self, key: str, *layers: bytes, config: bytes = b"{}") -> bytes:
        """Put a model with its blobs at *key*; its manifest."""
        for data in (*layers, config):
            self.put_blob(blob(data), data)
        data = manifest(*layers, config=config)
        self.put_manifest(key, data)
        return data


class DatedKind(Kind):
    """
    A store of whose content a test can say how old it is.

    An *age* is in seconds by the clock of the store. With None what is written is as old as a pull
    makes it.
    """

    @abstractmethod
    def put_blob(self, name: str, data: bytes, *, age: float | None = None) -> None:
        """Write *data* as the blob *name*, as a pull did so long ago."""

    @abstractmethod
    def put_manifest(self, key: str, data: bytes, *, age: float | None = None) -> None:
        """Write *data* as the manifest at *key*, as a pull did so long ago."""

    @abstractmethod
    def use(self, *, age: float) -> None:
        """Let a blob have come to the store, or gone, so long ago, and no later."""


class DiskKind(DatedKind):
    """
    A directory, written to as Ollama does.

    Args:
        path: Where it is made.
        clock: By which ages are counted.
        name: What it is called.
    """

    holds = True

    def __init__(self, path: Path, clock: Clock, name: str = "models") -> None:
        super().__init__(clock)
        self.tree = Tree(path / name)

    def another(self) -> Store:
        return DiskStore(self.tree.root)

    def put_manifest(self, key: str, data: bytes, *, age: float | None = None) -> None:
        self.write_manifest(key, [data])
        self.date(self.tree.path(key), age)

    def write_manifest(self, key: str, pieces: Sequence[bytes], pause: Pause = no_pause) -> None:
        path = self.tree.path(key)
        while True:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
                break
            except (FileNotFoundError, FileExistsError):
                continue  # a delete has just removed the empty directory: as if pulled once more
        try:
            os.write(file, pieces[0])
            for piece in pieces[1:]:
                pause()
                os.write(file, piece)
        finally:
            os.close(file)

    def settle(self) -> None:
        when = time.time() - 10
        for path in self.tree.manifests.glob("*/*/*/*"):
            os.utime(path, (when, when))
        time.sleep(0.03)  # more than a tick of the clock that stamps a change of the times

    def put_blob(self, name: str, data: bytes, *, age: float | None = None) -> None:
        assert self.download(name, data)
        self.date(self.tree.blobs / name, age)

    def download(self, name: str, data: bytes, pause: Pause = no_pause, *, part: float = 1) -> bool:
        # A new file with each pull: what the trash holds stays as it is.
        path = os.path.join(self.tree.blobs, name)
        file = os.open(f"{path}-partial", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            # All of its size at once, as Ollama does; several at a time write the same bytes.
            os.ftruncate(file, len(data))
            end, step = int(len(data) * part), len(data) // 4 + 1
            for start in range(0, end, step):
                os.pwrite(file, data[start : min(start + step, end)], start)
                pause()
        finally:
            os.close(file)
        if part == 1:
            # It is gone if another writer was first, or if it has been set aside.
            with suppress(FileNotFoundError):
                os.rename(f"{path}-partial", path)
        return part == 1 and os.path.exists(path)

    def sweep_blob(self, name: str) -> None:
        (self.tree.blobs / name).unlink()

    def use(self, *, age: float) -> None:
        self.date(self.tree.blobs, age)

    def date(self, path: Path, age: float | None) -> None:
        """Make the last write of *path* that old; None: leave it as it is."""
        if age is not None:
            when = self.clock() - age
            os.utime(path, (when, when), follow_symlinks=False)


class MemoryKind(DatedKind):
    """A store in memory, which its application fills."""

    holds = True

    def __init__(self, path: Path, clock: Clock) -> None:
        super().__init__(clock)

    @cached_property
    def store(self) -> MemoryStore:
        return MemoryStore(clock=self.clock)

    def another(self) -> Store:
        return self.store  # there is no other way to it

    def put_manifest(self, key: str, data: bytes, *, age: float | None = None) -> None:
        with self.clock.ago(age or 0):
            self.store.put_manifest(key, data)

    def put_blob(self, name: str, data: bytes, *, age: float | None = None) -> None:
        with self.clock.ago(age or 0):
            self.store.put_blob(name, data)

    def download(self, name: str, data: bytes, pause: Pause = no_pause, *, part: float = 1) -> bool:
        pause()
        if part == 1:
            self.store.put_blob(name, data)
        return part == 1

    def write_manifest(self, key: str, pieces: Sequence[bytes], pause: Pause = no_pause) -> None:
        self.store.put_manifest(key, b"".join(pieces))

    def settle(self) -> None:
        """It makes none: each manifest has a number."""

    def sweep_blob(self, name: str) -> None:
        assert self.store.remove_blob(name)

    def use(self, *, age: float) -> None:
        with self.clock.ago(age):
            self.store.put_blob("passing", b"")
            self.store.remove_blob("passing")


class BucketKind(Kind):
    """
    A bucket in memory, as obstore has one for tests.

    Attributes:
        client: The client of the other programs.
        tuning: How the stores that are opened from now on are tuned; None: as usual.
        store_clock: What these take for the time.
    """

    holds = False
    # One that lists holds the lock of Python and wants that of the store, one that replaces an
    # object the other way round: both wait for ever.
    threads = False
    remote = True

    def __init__(self, path: Path, clock: Clock) -> None:
        super().__init__(clock)
        require("obstore")
        self.tuning: Tuning | None = None
        self.store_clock: Callable[[], float] = time.time

    def tune(self, **tuning: Any) -> None:
        """Open the store anew, and from now on all others, with this tuning."""
        from registry_wsgi.stores.bucket import Tuning

        self.tuning = replace(self.tuning or Tuning(), **tuning)
        self.store = self.another()

    def let_nobody_wait(self) -> None:
        """Who is killed is not at work, and nothing is waited for."""
        self.tune(at_work=-5, poll=0, bury_pauses=(0, 0, 0))

    @cached_property
    def store(self) -> Any:
        return self.another()

    @cached_property
    def client(self) -> Any:
        from obstore.store import MemoryStore as Bucket

        return Bucket()

    def another(self) -> Any:
        from registry_wsgi.stores.bucket import ObjectStore

        return ObjectStore(self.client, name="bucket", tuning=self.tuning, clock=self.store_clock)

    def put_manifest(self, key: str, data: bytes) -> None:
        self.write_manifest(key, [data])

    def put_blob(self, name: str, data: bytes) -> None:
        assert self.download(name, data)

    def download(self, name: str, data: bytes, pause: Pause = no_pause, *, part: float = 1) -> bool:
        pause()
        if part == 1:
            self.client.put(f"blobs/{name}", data)
        return part == 1

    def write_manifest(self, key: str, pieces: Sequence[bytes], pause: Pause = no_pause) -> None:
        self.client.put(f"manifests/{key}", b"".join(pieces))

    def settle(self) -> None:
        """It makes none: an object has an ETag."""

    def sweep_blob(self, name: str) -> None:
        self.client.delete(f"blobs/{name}")

    def objects(self) -> list[str]:
        """All that is in the bucket, but for the indices, which are only caches."""
        found = (meta["path"] for page in self.client.list() for meta in page)
        return sorted(key for key in found if not key.startswith("index/"))


class S3Kind(BucketKind):
    """A bucket behind S3: Ceph's, or whatever the tests are given."""

    threads = True

    def __init__(self, path: Path, clock: Clock) -> None:
        super().__init__(path, clock)
        self.endpoint = self._endpoint()  # here, as an emulator ends with the thread that starts it

    @cached_property
    def client(self) -> Any:
        return self.endpoint.client(s3.fresh_prefix())

    def _endpoint(self) -> s3.Endpoint:
        return s3.endpoint()


class ConditionalKind(S3Kind):
    """A bucket behind S3 that deletes on a condition, and keeps no old versions."""

    def _endpoint(self) -> s3.Endpoint:
        return s3.conditional()


class VersionedKind(S3Kind):
    """A bucket behind S3 that keeps old versions."""

    def _endpoint(self) -> s3.Endpoint:
        return s3.versioned()

    def another(self) -> Any:
        store = super().another()
        ask_through(store, self.endpoint.botocore())
        return store


class AzureKind(BucketKind):
    """A container of Azure, as its emulator has it."""

    threads = True

    def __init__(self, path: Path, clock: Clock) -> None:
        super().__init__(path, clock)
        self.account = azurite.account()

    @cached_property
    def client(self) -> Any:
        return self.account.client(azurite.fresh_prefix())


class GCSKind(BucketKind):
    """A bucket of Google Cloud Storage, as a fake has it."""

    threads = True

    @cached_property
    def client(self) -> Any:
        return gcs.client(gcs.fresh_prefix())


KINDS: dict[str, Callable[[Path, Clock], Kind]] = {
    "disk": DiskKind,
    "memory": MemoryKind,
    "bucket": BucketKind,
    "s3": S3Kind,
    "versioned": VersionedKind,
    "azure": AzureKind,
    "gcs": GCSKind,
}


#: The kinds that need an emulator: moto, Ceph, Azurite or fake-gcs-server.
EMULATED = ("s3", "versioned", "azure", "gcs")


def kinds(*names: str) -> list[Any]:
    """The kinds *names*, or all, as parameters; those that need an emulator are marked so."""
    return [
        pytest.param(name, marks=[pytest.mark.emulator] if name in EMULATED else [])
        for name in names or KINDS
    ]
