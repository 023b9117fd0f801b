"""A store in a bucket of an object store: S3 and what speaks its language, GCS, Azure."""

try:
    import obstore as _  # noqa: F401 - says what to install, before a module below needs it
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "object stores need the package obstore: pip install 'registry-wsgi[buckets]'",
        name=error.name,
    ) from error

from .pacing import Tuning
from .store import ObjectStore

__all__ = ["ObjectStore", "Tuning"]
