"""
The HTTP side: a WSGI callable that takes ``/api/delete`` and leaves all else to the app it wraps.

It follows the handler ``Local`` of Ollama's ``server/internal/registry``: a ``DELETE`` whose body
is ``{"model": "<name>"}`` removes that model from the cache and prunes. Success is 200 with an
empty body; an error is ``{"code": …, "error": …}``:

=== ===================== ===============================================================
400 bad_request           the body or the name is wrong
403 forbidden             ``authorize`` said no (or what it raised)
403 protected             the model is :ref:`protected <protected>`
404 not_found             no such model; without an app: no such path
405 method_not_allowed    not a ``DELETE``; ``Allow`` names it
413 content_too_large     the body is over ``max_content_length``
500 internal_error        anything else; the cause is in the log and never in the answer
=== ===================== ===============================================================

Any other request reaches the app with the same ``environ`` and ``start_response``, and what the app
returns goes back as it is: streaming, ``close()``, ``write()`` and ``wsgi.file_wrapper`` work as if
the middleware were not there.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import (
    BadRequest,
    Forbidden,
    HTTPException,
    InternalServerError,
    MethodNotAllowed,
    NotFound,
)
from werkzeug.wsgi import get_content_length

from .authorization import Authorize
from .body import read_body, read_model
from .cache import Cache, ModelCache
from .config import authorization, open_cache, prune_after_delete
from .errors import InvalidNameError, ModelProtectedError, escape
from .names import Name

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["LocalRegistry", "create_app"]

_PATH = "/api/delete"
_EMPTY = "text/plain; charset=utf-8"

# Where the code is not the name of the status.
_CODES = {413: "content_too_large", 500: "internal_error"}


class LocalRegistry:
    """
    WSGI middleware that deletes models.

    Args:
        app: The WSGI app to wrap. None: other paths are answered 404.
        cache: Where the models are: any object with the two methods of `registry_wsgi.cache.Cache`.
            None: `registry_wsgi.open_cache`.
        prune: Whether to prune after a delete. With a `registry_wsgi.ModelCache` this only looks at
            what has expired in the trash, so that it takes no longer in a larger store; another
            cache's ``prune()`` is called. If it fails, the answer is 500 and the model is deleted.
        authorize: Called as ``authorize(environ, "delete", name)`` with the full name
            (``host/namespace/model:tag``) before the cache is asked. Unless it returns True the
            answer is 403; a `werkzeug.exceptions.HTTPException` that it raises is the answer; any
            other exception is a 500. In none of these cases anything is deleted. Names are
            equal without regard to case.
        logger: Takes one record for each request handled here, ERROR for a 5xx, WARNING for a 4xx,
            else INFO, with the attributes ``error``, ``status``, ``method``, ``path``,
            ``content_length``, ``remote``, ``proto`` and ``query``, but for those that the record
            factory of the application sets. If it fails, that is noted on stderr as logging does,
            and the answer stands. None: the logger ``registry_wsgi``.
        max_content_length: How many bytes a request body may have.

    It keeps no state of a request, so one object serves any number of threads.
    """

    def __init__(
        self,
        app: WSGIApplication | None = None,
        cache: Cache | None = None,
        *,
        prune: bool = True,
        authorize: Authorize | None = None,
        logger: logging.Logger | None = None,
        max_content_length: int = 64 << 10,
    ) -> None:
        self.app = app
        self.cache = open_cache() if cache is None else cache
        self.prune = prune
        self.authorize = authorize
        self.logger = logging.getLogger("registry_wsgi") if logger is None else logger
        self.max_content_length = max_content_length

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != _PATH and self.app is not None:
            return self.app(environ, start_response)

        started = _Recorder(start_response)
        error = cause = None
        try:
            self._handle(environ)
        except HTTPException as problem:
            error = problem.description
            answer = _response(problem, environ)(environ, started)
        except Exception as raised:  # noqa: BLE001 - whatever it is, the client gets an answer
            error, cause = _text(raised), raised
            failure = InternalServerError("internal server error")
            answer = _response(failure, environ)(environ, started)
        else:
            # PEP 3333's validator wants a type even where there is nothing.
            started("200 OK", [("Content-Type", _EMPTY), ("Content-Length", "0")])
            answer = [b""]
        self._log(environ, started.status, error, cause)
        return answer

    def _handle(self, environ: WSGIEnvironment) -> None:
        if environ.get("PATH_INFO") != _PATH:
            raise NotFound("not found")
        if environ["REQUEST_METHOD"] != "DELETE":
            raise MethodNotAllowed(["DELETE"], "method not allowed")
        model = read_model(read_body(environ, self.max_content_length))
        try:
            name = Name.parse(model)
        except InvalidNameError as error:
            raise BadRequest(str(error)) from error
        # Nothing but True lets in: a coroutine, say, is true whatever it would say.
        if self.authorize and self._ask(self.authorize, environ, str(name)) is not True:
            raise Forbidden("not allowed to delete this model")
        try:
            with _no_answer():
                deleted = self.cache.unlink(model)
        except InvalidNameError as error:
            raise BadRequest(str(error)) from error
        except ModelProtectedError as error:
            raise _Protected(str(error)) from error
        if not deleted:
            raise NotFound("model not found")
        if self.prune:
            with _no_answer():
                if isinstance(self.cache, ModelCache):
                    self.cache.prune(deleted_only=True)
                else:
                    self.cache.prune()

    @staticmethod
    def _ask(authorize: Authorize, environ: WSGIEnvironment, name: str) -> bool:
        try:
            return authorize(environ, "delete", name)
        except HTTPException as error:
            if error.get_response(environ).status_code < 300:
                raise RuntimeError(f"authorize raised {error!r}, which refuses nothing") from error
            raise

    def _log(
        self, environ: WSGIEnvironment, status: int, error: str | None, cause: Exception | None
    ) -> None:
        level = (
            logging.ERROR if status >= 500 else logging.WARNING if status >= 400 else logging.INFO
        )
        fields = {
            "error": error,
            "status": status,
            "method": environ["REQUEST_METHOD"],
            "path": environ.get("PATH_INFO", ""),
            "content_length": get_content_length(environ),
            "remote": environ.get("REMOTE_ADDR"),
            "proto": environ.get("SERVER_PROTOCOL"),
            "query": environ.get("QUERY_STRING", ""),
        }
        for key, value in fields.items():
            if isinstance(value, str):
                fields[key] = escape(value)
        message = "%(method)s %(path)s %(status)d" + (" %(error)s" if error else "")
        record = (self.logger.name, level, __file__, 0, message, (fields,), None)
        try:
            factory = logging.getLogRecordFactory()
            # What the application's own records have already cannot be set once more.
            taken = () if factory is logging.LogRecord else vars(factory(*record))
            extra = {key: value for key, value in fields.items() if key not in taken}
            self.logger.log(level, message, fields, exc_info=cause, extra=extra)
        except Exception:  # noqa: BLE001 - the model may be deleted, so the answer stands
            with suppress(Exception):
                logging.Handler().handleError(logging.LogRecord(*record))


def create_app() -> LocalRegistry:
    """
    Make a WSGI app from the environment alone, for ``gunicorn "registry_wsgi:create_app()"``.

    The variables are those of `registry_wsgi.config`. There is no app behind it: paths other than
    ``/api/delete`` are answered 404.

    Raises:
        ConfigurationError: A variable cannot be used; the message names it.
    """
    return LocalRegistry(prune=prune_after_delete(), authorize=authorization())


class _Protected(Forbidden):
    error_code = "protected"


class _Recorder:
    """Passes ``start_response`` on and keeps the status for the log."""

    def __init__(self, start_response: StartResponse) -> None:
        self._start_response = start_response
        self.status = 500

    def __call__(self, status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        self.status = int(status[:3])
        return self._start_response(status, headers, *exc_info)


@contextmanager
def _no_answer() -> Iterator[None]:
    """See to it that an exception of werkzeug's from a cache is no answer to the client."""
    try:
        yield
    except HTTPException as error:
        raise RuntimeError(f"the cache raised {error!r}") from error


def _text(error: Exception) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - it cannot even be printed
        return type(error).__name__


def _response(problem: HTTPException, environ: WSGIEnvironment) -> WSGIApplication:
    response = problem.get_response(environ)
    if problem.response is None and response.status_code >= 400:
        # The headers of the exception (Allow, WWW-Authenticate) stay, the page does not.
        name = re.sub("[^a-z]+", "_", problem.name.lower()).strip("_")
        code = getattr(problem, "error_code", _CODES.get(response.status_code, name))
        response.data = json.dumps({"code": code, "error": problem.description or problem.name})
        response.content_type = "application/json"
    return response
