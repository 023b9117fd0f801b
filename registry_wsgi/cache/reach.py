"""
When nobody can tell which models there are: the one rule of the collector and of the lists.

As long as that is so, no blob may be called needed by nothing, and none may go.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from ..errors import InvalidManifestError, OutOfReachError, StoreError, escape
from ..stores.base import Deleted, Folder
from .reading import is_left_by_others, name_of

__all__ = ["check_for_absent_manifests", "is_empty_host", "is_model", "why_unknown"]

_log = logging.getLogger("registry_wsgi")


def is_model(key: str) -> bool:
    """Tell whether what is at *key* is a model by its name."""
    return name_of(key) is not None and not is_left_by_others(key)


def is_empty_host(folder: Folder) -> bool:
    """Tell whether *folder* is that of a host, and has nothing in it."""
    return folder.empty and folder.path != "" and "/" not in folder.path


def why_unknown(key: str, error: StoreError | None) -> StoreError | None:
    """
    Tell why nobody knows what is needed, as what is at *key* cannot be read.

    Args:
        key: Where a manifest would be, or the path of a folder of manifests.
        error: Why it cannot be read. None: there is no file, or it is gone.

    Returns:
        The error that stops a prune. None: nothing lists it as a model, so it is passed over, and
        the log says so.
    """
    if error is None:
        _log.warning("manifests/%s: not a file, or gone: skipped", escape(key))
        return None
    folder = key.count("/") < 3
    model = is_model(key)
    if isinstance(error, OutOfReachError) and (folder or model):
        unreached = OutOfReachError(
            f"manifests/{key}: {error}; nobody knows which models are there, so no blob is removed"
            " until it can be reached, or is removed"
        )
        unreached.model = str(name_of(key)) if model else None
        return unreached
    if not isinstance(error, InvalidManifestError | OutOfReachError):
        return error
    if model:
        invalid = InvalidManifestError(
            f"manifests/{key}: {error}; no blob is removed until this model is deleted or its"
            " manifest is put right"
        )
        invalid.model = str(name_of(key))
        return invalid
    _log.warning("manifests/%s: not a manifest, skipped", escape(key))
    return None


def check_for_absent_manifests(
    found: int,
    empty_hosts: Iterable[str],
    has_blobs_without_a_trace: Callable[[], bool],
    deleted: Callable[[], Iterable[Deleted]],
) -> None:
    """
    Refuse to take manifests for gone that may be on a disk which is not mounted.

    Args:
        found: How many manifests there are.
        empty_hosts: The hosts whose folders have nothing in them.
        has_blobs_without_a_trace: Tells whether there are blobs that no model needs, and that
            nothing in the trash has needed.
        deleted: Lists the trash.

    Raises:
        OutOfReachError: There is no model at all, or none of a host that has a folder, while there
            are such blobs.
    """
    empty = [f"manifests/{host}" for host in empty_hosts] if found else ["manifests"]
    if not empty or not has_blobs_without_a_trace():
        return
    hosts = {entry.key.partition("/")[0] for entry in deleted()}
    for folder in empty:
        if folder == "manifests" or folder.partition("/")[2] not in hosts:
            raise OutOfReachError(
                f"{folder}: has no models, and there are blobs that no model needs and none in the"
                " trash did. If a disk belongs there, mount it; if the blobs may go, prune once"
                " with --age 0"
            )
