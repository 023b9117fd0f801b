"""The walk through the directories that manifests lie in."""

from __future__ import annotations

import logging
import os
from collections.abc import Hashable, Iterator

from ...errors import OutOfReachError, quote
from ..base import Folder
from .system import ABSENT, is_fresh

__all__ = ["folders", "walk"]

_log = logging.getLogger("registry_wsgi")

# How many levels of directories there are: hosts, namespaces, models.
_DEPTH = 3


def walk(root: str) -> Iterator[tuple[str, OutOfReachError | None]]:
    """
    List the keys of the manifests below *root*, and the paths of what is out of reach, with why.

    Directories are followed wherever links put them, as Ollama does: what it lists must keep its
    blobs. Whatever else is there is skipped, with a warning.
    """
    return _walk(root, "", 0)


def _walk(root: str, path: str, depth: int) -> Iterator[tuple[str, OutOfReachError | None]]:
    for name, error in _listed(f"{root}/{path}" if path else root, depth):
        below = f"{path}/{name}" if path and name else path or name
        if error is not None or depth == _DEPTH:
            yield below, error
        else:
            yield from _walk(root, below, depth + 1)


def _listed(path: str, depth: int) -> list[tuple[str, OutOfReachError | None]]:
    """Name what is in one directory: all at once, as it may change meanwhile."""
    found: list[tuple[str, OutOfReachError | None]] = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                directory = _is_directory(entry)
                # No part of a name begins with a dot: such a link stands for no model.
                if directory is None and depth < _DEPTH and not entry.name.startswith("."):
                    error = OutOfReachError(f"{entry.path}: is a link that leads nowhere")
                    found.append((entry.name, error))
                elif bool(directory) == (depth < _DEPTH):
                    found.append((entry.name, None))
                else:
                    _log.warning("%s: not a manifest, skipped", quote(entry.path))
    except (FileNotFoundError, NotADirectoryError):
        return found
    except OSError as error:
        return [("", _out_of_reach(error, path))]
    return found


def _out_of_reach(error: OSError, path: str) -> OutOfReachError:
    found = OutOfReachError(f"{error.filename or path}: {error.strerror or error}")
    found.__cause__ = error
    return found


def _is_directory(entry: os.DirEntry[str]) -> bool | None:
    """Tell whether *entry* is a directory, or a link to one; None: it is a link to nowhere."""
    try:
        if entry.is_dir():
            return True
        if entry.is_symlink():
            entry.stat()
    except OSError as error:
        if error.errno in ABSENT:
            return None if entry.is_symlink() else False
        raise
    return False


def folders(root: str) -> Iterator[Folder]:
    """List the directories below *root*, each looked at before what is in it is listed."""
    return _folders(root, "", 0)


def _folders(root: str, path: str, depth: int) -> Iterator[Folder]:
    place = f"{root}/{path}" if path else root
    try:
        status = os.stat(place)
        names = []
        empty = depth < _DEPTH
        if depth < _DEPTH:
            with os.scandir(place) as entries:
                for entry in entries:
                    empty = False
                    if _is_directory(entry):
                        names.append(entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise _out_of_reach(error, place) from error
    yield Folder(path, _mark(status), empty)
    for name in names:
        yield from _folders(root, f"{path}/{name}" if path else name, depth + 1)


def _mark(status: os.stat_result) -> Hashable | None:
    if is_fresh(status):
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns
