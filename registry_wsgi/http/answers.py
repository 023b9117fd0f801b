"""What a client is answered: JSON, or an error that tells no more than it is meant to."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import (
    BadRequest,
    Conflict,
    Forbidden,
    Gone,
    HTTPException,
    InternalServerError,
    NotFound,
)
from werkzeug.wrappers import Response

from ..cache.results import plain
from ..errors import (
    InvalidNameError,
    ModelExistsError,
    ModelIncompleteError,
    ModelNotFoundError,
    ModelProtectedError,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = [
    "describe",
    "empty",
    "error_response",
    "failure",
    "json_response",
    "no_answer",
    "refused",
    "to_json",
]


class _Protected(Forbidden):
    error_code = "protected"


# Where the code is not the name of the status.
_CODES = {413: "content_too_large", 500: "internal_error"}

# What a cache raises because of what it was asked for.
_REFUSALS: dict[type[Exception], type[HTTPException]] = {
    InvalidNameError: BadRequest,
    ModelProtectedError: _Protected,
    ModelNotFoundError: NotFound,
    ModelExistsError: Conflict,
    ModelIncompleteError: Gone,
}


def empty() -> Response:
    """Answer that it is done."""
    # PEP 3333's validator wants a type even where there is nothing.
    return Response(content_type="text/plain; charset=utf-8")


def json_response(value: Any) -> Response:
    """Answer with *value* (see `to_json`)."""
    return Response(to_json(value), content_type="application/json")


def error_response(problem: HTTPException, environ: WSGIEnvironment) -> Response:
    """Answer with an error, ``{"code": …, "error": …}``, under the headers of *problem*."""
    response = problem.get_response(environ)
    if problem.response is None and response.status_code >= 400:
        # The headers of the exception (Allow, WWW-Authenticate) stay, the page does not.
        response.data = json.dumps(describe(problem))
        response.content_type = "application/json"
    return response


def describe(problem: HTTPException) -> dict[str, str]:
    """Tell the code of an error, and what to say about it."""
    name = re.sub("[^a-z]+", "_", problem.name.lower()).strip("_")
    code = getattr(problem, "error_code", _CODES.get(problem.code or 0, name))
    return {"code": code, "error": problem.description or problem.name}


def failure() -> InternalServerError:
    """Make the error of what is our own fault; its cause is not for the client."""
    return InternalServerError("internal server error")


@contextmanager
def refused() -> Iterator[None]:
    """Turn the exceptions by which a cache refuses what it was asked for into answers."""
    try:
        with no_answer():
            yield
    except tuple(_REFUSALS) as error:
        kind = next(kind for known, kind in _REFUSALS.items() if isinstance(error, known))
        raise kind(str(error)) from error


@contextmanager
def no_answer() -> Iterator[None]:
    """See to it that an exception of werkzeug's from a cache is no answer to the client."""
    try:
        yield
    except HTTPException as error:
        raise RuntimeError(f"the cache raised {error!r}") from error


def to_json(value: Any) -> str:
    """Write *value*: times in ISO form, the library's results as objects."""
    return json.dumps(value, default=plain)
