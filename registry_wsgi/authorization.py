"""Who may delete: callables for the ``authorize`` of `registry_wsgi.LocalRegistry`."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized

from .errors import ConfigurationError
from .middleware import Authorize

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["bearer_token"]


def bearer_token(*tokens: str) -> Authorize:
    """
    Let in who sends one of *tokens*: ``Authorization: Bearer <token>``.

    Anyone else is answered 401. Several tokens are for the time of a change from one to the next.
    How long the comparison takes does not tell how much of a token was right.

    Raises:
        ConfigurationError: There is no token, or one is empty.
    """
    expected = [token.encode(errors="surrogateescape") for token in tokens]
    if not all(expected) or not expected:
        raise ConfigurationError("the token is missing or empty")

    def authorize(environ: WSGIEnvironment, action: str, name: str) -> bool:
        del action, name
        scheme, _, given = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        # What came over the wire, byte for byte (PEP 3333).
        sent = given.strip().encode("latin-1", "replace")
        right = [hmac.compare_digest(sent, token) for token in expected]
        if scheme.lower() != "bearer" or not any(right):
            raise Unauthorized("a token is needed", www_authenticate=WWWAuthenticate("bearer"))
        return True

    return authorize
