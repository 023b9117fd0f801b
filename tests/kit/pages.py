"""The storage page of a sample, served in this process, for a browser to look at."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from werkzeug.serving import WSGIRequestHandler, make_server

from kit.clocks import DAY, Clock
from kit.trees import Tree
from registry_wsgi import DiskStore, ModelCache
from registry_wsgi.names import Name
from registry_wsgi.stores.base import Disk, File

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["NOW", "make_sample", "served"]

#: The time in the sample.
NOW = datetime(2031, 3, 14, 12, tzinfo=UTC).timestamp()

_GB = 10**9

_MODELS = {  # the name: the weights, their size in GB, and how many days ago they came
    "llama3.1:405b": ("llama3.1:405b", 243.1, 120),
    "llama3.3:70b": ("llama3.3:70b", 42.5, 88),
    "team/contract-reader:prod": ("llama3.3:70b", 42.5, 34),
    "mixtral:8x22b": ("mixtral:8x22b", 79.5, 203),
    "qwen2.5:72b": ("qwen2.5:72b", 47.4, 75),
    "gemma2:27b": ("gemma2:27b", 15.6, 99),
    "llama3.1:8b": ("llama3.1:8b", 4.9, 131),
    "team/support-bot:staging": ("llama3.1:8b", 4.9, 2),
    "hf.co/someone/Llama-3.2-3B-Instruct-GGUF:Q4_K_M": ("llama3.2:3b", 2.0, 12),
    "nomic-embed-text:v1.5": ("nomic-embed-text", 0.3, 180),
}
_TRASH = {  # and how many days ago they were deleted
    "llama2:70b": ("llama2:70b", 38.9, 330, 5.1),
    "vicuna:33b": ("vicuna:33b", 18.4, 320, 2.2),
}
_ORPHANS = {"orphan": 6.2, "other": 2.9}


class _Sample(DiskStore):
    """A store whose files are sparse, and count as if they were not, on a disk of one terabyte."""

    def survey(self) -> Iterator[File]:
        for file in super().survey():
            yield file._replace(taken=max(file.taken, file.size))

    def disk(self) -> Disk | None:
        return Disk(1_000 * _GB, 41 * _GB, 959 * _GB)


def make_sample(root: Path, **options: Any) -> ModelCache:
    """Make models, some in the trash, and files that nothing needs; *options* of `ModelCache`."""
    tree = Tree(root)
    for name, (weights, size, age) in _MODELS.items():
        _add(tree, name, weights, size, age)
    for name, (weights, size, age, gone) in _TRASH.items():
        _add(tree, name, weights, size, age)
        ModelCache(_Sample(root), clock=Clock(NOW - gone * DAY)).unlink(name)
    for name, size in _ORPHANS.items():
        _put(tree, name, size, 30)
    foreign = tree.blobs / "<script>alert(1)<!--"
    foreign.write_bytes(b"x" * 1_000)
    os.utime(foreign, (NOW - 30 * DAY,) * 2)
    cache = ModelCache(_Sample(root), clock=Clock(NOW), **options)
    cache.protect("llama3.3:70b")
    return cache


def _put(tree: Tree, content: str, size: float, age: float) -> dict[str, Any]:
    digits = hashlib.sha256(content.encode()).hexdigest()
    path = tree.blobs / f"sha256-{digits}"
    if not path.exists():
        with path.open("wb") as file:
            file.truncate(int(size * _GB))
        os.utime(path, (NOW - age / 3 * DAY, NOW - age * DAY))
    return {"digest": f"sha256:{digits}", "size": int(size * _GB)}


def _add(tree: Tree, name: str, weights: str, size: float, age: float) -> None:
    manifest = {"schemaVersion": 2, "layers": [_put(tree, weights, size, age)]}
    path = tree.write(Name.parse(name).key, json.dumps(manifest).encode())
    os.utime(path, (NOW - age * DAY,) * 2)


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - werkzeug's name
        """Say nothing: the middleware logs each request."""


@contextmanager
def served(app: WSGIApplication) -> Iterator[str]:
    """Serve *app* on a free port of this machine; its address."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
