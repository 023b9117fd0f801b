"""A store in a bucket of an object store: S3 and what speaks its language, GCS, Azure."""

from .store import ObjectStore
from .tuning import Tuning

__all__ = ["ObjectStore", "Tuning"]
