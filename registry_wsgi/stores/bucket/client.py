"""The client of obstore for a bucket: where it is, and how it waits and repeats."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from obstore import store as _stores
from obstore.exceptions import BaseError

from ...errors import StoreError, escape
from .identity import Identity
from .pacing import REPEATS, obstore_retries
from .reasons import reason

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig
    from obstore.store import ObjectStore as Storage

__all__ = ["connect", "endpoint_of", "identified", "impatient", "is_unsigned", "without_repeats"]

# Settings of an application that say who asks: with one of them the environment is not asked.
_GIVEN = re.compile("access_key|token|role|credential|metadata|signature")

# The variables that name an endpoint, by the scheme of the URL.
_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
}


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

    Credentials and all else come from the environment, unless given: those of S3 as the AWS command
    line finds them (`.identity`), those of the others as obstore does.

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
    if scheme not in _ENDPOINTS:
        raise StoreError(f"{escape(url)}: not s3://, gs:// or az://")
    certificates = os.environ.get("SSL_CERT_FILE")
    if scheme == "s3":
        try:
            identity = Identity()
            found, certificates = identity.place(), identity.certificates
        except StoreError as error:
            raise StoreError(f"{escape(url)}: {error}") from None
        config = {"region": found.get("region"), **config}
        config["endpoint"] = endpoint_of(scheme, config) or found.get("endpoint")
        config = {name: value for name, value in config.items() if value is not None}
    endpoint = endpoint_of(scheme, config)
    if endpoint:
        _check_endpoint(url, endpoint)
    if scheme == "az":  # to obstore, a URL begins with the container
        parts = re.fullmatch(r"az://([^/]+)/([^/].*)", url, re.DOTALL)
        if parts is None:
            raise StoreError(f"{escape(url)}: not az://account/container/prefix")
        config = {"account_name": parts[1], **config}
        place = f"az://{parts[2]}"
    if scheme == "gs" and "endpoint" in config:
        config["base_url"] = config.pop("endpoint")
    options: ClientConfig = {
        "connect_timeout": timedelta(seconds=connect_timeout),
        "read_timeout": timedelta(seconds=read_timeout),
        # Of the whole answer: a large blob takes its time.
        "timeout": timedelta(days=1),
        # Whoever writes http:// means it.
        "allow_http": endpoint.lower().startswith("http://"),
    }
    if certificates:
        options["root_certificate"] = _trusted(url, certificates)
    try:
        storage = _stores.from_url(
            place,
            client_options=options,
            retry_config=obstore_retries(retries, read_timeout),
            **config,
        )
    except (BaseError, TypeError, ValueError) as error:
        raise StoreError(f"{escape(url)}: {reason(error)}") from None
    _check_place(storage, url, place)
    return storage


def _trusted(url: str, certificates: str) -> bytes:
    """
    Read the certificates of the authorities in a file.

    Raises:
        StoreError: The file cannot be read, or has none.
    """
    try:
        ssl.create_default_context(cafile=certificates)
        return Path(certificates).read_bytes()
    except OSError as error:
        why = "no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise StoreError(
            f"{escape(url)}: the certificates in {escape(certificates)} cannot be used: {why}"
        ) from None


def _check_endpoint(url: str, endpoint: str) -> None:
    """
    Refuse an endpoint that obstore would fail over, or that has a secret in it.

    Raises:
        StoreError: It is no URL, or has credentials.
    """
    scheme, separator, rest = endpoint.partition("://")
    if "@" in rest:
        raise StoreError(
            f"{escape(url)}: credentials belong in the environment, not in the endpoint"
        )
    if not separator or scheme.lower() not in ("http", "https"):
        raise StoreError(
            f"{escape(url)}: the endpoint {escape(endpoint)} has no https:// before it"
        )
    if not _names_server(rest):
        raise StoreError(f"{escape(url)}: the endpoint {escape(endpoint)} is no URL of a server")


def _names_server(place: str) -> bool:
    """Tell whether *place*, what follows ``https://``, has a host and a port that can be."""
    parts = re.fullmatch(r"(\[.+\]|[a-zA-Z\d_.-]+)(?::(\d{1,5}))?(?:/[^\s?#]*)?", place, re.ASCII)
    if parts is None or int(parts[2] or 0) > 65_535:
        return False
    host = parts[1].strip("[]")
    try:
        # A host that ends with a number is an address, to obstore too.
        if host != parts[1] or re.search(r"(^|\.)(\d+|0[xX][\da-fA-F]*)\.?$", host):
            ipaddress.ip_address(host.removesuffix("."))
        host.encode().decode("idna")
    except ValueError:
        return False
    return True


