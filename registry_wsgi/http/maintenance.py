"""
The maintenance API: list the trash, restore and prune over HTTP.

It is there with ``LocalRegistry(…, maintenance=True)``, and with ``REGISTRY_WSGI_MAINTENANCE=1``
under `registry_wsgi.create_app` and ``registry-wsgi serve``. Bodies are JSON objects. Errors are
those of `registry_wsgi.http.middleware`, 409 ``conflict`` (a prune is under way, or a model of that
name is in place), 409 ``blocked`` and 410 ``gone`` (blobs of the model are gone).

While a manifest cannot be read, nobody knows which blobs are needed. So ``prune``, ``forget`` and
``evict`` remove nothing and answer 409 ``blocked``, also to a dry run, until that model is deleted
or put right. The error names it, and so does ``unreadable`` in ``/api/space``. If a whole folder
cannot be read, or holds nothing while blobs lie there, only the log says which; ``/api/orphans``
then answers 409, too, and ``/api/space`` has ``out_of_reach``.

=============================== =========== ======================================================
request                         action      what it does
=============================== =========== ======================================================
``POST /api/delete``            ``delete``  the same as ``DELETE``, for clients and proxies that
                                            send no body with that
``GET /api/deleted``            ``deleted`` lists the models in the trash, ``{"models": […]}``
``POST /api/restore``           ``restore`` brings ``{"model": "<name>"}`` back; its full name,
                                            ``{"model": "<name>"}``
``POST /api/forget``            ``forget``  removes the deleted model ``{"model": "<name>"}`` for
                                            good, and frees its space; the report
``POST /api/prune``             ``prune``   removes for good what is no longer needed; the report
``POST /api/evict``             ``evict``   lets models go that were not read for long; the report
``GET /api/models``             ``models``  lists the models, ``{"models": […]}``
``GET /api/history``            ``history`` lists the last changes, the latest first,
                                            ``{"changes": […]}``
``GET /api/space``              ``space``   what takes the space, and what each command would free
``GET /api/orphans``            ``space``   lists the files that nothing needs, ``{"orphans": […]}``
``POST /api/usage``             ``models``  the bytes of the models ``{"models": ["<name>", …]}``
                                            together, which are not the sum of each
=============================== =========== ======================================================

``authorize`` gets the action and the full name of the model. ``deleted``, ``models``, ``history``,
``space``, ``evict`` and ``prune`` are about all models, so there the name is ``*``. The action of a
prune with ``all``, which removes models that nobody deleted, is ``prune_all``, also for a dry run.

``/api/history?last=20`` lists twenty changes or fewer; 100 if that is left out, and 1,000 at most.
The actions of the changes are not those that ``authorize`` gets
(`registry_wsgi.cache.history.Change`).

The options of ``/api/forget`` are ``at`` (the ``id`` of one of several deletes of that name; left
out: all), ``dry_run`` and ``quiet_store``. This path, and those below ``/api/prune`` in the table,
are answered if the cache has the methods for them.

The options of ``/api/prune`` are ``age`` (``"7d"``; left out: the retention), ``before`` (a time in
ISO form with its offset from UTC: what was deleted or has come after that stays), ``all``,
``dry_run``, ``quiet_store`` (nobody else is at work, so nothing waits for pulls) and ``stream``.
The last four are false if they are left out. The report names what goes, in ``items``. With the
``begun`` of a dry run as its ``before``, a prune leaves what was deleted, has come or has
expired since.

``/api/evict`` is there if the server is set to limits: by ``LocalRegistry(…, evict={…})`` with
options of `registry_wsgi.ModelCache.evict`, or by the variables ``REGISTRY_WSGI_EVICT_…``. Its
options are ``max_used``, ``min_free`` and ``room`` (``"200GB"``), ``unused`` and ``recent``
(``"30d"``), and ``dry_run``. What is left out is as the server is set to. A client can only loosen
that: what would let go more is answered 403. ``ok`` in the report says whether the limits are kept.

A prune goes on to its end if the client goes away. While one is under way, be it in another process
that serves the same store, a second one is answered 409, unless it is a dry run. With ``stream``
the answer begins at once, with one JSON object a line: what is being done, how much is done and how
much there is (or null), ``{"status": …, "completed": …, "total": …}``, as Ollama has it for a pull.
The last line is the report with ``"status": "success"``, or an error (code ``blocked``, say).
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from inspect import signature
from queue import SimpleQueue
from typing import Any, Protocol, cast
from urllib.parse import parse_qs

from werkzeug.exceptions import BadRequest, Conflict
from werkzeug.wrappers import Response

from ..cache import Cache
from ..cache.collector import Progress, PruneReport
from ..cache.manifest import unambiguous
from ..cache.results import DeletedModel
from ..durations import Duration, to_seconds
from ..errors import (
    ConfigurationError,
    InvalidDurationError,
    ModelNotFoundError,
    escape,
    quote,
)
from .answers import (
    UNREACHED,
    blocked,
    blocked_by,
    describe,
    failure,
    json_response,
    no_answer,
    refused,
    to_json,
)
from .request import EVERYTHING, Endpoint, Request

__all__ = [
    "MaintainedCache",
    "Maintenance",
    "Stream",
    "claim",
    "read_options",
    "read_time",
    "stream_prune",
]

# How many changes are listed if a query does not say, and at most.
_CHANGES, _MOST_CHANGES = 100, 1_000

_BOTH = {"dry_run": "boolean", "quiet_store": "boolean"}
_PRUNE_OPTIONS = {"age": "string", "before": "string", "all": "boolean", **_BOTH}
_PRUNE_OPTIONS["stream"] = "boolean"
_FORGET_OPTIONS = {"model": "string", "at": "string", **_BOTH}
_KINDS: dict[str, type] = {"string": str, "boolean": bool, "list": list}

_log = logging.getLogger("registry_wsgi")

# What a cache has that can be asked for its models and its space.
_LOOKS = ("models", "space", "orphans", "usage", "find")


class Stream(Response):
    """
    An answer of JSON objects, one a line, about work in another thread.

    Attributes:
        done: The result of the work, or the exception that it ended with.
    """

    def __init__(self, lines: Iterator[Any], done: Future[PruneReport]) -> None:
        written = (f"{to_json(line)}\n".encode() for line in lines)
        super().__init__(written, content_type="application/x-ndjson")
        self.done = done


class MaintainedCache(Cache, Protocol):
    """
    What the maintenance API asks of a cache besides.

    Each method is that of `registry_wsgi.ModelCache`.
    """

    def deleted(self) -> list[DeletedModel]:
        """List the models in the trash."""

    def restore(self, name: str) -> str:
        """Bring a deleted model back."""

    def prune(
        self,
        *,
        age: Duration | None = None,
        all: bool = False,  # noqa: A002 - the name is that of ModelCache
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> PruneReport:
        """Remove for good what is no longer needed."""

    def claim(self) -> Callable[[], None] | None:
        """Be the only one to prune, as far as the storage can tell."""


class Maintenance:
    """
    The endpoints.

    Args:
        cache: Where the models are.

    Raises:
        ConfigurationError: *cache* lacks a method of
            `MaintainedCache`; the message names it.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = _maintained(cache)

    def endpoints(self, *, delete: Endpoint) -> Mapping[str, Mapping[str, Endpoint]]:
        """Map each path and method to its endpoint; *delete* is the endpoint of ``DELETE``."""
        endpoints: dict[str, dict[str, Endpoint]] = {
            "/api/delete": {"POST": delete},
            "/api/deleted": {"GET": self._deleted, "HEAD": self._deleted},
            "/api/restore": {"POST": self._restore},
            "/api/prune": {"POST": self._prune},
        }
        if callable(getattr(self._cache, "forget", None)):
            endpoints["/api/forget"] = {"POST": self._forget}
        if callable(getattr(self._cache, "history", None)):
            endpoints["/api/history"] = {"GET": self._history, "HEAD": self._history}
        if all(callable(getattr(self._cache, name, None)) for name in _LOOKS):
            for path in ("models", "space", "orphans"):
                look = partial(self._look, path)
                endpoints[f"/api/{path}"] = {"GET": look, "HEAD": look}
            endpoints["/api/usage"] = {"POST": self._usage}
        return endpoints

    def _look(self, what: str, request: Request) -> Response:
        request.permit("models" if what == "models" else "space", EVERYTHING)
        with blocked(), no_answer():
            found = getattr(self._cache, what)()
        if what == "space" and getattr(found, "out_of_reach", None):
            _log.warning("nothing can be freed: %s", found.out_of_reach)
            found = replace(found, out_of_reach=UNREACHED)
        return json_response(found if what == "space" else {what: found})

    def _usage(self, request: Request) -> Response:
        options = read_options(request.body(), {"models": "list"})
        request.permit("models", EVERYTHING)
        models = options.get("models")
        if not (models and all(isinstance(model, str) for model in models)):
            raise BadRequest("models must be a list of names")
        cache: Any = self._cache
        with refused():
            for model in models:
                if cache.find(model) is None:
                    raise ModelNotFoundError(f"{escape(model)}: there is no model of this name")
            return json_response(cache.usage(models))

    def _deleted(self, request: Request) -> Response:
        request.permit("deleted", EVERYTHING)
        with no_answer():
            return json_response({"models": self._cache.deleted()})

    def _history(self, request: Request) -> Response:
        request.permit("history", EVERYTHING)
        last = _read_last(request.environ.get("QUERY_STRING", ""))
        with no_answer():
            changes: Sequence[Any] = getattr(self._cache, "history")()  # noqa: B009
        return json_response({"changes": changes[:last]})

    def _restore(self, request: Request) -> Response:
        model = request.model("restore")
        with refused():
            return json_response({"model": self._cache.restore(model)})

    def _forget(self, request: Request) -> Response:
        options = read_options(request.body(), _FORGET_OPTIONS)
        model = options.pop("model", "")
        request.permit_model("forget", model)
        with blocked(), refused():
            forget: Callable[..., PruneReport] = getattr(self._cache, "forget")  # noqa: B009
            return json_response(_told(forget(model, **options)))

    def _prune(self, request: Request) -> Response:
        options = read_options(request.body(), _PRUNE_OPTIONS)
        request.permit("prune_all" if options.get("all") else "prune", EVERYTHING)
        stream = options.pop("stream", False)
        # A dry run changes nothing: it need not wait, and nobody need wait for it.
        release = _no_claim if options.get("dry_run") else claim(self._cache)
        if stream:
            return stream_prune(
                lambda progress: self._cache.prune(**options, progress=progress), release
            )
        try:
            with blocked(), no_answer():
                return json_response(_told(self._cache.prune(**options)))
        finally:
            release()


