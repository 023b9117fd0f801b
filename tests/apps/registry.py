"""The middleware over $OLLAMA_MODELS, before an app or alone (X-Alone), with its log in $LOG."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from werkzeug.middleware.proxy_fix import ProxyFix

from apps.helpers import JSONLines
from registry_wsgi import LocalRegistry, open_cache

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

logger = logging.getLogger("registry_wsgi")
logger.setLevel(logging.INFO)
logger.addHandler(JSONLines(os.environ["LOG"]))
lines = logging.FileHandler(Path(os.environ["LOG"]).with_suffix(".txt"), encoding="utf-8")
lines.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
logger.addHandler(lines)


def fallback(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The app behind the handler when the reference was recorded."""
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [b"fallback"]


cache = open_cache()
before_an_app = LocalRegistry(fallback, cache)
alone = LocalRegistry(None, cache)
behind_a_proxy = ProxyFix(alone)


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Choose."""
    return (alone if "HTTP_X_ALONE" in environ else before_an_app)(environ, start_response)
