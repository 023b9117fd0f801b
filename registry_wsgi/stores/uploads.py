"""
The unfinished multipart uploads of a bucket behind S3.

A large blob is put into S3 in parts, and what was uploaded of one that is never finished takes its
room without being an object: no listing of objects has it. obstore has no requests for this, so it
is done through botocore. (Google Cloud Storage and Azure forget such parts after a week of their
own.)

To the store each is a blob of a name of its own, ``sha256-<hex>?uploadId=<id>``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote as percent_encode
from urllib.parse import unquote as percent_decode

from obstore.store import S3Store

from ..errors import StoreError, escape
from .bucket import Meta, endpoint_of

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Storage

__all__ = ["Uploads", "is_upload"]

_log = logging.getLogger("registry_wsgi")

_MARK = "?uploadId="

# What a store answers where there is nothing to be had: to credentials that may not ask, and by
# stores that have no such requests.
_NOT_TOLD = ("AccessDenied", "MethodNotAllowed", "NotImplemented")


def is_upload(name: str) -> bool:
    """Tell whether *name* is that of an unfinished upload."""
    return _MARK in name


class Uploads:
    """
    The unfinished uploads below ``blobs/``.

    Args:
        storage: The client of obstore. Only one for S3 has any.
        name: What the store is called in messages.
    """

    def __init__(self, storage: Storage, name: str) -> None:
        self._name = name
        # What the client was given, and has not from the environment.
        self._given: dict[str, Any] = {}
        self._prefix: str | None = None
        if isinstance(storage, S3Store):
            self._given |= storage.config
            self._prefix = storage.prefix
        self._bucket = self._given.get("bucket")

    def names(self) -> Iterator[str]:
        """List them all; none if that is not to be had, with a warning in the log."""
        if self._bucket is None:
            return
        try:
            client = self._client
        except ModuleNotFoundError as error:
            _log.warning("%s: unfinished uploads are not looked for: %s", self._name, error)
            return
        prefix = self._key("")
        listing = client.get_paginator("list_multipart_uploads")
        pages = iter(listing.paginate(Bucket=self._bucket, Prefix=prefix))
        while True:
            try:
                with self._reported("blobs/"):
                    page = next(pages, None)
            except _NotToldError as error:
                _log.warning("%s: unfinished uploads are not looked for: %s", self._name, error)
                return
            if page is None:
                return
            for upload in page.get("Uploads", ()):
                blob = upload["Key"].removeprefix(prefix)
                if "/" not in blob:
                    yield f"{blob}{_MARK}{percent_encode(upload['UploadId'], safe='')}"

    def look(self, name: str) -> Meta | None:
        """Look at one: its size, and when its last part came; None if it is gone."""
        upload = self._named(name)
        found: Meta | None = None
        with self._reported(name, gone=True):
            parts = [
                part
                for page in self._client.get_paginator("list_parts").paginate(**upload)
                for part in page.get("Parts", ())
            ]
            if parts:
                size = sum(part["Size"] for part in parts)
                modified = max(part["LastModified"] for part in parts)
            else:
                size, modified = 0, self._begun(upload)
            if modified is not None:
                found = Meta(f"blobs/{name}", size, int(modified.timestamp()), name, None)
        return found

    def abort(self, name: str) -> None:
        """End one, and remove what there is of it; if it is gone, that is no matter."""
        with self._reported(name, gone=True):
            self._client.abort_multipart_upload(**self._named(name))

    def _begun(self, upload: dict[str, Any]) -> datetime | None:
        listing = self._client.get_paginator("list_multipart_uploads")
        for page in listing.paginate(Bucket=upload["Bucket"], Prefix=upload["Key"]):
            for found in page.get("Uploads", ()):
                if found["UploadId"] == upload["UploadId"]:
                    begun: datetime = found["Initiated"]
                    return begun
        return None

    def _named(self, name: str) -> dict[str, Any]:
        blob, _, upload = name.partition(_MARK)
        return {"Bucket": self._bucket, "Key": self._key(blob), "UploadId": percent_decode(upload)}

    def _key(self, blob: str) -> str:
        return f"{self._prefix}/blobs/{blob}" if self._prefix else f"blobs/{blob}"

    @cached_property
    def _client(self) -> Any:
        # Not above: it takes its time, and only a prune has a use for it.
        import botocore.session  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415

        given = self._given
        endpoint = endpoint_of("s3", given) or None
        virtual = str(given.get("virtual_hosted_style_request", "")).lower() == "true"
        if endpoint and virtual:  # there it begins with the bucket
            endpoint = endpoint.replace(f"//{given['bucket']}.", "//", 1)
        return botocore.session.get_session().create_client(
            "s3",
            endpoint_url=endpoint,
            region_name=given.get("region")
            or os.environ.get("AWS_REGION")
            or os.environ.get("AWS_DEFAULT_REGION")
            or "us-east-1",
            # None: as botocore finds them, which is where obstore does.
            aws_access_key_id=given.get("access_key_id"),
            aws_secret_access_key=given.get("secret_access_key"),
            aws_session_token=given.get("session_token") or given.get("token"),
            config=Config(
                connect_timeout=5,
                read_timeout=60,
                retries={"total_max_attempts": 5, "mode": "standard"},
                s3={"addressing_style": "virtual" if virtual else "path"},
            ),
        )

    @contextmanager
    def _reported(self, key: str, *, gone: bool = False) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", "no reason"))
            if gone and code in ("NoSuchUpload", "NoSuchKey"):
                return
            kind = _NotToldError if code in _NOT_TOLD else StoreError
            raise kind(f"{self._name}/{escape(key)}: the store answers {escape(code)}") from None
        except BotoCoreError as error:
            raise StoreError(f"{self._name}/{escape(key)}: {type(error).__name__}") from None


class _NotToldError(StoreError):
    """The store does not say, and will not."""
