"""What ``registry-wsgi serve`` starts: gunicorn, with the middleware around an app or alone."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from gunicorn.app.base import BaseApplication
from gunicorn.util import import_app

from ..app import build_app
from ..settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["Server"]


class Server(BaseApplication):
    """
    Gunicorn, set up by arguments alone: neither its file nor its variables are read.

    Args:
        settings: The settings of the middleware.
        listener: The socket to serve on; it is taken over.
        app: What to wrap, ``module:name`` or ``module:name()``. None: nothing.
        options: The settings of gunicorn.
    """

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        *,
        app: str | None = None,
        options: Mapping[str, Any],
    ) -> None:
        self._settings = settings
        self._app = app
        # Bound before gunicorn starts, so that a port in use is said at once, and in one line.
        self._options = {**options, "bind": f"fd://{listener.detach()}"}
        super().__init__()

    def load_config(self) -> None:
        """Pass the options on."""
        for name, value in self._options.items():
            self.cfg.set(name, value)
        if "control_socket_disable" in self.cfg.settings:  # since 25.1
            self.cfg.set("control_socket_disable", True)

    def load(self) -> Any:
        """
        Make the app, in each worker.

        The store is opened here, too: the client of a bucket has threads, and a worker that is
        forked from a process with threads has none of them.
        """
        return build_app(self._settings, self._load_app())

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
