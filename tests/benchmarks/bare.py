"""The other sides: the same work with nothing around the calls of the system."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.trees import blobs_of, key_of


def read_store(root: Path) -> int:
    """List the names of all blobs, walk the manifests, and read each of these once."""
    total = len(os.listdir(root / "blobs"))
    folders = [str(root / "manifests")]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    file = os.open(entry.path, os.O_RDONLY)
                    total += len(os.read(file, 1 << 16))
                    os.close(file)
    return total


def unlink_all(paths: list[str]) -> None:
    """Unlink each of *paths*."""
    for path in paths:
        os.unlink(path)


class Delete:
    """The calls that move a model into the trash: directories, links, and one rename."""

    def __init__(self, root: Path, model: int) -> None:
        entry = root / "trash" / "2000-01-01T00-00-00.000000Z-00000000"
        self._source = str(root / "manifests" / key_of(model))
        self._target = str(entry / "manifests" / key_of(model))
        *above, below = (entry / "manifests" / key_of(model)).parents[:5]
        self._folders = [str(path) for path in (below, *reversed(above))]
        self._folders.append(str(entry / "blobs"))
        self._links = [
            (str(root / "blobs" / name), str(entry / "blobs" / name)) for name in blobs_of(model)
        ]
        (root / "trash").mkdir(exist_ok=True)

    def run(self) -> None:
        """Delete."""
        for folder in self._folders:
            os.mkdir(folder)
        for source, target in self._links:
            os.link(source, target)
        os.rename(self._source, self._target)
        os.rmdir(os.path.dirname(self._source))

    def undo(self) -> None:
        """Put the model back."""
        os.mkdir(os.path.dirname(self._source))
        os.rename(self._target, self._source)
        for _, target in self._links:
            os.unlink(target)
        for folder in reversed(self._folders):
            os.rmdir(folder)
