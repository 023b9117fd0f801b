"""
Where the models are, and the settings, from arguments or the environment.

============================= ========================= ========================================
variable                      default                   meaning
============================= ========================= ========================================
``OLLAMA_MODELS``             ``~/.ollama/models``      the models directory, ``memory:``, or a
                                                        bucket: ``s3://``, ``gs://``, ``az://``
``REGISTRY_WSGI_RETENTION``   ``7d``                    how long a deleted model can be restored
``REGISTRY_WSGI_IN_FLIGHT``   ``1h``                    how recent a change means a pull under way
``REGISTRY_WSGI_HOLD``        ``1d``                    how long at most pulls hold a removal back
``REGISTRY_WSGI_PRUNE``       ``1``                     ``0``: no prune after a delete, under
                                                        `registry_wsgi.create_app` and
                                                        ``registry-wsgi serve``
``REGISTRY_WSGI_MAINTENANCE`` ``0``                     ``1``: `registry_wsgi.http.maintenance`,
                                                        under the same
============================= ========================= ========================================

Under `registry_wsgi.create_app` and ``registry-wsgi serve`` these say who may delete:

================================= ==============================================================
``REGISTRY_WSGI_TOKEN``           who has this token, see
                                  `~registry_wsgi.http.authorization.bearer_token`; several with a
                                  space between them
``REGISTRY_WSGI_TOKEN_FILE``      who has one of the tokens in this file, one a line
``REGISTRY_WSGI_TRUSTED_HOSTS``   who asks for one of these hosts, with commas between them
                                  (`~registry_wsgi.http.authorization.trusted_hosts`)
================================= ==============================================================

Durations are written ``0``, ``90s``, ``15m``, ``12h``, ``7d`` or ``2w``. An empty variable counts
as unset.

What a bucket needs beyond its name comes from the variables of its provider, as obstore takes them
(``AWS_REGION``, ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_ENDPOINT_URL`` and so on).
The endpoint and the region can also follow a question mark, and so can the time limits
``connect_timeout`` (``5s``) and ``read_timeout`` (``60s``); credentials cannot:
``s3://bucket/prefix?endpoint=http://127.0.0.1:7480&region=us-east-1``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from .cache.model_cache import ModelCache
from .durations import to_seconds
from .errors import ConfigurationError, StoreError, escape, quote
from .stores.base import Store
from .stores.disk.store import DiskStore
from .stores.memory import MemoryStore

if TYPE_CHECKING:
    from .http.authorization import Authorize

__all__ = [
    "authorization",
    "host_check",
    "maintenance_api",
    "open_cache",
    "prune_after_delete",
    "token_check",
]

_BUCKETS = ("s3", "gs", "az")
_BUCKET_OPTIONS = ("endpoint", "region", "connect_timeout", "read_timeout")
_DURATIONS = ("retention", "in_flight", "hold")
_SWITCH = {"1": True, "true": True, "yes": True, "on": True}
_SWITCH |= {"0": False, "false": False, "no": False, "off": False}


def open_cache(location: str | os.PathLike[str] | None = None, **options: Any) -> ModelCache:
    """
    Open the store at *location*.

    Args:
        location: A directory, or a URL: ``file:///path``, ``s3://bucket/prefix``,
            ``gs://bucket/prefix``, ``az://account/container/prefix``, or ``memory:`` for an empty
            store in memory. None: the environment variable ``OLLAMA_MODELS``, else
            ``~/.ollama/models``, which is the rule of the Go code.
        options: Those of `registry_wsgi.ModelCache`. What is not given is taken from the
            environment (see `registry_wsgi.settings`).

    Raises:
        ConfigurationError: The location or an option cannot be used; the message names it.
    """
    source = "location"
    if location is None:
        source = "OLLAMA_MODELS"
        location = os.environ.get(source) or os.path.join("~", ".ollama", "models")
    for option in _DURATIONS:
        variable = f"REGISTRY_WSGI_{option.upper()}"
        if option not in options and os.environ.get(variable):
            options[option] = os.environ[variable]
        else:
            variable = option
        try:
            to_seconds(options.get(option, 0))
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"{variable}: {error}") from error
    try:
        return ModelCache(_open_store(os.fspath(location)), **options)
    except (StoreError, ValueError) as error:
        raise ConfigurationError(f"{source}: {error}") from error
    except TypeError as error:
        raise ConfigurationError(f"invalid option: {error}") from error


def prune_after_delete() -> bool:
    """
    Tell whether the environment (``REGISTRY_WSGI_PRUNE``) wants a prune after each delete.

    Raises:
        ConfigurationError: The variable is neither 1 nor 0.
    """
    return _switch("REGISTRY_WSGI_PRUNE", default=True)


def maintenance_api() -> bool:
    """
    Tell whether the environment (``REGISTRY_WSGI_MAINTENANCE``) wants the maintenance API.

    Raises:
        ConfigurationError: The variable is neither 1 nor 0.
    """
    return _switch("REGISTRY_WSGI_MAINTENANCE", default=False)


def authorization() -> Authorize | None:
    """
    Tell who may delete, as the environment has it: None if it does not say.

    Raises:
        ConfigurationError: A variable cannot be used.
    """
    from .http.authorization import all_of  # noqa: PLC0415 - the command line begins without werkzeug

    checks = [check for check in (host_check(), token_check()) if check is not None]
    return all_of(*checks) if checks else None


def token_check(file: str | os.PathLike[str] | None = None) -> Authorize | None:
    """
    Make the check of tokens that *file* or the environment asks for.

    Raises:
        ConfigurationError: A variable cannot be used, or both that there are for it are set.
    """
    from .http.authorization import bearer_token  # noqa: PLC0415 - as above

    source, other = "REGISTRY_WSGI_TOKEN_FILE", "REGISTRY_WSGI_TOKEN"
    if file is not None:
        return bearer_token(file=file)
    tokens, file = os.environ.get(other), os.environ.get(source)
    if tokens and file:
        raise ConfigurationError(f"{source}: {other} is set, too: only one of them can be")
    try:
        if tokens:
            source = other
            return bearer_token(*tokens.split())
        return bearer_token(file=file) if file else None
    except ConfigurationError as error:
        raise ConfigurationError(f"{source}: {error}") from error


def host_check(hosts: Iterable[str] = ()) -> Authorize | None:
    """
    Make the `~registry_wsgi.http.authorization.trusted_hosts` that the environment asks for.

    Args:
        hosts: Take these instead, if there are any.

    Raises:
        ConfigurationError: One of the hosts is none.
    """
    from .http.authorization import trusted_hosts  # noqa: PLC0415 - as above

    if hosts := [*hosts]:
        return trusted_hosts(*hosts)
    variable = "REGISTRY_WSGI_TRUSTED_HOSTS"
    value = os.environ.get(variable)
    try:
        return trusted_hosts(*(host.strip() for host in value.split(","))) if value else None
    except ConfigurationError as error:
        raise ConfigurationError(f"{variable}: {error}") from error


def _open_store(location: str) -> Store:
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
        return _open_bucket(url)
    raise StoreError(
        f"{quote(location)}: not a directory, file:///path, memory:, s3://, gs:// or az://"
    )


def _open_bucket(url: SplitResult) -> Store:
    # What follows is shown in messages, so it must not have a secret in it.
    if "@" in url.netloc:
        raise StoreError(f"{url.scheme}://: credentials belong in the environment, not in the URL")
    place = f"{url.scheme}://{url.netloc}{url.path}"
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
        from .stores.bucket import ObjectStore  # noqa: PLC0415 - it needs an optional package
    except ModuleNotFoundError as error:
        raise StoreError(str(error)) from error
    return ObjectStore.from_url(place, **options)


def _switch(variable: str, *, default: bool) -> bool:
    value = os.environ.get(variable)
    if not value:
        return default
    if value.lower() not in _SWITCH:
        raise ConfigurationError(f"{variable}: {quote(value)} is neither 1 nor 0")
    return _SWITCH[value.lower()]
