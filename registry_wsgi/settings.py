"""
The settings, read from the environment here and nowhere else.

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
                                                        under these two
``REGISTRY_WSGI_EVICT_…``     none                      the limits of ``POST /api/evict``, see below
``REGISTRY_WSGI_PAGE``        none                      the path of the :doc:`storage page <page>`,
                                                        ``/registry/`` say, under these two
``REGISTRY_WSGI_PRUNE_EVERY`` ``0``                     how long after a prune the next one is
                                                        begun by ``registry-wsgi serve``; ``0``:
                                                        it begins none
============================= ========================= ========================================

Under `registry_wsgi.create_app` and ``registry-wsgi serve`` these say who may delete:

================================= ==============================================================
``REGISTRY_WSGI_TOKEN``           whoever sends this token, or one of several with a space between
                                  them (`~registry_wsgi.http.authorization.bearer_token`)
``REGISTRY_WSGI_TOKEN_FILE``      whoever sends one of the tokens in this file, one a line
``REGISTRY_WSGI_TRUSTED_HOSTS``   whoever sends the request to one of these hosts, with commas
                                  between them
                                  (`~registry_wsgi.http.authorization.trusted_hosts`)
``REGISTRY_WSGI_ORIGINS``         pages in a browser: those of these origins, with commas between
                                  them, besides those of the same origin
                                  (`registry_wsgi.http.origins`)
================================= ==============================================================

With `registry_wsgi.http.maintenance`, these are the limits of ``POST /api/evict``, which is there
if one of the first three is set (`registry_wsgi.ModelCache.evict`):

================================= ==============================================================
``REGISTRY_WSGI_EVICT_MAX_USED``  how much the store may take, with its trash: ``200GB``
``REGISTRY_WSGI_EVICT_MIN_FREE``  how much of the disk is to be free: ``50GB``
``REGISTRY_WSGI_EVICT_UNUSED``    after how long without being read a model goes: ``30d``
``REGISTRY_WSGI_EVICT_RECENT``    what may have been read within this time stays; default ``1d``
``REGISTRY_WSGI_EVICT_ROOM``      how much of the first the models leave free; default ``0``
================================= ==============================================================

Durations are written ``0``, ``90s``, ``15m``, ``12h``, ``7d`` or ``2w``. An empty variable counts
as unset.

What a bucket needs beyond its name comes from the variables of its provider (``AWS_REGION``,
``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_ENDPOINT_URL`` and so on), and for S3 from
the profiles of ``~/.aws`` as well.
The endpoint and the region can also follow a question mark, and so can the time limits
``connect_timeout`` (``5s``) and ``read_timeout`` (``60s``); credentials cannot:
``s3://bucket/prefix?endpoint=http://127.0.0.1:7480&region=us-east-1``.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from .durations import to_seconds
from .errors import ConfigurationError, quote
from .sizes import to_bytes

__all__ = ["CacheSettings", "Settings"]

_SWITCH = {"1": True, "true": True, "yes": True, "on": True}
_SWITCH |= {"0": False, "false": False, "no": False, "off": False}


def _switch(value: str | bool) -> bool:
    word = str(value).lower()
    if word not in _SWITCH:
        raise ValueError(f"{quote(str(value))} is neither 1 nor 0")
    return _SWITCH[word]


def _tokens(value: str | Iterable[str]) -> tuple[str, ...]:
    if not isinstance(value, str):
        return tuple(value)
    if not value.split():
        raise ValueError("the token is missing or empty")
    return tuple(value.split())


def _list(value: str | Iterable[str]) -> tuple[str, ...]:
    return tuple(part.strip() for part in (value.split(",") if isinstance(value, str) else value))


def _path(value: str | os.PathLike[str] | None) -> str | None:
    return None if value is None else os.fsdecode(value)


def _variable(name: str, parse: Callable[[Any], Any], default: Any, *, shown: bool = True) -> Any:
    """Make a field that is read from the environment variable *name*."""
    return dataclasses.field(
        default=default, repr=shown, metadata={"variable": name, "parse": parse}
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """
    Where the models are, and the durations of `registry_wsgi.ModelCache`.

    Attributes:
        location: A directory or a URL.
        retention: In seconds; None: the default of `registry_wsgi.ModelCache`.
        in_flight: As *retention*.
        hold: As *retention*.
        given: The fields that were not taken from the environment; see `name_of`.
        called: What messages call a field that was given.
    """

    location: str = _variable("OLLAMA_MODELS", os.fsdecode, os.path.join("~", ".ollama", "models"))
    retention: float | None = _variable("REGISTRY_WSGI_RETENTION", to_seconds, None)
    in_flight: float | None = _variable("REGISTRY_WSGI_IN_FLIGHT", to_seconds, None)
    hold: float | None = _variable("REGISTRY_WSGI_HOLD", to_seconds, None)
    given: frozenset[str] = frozenset()
    called: Callable[[str], str] = dataclasses.field(default=str, repr=False, compare=False)

    @classmethod
    def read(
        cls,
        environ: Mapping[str, str] | None = None,
        called: Callable[[str], str] = str,
        /,
        **given: Any,
    ) -> Self:
        """
        Take the settings from the environment.

        Args:
            environ: The environment; None: that of the process.
            called: Gives what messages call a given field: its name, unless told otherwise.
            given: Fields that are known already: their variables are not looked at.

        Raises:
            ConfigurationError: A variable or a given field cannot be used; the message names it.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {"given": frozenset(given), "called": called}
        for field in dataclasses.fields(cls):
            variable = field.metadata.get("variable")
            if field.name in given:
                name, value = called(field.name), given[field.name]
            elif variable and environ.get(variable):
                name, value = variable, environ[variable]
                if variable.startswith("OLLAMA_"):  # as Ollama reads its own variables
                    value = value.strip().strip("\"'")
                    if not value:
                        continue
            else:
                continue
            try:
                values[field.name] = field.metadata["parse"](value)
            except (TypeError, ValueError) as error:
                raise ConfigurationError(f"{name}: {error}") from error
        return cls(**values)

    def name_of(self, field: str) -> str:
        """Tell what a message calls *field*: its variable, or as `called` says if it was given."""
        if field in self.given:
            return self.called(field)
        fields = {known.name: known for known in dataclasses.fields(self)}
        return str(fields[field].metadata["variable"])


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings(CacheSettings):
    """
    All settings of `registry_wsgi.create_app` and of ``registry-wsgi serve``.

    Attributes:
        prune: Whether to prune after a delete.
        maintenance: Whether to answer the requests of `registry_wsgi.http.maintenance`.
        prune_every: How long after a prune ``registry-wsgi serve`` begins the next one, in seconds;
            0: it begins none.
        max_used: A limit of ``POST /api/evict``, as `registry_wsgi.ModelCache.evict` has it; so are
            *min_free*, *unused*, *recent* and *room*.
        page: The path of the storage page, see `registry_wsgi.http.page`; None: there is none.
        tokens: Whoever sends one of them may delete, see
            `~registry_wsgi.http.authorization.bearer_token`.
        token_file: A file with tokens, in place of *tokens*.
        trusted_hosts: Whoever sends the request to one of them may delete, see
            `~registry_wsgi.http.authorization.trusted_hosts`.
        origins: Pages of these origins may ask through a browser, see
            `registry_wsgi.http.origins`.

    Raises:
        ConfigurationError: There are both *tokens* and a *token_file*.
    """

    prune: bool = _variable("REGISTRY_WSGI_PRUNE", _switch, True)
    maintenance: bool = _variable("REGISTRY_WSGI_MAINTENANCE", _switch, False)
    prune_every: float = _variable("REGISTRY_WSGI_PRUNE_EVERY", to_seconds, 0.0)
    max_used: int | None = _variable("REGISTRY_WSGI_EVICT_MAX_USED", to_bytes, None)
    min_free: int | None = _variable("REGISTRY_WSGI_EVICT_MIN_FREE", to_bytes, None)
    unused: float | None = _variable("REGISTRY_WSGI_EVICT_UNUSED", to_seconds, None)
    recent: float | None = _variable("REGISTRY_WSGI_EVICT_RECENT", to_seconds, None)
    room: int | None = _variable("REGISTRY_WSGI_EVICT_ROOM", to_bytes, None)
    page: str | None = _variable("REGISTRY_WSGI_PAGE", str, None)
    tokens: tuple[str, ...] = _variable("REGISTRY_WSGI_TOKEN", _tokens, (), shown=False)
    token_file: str | None = _variable("REGISTRY_WSGI_TOKEN_FILE", _path, None)
    trusted_hosts: tuple[str, ...] = _variable("REGISTRY_WSGI_TRUSTED_HOSTS", _list, ())
    origins: tuple[str, ...] = _variable("REGISTRY_WSGI_ORIGINS", _list, ())

    def evict(self) -> Mapping[str, Any] | None:
        """Tell the limits of evictions; None if there is no limit."""
        names = ("max_used", "min_free", "unused", "recent", "room")
        given = {name: getattr(self, name) for name in names}
        if all(given[name] is None for name in names[:3]):
            return None
        return {name: value for name, value in given.items() if value is not None}

    def __post_init__(self) -> None:
        if self.tokens and self.token_file:
            file, tokens = self.name_of("token_file"), self.name_of("tokens")
            raise ConfigurationError(f"{file}: {tokens} is set, too: only one of them can be")
