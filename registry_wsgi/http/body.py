"""
The body of a request, read within a bound and understood as the Go handler understands it.

Go's decoder takes keys without regard to case, lets the last of several equal keys win, reads the
first value and no further, and passes over keys that it does not know. So Python's decoder is asked
for the pairs of the first value, and the rules are applied to them here. Values may be nested as
deep as Python's decoder goes, which is less deep than Go's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

from werkzeug.exceptions import BadRequest, LengthRequired, RequestEntityTooLarge
from werkzeug.wsgi import get_content_length, get_input_stream

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["read_body", "read_model"]

# The type that the value of each known key must have; null counts as if the key were absent.
_KINDS = {"model": "string", "name": "string", "insecure": "boolean", "stream": "boolean"}

_SPACES = " \t\r\n"  # the spaces of JSON
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_body(environ: WSGIEnvironment, limit: int) -> bytes:
    """
    Read the body of a request; this can be done once.

    Args:
        environ: The request.
        limit: The largest body that is read, in bytes.

    Raises:
        RequestEntityTooLarge: The body is larger than *limit*.
        BadRequest: The body ends before its Content-Length, or cannot be read.
        LengthRequired: The body is chunked, and the server does not pass such a body on.
    """
    environ = _bounded(environ)
    length = get_content_length(environ) or 0
    body = b""
    if length <= limit:
        try:
            body = get_input_stream(environ, max_content_length=limit + 1).read()
        except Exception as error:
            # Each server has exceptions of its own for a broken chunk or a lost connection.
            raise BadRequest("the request body cannot be read") from error
    if max(length, len(body)) > limit:
        raise RequestEntityTooLarge(f"the request body is larger than {limit} bytes")
    if len(body) < length:
        raise BadRequest("the request body is shorter than its Content-Length")
    return body


def _bounded(environ: WSGIEnvironment) -> WSGIEnvironment:
    """Make an environ from which werkzeug can tell where the body ends."""
    environ = {**environ}
    if environ.get("wsgi.input_terminated"):
        return environ
    environ.pop("wsgi.input_terminated", None)  # werkzeug asks only whether the key is there
    if "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower():
        if not environ.get("CONTENT_LENGTH"):
            raise LengthRequired(
                "the server does not pass on a chunked body: send it with a Content-Length"
            )
        # A proxy has put the chunks together, and has passed the old header on beside the length.
        del environ["HTTP_TRANSFER_ENCODING"]
    return environ


def read_model(body: bytes) -> str:
    """
    Find the name of the model in the JSON *body* of a request: ``model``, else ``name``.

    Raises:
        BadRequest: *body* is empty, no JSON, no object, or has a value of a wrong type.
    """
    # Go turns bytes that are not UTF-8, and halves of surrogate pairs, into U+FFFD.
    text = body.decode("utf-8", "replace")
    if not text.strip(_SPACES):
        raise BadRequest("empty request body")
    values = {"model": "", "name": ""}
    mistakes = []
    for key, value in _members(text):
        wanted, kind = _KINDS.get(key), _kind(value)
        if wanted and kind not in (wanted, "null"):
            mistakes.append(f"{key} must be a {wanted}, not {kind}")
        elif key in values and isinstance(value, str):
            values[key] = _without_surrogates(value)
    if mistakes:  # told only here, after a body that is no JSON was refused for that
        raise BadRequest(mistakes[0])
    return values["model"] or values["name"]


class _Pairs(list[tuple[str, object]]):
    """A JSON object as its pairs: each key as often as it stands there."""


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"unexpected {constant}")


# The numbers are not used. They are read as floats, as int() refuses thousands of digits.
_DECODER = json.JSONDecoder(object_pairs_hook=_Pairs, parse_int=float, parse_constant=_refuse)
_KIND_OF = {_Pairs: "object", list: "array", str: "string", float: "number", bool: "boolean"}


def _members(text: str) -> Iterator[tuple[str, object]]:
    """Read the JSON object that *text* begins with: each key, folded, and its value."""
    start = len(text) - len(text.lstrip(_SPACES))
    try:
        value, _ = _DECODER.raw_decode(text, start)
    except RecursionError:
        raise BadRequest("invalid JSON: nested too deep") from None
    except ValueError as error:
        raise BadRequest(f"invalid JSON: {error}") from None
    if not isinstance(value, _Pairs):
        raise BadRequest(f"the request body must be a JSON object, not {_kind(value)}")
    for key, member in value:
        yield _folded(key), member


def _kind(value: object) -> str:
    return _KIND_OF.get(type(value), "null")


def _without_surrogates(text: str) -> str:
    return _SURROGATE.sub("\ufffd", text)


def _folded(key: str) -> str:
    # Go compares letter by letter. casefold() may turn one letter into two: then it is not used.
    folded = key.casefold()
    return folded if len(folded) == len(key) else key
