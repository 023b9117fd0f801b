"""Delete models of a local model store through any WSGI app, and clean up without a loss."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .app import create_app
    from .cache.collector import PruneReport
    from .cache.model_cache import ModelCache
    from .cache.opening import open_cache
    from .errors import RegistryError
    from .http.middleware import LocalRegistry
    from .stores.disk.store import DiskStore
    from .stores.memory import MemoryStore

__all__ = [
    "DiskStore",
    "LocalRegistry",
    "MemoryStore",
    "ModelCache",
    "PruneReport",
    "RegistryError",
    "create_app",
    "open_cache",
]

__version__ = "0.1.0"

if not TYPE_CHECKING:
    # A name is imported when it is first used. Without that, the command line would import werkzeug
    # and take twice as long to start.
    _PLACES = {
        "DiskStore": ".stores.disk.store",
        "LocalRegistry": ".http.middleware",
        "MemoryStore": ".stores.memory",
        "ModelCache": ".cache.model_cache",
        "PruneReport": ".cache.collector",
        "RegistryError": ".errors",
        "create_app": ".app",
        "open_cache": ".cache.opening",
    }

    def __getattr__(name):
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value = getattr(import_module(_PLACES[name], __name__), name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
