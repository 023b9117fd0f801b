"""Who may use the page, and what its answers tell the browser to refuse."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from werkzeug.exceptions import Forbidden
from werkzeug.wrappers import Response

from ...errors import ConfigurationError, escape, quote
from ..authorization import trusted_hosts
from ..origins import is_of_host

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["check_form", "check_path", "here_alone", "is_own_link", "secure"]

_PATH = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+/")

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
        " img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # with no-referrer a form would say "Origin: null"
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

#: The check for a page that has no other: only names that no other site can have.
here_alone = trusted_hosts("localhost", "127.0.0.1", "[::1]")


def check_path(path: str) -> None:
    """
    Make sure that *path* can be that of the page.

    Raises:
        ConfigurationError: It cannot.
    """
    if _PATH.fullmatch(path) is None or path.startswith("/api/"):
        raise ConfigurationError(f"{quote(path)}: not a path for the page, as /registry/ is")


def check_form(environ: WSGIEnvironment) -> None:
    """
    Refuse a form that is not one of this page.

    Raises:
        Forbidden: The browser says so, or does not say where the form is from.
    """
    site, origin = environ.get("HTTP_SEC_FETCH_SITE"), environ.get("HTTP_ORIGIN")
    if site is None and origin is None:
        raise Forbidden("not a form of this page: a browser would say where it is from")
    if site is not None:
        if site != "same-origin":
            raise Forbidden("not a form of this page")
        return
    if not is_of_host(origin or "", environ):
        raise Forbidden(
            f"not a form of this page: it is of {escape(origin or '')}, and the request came for"
            f" {escape(environ.get('HTTP_HOST', ''))}"
        )


def is_own_link(environ: WSGIEnvironment, path: str) -> bool:
    """
    Tell whether the page at *path* has led the browser here: then its URL may say what was done.

    No page of another site, no bookmark and nothing else of this site can make a browser say so. A
    page that asks for its own URL once more, as after the question for a token, does not count.
    """
    link = environ.get("HTTP_REFERER", "")
    same_site = environ.get("HTTP_SEC_FETCH_SITE", "same-origin") == "same-origin"
    if not (same_site and is_of_host(link, environ)):
        return False
    referer = urlsplit(link)
    folder = f"{referer.path.rpartition('/')[0]}/"
    return (
        folder.endswith(path)  # a proxy may have taken away what comes before
        and referer.query != environ.get("QUERY_STRING", "")
    )


def secure(response: Response) -> Response:
    """Add the headers by which a browser guards the page; it is kept nowhere, unless it says so."""
    response.headers.update(_HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")
    return response
