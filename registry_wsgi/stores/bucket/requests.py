"""
A bucket of an object store, through obstore: the few requests that `ObjectStore` is made of.

Here are the ways of object stores, kept out of the store itself:

- Nothing is renamed, and a delete asks no questions. What decides between several processes is a
  *conditional write*: `Bucket.create` (``If-None-Match``) and `Bucket.replace` (``If-Match``) have
  one winner each.
- A write whose answer got lost may have happened, and a repeated one then finds itself in the way.
  So each conditional write carries a token, by which it knows its own.
- What fails is a `~registry_wsgi.errors.StoreError` with the bucket, the key and the reason. What
  obstore says beyond that is left out, as stores repeat in their answers what they were sent.
"""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

from ...errors import StoreError, escape
from ..layout import MANIFEST_SIZE
from .parallel import at_once, batches
from .retry import REPEATS, obstore_retries
from .tuning import Tuning

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore as Storage
    from obstore.store import RetryConfig

try:
    import obstore
    from obstore import store as _stores
    from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "object stores need the package obstore: pip install 'registry-wsgi[s3]'", name=error.name
    ) from error

__all__ = [
    "Bucket",
    "Content",
    "Meta",
    "TooLargeError",
    "connect",
    "endpoint_of",
    "without_repeats",
]

_T = TypeVar("_T")
_U = TypeVar("_U")

_CHUNK = 1 << 20

# The attribute of an object that has the token of its write. (Azure takes only letters and digits.)
_TOKEN = "registrywsgitoken"  # noqa: S105 - no secret

# What to do about it, by what stores answer.
_HINTS = {
    "NoSuchBucket": "there is no such bucket",
    "ContainerNotFound": "there is no such container",
    "AccessDenied": "these credentials may not do this",
    "InvalidAccessKeyId": "the credentials are wrong: this access key is not known",
    "SignatureDoesNotMatch": "the credentials are wrong: check the secret key",
    "ExpiredToken": "the credentials have expired",
    "AuthorizationHeaderMalformed": "the region is wrong: set AWS_REGION",
    "PermanentRedirect": "the region or the endpoint is wrong: set AWS_REGION",
    "RequestTimeTooSkewed": "the clock of this machine differs too much from the store's",
    "SlowDown": "the store is asked for too much at once",
    "AuthenticationFailed": "the credentials are wrong: check the key or the token",
    "AuthorizationFailure": "these credentials are wrong, or may not do this from here",
    "AuthorizationPermissionMismatch": "these credentials may not do this",
    "ServerBusy": "the store is asked for too much at once",
}
# Where an endpoint is taken from, by the scheme of the URL.
_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
}
# Which process has used obstore first.
_process: dict[str, int] = {}

# The last is what Azure says in the answer to a delete.
_NO_BUCKET = re.compile("NoSuchBucket|ContainerNotFound|container does not exist")
_REFUSED = (AlreadyExistsError, PreconditionError, FileNotFoundError)
_STATUS = {"301": "PermanentRedirect", "401": "AccessDenied", "403": "AccessDenied"}


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


def connect(
    url: str,
    *,
    connect_timeout: float = 5,
    read_timeout: float = 60,
    retries: int = REPEATS,
    **config: Any,
) -> Storage:
    """
    Make the client for the bucket (and prefix) at *url*.

    Credentials and all else come from the environment, as obstore takes them, unless given.

    Args:
        url: ``s3://bucket/prefix``, ``gs://bucket/prefix`` or ``az://account/container/prefix``.
        connect_timeout: How long to wait for a connection, in seconds.
        read_timeout: How long to wait for the next bytes of an answer, in seconds.
        retries: How often a request is repeated.
        config: Settings of obstore for this kind of store, such as ``endpoint`` or ``region``.

    Raises:
        StoreError: A setting cannot be used.
    """
    place, scheme = url, url.partition(":")[0]
    endpoint = endpoint_of(scheme, config)
    if scheme == "az":  # to obstore, a URL begins with the container
        parts = re.match(r"az://([^/]+)/([^/].*)", url)
        if parts is None:
            raise StoreError(f"{escape(url)}: not az://account/container/prefix")
        config = {"account_name": parts[1], **config}
        place = f"az://{parts[2]}"
    if scheme == "gs" and "endpoint" in config:
        config["base_url"] = config.pop("endpoint")
    try:
        return _stores.from_url(
            place,
            client_options={
                "connect_timeout": timedelta(seconds=connect_timeout),
                "read_timeout": timedelta(seconds=read_timeout),
                # Of the whole answer: a large blob takes its time.
                "timeout": timedelta(days=1),
                # Who writes http:// means it.
                "allow_http": endpoint.startswith("http://"),
            },
            retry_config=obstore_retries(retries, read_timeout),
            **config,
        )
    except (BaseError, TypeError, ValueError) as error:
        raise StoreError(f"{escape(url)}: {_reason(error)}") from None


