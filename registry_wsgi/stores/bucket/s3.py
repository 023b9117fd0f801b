"""
A bucket behind S3 through botocore, for the requests that obstore does not have.

- `S3` is the bucket: the client, and its errors as ours. Unfinished uploads and old versions are
  asked for with it (`.uploads`, `.versions`).
- `S3Lister` lists folders with odd keys: with an empty part (``blobs//x``), ``.`` or ``..``. For
  one of them obstore fails the whole listing. None of these keys is ours, and anybody may have put
  one there, so they are passed over. (On other clouds the error names the key.)
- `ConditionalDeletes` deletes an object if its ETag still is the one that was seen (``If-Match``),
  which S3 and newer MinIO and Ceph can do. Otherwise another program can write a new object between
  the last look and the delete, and the delete would take that. Azure and Google Cloud have such
  deletes, too, but neither obstore nor botocore makes them.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from obstore.store import S3Store

from ...errors import StoreError, escape
from .client import endpoint_of, is_unsigned
from .identity import Identity
from .pacing import botocore_retries
from .reasons import reason
from .requests import Meta, plain_tag

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Storage

__all__ = [
    "S3",
    "ConditionalDeletes",
    "GoneError",
    "NotToldError",
    "RefusedError",
    "S3Lister",
    "meta_of",
]

# What a store answers to credentials that may not ask, or if it has no such request.
_NOT_TOLD = ("AccessDenied", "MethodNotAllowed", "NotImplemented")

_PRECONDITION_FAILED = ("PreconditionFailed", "412")

_GONE = ("NoSuchKey", "NoSuchUpload", "NoSuchVersion")


class RefusedError(StoreError):
    """
    The store will not do what it was asked for, however often.

    Attributes:
        code: What the store calls the reason.
    """

    code = ""


class GoneError(RefusedError):
    """What was asked about is not there."""


class NotToldError(RefusedError):
    """The store does not say, and will not."""


class S3:
    """
    A bucket behind S3, through botocore, with the settings that the client of obstore has.

    Any number of threads may use it.

    Args:
        storage: The client of obstore.
        name: What the store is called in messages.

    Attributes:
        bucket: Which bucket; None if *storage* is no client for S3.
    """

    def __init__(self, storage: Storage, name: str) -> None:
        self.name = name
        # The settings that the client was given, without those of the environment.
        self._given: dict[str, Any] = {}
        self._prefix: str | None = None
        self._provider: Any = None
        if isinstance(storage, S3Store):
            self._given |= storage.config
            self._prefix = storage.prefix
            self._provider = storage.credential_provider
        self.bucket: str | None = self._given.get("bucket")

    def key(self, blob: str) -> str:
        """Tell the key that the blob of that name has in the bucket."""
        return self.full(f"blobs/{blob}")

    def full(self, key: str) -> str:
        """Tell the key in the bucket of what is at *key* below the prefix of the store."""
        return f"{self._prefix}/{key}" if self._prefix else key

    def below_prefix(self, key: str) -> str:
        """Tell the key below the prefix of the store of what is at *key* in the bucket."""
        return key.removeprefix(f"{self._prefix}/") if self._prefix else key

    @cached_property
    def client(self) -> Any:
        """
        The client of botocore.

        Raises:
            NotToldError: botocore is not installed, or would not be who obstore is.
        """
        # Not imported above: that takes its time, and only a prune needs it.
        try:
            from botocore import UNSIGNED  # noqa: PLC0415
            from botocore.config import Config  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise NotToldError(f"{self.name}: {error}") from None
        given, unsigned = self._given, is_unsigned(self._given)
        if isinstance(self._provider, Identity):
            session = self._provider.session
        elif self._provider is None and (unsigned or "access_key_id" in given):
            session = Identity().session
        else:
            raise NotToldError(f"{self.name}: the client has credentials of its own")
        endpoint = endpoint_of("s3", given) or None
        virtual = str(given.get("virtual_hosted_style_request", "")).lower() == "true"
        if endpoint and virtual:  # there it begins with the bucket
            endpoint = endpoint.replace(f"//{given['bucket']}.", "//", 1)
        client = session.create_client(
            "s3",
            endpoint_url=endpoint,
            region_name=given.get("region")
            or os.environ.get("AWS_REGION")
            or os.environ.get("AWS_DEFAULT_REGION")
            or "us-east-1",
            # None: those of the session.
            aws_access_key_id=given.get("access_key_id"),
            aws_secret_access_key=given.get("secret_access_key"),
            aws_session_token=given.get("session_token") or given.get("token"),
            config=Config(
                ignore_configured_endpoint_urls=True,  # it is where obstore is
                signature_version=UNSIGNED if unsigned else None,
                connect_timeout=5,
                read_timeout=60,
                retries=botocore_retries(),
                s3={"addressing_style": "virtual" if virtual else "path"},
                max_pool_connections=16,  # one for each of the threads that ask at once
            ),
        )
        client.meta.events.register("before-sign.s3.DeleteObjects", _add_md5)
        return client

    def pages(self, operation: str, key: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        """Ask for a listing about *key*, page by page."""
        listing = self.client.get_paginator(operation)
        pages = iter(listing.paginate(Bucket=self.bucket, **parameters))
        while True:
            with self.reported(key):
                page = next(pages, None)
            if page is None:
                return
            yield page

    @contextmanager
    def reported(self, key: str) -> Iterator[None]:
        """Turn an error of botocore about *key* into a StoreError."""
        from botocore.exceptions import BotoCoreError, ClientError, SSLError  # noqa: PLC0415

        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", "no reason"))
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
            raise self.error(key, code, refused=400 <= status < 500) from None
        except BotoCoreError as error:
            said = reason(error) if isinstance(error, SSLError) else type(error).__name__
            raise StoreError(f"{self.name}/{escape(key)}: {said}") from None

    def error(self, key: str, code: str, *, refused: bool = False) -> StoreError:
        """Make the error for what the store answers about *key*."""
        kind = RefusedError if refused else StoreError
        kind = NotToldError if code in _NOT_TOLD else GoneError if code in _GONE else kind
        error = kind(f"{self.name}/{escape(key)}: the store answers {escape(code)}")
        if isinstance(error, RefusedError):
            error.code = code
        return error


class S3Lister:
    """
    A `~registry_wsgi.stores.bucket.requests.Lister` through botocore.

    Args:
        s3: The bucket.
    """

    def __init__(self, s3: S3) -> None:
        self._s3 = s3

    def pages_of(self, folder: str, after: str | None) -> Iterator[list[Meta]]:
        start = {} if after is None else {"StartAfter": self._s3.full(after)}
        prefix = self._s3.full(f"{folder}/")
        for page in self._s3.pages("list_objects_v2", f"{folder}/", Prefix=prefix, **start):
            if metas := self._metas(page):
                yield metas

    def folder(self, folder: str) -> tuple[Sequence[str], list[Meta]]:
        prefix = self._s3.full(f"{folder}/")
        folders: list[str] = []
        objects: list[Meta] = []
        for page in self._s3.pages("list_objects_v2", f"{folder}/", Prefix=prefix, Delimiter="/"):
            found = (each["Prefix"].removesuffix("/") for each in page.get("CommonPrefixes", ()))
            folders += [key for each in found if not _is_odd(key := self._s3.below_prefix(each))]
            objects += self._metas(page)
        return folders, objects

    def _metas(self, page: dict[str, Any]) -> list[Meta]:
        found = ((self._s3.below_prefix(each["Key"]), each) for each in page.get("Contents", ()))
        return [meta_of(key, each) for key, each in found if not _is_odd(key)]


class ConditionalDeletes:
    """
    A `~registry_wsgi.stores.bucket.requests.Remover` through botocore.

    Args:
        s3: The bucket.

    Attributes:
        usable: Whether the store keeps to the condition. False until `ask_once` found out.
    """

    def __init__(self, s3: S3) -> None:
        self._s3 = s3
        self._asked = False
        self.usable = False

    def ask_once(self, key: str) -> None:
        """Find out whether the store keeps to the condition; it may remove the object at *key*."""
        if self._asked:
            return
        try:
            self.usable = not self._remove(key, "0" * 32)
        except StoreError:  # it has no such request, or these credentials may not make it
            self.usable = False
        self._asked = True

    def remove(self, meta: Meta) -> bool:
        """Remove the object *meta*; False if there is another in its place, which stays."""
        try:
            return self._remove(meta.key, meta.e_tag or "")
        except GoneError:
            return True

    def _remove(self, key: str, e_tag: str) -> bool:
        try:
            with self._s3.reported(key):
                self._s3.client.delete_object(
                    Bucket=self._s3.bucket, Key=self._s3.full(key), IfMatch=f'"{e_tag}"'
                )
        except RefusedError as error:
            if error.code in _PRECONDITION_FAILED:
                return False
            raise
        return True


def meta_of(key: str, found: dict[str, Any]) -> Meta:
    """Make a `Meta` of the object at *key* as botocore has found it in a listing."""
    modified, e_tag = int(found["LastModified"].timestamp()), plain_tag(found.get("ETag"))
    return Meta(key, found["Size"], modified, e_tag, found.get("VersionId"))


def _is_odd(key: str) -> bool:
    """Tell whether obstore refuses *key*, or takes it for another."""
    return any(part in ("", ".", "..") for part in key.split("/"))


def _add_md5(request: Any, **_: Any) -> None:
    """
    Give a delete of many the header Content-MD5, which MinIO before 2025, Ceph and others want.

    botocore sends a newer checksum alone, and these stores answer that the header is missing.
    """
    digest = hashlib.md5(request.data, usedforsecurity=False).digest()
    request.headers["Content-MD5"] = base64.b64encode(digest).decode()
