"""Which kind of store a location stands for."""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from ..durations import to_seconds
from ..errors import StoreError, escape, quote
from .base import Store
from .disk.store import DiskStore
from .memory import MemoryStore

__all__ = ["open_store"]

_BUCKETS = ("s3", "gs", "az")
_BUCKET_OPTIONS = ("endpoint", "region", "connect_timeout", "read_timeout")


def open_store(location: str) -> Store:
    """
    Open the store at *location*: a directory, or a URL (see `registry_wsgi.open_cache`).

    Raises:
        StoreError: The location cannot be used; the message names it.
        InvalidDurationError: A time limit in the URL of a bucket is not a duration.
    """
    # One letter before a colon is a drive, not a scheme.
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", location)
    if not location:
        raise StoreError("it is empty")
    if scheme is None:
        return DiskStore(os.path.expanduser(location))
    url = urlsplit(location)
    if url.scheme == "memory" and not (url.netloc or url.path):
        return MemoryStore()
    plain = not (url.query or url.fragment)
    if url.scheme == "file" and url.netloc in ("", "localhost") and url.path and plain:
        return DiskStore(unquote(url.path))
    if url.scheme in _BUCKETS:
        return _open_bucket(url, url.scheme + location[len(url.scheme) :])
    raise StoreError(
        f"{quote(location)}: not a directory, file:///path, memory:, s3://, gs:// or az://"
    )


def _open_bucket(url: SplitResult, location: str) -> Store:
    # Messages show the URL, so it must not have a secret in it.
    if "@" in url.netloc:
        raise StoreError(f"{url.scheme}://: credentials belong in the environment, not in the URL")
    # Not put together from *url*, as urlsplit() drops tabs and line ends.
    place = location.partition("?")[0]
    if "#" in location:
        raise StoreError(f"{escape(place)}: # would cut it off there: write %23")
    options: dict[str, Any] = dict(parse_qsl(url.query, keep_blank_values=True))
    for option in options:
        if option not in _BUCKET_OPTIONS:
            raise StoreError(
                f"{escape(place)}: option {quote(option)}: only {', '.join(_BUCKET_OPTIONS)} can be"
                " given here; set the rest in the environment"
            )
    for option in {*options} & {"connect_timeout", "read_timeout"}:
        options[option] = to_seconds(options[option])
    try:
        from .bucket import ObjectStore  # noqa: PLC0415 - it needs an optional package
    except ModuleNotFoundError as error:
        raise StoreError(str(error)) from error
    return ObjectStore.from_url(place, **options)
