"""Model stores on disk, built and looked at from outside, as Ollama leaves them."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

HOST = "registry.ollama.ai"


def digest(data: bytes) -> str:
    """The digest of *data* as a manifest has it, ``sha256:<hex>``."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def blob(data: bytes) -> str:
    """The file name of the blob *data*, ``sha256-<hex>``."""
    return digest(data).replace(":", "-")


def manifest(*layers: bytes, config: bytes = b"{}") -> bytes:
    """A manifest as Ollama writes it."""

    def layer(kind: str, data: bytes) -> dict[str, Any]:
        return {"mediaType": kind, "digest": digest(data), "size": len(data)}

    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": layer("application/vnd.docker.container.image.v1+json", config),
            "layers": [layer("application/vnd.ollama.image.model", data) for data in layers],
        }
    ).encode()


class Tree:
    """A models directory on disk, as Ollama leaves one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs = root / "blobs"
        self.manifests = root / "manifests"
        self.trash = root / "trash"
        self.blobs.mkdir(parents=True, exist_ok=True)
        self.manifests.mkdir(exist_ok=True)

    def add_blob(self, data: bytes) -> Path:
        path = self.blobs / blob(data)
        path.write_bytes(data)
        return path

    def add(self, key: str, *layers: bytes, config: bytes = b"{}") -> Path:
        """Put a model with its blobs at *key*; a key of one or two parts is in the library."""
        for data in (*layers, config):
            self.add_blob(data)
        return self.write(key, manifest(*layers, config=config))

    def write(self, key: str, data: bytes) -> Path:
        """Put *data* where the manifest of *key* would be."""
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def path(self, key: str) -> Path:
        parts = key.split("/")
        if len(parts) < 2:
            parts.append("latest")
        if len(parts) == 2:
            parts = [HOST, "library", *parts]
        return self.manifests.joinpath(*parts)

    def files(self) -> dict[str, bytes]:
        """Every file outside of the trash, by its path below the root."""
        return {
            path: data for path, data in contents(self.root).items() if not path.startswith("trash")
        }


def contents(root: Path) -> dict[str, bytes]:
    """
    Every file below *root* with its content; of a symbolic link, where it leads.

    The history of the changes is left out, so that what is undone is as if it had never been done.
    """
    found = {}
    for folder, _, names in os.walk(root):
        for name in {*names} - {"history.jsonl", "history.old.jsonl"}:
            path = Path(folder, name)
            data = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
            found[path.relative_to(root).as_posix()] = data
    return found


def broken(root: Path) -> list[str]:
    """Each listed model of the store at *root* that lacks a blob, or has one of other content."""
    found = []
    for path in sorted(root.glob("manifests/*/*/*/*")):
        document = json.loads(path.read_bytes())
        for layer in [*document["layers"], *filter(None, [document.get("config")])]:
            blob_path = root / "blobs" / layer["digest"].replace(":", "-")
            if not blob_path.is_file() or digest(blob_path.read_bytes()) != layer["digest"]:
                found.append(f"{path.relative_to(root)}: {layer['digest']}")
    return found


def fingerprint(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything at and below *root* with all that a touch of any kind would change."""
    found: dict[str, tuple[object, ...]] = {}
    for folder, names, files in os.walk(root):
        for name in (".", *names, *files):
            path = os.path.normpath(os.path.join(folder, name))
            status = os.lstat(path)
            regular = stat.S_ISREG(status.st_mode)
            content = Path(path).read_bytes() if regular and status.st_size < 1_000_000 else None
            found[path] = (
                *(status.st_ino, status.st_mode, status.st_nlink, status.st_size),
                *(status.st_mtime_ns, status.st_ctime_ns, content),
            )
    return found


def layout(root: Path) -> set[str]:
    """All files, and the directories of ours, by path; without what differs from run to run."""
    found = set()
    for folder, names, files in os.walk(root):
        for name in (*names, *files):
            parts = Path(folder, name).relative_to(root).parts
            ours = parts[0] in ("trash", "condemned") and len(parts) > 1
            if ours or name in files:
                found.add("/".join([parts[0], "*", *parts[2:]] if ours else parts))
    return found


def layer(text: str, size: int) -> dict[str, object]:
    """A layer whose digest is written *text*."""
    return {"digest": text, "size": size}


def upper(data: bytes) -> str:
    """The digest of *data* in upper case."""
    return "sha256:" + digest(data).removeprefix("sha256:").upper()
