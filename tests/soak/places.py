"""
Where the soak has its models, and what other programs do there that know no library.

A new kind of storage is one more class like `Bucket` here and `soak.disk.Disk`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kit import s3
from kit.clocks import Clock
from kit.kinds import BucketKind, Pause, no_pause
from kit.trees import blob
from registry_wsgi.errors import StoreError
from registry_wsgi.stores.base import Store

if TYPE_CHECKING:
    from obstore.store import S3Store


class Place(Protocol):
    """
    Where the models are: a store for the library, and what writers do that know none.

    Attributes:
        usual: Settings of the soak that suit it better than the usual ones.
        touches: Whether writers can mark a blob as just used.
        keeps: Whether writers can ask for the blobs that they need to be kept.
        others: Whether other programs rename, create and copy models there, and get in the way.
        at_work: For how long what a killed process has left passes for that of one at work, in
            seconds.
        lag: How long after a process was killed what it has asked for may still happen, in seconds.
    """

    usual: Mapping[str, int | float]
    touches: bool
    keeps: bool
    others: bool
    at_work: float
    lag: float

    @property
    def store(self) -> Store:
        """The store, opened when it is first asked for: in each process, after it was forked."""

    def left_out(self) -> Mapping[str, str]:
        """Tell what cannot be done here, and why: by the setting that asks for it, if one does."""

    def enter(self, role: str, number: int) -> None:
        """Become the user who runs this process."""

    def after_a_round(self) -> None:
        """Take away what processes that were killed have left and no prune can remove."""

    def limits(self, hold: float, in_flight: float) -> tuple[float, float]:
        """Tell how long a pull may take, and go without a trace, for the promise to cover it."""

    def blobs(self) -> set[str]:
        """The names of what lies among the blobs."""

    def look(self, name: str) -> bool:
        """Tell whether the blob *name* is in its place."""

    def touch(self, name: str) -> bool:
        """Mark the blob *name* as just used; False if it is gone."""

    def stir(self) -> None:
        """Let something come and go among the blobs, as when somebody gives a download up."""

    def verify(self, name: str) -> bool:
        """Tell whether the blob *name* is in its place and whole."""

    def download(self, name: str, data: bytes, pause: Pause, *, part: float = 1) -> bool:
        """As `Kind.download`."""

    def create(self, name: str, data: bytes, pause: Pause) -> bool:
        """Make a blob that is not pulled; False if it is gone again."""

    def copy_in(
        self, way: str, slot: int, files: Mapping[str, bytes], locks: Sequence[int]
    ) -> bool:
        """Copy *files* in from elsewhere, with times of long ago; False if that failed."""

    def write_manifest(self, key: str, pieces: Sequence[bytes], pause: Pause) -> None:
        """As `Kind.write_manifest`."""

    def keep(self, blobs: Mapping[str, bytes], failed: Callable[[StoreError], None]) -> int:
        """
        Ask for *blobs* to be kept, and upload those that are gone, until all is well.

        Args:
            blobs: Their contents, by name.
            failed: Called with each error.

        Returns:
            How many were gone.
        """

    def remove(self) -> None:
        """Remove all that is there, if it is there only for the soak."""


class Bucket(BucketKind):
    """
    A `Place` in a bucket behind S3, with writers that put into it what they have elsewhere.

    Args:
        endpoint: The bucket.
        prefix: What all keys begin with.
        temporary: Whether to remove it all in the end.
        at_work: For how long what a killed process has left passes for that of one at work, in
            seconds. Whoever meets it waits for up to five.
    """

    # The times of objects are whole seconds, and each step is a request.
    usual: Mapping[str, int | float] = {
        "writers": 12,
        "deleters": 2,
        "pruners": 3,
        "renamers": 0,
        "fetchers": 0,
        "blockers": 0,
        "copied": 0,
        "rsynced": 0,
        "created": 0,
        "models": 28,
        "contents": 260,
        "age": 1.5,
        "retention": 3.0,
        "in_flight": 1.5,
        "hold": 3.0,
        "round": 30.0,
        "kills": 1.0,
        "calm": 0.8,
        "rest": 0.1,
        "still": 3.0,
        "watch": 0.5,
    }
    threads = True
    touches = False
    keeps = True
    others = False
    lag = 1.0

    def __init__(
        self, endpoint: s3.Endpoint, prefix: str, *, temporary: bool = False, at_work: float = 4
    ) -> None:
        # Loaded before the fork, but not used.
        import botocore.session  # noqa: F401 - takes its time, and each prune has a use for it

        from registry_wsgi.stores import bucket

        super().__init__(Path(), Clock())
        self.at_work = at_work
        self._module = bucket
        self._endpoint = endpoint
        self._prefix = prefix
        self._temporary = temporary

    def __str__(self) -> str:
        return f"s3://{self._endpoint.bucket}/{self._prefix}"

    @cached_property
    def client(self) -> S3Store:
        """This process's client, without the library."""
        return self._endpoint.client(self._prefix)

    def another(self) -> Store:
        config: dict[str, Any] = {**self._endpoint.config}
        tuning = self._module.Tuning(at_work=self.at_work)
        return self._module.ObjectStore.from_url(str(self), tuning=tuning, **config)

    def left_out(self) -> Mapping[str, str]:
        return {}

    def enter(self, role: str, number: int) -> None:
        """All of them are one user."""

    def after_a_round(self) -> None:
        """A prune removes all that is left."""

    def create(self, name: str, data: bytes, pause: Pause) -> bool:
        raise NotImplementedError

    def copy_in(
        self, way: str, slot: int, files: Mapping[str, bytes], locks: Sequence[int]
    ) -> bool:
        raise NotImplementedError

    def limits(self, hold: float, in_flight: float) -> tuple[float, float]:
        return float("inf"), float("inf")

    def blobs(self) -> set[str]:
        with _told():
            pages = self.client.list("blobs")
            return {meta["path"].removeprefix("blobs/") for page in pages for meta in page}

    def look(self, name: str) -> bool:
        with _told():
            try:
                self.client.head(f"blobs/{name}")
            except FileNotFoundError:
                return False
        return True

    def touch(self, name: str) -> bool:
        return self.look(name)

    def stir(self) -> None:
        """It makes no difference."""

    def verify(self, name: str) -> bool:
        with _told():
            try:
                return blob(bytes(self.client.get(f"blobs/{name}").bytes())) == name
            except FileNotFoundError:
                return False

    def download(self, name: str, data: bytes, pause: Pause = no_pause, *, part: float = 1) -> bool:
        key = f"blobs/{name}"
        # Some programs upload files that are still growing, as they lie on the disk.
        growing = part < 1 or len(data) % 8 == 0
        with _told():
            if growing:
                self.client.put(f"{key}-partial", data[: int(len(data) * part)])
            pause()
            if part == 1:
                self.client.put(key, data)
        if part == 1 and growing:
            # Ceph fails one of two deletes of an object at once, and a prune takes what is left.
            with contextlib.suppress(StoreError), _told():
                self.client.delete(f"{key}-partial")
        return part == 1

    def write_manifest(self, key: str, pieces: Sequence[bytes], pause: Pause = no_pause) -> None:
        with _told():
            self.client.put(f"manifests/{key}", b"".join(pieces))

    def keep(self, blobs: Mapping[str, bytes], failed: Callable[[StoreError], None]) -> int:
        again = 0
        while True:
            try:
                for name in self.store.keep(blobs):
                    with _told():
                        self.client.put(f"blobs/{name}", blobs[name])
                    again += 1
            except StoreError as error:
                failed(error)
                time.sleep(0.1)
            else:
                return again

    def remove(self) -> None:
        if not self._temporary:
            return
        for page in self.client.list(chunk_size=1000):
            self.client.delete([meta["path"] for meta in page])


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Let what fails fail as it does in the library."""
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, OSError) as error:
        raise StoreError(f"writer: {str(error).splitlines()[0]}") from None
