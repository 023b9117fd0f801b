"""The protocol of a cache: the seam between the middleware and whatever holds the models."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Cache", "clean_up"]


class Cache(Protocol):
    """
    What `registry_wsgi.LocalRegistry` asks of the thing that holds the models.

    Any object with these two methods serves; nothing is to be inherited. Both may be called from
    several threads at once. An exception from either is a 500 to the client and goes to the log.

    A cache that has a third method, ``prune_deleted()``, has that one called after a delete, in
    the place of ``prune()``: for caches whose whole prune is too much work for one request. A cache
    that wraps a `registry_wsgi.ModelCache` passes this method on.
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
    """Remove what a delete has left: by ``prune_deleted`` of *cache*, or else by its ``prune``."""
    getattr(cache, "prune_deleted", cache.prune)()
