"""
Large model stores on disk.

The blobs are empty files, unless said otherwise: what is measured never reads them. Models and
blobs are dated well back, as a manifest written within the last seconds is read twice by design.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from kit.trees import HOST

BLOBS = 6  # of a model: five layers and a config
_DAY = 86_400


def blobs_of(model: int) -> list[str]:
    """The names of the blobs of a model; none is shared."""
    return [blob_name(model * BLOBS + blob) for blob in range(BLOBS)]


def blob_name(number: int) -> str:
    """The name of a blob."""
    return f"sha256-{hashlib.sha256(str(number).encode()).hexdigest()}"


def key_of(model: int) -> str:
    """Where the manifest of a model is, below ``manifests/``."""
    return f"{HOST}/library/{name_of(model)}/latest"


def name_of(model: int) -> str:
    """The name of a model, as a client would give it."""
    return f"model-{model:07}"


class Trees:
    """
    The stores of a run, each built when it is first needed.

    Args:
        folder: Where they are. What an earlier run has finished there is used as it is.
        temporary: A folder on the same file system, for what is only needed in this run.
    """

    def __init__(self, folder: Path, temporary: Path) -> None:
        self._folder = folder
        self._temporary = temporary
        self._serial = itertools.count()

    def models(self, count: int) -> Path:
        """A store of *count* models with their blobs; whoever changes it puts it right again."""
        root = self._folder / f"{count}-models"
        finished = self._folder / f"{count}-models.finished"
        if not finished.exists():
            shutil.rmtree(root, ignore_errors=True)
            fill(root, count)
            finished.touch()
        return root

    def scratch(self) -> Path:
        """An empty directory, which is removed after the run at the latest."""
        path = self._temporary / f"scratch-{next(self._serial)}"
        path.mkdir()
        return path


def fill(root: Path, count: int) -> None:
    """Build a store of *count* models."""
    put_blobs(root / "blobs", (name for model in range(count) for name in blobs_of(model)))
    when = time.time() - _DAY
    for model in range(count):
        path = os.path.join(root, "manifests", key_of(model))
        os.makedirs(os.path.dirname(path))
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(file, manifest_of(model))
        os.utime(file, (when, when))
        os.close(file)
    os.sync()  # now, and not while something is measured


def put_blobs(folder: Path, names: Iterator[str], data: bytes = b"") -> None:
    """Put blobs in a folder, which is made."""
    folder.mkdir(parents=True)
    when = time.time() - _DAY
    for name in names:
        path = os.path.join(folder, name)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        if data:
            os.write(file, data)
        os.utime(file, (when, when))
        os.close(file)


def manifest_of(model: int, size: int = 0) -> bytes:
    """A manifest of the length and the shape of Ollama's, with blobs of that *size*."""
    config, *layers = (
        {
            "mediaType": "application/vnd.ollama.image.model",
            "digest": name.replace("-", ":"),
            "size": size,
        }
        for name in blobs_of(model)
    )
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    document = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers}
    end = "\n" * (model % 2)  # after those that were created, and not pulled
    return (json.dumps(document, separators=(",", ":")) + end).encode()
