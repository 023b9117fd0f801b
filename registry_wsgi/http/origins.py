"""
Pages of other sites: which may ask through a browser, and what the browser is told (CORS).

A browser says from which page a request comes (``Origin``, ``Sec-Fetch-Site``), and the page cannot
change that. Before a DELETE for a page of another site, the browser asks by ``OPTIONS`` whether
that is allowed; before a POST it may not ask. So each request that changes something is checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from werkzeug.exceptions import Forbidden
from werkzeug.wrappers import Response

from ..errors import ConfigurationError, escape, quote

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["Origins", "is_of_host"]

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s,]+")
_SAFE = ("GET", "HEAD")


class Origins:
    """
    The origins whose pages may ask, besides those of the same origin.

    Args:
        allowed: Origins as browsers write them, ``https://chat.example:8080``; ``*`` for all.

    Raises:
        ConfigurationError: One of *allowed* is no origin.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed = {origin.lower() for origin in allowed}
        for origin in self._allowed:
            if origin != "*" and _ORIGIN.fullmatch(origin) is None:
                raise ConfigurationError(
                    f"{quote(origin)}: not an origin, as https://chat.example or *"
                )

    def allow(self, environ: WSGIEnvironment) -> bool:
        """Tell whether the request comes from a page of one of the allowed origins."""
        origin = environ.get("HTTP_ORIGIN", "").lower()
        return origin in self._allowed or (bool(origin) and "*" in self._allowed)

    def check(self, environ: WSGIEnvironment) -> None:
        """
        Refuse a request that changes something if a page of another site has sent it.

        Raises:
            Forbidden: The origin of that page is not allowed.
        """
        if environ["REQUEST_METHOD"] in _SAFE or _is_same_origin(environ) or self.allow(environ):
            return
        raise Forbidden(f"not from a page of another site{_both_hosts(environ)}")

    def preflight(self, environ: WSGIEnvironment, methods: Iterable[str]) -> Response | None:
        """
        Answer an ``OPTIONS`` request for a path that takes *methods*.

        Returns:
            None if it is from a page whose origin is not allowed.
        """
        listed = ", ".join(methods)
        response = Response(status=204, headers={"Allow": listed})
        del response.headers["Content-Type"]  # an answer without a body has none
        if "HTTP_ORIGIN" not in environ:
            return response
        if not self.allow(environ):
            return None
        response.headers["Access-Control-Allow-Methods"] = listed
        response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type"
        response.headers["Access-Control-Max-Age"] = "600"
        return response

    def mark(self, response: Response, environ: WSGIEnvironment) -> None:
        """Add the headers by which an allowed page of another site may read *response*."""
        if not self._allowed:
            return
        response.vary.add("Origin")
        if self.allow(environ):
            response.headers["Access-Control-Allow-Origin"] = environ["HTTP_ORIGIN"]


def _both_hosts(environ: WSGIEnvironment) -> str:
    """
    Name the site of the page, and the one that the request is for.

    They differ by the port alone if a proxy leaves that out of ``Host``.
    """
    origin, host = environ.get("HTTP_ORIGIN"), environ.get("HTTP_HOST")
    if not (origin and host):
        return ""
    return f": the page is of {escape(origin)}, and the request came for {escape(host)}"


def _is_same_origin(environ: WSGIEnvironment) -> bool:
    site = environ.get("HTTP_SEC_FETCH_SITE")
    if site is not None:
        return site in ("same-origin", "none")
    origin = environ.get("HTTP_ORIGIN")
    return origin is None or is_of_host(origin, environ)


def is_of_host(url: str, environ: WSGIEnvironment) -> bool:
    """Tell whether *url* is of the host and the port that the request is for."""
    host: str = environ.get("HTTP_HOST", "")
    try:
        return urlsplit(url).netloc == host != ""
    except ValueError:
        return False
