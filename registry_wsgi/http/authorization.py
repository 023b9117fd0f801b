"""Who may delete: callables for the ``authorize`` of `registry_wsgi.LocalRegistry`."""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Forbidden, Unauthorized
from werkzeug.sansio.utils import host_is_trusted

from ..errors import ConfigurationError, quote

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["Authorize", "all_of", "bearer_token", "trusted_hosts"]

#: Called as ``authorize(environ, action, name)``; only True allows the action. It may also raise a
#: `werkzeug.exceptions.HTTPException`, which is the answer then.
Authorize = Callable[["WSGIEnvironment", str, str], bool]

_NAME = re.compile(r"[a-z0-9_-][a-z0-9_.-]*")
_ADDRESS = re.compile(r"\[[0-9a-f:.]+\]")


def bearer_token(*tokens: str, file: str | os.PathLike[str] | None = None) -> Authorize:
    """
    Allow requests with one of the tokens, ``Authorization: Bearer <token>``.

    Any other request is answered 401. Give two tokens while clients change from one to the other.
    The comparison takes the same time however much of a token is right.

    Args:
        tokens: The tokens.
        file: A file with more tokens, one a line, as containers get their secrets. It is read anew
            for each request, so a change counts at once. If it cannot be read then, the answer is
            500 and nothing is deleted.

    Raises:
        ConfigurationError: There is no token, or one is empty, or *file* cannot be read.
    """

    def expected() -> list[bytes]:
        found = [token.encode(errors="surrogateescape") for token in tokens]
        if file is not None:
            try:
                found += Path(file).read_bytes().split()
            except OSError as error:
                raise ConfigurationError(f"{os.fspath(file)}: {error.strerror}") from error
        if not all(found) or not found:
            raise ConfigurationError("the token is missing or empty")
        return found

    expected()

    def authorize(environ: WSGIEnvironment, action: str, name: str) -> bool:
        del action, name
        scheme, _, given = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        # The bytes as the client sent them: a server decodes headers as latin-1 (PEP 3333).
        sent = given.strip().encode("latin-1", "replace")
        right = [hmac.compare_digest(sent, token) for token in expected()]
        if scheme.lower() != "bearer" or not any(right):
            raise Unauthorized("a token is needed", www_authenticate=WWWAuthenticate("bearer"))
        return True

    return authorize


def trusted_hosts(*hosts: str) -> Authorize:
    """
    Allow requests whose ``Host`` is one of *hosts*, whatever the port.

    Any other request is answered 403. This check is against DNS rebinding, where a page in a
    browser reaches this machine under a host name of its own. It does not tell who is asking.
    Behind a proxy, ``Host`` is the one that the proxy passes on.

    Args:
        hosts: Host names or addresses; those of IPv6 in brackets. A name with a dot before it
            stands for its subdomains, too.

    Raises:
        ConfigurationError: There is no host, or one has a port, say.
    """
    addresses = {host.lower() for host in hosts if _ADDRESS.fullmatch(host.lower())}
    names = [_checked_name(host) for host in hosts if host.lower() not in addresses]
    if not hosts:
        raise ConfigurationError("the trusted hosts are missing")

    def authorize(environ: WSGIEnvironment, action: str, name: str) -> bool:
        del action, name
        host = re.sub(r":[0-9]*\Z", "", environ.get("HTTP_HOST", "").lower())
        trusted = host in addresses
        # The host is checked before werkzeug is asked: the versions of werkzeug differ about which
        # hosts are malformed, and take an empty list for "any host".
        if _NAME.fullmatch(host) and names:
            with suppress(UnicodeError):
                trusted = host_is_trusted(host, names)
        if not trusted:
            raise Forbidden("not the name of a host that is trusted here")
        return True

    return authorize


def all_of(*checks: Authorize) -> Authorize:
    """
    Allow what each of *checks* allows. They are asked in their order, until one refuses.

    Raises:
        ConfigurationError: There are no checks.
    """
    if not checks:
        raise ConfigurationError("there is nothing to check")

    def authorize(environ: WSGIEnvironment, action: str, name: str) -> bool:
        return all(check(environ, action, name) is True for check in checks)

    return authorize


def _checked_name(host: str) -> str:
    dot = "." if host.startswith(".") else ""
    try:
        name = host.removeprefix(dot).lower().encode("idna").decode()
    except UnicodeError:
        name = ""
    if _NAME.fullmatch(name) is None:
        raise ConfigurationError(f"{quote(host)}: not a name or address of a host, without a port")
    return dot + name