def claim(cache: MaintainedCache) -> Callable[[], None]:
    """
    Be the only one to prune *cache*, and get what gives that back.

    Raises:
        Conflict: Another one prunes.
    """
    release = cache.claim()
    if release is None:
        raise Conflict("a prune is under way")
    return release


def stream_prune(prune: Callable[[Progress], PruneReport], release: Callable[[], None]) -> Stream:
    """
    Prune in a thread of its own, which goes on to the end if the client goes away.

    Args:
        prune: Does it, and tells how far it is.
        release: Gives the claim back, once it is done.
    """
    lines: SimpleQueue[Any] = SimpleQueue()
    done: Future[PruneReport] = Future()

    def progress(what: str, completed: int, total: int | None) -> None:
        lines.put({"status": what, "completed": completed, "total": total})

    def work() -> None:
        raised: BaseException | None = None
        report = PruneReport()
        try:
            with no_answer():
                report = prune(progress)
        except BaseException as error:  # noqa: BLE001 - it ends this thread and nothing else
            raised = error
        # Before the last line: a client that has read it can prune again at once, and the log
        # record of this prune is written by then.
        release()
        if raised is None:
            done.set_result(report)
            lines.put({"status": "success", **_told(report)})
        else:
            done.set_exception(raised)
            lines.put(describe(blocked_by(raised) or failure()))
        lines.put(None)

    progress("pruning", 0, None)  # some servers send no headers before there is a body
    # Not a daemon thread: a worker that is told to end waits for the prune, if it has the time.
    # With the context of this thread, which has who asks.
    context = copy_context()
    thread = threading.Thread(target=context.run, args=(work,), name="registry_wsgi prune")
    try:
        thread.start()
    except BaseException:
        release()
        raise
    return Stream(iter(lines.get, None), done)


