"""What ``registry-wsgi serve`` starts: gunicorn, with the middleware around an app or alone."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from gunicorn.app.base import BaseApplication
from gunicorn.util import import_app

from ..cache.model_cache import ModelCache
from ..http.authorization import Authorize
from ..http.middleware import LocalRegistry
from ..settings import maintenance_api, prune_after_delete

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["Server"]


class Server(BaseApplication):
    """
    Gunicorn, set up by arguments alone: neither its file nor its variables are read.

    Args:
        cache: Where the models are.
        listener: The socket to serve on; it is taken over.
        app: What to wrap, ``module:name`` or ``module:name()``. None: nothing.
        authorize: Who may delete.
        settings: Those of gunicorn.
    """

    def __init__(
        self,
        cache: ModelCache,
        listener: socket.socket,
        *,
        app: str | None = None,
        authorize: Authorize | None = None,
        settings: Mapping[str, Any],
    ) -> None:
        self._cache = cache
        self._app = app
        self._authorize = authorize
        self._prune = prune_after_delete()
        self._maintenance = maintenance_api()
        # Bound before gunicorn starts, so that a port in use is said at once, and in one line.
        self._settings = {**settings, "bind": f"fd://{listener.detach()}"}
        super().__init__()

    def load_config(self) -> None:
        """Pass the settings on."""
        for name, value in self._settings.items():
            self.cfg.set(name, value)
        if "control_socket_disable" in self.cfg.settings:  # since 25.1
            self.cfg.set("control_socket_disable", True)

    def load(self) -> Any:
        """Make the app, in each worker."""
        return LocalRegistry(
            self._load_app(),
            self._cache,
            prune=self._prune,
            authorize=self._authorize,
            maintenance=self._maintenance,
        )

    def run(self) -> None:
        """Serve until a signal ends it."""
        arbiter = os.getpid()
        try:
            super().run()
        except SystemExit as error:
            # The codes of the workers are for gunicorn, its own are not ours.
            if error.code and os.getpid() == arbiter:
                raise SystemExit(1) from error
            raise

    def _load_app(self) -> WSGIApplication | None:
        if self._app is None:
            return None
        return cast("WSGIApplication", import_app(self._app))
