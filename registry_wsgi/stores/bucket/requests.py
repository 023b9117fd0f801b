"""
A bucket of an object store, through obstore: the few requests that `ObjectStore` is made of.

This is how object stores behave, which the store itself need not know:

- Nothing is renamed, and many stores delete whatever is there. What decides between several is a
  *conditional write*: `Bucket.create` (``If-None-Match``) and `Bucket.replace` (``If-Match``) have
  one winner each.
- A write whose answer got lost may have happened, and a repeated one then finds itself in the way.
  So each conditional write carries a token, by which its own object is told from others.
- What fails is a `~registry_wsgi.errors.StoreError` with the bucket, the key and the reason. What
  obstore says beyond that is left out, as stores repeat in their answers what they were sent.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeVar, cast

import obstore
from obstore import store as _stores
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from ...errors import StoreError, escape
from ..layout import MANIFEST_SIZE
from .pacing import Tuning, at_once, batches
from .reasons import is_lost, names_no_bucket, reason, refuses_key, refuses_request

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore as Storage

__all__ = ["Bucket", "Content", "Meta", "TooLargeError", "is_used", "plain_tag"]

_T = TypeVar("_T")
_U = TypeVar("_U")

_CHUNK = 1 << 20

# The attribute of an object that has the token of its write. (Azure takes only letters and digits.)
_TOKEN = "registrywsgitoken"  # noqa: S105 - no secret

# Which process has used obstore first.
_process: dict[str, int] = {}

_REFUSED = (AlreadyExistsError, PreconditionError, FileNotFoundError)


class TooLargeError(StoreError):
    """An object is too large to be read at once."""


@dataclass(frozen=True, slots=True)
class Meta:
    """
    What the store tells of an object without reading it.

    Attributes:
        key: Its key in the bucket, below the prefix.
        size: Its size in bytes.
        modified: When it was written, by the store's clock, in whole seconds since the epoch.
            (Listings have parts of a second at some stores, and nothing else has.)
        e_tag: Equal for equal contents, in most stores. Without its quotes, which the listings of
            Azure lack.
        version: In some stores another for each write.
    """

    key: str
    size: int
    modified: int
    e_tag: str | None
    version: str | None

    @property
    def fingerprint(self) -> tuple[str | None, int, int]:
        """What tells it from another at its key, as far as a listing does, which has no version."""
        return self.e_tag, self.size, self.modified


@dataclass(frozen=True, slots=True)
class Content:
    """An object as it was read at one moment; *token* is that of its write, if it was ours."""

    meta: Meta
    data: bytes
    token: str | None


@dataclass(frozen=True, slots=True)
class Written:
    """
    A write of ours.

    Attributes:
        token: By this an object of this write is known.
        e_tag: The ETag of the object that it made; None if that is not known.
    """

    token: str
    e_tag: str | None


class Remover(Protocol):
    """What removes an object on the condition that it has not changed."""

    @property
    def usable(self) -> bool:
        """Whether the store keeps to that condition."""

    def remove(self, meta: Meta) -> bool:
        """Remove the object *meta*; False if there is another in its place, which stays."""


class Lister(Protocol):
    """What lists the objects of a bucket where obstore refuses to, as one of the keys is odd."""

    def pages_of(self, folder: str, after: str | None) -> Iterator[list[Meta]]:
        """List the objects below *folder*, with keys after *after*; keys that are odd are not."""

    def folder(self, folder: str) -> tuple[Sequence[str], list[Meta]]:
        """List the folders and the objects that are in *folder* itself."""


class Bucket:
    """
    A bucket, or what is below a prefix in one.

    Any number of threads may use it.

    Args:
        storage: The client of obstore.
        name: What it is called in messages.
        tuning: How requests are paced.
        deleting: The clients for deletes, which do not repeat them: one that removes many objects
            by one request, and one that does not. None: *storage* for both.
        lister: Lists keys that obstore refuses. None: nothing does.
        remover: Removes objects that have not changed. None: nothing does.

    Attributes:
        numbers: Whether each write has a version, be old ones kept or not.
        is_one_by_one: Whether each object is removed by a request of its own, as it is on Azure and
            Google Cloud.
    """

    def __init__(
        self,
        storage: Storage,
        name: str,
        tuning: Tuning | None = None,
        *,
        deleting: tuple[Storage, Storage] | None = None,
        lister: Lister | None = None,
        remover: Remover | None = None,
    ) -> None:
        self.tuning = tuning or Tuning()
        self._storage = storage
        self._deleting, self._deleting_single = deleting or (storage, storage)
        self._lister = lister
        self._remover = remover
        self.numbers = isinstance(storage, _stores.GCSStore)
        # There obstore stops at the first of many keys that is gone. The deletes of the keys after
        # it may have failed, may be under way, or were never sent.
        self.is_one_by_one = isinstance(storage, _stores.AzureStore | _stores.GCSStore)
        self._newest: dict[str, int] = {}
        # Whether an ETag is sent with its quotes. Azure and the store in memory want them, as the
        # standard says. Ceph wants none, and S3 takes both.
        self._quoted = isinstance(storage, _stores.AzureStore | _stores.MemoryStore)
        self.name = name

    def head(self, key: str) -> Meta | None:
        """Look at the object at *key*; None if there is none."""
        with self._reported(key), _AbsenceTolerated():
            return _meta(key, obstore.head(self._storage, key))
        return None

    def get(self, key: str) -> Content | None:
        """
        Read the object at *key*; None if there is none.

        Raises:
            TooLargeError: It is too large for what this store keeps in memory.
        """
        with self._reported(key), _AbsenceTolerated():
            found = obstore.get(self._storage, key)
            meta = _meta(key, found.meta)
            if meta.size > MANIFEST_SIZE:
                raise TooLargeError(f"{self.name}/{escape(key)}: {meta.size} bytes")
            return Content(meta, bytes(found.bytes()), found.attributes.get(_TOKEN))
        return None

    def open(self, key: str) -> BinaryIO | None:
        """Open the object at *key* for reading from begin to end; None if there is none."""
        with self._reported(key), _AbsenceTolerated():
            chunks = obstore.get(self._storage, key).stream(min_chunk_size=_CHUNK)
            return cast("BinaryIO", _Stream(self, key, iter(chunks)))
        return None

    def objects(self, folder: str, after: str | None = None, depth: int = 1) -> Iterator[Meta]:
        """
        List the objects below *folder*, page by page, in no order.

        Folder markers (empty objects with keys like ``blobs/``, which consoles and file browsers
        make), and keys with an empty part, ``.`` or ``..``, are left out: none of them is ours.

        Args:
            folder: Where.
            after: Only keys after this one.
            depth: How many slashes the keys have in which the caller is interested.
        """
        before: set[str] = set()
        for page in self.pages(folder, after):
            modified = max(meta.modified for meta in page)
            self._newest[folder] = max(self._newest.get(folder, 0), modified)
            keys = {meta.key for meta in page if meta.size}
            yield from (meta for meta in page if meta.size)
            empty = {meta.key for meta in page if not meta.size and meta.key.count("/") == depth}
            # obstore leaves the slash at the end of a key away, so that a folder marker looks like
            # an object: the object itself is looked at, unless it was just listed as well.
            for meta in self.at_once(self.head, empty - keys - before):
                if meta is not None:
                    yield meta
            before = keys

    def pages(self, folder: str, after: str | None = None) -> Iterator[list[Meta]]:
        """List all objects below *folder*, with keys after *after*, by the page."""
        pages = iter(obstore.list(self._storage, folder, offset=after, chunk_size=self.tuning.page))
        while True:
            with self._reported(f"{folder}/"):
                try:
                    page = next(pages, None)
                except BaseError as error:
                    if self._lister is None or not refuses_key(error):
                        raise
                    break
            if page is None:
                return
            if page:
                after = page[-1]["path"]
                yield [_meta(found["path"], found) for found in page]
        yield from self._lister.pages_of(folder, after)

    def folder(self, folder: str) -> tuple[Sequence[str], list[Meta]]:
        """List the folders and the objects that are in *folder* itself."""
        with self._reported(f"{folder}/"):
            try:
                found = obstore.list_with_delimiter(self._storage, folder)
            except BaseError as error:
                if self._lister is None or not refuses_key(error):
                    raise
                return self._lister.folder(folder)
        return found["common_prefixes"], [_meta(meta["path"], meta) for meta in found["objects"]]

    def newest(self, *folders: str) -> int:
        """Tell when the newest object below *folders* was written, as far as they were listed."""
        return max(self._newest.get(folder, 0) for folder in folders)

    def create(self, key: str, data: bytes) -> Written | None:
        """
        Write *data* at *key* where nothing is.

        Returns:
            None, with nothing changed, if there is something.
        """
        return self._write(key, data, "create")

    def replace(self, old: Meta, data: bytes) -> Written | None:
        """
        Write *data* in the place of the object *old*, as long as it is that.

        Returns:
            None, with nothing changed, if it is another by now, or gone.
        """
        if old.e_tag is None:
            raise StoreError(f"{self.name}/{escape(old.key)}: the store gives no ETag")
        version = {"version": old.version} if old.version else {}
        # The wrong form changes nothing.
        for quoted in (self._quoted, not self._quoted):
            e_tag = f'"{old.e_tag}"' if quoted else old.e_tag
            written = self._write(old.key, data, {"e_tag": e_tag, **version})
            if written is not None:
                self._quoted = quoted
                return written
        return None

    def overwrite(self, key: str, data: bytes) -> None:
        """Write *data* at *key*, whatever is there."""
        with self._reported(key):
            obstore.put(self._storage, key, data, use_multipart=False)

    def copy(self, source: str, target: str) -> None:
        """Copy the object at *source* over whatever is at *target*."""
        with self._reported(target):
            if isinstance(self._storage, _stores.AzureStore):
                # A copy in the store may be under way for long, and is lost if the source goes.
                chunks = obstore.get(self._storage, source).stream(min_chunk_size=_CHUNK)
                with tempfile.TemporaryFile() as file:
                    file.writelines(bytes(chunk) for chunk in chunks)
                    file.seek(0)
                    obstore.put(self._storage, target, file)
            else:
                obstore.copy(self._storage, source, target)

    def delete(self, *keys: str) -> None:
        """
        Remove the objects at *keys*, whatever they are; one that is gone is no error.

        One request removes many, where the store has such a request. If it fails for some of them,
        others may be gone.
        """
        if self.is_one_by_one and len(keys) > 1:
            for _ in self.at_once(self.delete, keys):
                pass
            return
        for some in self.batches(keys):
            more = len(some) - 1
            with self._reported(some[0], f" (or another of {more} with it)" if more else ""):
                try:
                    with _AbsenceTolerated():
                        obstore.delete(self._deleting, some if more else some[0])
                except BaseError as error:
                    if self._deleting is self._deleting_single or not refuses_request(error):
                        raise
                else:
                    continue
            # Some stores want a header for deletes of many that obstore does not send, Content-MD5,
            # and others have no such request. It was refused as a whole: nothing has happened.
            self._deleting, self.is_one_by_one = self._deleting_single, True
            self.delete(*some)

    def delete_unchanged(self, metas: Sequence[Meta]) -> set[str]:
        """
        Remove the objects *metas*, unless another is in the place of one by now.

        Where the store has no such condition, whatever is there is removed, as by `delete`.

        Returns:
            The keys of those that were left, as they have changed.
        """
        if self._remover is None or not self._remover.usable:
            self.delete(*(meta.key for meta in metas))
            return set()
        sure = [meta for meta in metas if meta.e_tag is not None]
        if len(sure) < len(metas):
            self.delete(*(meta.key for meta in metas if meta.e_tag is None))
        gone = self.at_once(self._remover.remove, sure)
        return {meta.key for meta, done in zip(sure, gone, strict=True) if not done}

    def batches(self, items: Iterable[_T]) -> Iterator[list[_T]]:
        """Split *items* into lists of as many as go into one request."""
        return batches(items, self.tuning.page)

    def at_once(self, function: Callable[[_T], _U], items: Iterable[_T]) -> Iterator[_U]:
        """Call *function* with each of *items*, several at a time; what it gave, in order."""
        return at_once(function, items, self.tuning)

    def _write(self, key: str, data: bytes, mode: Any) -> Written | None:
        _check_process()
        token = os.urandom(16).hex()
        # obstore repeats a write that was refused for the moment, but not one without an answer. To
        # repeat that does no harm, as the write is conditional and known by its token.
        for last in (False, False, True):
            try:
                put = obstore.put(
                    self._storage,
                    key,
                    data,
                    mode=mode,
                    attributes={_TOKEN: token},
                    use_multipart=False,  # the end of one asks no questions
                )
            except (BaseError, OSError, ValueError) as error:
                # A write that got no answer, or was repeated, may have happened all the same.
                there = self._written(key)
                if there is not None and there.token == token:
                    return there
                if isinstance(error, _REFUSED):
                    return None
                if last or not is_lost(error):
                    raise self._error(key, error) from None
            else:
                return Written(token, plain_tag(put["e_tag"]))
        raise AssertionError("the last try returns or raises")

    def _written(self, key: str) -> Written | None:
        """Tell of which write of ours the object at *key* is; None if of none."""
        with self._reported(key), _AbsenceTolerated():
            found = obstore.get(self._storage, key)
            token = found.attributes.get(_TOKEN)
            return Written(token, plain_tag(found.meta["e_tag"])) if token else None
        return None

    @contextmanager
    def _reported(self, key: str, more: str = "") -> Iterator[None]:
        _check_process()
        try:
            yield
        except (BaseError, OSError, ValueError) as error:
            raise self._error(key, error, more) from None

    def _error(self, key: str, error: Exception, more: str = "") -> StoreError:
        return StoreError(f"{self.name}/{escape(key)}{more}: {reason(error)}")


class _Stream(io.RawIOBase):
    """The content of an object, read as it comes."""

    def __init__(self, bucket: Bucket, key: str, chunks: Iterator[bytes]) -> None:
        self._bucket = bucket
        self._key = key
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            with self._bucket._reported(self._key):
                chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(bytes(chunk))
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def _meta(key: str, meta: ObjectMeta) -> Meta:
    modified = int(meta["last_modified"].timestamp())
    return Meta(key, meta["size"], modified, plain_tag(meta["e_tag"]), meta["version"])


def plain_tag(e_tag: str | None) -> str | None:
    """Take the quotes off an ETag."""
    return (e_tag or "").strip('"') or None


def is_used() -> bool:
    """Tell whether this process has used obstore, so that those forked from now on cannot."""
    return bool(_process)


def _check_process() -> None:
    """Refuse requests in a forked process, which has no threads of obstore: they would hang."""
    pid = os.getpid()
    if _process.setdefault("pid", pid) != pid:
        raise StoreError(
            "object stores do not work in a process that was forked after their first use: use the"
            " store in the workers alone"
        )


class _AbsenceTolerated:
    """Passes over an object that is not there, but not over a bucket that is not there."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        return isinstance(error, FileNotFoundError) and not names_no_bucket(error)
