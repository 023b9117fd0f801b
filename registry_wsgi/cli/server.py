"""What ``registry-wsgi serve`` starts: gunicorn, with the middleware around an app or alone."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from gunicorn.app.base import BaseApplication
from gunicorn.util import import_app

from ..app import build_app
from ..cache.opening import cache_from
from ..http.front_page import FrontPage
from ..settings import Settings
from .pruner import Pruner

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["Server"]


class Server(BaseApplication):
    """
    Gunicorn, set up by arguments alone: its configuration file and variables are not read.

    Args:
        settings: The settings of the middleware.
        listener: The socket to serve on. The server closes it.
        app: The WSGI app to wrap, ``module:name`` or ``module:name()``. None: there is none.
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
        self._due = multiprocessing.Value("d", Pruner.first(settings.prune_every))
        self._pruner: Pruner | None = None
        # The socket is bound already, so that a port in use is one line at the start. gunicorn
        # would try for seconds to bind it.
        self._options = {**options, "bind": f"fd://{listener.detach()}"}
        super().__init__()

    def load_config(self) -> None:
        """Give the options to gunicorn."""
        for name, value in self._options.items():
            self.cfg.set(name, value)
        self.cfg.set("worker_exit", self.end)
        if "control_socket_disable" in self.cfg.settings:  # since 25.1
            self.cfg.set("control_socket_disable", True)

    def load(self) -> Any:
        """Make the app, in each worker."""
        wrapped = None if self._app is None else cast("WSGIApplication", import_app(self._app))
        cache = cache_from(self._settings)
        app = build_app(self._settings, wrapped, cache=cache)
        if self._settings.prune_every:
            self._pruner = Pruner(cache, self._settings.prune_every, self._due)
            self._pruner.start()
        return FrontPage(app) if wrapped is None else app

    def end(self, arbiter: object, worker: object) -> None:
        """End the pruner, when its worker ends."""
        del arbiter, worker
        if self._pruner is not None:
            self._pruner.stop()

    def run(self) -> None:
        """Serve until a signal ends it."""
        arbiter = os.getpid()
        try:
            super().run()
        except SystemExit as error:
            # The exit code of a worker is for gunicorn, and has to stay. gunicorn itself ends with
            # codes (3, 4) that this command does not have: here any failure is 1.
            if error.code and os.getpid() == arbiter:
                raise SystemExit(1) from error
            raise
