"""The protocol of a cache: the seam between the middleware and whatever holds the models."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol

__all__ = ["Cache", "clean_up", "follows_delete"]

_cleaning_up: ContextVar[bool] = ContextVar("registry_wsgi_cleaning_up", default=False)


class Cache(Protocol):
    """
    What `registry_wsgi.LocalRegistry` asks of the thing that holds the models.

    Any object with these two methods serves; nothing is to be inherited. Both may be called from
    several threads at once. An exception from either is a 500 to the client and goes to the log.

    A cache whose whole prune is too much work for one request can have a third method,
    ``prune_deleted()``. It is called after a delete in the place of ``prune()``. A cache that wraps
    a `registry_wsgi.ModelCache` passes this method on. If it does not, and its ``prune()`` calls
    that of the `registry_wsgi.ModelCache` without arguments, then after a delete the
    `registry_wsgi.ModelCache` does the work of ``prune_deleted()`` all the same.
    """

    def unlink(self, name: str) -> bool:
        """
        Delete the model *name*.

        Args:
            name: The name as the client sent it; its grammar has been checked
                (`registry_wsgi.names.Name.parse` fills in what it leaves out).

        Returns:
            True if this call deleted it, False if there is no such model.

        Raises:
            registry_wsgi.errors.InvalidNameError: The name is none that this cache takes; the
                client is answered 400.
            registry_wsgi.errors.ModelProtectedError: The model is not to be deleted; the client is
                answered 403.
        """

    def prune(self) -> object:
        """Remove what is no longer needed. Called after each delete; the result is not used."""


def clean_up(cache: Cache) -> None:
    """
    Prune after a delete: by ``prune_deleted`` of *cache*, or else by its ``prune``.

    While this runs, `follows_delete` is true. By that a `registry_wsgi.ModelCache` behind a cache
    of two methods knows that its ``prune()`` follows a delete.
    """
    token = _cleaning_up.set(True)
    try:
        getattr(cache, "prune_deleted", cache.prune)()
    finally:
        _cleaning_up.reset(token)


def follows_delete() -> bool:
    """Tell whether the prune that is under way in this thread was asked for by `clean_up`."""
    return _cleaning_up.get()
