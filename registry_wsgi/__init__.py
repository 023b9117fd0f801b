"""Delete models of a local model store through any WSGI app, and clean up without a loss."""

from .cache import ModelCache
from .collector import PruneReport
from .config import open_cache
from .errors import RegistryError
from .middleware import LocalRegistry, create_app
from .stores.disk import DiskStore
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
