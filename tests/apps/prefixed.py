"""The middleware over $OLLAMA_MODELS, mounted at /models by an app around it."""

from __future__ import annotations

from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from registry_wsgi import LocalRegistry, open_cache

app = DispatcherMiddleware(NotFound(), {"/models": LocalRegistry(None, open_cache())})
