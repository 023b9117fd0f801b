"""
The body of a request, read within a bound and understood as the Go handler understands it.

Go's decoder takes keys without regard to case, lets the last of several equal keys win, reads the
first value and no further, passes over keys it does not know, and takes arrays and objects nested
up to 10,000 deep. Python's differs in each of these (and stops at its own recursion limit), so the
grammar is walked here, token by token; strings are left to `json`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from werkzeug.exceptions import BadRequest, RequestEntityTooLarge
from werkzeug.wsgi import get_content_length, get_input_stream

from ..errors import quote

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["read_body", "read_model"]

_MAX_DEPTH = 10_000  # encoding/json: maxNestingDepth

_TOKEN = re.compile(
    r"""[ \t\r\n]* (?:
        (?P<mark> [][{}:,] )
      | (?P<string> " (?: [^"\\\x00-\x1f] | \\ (?: ["\\/bfnrt] | u[0-9A-Fa-f]{4} ) )* " )
      | (?P<number> -? (?: 0 | [1-9][0-9]* ) (?: \.[0-9]+ )? (?: [eE][+-]?[0-9]+ )? )
      | (?P<boolean> true | false )
      | (?P<null> null )
    )""",
    re.VERBOSE,
)

# What may come next, at each place of the grammar.
_VALUE = frozenset(["{", "[", "string", "number", "boolean", "null"])
_VALUE_OR_END = _VALUE | {"]"}
_KEY = frozenset(["string"])
_KEY_OR_END = _KEY | {"}"}
_COLON = frozenset([":"])
_AFTER_VALUE = {"{": frozenset([",", "}"]), "[": frozenset([",", "]"])}

# What a key's value must be; a null leaves the key as if it were absent.
_KINDS = {"model": "string", "name": "string", "insecure": "boolean", "stream": "boolean"}

_SURROGATE = re.compile("[\ud800-\udfff]")


def read_body(environ: WSGIEnvironment, limit: int) -> bytes:
    """
    Read the body of a request, once.

    Args:
        environ: The request.
        limit: How many bytes it may have.

    Raises:
        RequestEntityTooLarge: It has more.
        BadRequest: It ends before its Content-Length, or cannot be read.
    """
    length = get_content_length(environ) or 0
    body = b""
    if length <= limit:
        if not environ.get("wsgi.input_terminated"):  # for werkzeug, a False is as good as a True
            environ = {**environ}
            environ.pop("wsgi.input_terminated", None)
        try:
            body = get_input_stream(environ, max_content_length=limit + 1).read()
        except Exception as error:
            # Whatever class a server has for it: a broken chunk, a lost connection.
            raise BadRequest("the request body cannot be read") from error
    if max(length, len(body)) > limit:
        raise RequestEntityTooLarge(f"the request body is larger than {limit} bytes")
    if len(body) < length:
        raise BadRequest("the request body is shorter than its Content-Length")
    return body


def read_model(body: bytes) -> str:
    """
    Find the name of the model in the JSON *body* of a request: ``model``, else ``name``.

    Raises:
        BadRequest: *body* is empty, no JSON, no object, or has a value of a wrong type.
    """
    # Go reads bytes that are no UTF-8, and halves of surrogate pairs, as U+FFFD.
    text = body.decode("utf-8", "replace")
    if not text.strip(" \t\r\n"):
        raise BadRequest("empty request body")
    values = {"model": "", "name": ""}
    mistakes = []
    for key, kind, token in _members(text):
        wanted = _KINDS.get(key)
        if wanted and kind not in (wanted, "null"):
            mistakes.append(f"{key} must be a {wanted}, not {kind}")
        elif key in values and kind == "string":
            values[key] = _string(token)
    if mistakes:  # only now, as what is no JSON at all is worse
        raise BadRequest(mistakes[0])
    return values["model"] or values["name"]


def _members(text: str) -> Iterator[tuple[str, str, str]]:
    """Walk the JSON object that *text* begins with: each key, folded, and how its value begins."""
    open_marks: list[str] = []
    expected = _VALUE
    key = ""
    position = 0
    while True:
        match = _TOKEN.match(text, position)
        kind = str(match.lastgroup) if match else ""
        token = match[kind] if match else ""
        mark = token if kind == "mark" else kind
        if match is None or mark not in expected:
            raise _syntax_error(text, position)
        position = match.end()
        if mark in "}]":
            open_marks.pop()
            if not open_marks:
                return
            expected = _AFTER_VALUE[open_marks[-1]]
        elif expected is _KEY or expected is _KEY_OR_END:
            if len(open_marks) == 1:
                key = _folded(_string(token))
            expected = _COLON
        elif mark == ":":
            expected = _VALUE
        elif mark == ",":
            expected = _KEY if open_marks[-1] == "{" else _VALUE
        else:
            kind = {"{": "object", "[": "array"}.get(mark, kind)
            if not open_marks and kind != "object":
                raise BadRequest(f"the request body must be a JSON object, not {kind}")
            if len(open_marks) == 1:
                yield key, kind, token
            if kind in ("object", "array"):
                open_marks.append(mark)
                expected = _KEY_OR_END if kind == "object" else _VALUE_OR_END
                if len(open_marks) > _MAX_DEPTH:
                    raise BadRequest(f"invalid JSON: nested deeper than {_MAX_DEPTH} levels")
            else:
                expected = _AFTER_VALUE[open_marks[-1]]


def _string(token: str) -> str:
    return _SURROGATE.sub("\ufffd", json.loads(token))


def _folded(key: str) -> str:
    # Go folds letter by letter; casefold() also makes two letters of one.
    folded = key.casefold()
    return folded if len(folded) == len(key) else key


def _syntax_error(text: str, position: int) -> BadRequest:
    rest = text[position:].lstrip(" \t\r\n")
    if not rest:
        return BadRequest("invalid JSON: unexpected end of the request body")
    return BadRequest(f"invalid JSON: unexpected {quote(rest[0])} at {len(text) - len(rest)}")
