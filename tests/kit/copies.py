"""Copies of a directory, one for each fault that an operation on it may meet."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Mould:
    """Makes copies of a directory, with its times and with the hard links in it."""

    def __init__(self, root: Path) -> None:
        self._folders: list[str] = []
        self._files: list[tuple[str, bytes, int]] = []
        self._links: list[tuple[str, str]] = []
        first: dict[int, str] = {}
        for folder, _, files in os.walk(root):
            self._folders.append(os.path.relpath(folder, root))
            for name in files:
                path = Path(folder, name)
                status = path.stat()
                place = os.path.relpath(path, root)
                if status.st_ino in first:
                    self._links.append((first[status.st_ino], place))
                else:
                    first[status.st_ino] = place
                    self._files.append((place, path.read_bytes(), status.st_mtime_ns))

    def cast(self, root: Path) -> None:
        """Make a copy in *root*."""
        for folder in self._folders:
            os.makedirs(os.path.join(root, folder), exist_ok=True)
        for name, data, when in self._files:
            path = os.path.join(root, name)
            file = os.open(path, os.O_WRONLY | os.O_CREAT)
            os.write(file, data)
            os.utime(file, ns=(when, when))
            os.close(file)
        for one, other in self._links:
            os.link(os.path.join(root, one), os.path.join(root, other))


@contextmanager
def in_memory(folder: Path) -> Iterator[Path]:
    """A folder in memory, where the system has that, as thousands of stores take their time."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield folder
        return
    with tempfile.TemporaryDirectory(dir=memory) as path:
        yield Path(path)
