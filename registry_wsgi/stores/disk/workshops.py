"""The folders in which Ollama prepares blobs, beside the blobs and among them."""

from __future__ import annotations

import os
from collections.abc import Iterator

__all__ = ["preparing"]


def preparing(root: str) -> float:
    """Tell when something last changed in one of these folders; 0 if there are none."""
    return max(map(_changed, _workshops(root)), default=0.0)


def _workshops(root: str) -> Iterator[str]:
    # What is being converted lies beside the blobs, the parts of what is put together among them.
    for folder, prefix in ((root, "ollama-safetensors"), (f"{root}/blobs", "split-gguf-")):
        try:
            with os.scandir(folder) as entries:
                found = [
                    entry.path
                    for entry in entries
                    if entry.name.startswith(prefix) and entry.is_dir(follow_symlinks=False)
                ]
        except (FileNotFoundError, NotADirectoryError):
            continue
        yield from found


def _changed(folder: str) -> float:
    times = [0.0]
    for place, _, files in os.walk(folder):
        for path in (place, *(f"{place}/{file}" for file in files)):
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                continue
            times += status.st_mtime, status.st_ctime
    return max(times)