def _no_claim() -> None:
    pass


def _told(report: PruneReport) -> dict[str, Any]:
    """Make of a report what a client is told: not the failures, which have paths and causes."""
    told = asdict(report)
    del told["failures"]
    return told


def _maintained(cache: Cache) -> MaintainedCache:
    """
    Make sure that *cache* has the methods that are called here, its own or passed on.

    Raises:
        ConfigurationError: A method lacks, or takes other arguments.
    """
    for method in ("deleted", "restore", "claim"):
        if not callable(getattr(cache, method, None)):
            raise ConfigurationError(f"maintenance: {cache!r} has no method {method}()")
    try:
        signature(cache.prune).bind(age="7d", all=True, dry_run=True, progress=None)
    except TypeError as error:
        message = f"maintenance: prune() of {cache!r} takes no age, all, dry_run and progress"
        raise ConfigurationError(message) from error
    return cast("MaintainedCache", cache)


def read_options(body: bytes, known: Mapping[str, str]) -> dict[str, Any]:
    """
    Read the options of what removes for good: those that are *known*, each with its type.

    An unknown or repeated key is an error: a slip in ``dry_run``, say, could remove too much.

    Raises:
        BadRequest: *body* is no JSON object, or an option is unknown or has a wrong value.
    """
    if not body.strip():
        return {}
    try:
        options = json.loads(body.decode(), object_pairs_hook=unambiguous)
    except (RecursionError, ValueError) as error:
        raise BadRequest(f"invalid JSON: {error}") from error
    if not isinstance(options, dict):
        raise BadRequest("the request body must be a JSON object")
    for key, value in options.items():
        if key not in known:
            raise BadRequest(f"unknown key {quote(key)}")
        kind = known[key]
        if not (value is None or isinstance(value, _KINDS[kind])):
            raise BadRequest(f"{key} must be a {kind}")
    given = {key: value for key, value in options.items() if value is not None}
    try:
        to_seconds(given.get("age", 0))
    except InvalidDurationError as error:
        raise BadRequest(str(error)) from error
    if "before" in given:
        given["before"] = read_time("before", given["before"])
    return given


def _read_last(query: str) -> int:
    """
    Read how many changes a query asks for.

    Raises:
        BadRequest: It is no number from 1 to 1,000.
    """
    with suppress(ValueError):
        (last,) = parse_qs(query, max_num_fields=10).get("last", [str(_CHANGES)])
        if last.isascii() and last.isdigit() and 1 <= int(last) <= _MOST_CHANGES:
            return int(last)
    raise BadRequest(f"last must be a number from 1 to {_MOST_CHANGES}")


def read_time(key: str, text: str) -> datetime:
    """
    Read a time in ISO form.

    Raises:
        BadRequest: *text* is none, or does not say how far it is from UTC.
    """
    with suppress(ValueError):
        time = datetime.fromisoformat(text)
        if time.tzinfo is not None:
            return time
    raise BadRequest(f"{key} must be a time with its offset from UTC, as 2026-01-31T12:00:00Z")
