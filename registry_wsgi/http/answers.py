"""The JSON of answers and of errors; an error never tells a client why the storage failed."""

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
    BusyError,
    InvalidManifestError,
    InvalidNameError,
    ModelExistsError,
    ModelIncompleteError,
    ModelNotFoundError,
    ModelProtectedError,
    OutOfReachError,
    StoreError,
)
from ..figures import short_name

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = [
    "UNREACHED",
    "Blocked",
    "blocked",
    "blocked_by",
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


#: What a client is told where part of the manifests is out of reach: no path of this machine.
UNREACHED = "a part of the manifests cannot be read; the log says which"


class Blocked(Conflict):
    """
    Nothing is removed until somebody mends the store.

    Attributes:
        for_the_log: What the log says instead of the description, with the path and the cause.
    """

    error_code = "blocked"

    def __init__(self, error: InvalidManifestError | OutOfReachError) -> None:
        if error.model is None:
            what = UNREACHED
        else:
            what = f"{short_name(error.model)}: its manifest cannot be read"
        super().__init__(
            f"{what}. So nobody knows which blobs are needed, and nothing is removed until that is"
            " deleted or put right"
        )
        self.for_the_log = str(error)


# Statuses whose code is not the name of the status in lower case.
_CODES = {413: "content_too_large", 500: "internal_error"}

# The exceptions by which a cache refuses a request, and the answer to each. Any other exception is
# a fault on our side, and a 500.
_REFUSALS: dict[type[Exception], type[HTTPException]] = {
    InvalidNameError: BadRequest,
    ModelProtectedError: _Protected,
    ModelNotFoundError: NotFound,
    ModelExistsError: Conflict,
    BusyError: Conflict,
    ModelIncompleteError: Gone,
}


def empty() -> Response:
    """Make the answer of success, which has no body."""
    # The validator of PEP 3333 wants a content type even for an empty body.
    return Response(content_type="text/plain; charset=utf-8")


def json_response(value: Any) -> Response:
    """Make an answer of *value*, as JSON (see `to_json`)."""
    return Response(to_json(value), content_type="application/json")


def error_response(problem: HTTPException, environ: WSGIEnvironment) -> Response:
    """
    Make the answer to an error: ``{"code": …, "error": …}``, with the headers of *problem*.

    If *problem* has a response of its own, that is the answer, unchanged.
    """
    response = problem.get_response(environ)
    if problem.response is None and response.status_code >= 400:
        # Keep the headers (Allow, WWW-Authenticate), and replace the HTML page by JSON.
        response.data = json.dumps(describe(problem))
        response.content_type = "application/json"
    return response


def describe(problem: HTTPException) -> dict[str, str]:
    """Make the JSON object that describes an error."""
    name = re.sub("[^a-z]+", "_", problem.name.lower()).strip("_")
    code = getattr(problem, "error_code", _CODES.get(problem.code or 0, name))
    return {"code": code, "error": problem.description or problem.name}


def failure() -> InternalServerError:
    """Make the error for a fault on our side; the client is not told the cause."""
    return InternalServerError("internal server error")


@contextmanager
def refused() -> Iterator[None]:
    """Turn the exceptions by which a cache refuses a request into HTTP errors."""
    try:
        with no_answer():
            yield
    except tuple(_REFUSALS) as error:
        kind = next(kind for known, kind in _REFUSALS.items() if isinstance(error, known))
        raise kind(str(error)) from error


def blocked_by(error: BaseException) -> Blocked | None:
    """Make the answer to *error* if it says that nothing is removed; None for any other error."""
    return Blocked(error) if isinstance(error, InvalidManifestError | OutOfReachError) else None


@contextmanager
def blocked() -> Iterator[None]:
    """Turn the exceptions by which a cache says that nothing is removed into a 409."""
    try:
        yield
    except StoreError as error:
        problem = blocked_by(error)
        if problem is None:
            raise
        raise problem from error


@contextmanager
def no_answer() -> Iterator[None]:
    """
    Let no HTTPException that a cache raises become the answer to the client.

    Raises:
        RuntimeError: The cache raised one. Like other faults on our side it becomes a 500.
    """
    try:
        yield
    except HTTPException as error:
        raise RuntimeError(f"the cache raised {error!r}") from error


def to_json(value: Any) -> str:
    """Write *value* as JSON: times in ISO form, the results of this library as objects."""
    return json.dumps(value, default=plain)
