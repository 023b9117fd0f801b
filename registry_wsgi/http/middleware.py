"""
The middleware: a WSGI callable that answers ``/api/delete`` and passes all else to another app.

It follows the handler ``Local`` of Ollama's ``server/internal/registry``: a ``DELETE`` whose body
is ``{"model": "<name>"}`` removes that model from the cache and prunes. Success is 200 with an
empty body. Its headers say until when the model can be restored (``Restorable-Until``), and, with
*maintenance*, by which path (``Link``). An error is ``{"code": …, "error": …}``:

=== ===================== ===============================================================
400 bad_request           the body or the name is wrong
403 forbidden             ``authorize`` said no, or a page of another site has asked whose origin
                          is not in ``origins``
403 protected             the model is :ref:`protected <protected>`
404 not_found             no such model; without an app: no such path
405 method_not_allowed    not a ``DELETE``; ``Allow`` names it
411 length_required       the body is chunked, and the server does not pass such a body on
413 content_too_large     the body is over ``max_content_length``
500 internal_error        anything else; the cause is in the log and never in the answer
=== ===================== ===============================================================

Any other request reaches the app with the same ``environ`` and ``start_response``, and what the app
returns goes back as it is: streaming, ``close()``, ``write()`` and ``wsgi.file_wrapper`` work as if
the middleware were not there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote as url_quote

from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.http import http_date
from werkzeug.wrappers import Response

from ..cache import Cache
from ..cache.history import acting
from ..cache.observer import Observer, tell
from ..cache.opening import open_cache
from ..cache.protocol import clean_up
from .answers import Blocked, empty, error_response, failure, no_answer, refused
from .authorization import Authorize
from .evict import Evictions
from .log import log_request, text_of
from .maintenance import Maintenance, Stream
from .origins import Origins
from .request import Endpoint, Request
from .status import StatusRecorder, WatchedBody

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from .page.views import StoragePage

__all__ = ["LocalRegistry"]

# The origins of the storage page: no page of another site has any business with it.
_NONE = Origins()


class LocalRegistry:
    """
    WSGI middleware that deletes models.

    Args:
        app: The WSGI app to wrap. None: other paths are answered 404.
        cache: Where the models are: any object with the two methods of
            `registry_wsgi.cache.Cache`. None: `registry_wsgi.open_cache`.
        prune: Whether to prune after a delete: by ``prune_deleted()`` of the cache, if it has that
            method as `registry_wsgi.ModelCache` has, else by its ``prune()``. (``prune_deleted()``
            only looks at what has expired in the trash, so that it takes no longer in a larger
            store.) If the prune fails, the answer is 500, and the model is deleted all the same.
        authorize: Called as ``authorize(environ, action, name)``, with the action ``"delete"`` and
            the full name (``host/namespace/model:tag``), before the cache is asked. Unless it
            returns True the answer is 403; a `werkzeug.exceptions.HTTPException` that it raises is
            the answer; any other exception is a 500. In none of these cases anything is deleted.
            Two names that differ only in case are the same model, and *authorize* may be given
            either. See `registry_wsgi.http.authorization`.
        maintenance: Whether to answer the requests of `registry_wsgi.http.maintenance` too, which
            have more actions. They take a `registry_wsgi.ModelCache`, or a cache with the same
            methods (`registry_wsgi.http.maintenance.MaintainedCache`).
        logger: Takes one record for each request handled here, ERROR for a 5xx, WARNING for a 4xx,
            else INFO, by the status that the server was given. The record has the attributes
            ``error``, ``status``, ``method``, ``path``, ``content_length``, ``remote``, ``proto``,
            ``query``, ``model``, ``action`` and ``user`` (``REMOTE_USER``), but for those that the
            record factory of the application sets. If the logger fails, that is noted on stderr as
            logging does, and the answer stands. None: the logger ``registry_wsgi``.
        observer: Told of each request that is handled here
            (`registry_wsgi.cache.observer.Observer`).
        max_content_length: How many bytes a request body may have.
        origins: The origins, ``https://chat.example`` say, whose pages may ask through a browser,
            besides those of the same origin; ``*``: all. A request that changes something and is
            from any other page is answered 403. Answers have the headers of CORS for these origins.
            ``OPTIONS`` requests for the paths that are answered here go to *app*; without one,
            preflights are answered by *origins*.
        evict: With *maintenance*: the options of `registry_wsgi.ModelCache.evict` that
            ``POST /api/evict`` goes by, ``{"max_used": "200GB"}`` say. None: it is not answered.
        page: The path of the storage page, ``/registry/`` say; None: there is none. See
            `registry_wsgi.http.page`. It takes a `registry_wsgi.ModelCache`, or a cache with the
            same methods. *origins* do not count for it.

    Raises:
        ConfigurationError: The cache lacks methods that *maintenance* or the page needs, one of
            *origins* is not an origin, *page* is not a path that a page can have, or *evict* has no
            limit, or options that cannot be used.

    The middleware keeps no state of a request, so one object serves any number of threads.
    """

    def __init__(
        self,
        app: WSGIApplication | None = None,
        cache: Cache | None = None,
        *,
        prune: bool = True,
        authorize: Authorize | None = None,
        maintenance: bool = False,
        logger: logging.Logger | None = None,
        observer: Observer | None = None,
        max_content_length: int = 64 << 10,
        origins: Iterable[str] = (),
        page: str | None = None,
        evict: Mapping[str, Any] | None = None,
    ) -> None:
        self.app = app
        self.cache = open_cache() if cache is None else cache
        self.prune = prune
        self.authorize = authorize
        self.logger = logging.getLogger("registry_wsgi") if logger is None else logger
        self.observer = observer
        self.max_content_length = max_content_length
        self._origins = Origins(origins)
        self._endpoints: dict[str, Mapping[str, Endpoint]] = {
            "/api/delete": {"DELETE": self._delete}
        }
        if maintenance:
            endpoints = Maintenance(self.cache).endpoints(delete=self._delete)
            for path, methods in endpoints.items():
                self._endpoints[path] = {**self._endpoints.get(path, {}), **methods}
            if evict is not None:
                self._endpoints["/api/evict"] = {"POST": Evictions(self.cache, evict)}
        self._page: StoragePage | None = None
        if page is not None:
            from .page.views import StoragePage  # noqa: PLC0415 - most have no use for it

            self._page = StoragePage(page, self.cache, unlink=self._unlink, clean_up=self._clean_up)
            self._endpoints = {**self._page.endpoints, **self._endpoints}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # Kept apart from `_respond`, so that passing requests do not pay for the closure there.
        if self.app is not None and (
            environ.get("PATH_INFO") not in self._endpoints
            or environ["REQUEST_METHOD"] == "OPTIONS"  # the app answers preflights for all paths
        ):
            return self.app(environ, start_response)
        return self._respond(environ, start_response)

    def _respond(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        recorder = StatusRecorder(start_response)
        request = Request(environ, self.authorize, self.max_content_length)
        error: str | None = None
        cause: BaseException | None = None
        foreign = False
        origins, describe = self._origins, error_response
        if self._page is not None and environ.get("PATH_INFO") in self._page.endpoints:
            origins, describe = _NONE, self._page.error_response
        try:
            response = self._answer(request, origins)
        except HTTPException as problem:
            error, foreign = problem.description, problem.response is not None
            if isinstance(problem, Blocked):
                error = problem.for_the_log
            response = describe(problem, environ)
        except Exception as raised:  # noqa: BLE001 - whatever it is, the client gets an answer
            error, cause = text_of(raised), raised
            response = describe(failure(), environ)

        def ended(failed: BaseException | None = None) -> None:
            # The server answers 500 to an exception, unless it has begun to send another status.
            status = recorder.status if recorder.started or failed is None else 500
            self._note(request, status, text_of(failed) or error, failed or cause)

        if not foreign:
            origins.mark(response, environ)
        try:
            answer = response(environ, recorder)
        except Exception as raised:
            ended(raised)
            raise
        if isinstance(response, Stream):
            response.done.add_done_callback(lambda done: ended(done.exception()))
        elif foreign:
            # The response that an exception brought along may still change its status.
            return WatchedBody(answer, ended)
        else:
            ended()
        return answer

    def _answer(self, request: Request, origins: Origins) -> Response:
        environ = request.environ
        methods = self._endpoints.get(environ.get("PATH_INFO", ""))
        if methods is None:
            raise NotFound("not found")
        method = environ["REQUEST_METHOD"]
        if method == "OPTIONS":
            preflight = origins.preflight(environ, methods)
            if preflight is not None:
                return preflight
        endpoint = methods.get(method)
        if endpoint is None:
            raise MethodNotAllowed([*methods], "method not allowed")
        origins.check(environ)
        address = environ.get("REMOTE_ADDR")
        with acting(environ.get("REMOTE_USER"), f"HTTP {address}" if address else "HTTP"):
            return endpoint(request)

    def _delete(self, request: Request) -> Response:
        self._unlink(request.model("delete"))
        self._clean_up()
        response = empty()
        self._say_how_to_undo(response, request)
        return response

    def _unlink(self, model: str) -> None:
        """
        Delete *model*.

        Raises:
            HTTPException: It cannot be deleted.
        """
        with refused():
            deleted = self.cache.unlink(model)
        if not deleted:
            raise NotFound("model not found")

    def _clean_up(self) -> None:
        """Prune after a delete, if that is asked for."""
        if self.prune:
            with no_answer():
                clean_up(self.cache)

    def _say_how_to_undo(self, response: Response, request: Request) -> None:
        """Say in the headers until when the model can be restored, and which path does it."""
        retention = getattr(self.cache, "retention", 0)
        if not isinstance(retention, (int, float)) or retention <= 0:
            return  # a cache of another kind, or nothing can be undone
        with suppress(OverflowError, ValueError):  # the year 10000, and later
            response.headers["Restorable-Until"] = http_date(time.time() + retention)
        if "/api/restore" in self._endpoints:
            mount = url_quote(request.environ.get("SCRIPT_NAME", ""), "/", "latin-1", "replace")
            response.headers["Link"] = f'<{mount}/api/restore>; rel="restore"'

    def _note(
        self, request: Request, status: int, error: str | None, cause: BaseException | None
    ) -> None:
        log_request(self.logger, request, status, error, cause)
        method = request.environ["REQUEST_METHOD"]
        path = request.environ.get("PATH_INFO", "")
        tell(self.observer, lambda observer: observer.answered(method, path, status))