def without_repeats(storage: Storage) -> Storage:
    """Make a client of obstore like *storage* that sends each request once."""
    if not isinstance(storage, _stores.S3Store | _stores.AzureStore | _stores.GCSStore):
        return storage
    options: dict[str, Any] = {
        "prefix": storage.prefix,
        "config": storage.config,
        "client_options": storage.client_options,
        "credential_provider": storage.credential_provider,
    }
    once: RetryConfig = {**(storage.retry_config or {}), "max_retries": 0}
    given = {name: value for name, value in options.items() if value is not None}
    return type(storage)(retry_config=once, **given)


def endpoint_of(scheme: str, config: Mapping[str, Any]) -> str:
    """Tell where the store is that *config* and the environment name; empty if the provider's."""
    endpoints = [config.get("endpoint"), *map(os.environ.get, _ENDPOINTS.get(scheme, ()))]
    return next((found for found in endpoints if found), "")


class Bucket:
    """
    A bucket, or what is below a prefix in one.

    Any number of threads may use it.

    Args:
        storage: The client of obstore.
        name: What it is called in messages.
        tuning: How requests are paced.
        deleting: The client for deletes, one that does not repeat them. None: *storage*.

    Attributes:
        numbers: Whether each write has a version, be old ones kept or not.
    """

    def __init__(
        self,
        storage: Storage,
        name: str,
        tuning: Tuning | None = None,
        *,
        deleting: Storage | None = None,
    ) -> None:
        self.tuning = tuning or Tuning()
        self._storage = storage
        self._deleting = deleting or storage
        self.numbers = isinstance(storage, _stores.GCSStore)
        # Of many keys, obstore tells only of the first that is gone there: what follows may have
        # failed, may be under way, or was never asked for.
        self._one_by_one = isinstance(storage, _stores.AzureStore | _stores.GCSStore)
        # Azure goes by the book. Ceph wants an ETag without its quotes, and S3 takes it.
        self._quoted = isinstance(storage, _stores.AzureStore)
        self.name = name

    def head(self, key: str) -> Meta | None:
        """Look at the object at *key*; None if there is none."""
        with self._reported(key):
            try:
                return _meta(key, obstore.head(self._storage, key))
            except FileNotFoundError as error:
                _check_absent(error)
                return None

    def get(self, key: str) -> Content | None:
        """
        Read the object at *key*; None if there is none.

        Raises:
            TooLargeError: It is too large for what this store keeps in memory.
        """
        with self._reported(key):
            try:
                found = obstore.get(self._storage, key)
                meta = _meta(key, found.meta)
                if meta.size > MANIFEST_SIZE:
                    raise TooLargeError(f"{self.name}/{escape(key)}: {meta.size} bytes")
                return Content(meta, bytes(found.bytes()), found.attributes.get(_TOKEN))
            except FileNotFoundError as error:
                _check_absent(error)
                return None

    def open(self, key: str) -> BinaryIO | None:
        """Open the object at *key* for reading from begin to end; None if there is none."""
        with self._reported(key):
            try:
                chunks = obstore.get(self._storage, key).stream(min_chunk_size=_CHUNK)
            except FileNotFoundError as error:
                _check_absent(error)
                return None
        return cast("BinaryIO", _Stream(self, key, iter(chunks)))

    def objects(self, folder: str, after: str | None = None) -> Iterator[Meta]:
        """List all objects below *folder* (with keys *after* that), page by page, in no order."""
        pages = iter(obstore.list(self._storage, folder, offset=after, chunk_size=self.tuning.page))
        while True:
            with self._reported(f"{folder}/"):
                page = next(pages, None)
            if page is None:
                return
            for found in page:
                yield _meta(found["path"], found)

    def folder(self, folder: str) -> tuple[Sequence[str], list[Meta]]:
        """List the folders and the objects that are in *folder* itself."""
        with self._reported(f"{folder}/"):
            found = obstore.list_with_delimiter(self._storage, folder)
        return found["common_prefixes"], [_meta(meta["path"], meta) for meta in found["objects"]]

    def create(self, key: str, data: bytes) -> str | None:
        """
        Write *data* at *key* where nothing is.

        Returns:
            The token of this write; None, with nothing changed, if there is something.
        """
        return self._write(key, data, "create")

    def replace(self, old: Meta, data: bytes) -> str | None:
        """
        Write *data* in the place of the object *old*, as long as it is that.

        Returns:
            The token of this write; None, with nothing changed, if it is another by now, or gone.
        """
        if old.e_tag is None:
            raise StoreError(f"{self.name}/{escape(old.key)}: the store gives no ETag")
        version = {"version": old.version} if old.version else {}
        # The wrong form changes nothing.
        for quoted in (self._quoted, not self._quoted):
            e_tag = f'"{old.e_tag}"' if quoted else old.e_tag
            token = self._write(old.key, data, {"e_tag": e_tag, **version})
            if token is not None:
                self._quoted = quoted
                return token
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
        Remove the objects at *keys*, whatever they are; if one is gone, that is no matter.

        Many go with one request, where the store has one that can be used. If it fails for some of
        them, others may be gone.
        """
        if self._one_by_one and len(keys) > 1:
            for _ in self.at_once(self.delete, keys):
                pass
            return
        for some in self.batches(keys):
            more = len(some) - 1
            with self._reported(some[0], f" (or another of {more} with it)" if more else ""):
                try:
                    obstore.delete(self._deleting, some if more else some[0])
                except FileNotFoundError as error:
                    _check_absent(error)

    def batches(self, items: Iterable[_T]) -> Iterator[list[_T]]:
        """Split *items* into lists of as many as go into one request."""
        return batches(items, self.tuning.page)

    def at_once(self, function: Callable[[_T], _U], items: Iterable[_T]) -> Iterator[_U]:
        """Call *function* with each of *items*, several at a time; what it gave, in order."""
        return at_once(function, items, self.tuning)

    def _write(self, key: str, data: bytes, mode: Any) -> str | None:
        _check_process()
        token = os.urandom(16).hex()
        # obstore repeats a write that was refused for the moment, but not one without an answer. As
        # it is conditional, and known by its token, there is no harm in that.
        for last in (False, False, True):
            try:
                obstore.put(
                    self._storage,
                    key,
                    data,
                    mode=mode,
                    attributes={_TOKEN: token},
                    use_multipart=False,  # the end of one asks no questions
                )
            except (BaseError, OSError, ValueError) as error:
                # What was tried again, or got no answer, may have happened all the same.
                if self._token(key) == token:
                    break
                if isinstance(error, _REFUSED):
                    return None
                if last or not _is_lost(error):
                    raise self._error(key, error) from None
            else:
                break
        return token

    def _token(self, key: str) -> str | None:
        with self._reported(key):
            try:
                return obstore.get(self._storage, key).attributes.get(_TOKEN)
            except FileNotFoundError as error:
                _check_absent(error)
                return None

    @contextmanager
    def _reported(self, key: str, more: str = "") -> Iterator[None]:
        _check_process()
        try:
            yield
        except (BaseError, OSError, ValueError) as error:
            raise self._error(key, error, more) from None

    def _error(self, key: str, error: Exception, more: str = "") -> StoreError:
        return StoreError(f"{self.name}/{escape(key)}{more}: {_reason(error)}")


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
    e_tag = (meta["e_tag"] or "").strip('"') or None
    return Meta(key, meta["size"], modified, e_tag, meta["version"])


def _check_process() -> None:
    """Refuse to wait for ever: the threads of obstore are not those of a forked process."""
    pid = os.getpid()
    if _process.setdefault("pid", pid) != pid:
        raise StoreError(
            "object stores do not work in a process that was forked after their first use: open the"
            " store in each worker (gunicorn without --preload)"
        )


def _check_absent(error: FileNotFoundError) -> None:
    """Tell an object that is not there from a bucket that is not."""
    if _NO_BUCKET.search(str(error)):
        raise error


def _is_lost(error: Exception) -> bool:
    """Tell whether there was no answer, or half of one."""
    return "HTTP error: " in str(error).partition("\n")[0] and "builder error" not in str(error)


def _reason(error: Exception) -> str:
    """Say in one line what went wrong, without what the store was sent."""
    text = str(error)
    if "http://169.254.169.254/" in text:  # where virtual machines ask for theirs
        return "no credentials are found, neither in the environment nor with this machine"
    if "Invalid Access Key" in text:
        return "the credentials are wrong: the key is not in Base64"
    status = re.search(r"status code: ((\d{3})[\w ]*)", text)
    # The second is told of one key among several.
    code = re.search(r"<Code>(\w+)</Code>|\(code: (\w+)\)", text)
    name = (code[1] or code[2]) if code else status[2] if status else ""
    name = "ContainerNotFound" if "container does not exist" in text else _STATUS.get(name, name)
    if name in _HINTS:
        return f"{_HINTS[name]} ({name})"
    if status:
        named = "" if name == status[2] else f" ({name})"
        return f"the store answers {status[1].strip()}{named}"
    if name:
        return f"the store answers {name}"
    if _is_lost(error):
        # obstore has the cause only in what it prints for debugging.
        server = re.search(r"https?://[^/\s?]+", text)
        cause = re.search(r'(?:message|error): "([^"]+)"', text)
        why = cause[1] if cause else "no answer in time" if "TimedOut" in text else "it broke off"
        place = f"the store at {server[0]}" if server else "the store"
        return f"{place} does not answer: {escape(why)}"
    return escape(text.partition("\n")[0].partition("<")[0].strip())