def _check_place(storage: Any, url: str, place: str) -> None:
    """
    Refuse a URL that leads elsewhere than it says: ``x/../y`` is read as ``y``, say.

    Raises:
        StoreError: The client is one for another bucket or prefix.
    """
    bucket, _, prefix = place.partition("://")[2].partition("/")
    found = storage.config.get("bucket") or storage.config.get("container_name")
    opened = f"{found}/{storage.prefix or ''}".rstrip("/")
    if opened != f"{bucket}/{unquote(prefix)}".rstrip("/"):
        raise StoreError(
            f"{escape(url)}: this would open {escape(opened)}: write each character that is special"
            " in a URL as %XX, and no . or .. for a part"
        )


def identified(storage: Storage) -> Storage:
    """
    Make a client of obstore like *storage*, with the credentials that the AWS command line has.

    Args:
        storage: The client. One with credentials of its own, or not for S3, is returned as it is.

    Raises:
        StoreError: There are no credentials, or they cannot be used.
    """
    if not isinstance(storage, _stores.S3Store) or storage.credential_provider is not None:
        return storage
    if is_unsigned(storage.config) or any(map(_GIVEN.search, storage.config)):
        return storage
    identity = Identity()
    identity()  # raises now if something is wrong
    return _like(storage, {}, {"credential_provider": identity})


def is_unsigned(config: Mapping[str, Any]) -> bool:
    """Tell whether *config* or the environment says that requests to S3 are by nobody."""
    said = config.get("skip_signature", os.environ.get("AWS_SKIP_SIGNATURE", ""))
    return str(said).lower() in ("1", "on", "true", "y", "yes")


def without_repeats(storage: Storage, *, bulk: bool = True) -> Storage:
    """
    Make a client of obstore like *storage* that sends each request once.

    Args:
        storage: The client. What is none for a service is returned as it is.
        bulk: Whether it removes many objects by one request, where the service has one for that.
    """
    changes: dict[str, Any] = {}
    if not bulk and isinstance(storage, _stores.S3Store):
        changes["config"] = {**storage.config, "disable_bulk_delete": True}
    return _like(storage, {"max_retries": 0}, changes)


def impatient(storage: Storage, patience: float) -> Storage:
    """Make a client of obstore like *storage* that waits *patience* seconds, and tries twice."""
    if not isinstance(storage, _stores.S3Store | _stores.AzureStore | _stores.GCSStore):
        return storage
    wait = timedelta(seconds=patience)
    options = {**(storage.client_options or {}), "connect_timeout": wait, "read_timeout": wait}
    retries: RetryConfig = {"max_retries": 1, "retry_timeout": 2 * wait}
    return _like(storage, retries, {"client_options": options})


def _like(storage: Storage, retries: RetryConfig, changes: dict[str, Any]) -> Storage:
    """Make a client of obstore like *storage*, but for *retries* and *changes*."""
    if not isinstance(storage, _stores.S3Store | _stores.AzureStore | _stores.GCSStore):
        return storage
    options: dict[str, Any] = {
        "prefix": storage.prefix,
        "config": storage.config,
        "client_options": storage.client_options,
        "credential_provider": storage.credential_provider,
        **changes,
    }
    given = {name: value for name, value in options.items() if value is not None}
    config: RetryConfig = {**(storage.retry_config or {}), **retries}
    return type(storage)(retry_config=config, **given)


def endpoint_of(scheme: str, config: Mapping[str, Any]) -> str:
    """Tell where the store is that *config* and the environment name; empty if the provider's."""
    endpoints = [config.get("endpoint"), *map(os.environ.get, _ENDPOINTS.get(scheme, ()))]
    return next((found for found in endpoints if found), "")
