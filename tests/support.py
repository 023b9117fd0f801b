"""What several test modules share: model stores on disk, built and looked at from outside."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import shutil
import subprocess
from collections.abc import Hashable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, NoReturn

import pytest

from registry_wsgi.stores.base import ManifestStore

HOST = "registry.ollama.ai"

# Requests to the Go handler, each with what it answered.
CASES = json.loads(Path(__file__).with_name("reference").joinpath("delete.json").read_text())

# The rows of the HTTP contract where this library is better than the handler: these are 400 here.
BETTER_ON_PURPOSE = {"body truncstr", "body bareopen", "body null"}
LEVELS = {"INFO": logging.INFO, "WARN": logging.WARNING, "ERROR": logging.ERROR}


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
        self.blobs.mkdir(parents=True)
        self.manifests.mkdir()

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
    """Every file below *root* with its content; of a symbolic link, where it leads."""
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            data = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
            found[path.relative_to(root).as_posix()] = data
    return found


def broken(root: Path) -> list[str]:
    """Each listed model of the store at *root* that lacks a blob, or has one of other content."""
    found = []
    for path in sorted(root.glob("manifests/*/*/*/*")):
        document = json.loads(path.read_bytes())
        for layer in [*document["layers"], document["config"]]:
            blob_path = root / "blobs" / layer["digest"].replace(":", "-")
            if not blob_path.is_file() or digest(blob_path.read_bytes()) != layer["digest"]:
                found.append(f"{path.relative_to(root)}: {layer['digest']}")
    return found


def body_of(case: dict[str, Any]) -> bytes:
    """The bytes that the client sent: in the record a text, or hexadecimal if it is none."""
    body = case["body"]
    return bytes.fromhex(body["hex"]) if isinstance(body, dict) else body.encode()


def expected(case: dict[str, Any]) -> dict[str, Any]:
    """What the case asks of us."""
    if case["case"] in BETTER_ON_PURPOSE:
        answer = {"code": "bad_request"}
        return case | {
            "status": 400,
            "answer": answer,
            "log_level": "WARN",
            "content_type": "application/json",
        }
    return case


def fill(tree: Tree) -> None:
    """The models that the handler had when it was recorded."""
    tree.add("smol", b"weights", b"template")
    tree.add("example.com/ns/foo/latest", b"weights", b"other")


def keys(store: ManifestStore) -> list[str]:
    """The keys of all manifests in *store*, in no order."""
    return [key for key, _ in store.versions()]


def version(store: ManifestStore, key: str) -> Hashable | None:
    """The version of the manifest at *key*; None if there is none, or if that cannot be told."""
    return dict(store.versions()).get(key)


def require(*modules: str) -> None:
    """Skip the test (or the test module) if a module is not installed; see `unavailable`."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            unavailable(f"the package {module} is not installed")


def require_command(*commands: str) -> None:
    """Skip the test if a command is not on the path; see `unavailable`."""
    for command in commands:
        if shutil.which(command) is None:
            unavailable(f"the command {command} is not installed")


def npm_install(package: str, folder: Path) -> str | None:
    """Install *package* of npm into *folder*; None, or why it cannot be had."""
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"]
    options += ["--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    command = ["npm", "install", "--prefix", str(folder), *options, package]
    try:
        result = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=100, check=False
        )
    except subprocess.TimeoutExpired:
        return f"npm install {package} did not end"
    if result.returncode != 0:
        return f"npm install {package} failed: {result.stderr.strip()[:200]!r}"
    return None


def installation() -> Distribution:
    """The package as it is installed, with its metadata; without it, see `unavailable`."""
    try:
        return distribution("registry-wsgi")
    except PackageNotFoundError:
        unavailable("registry-wsgi is not installed")


def unavailable(reason: str) -> NoReturn:
    """Skip the test, or fail it where REGISTRY_WSGI_REQUIRE_LIVE=1 says that nothing is to lack."""
    if os.environ.get("REGISTRY_WSGI_REQUIRE_LIVE") == "1":
        pytest.fail(reason)
    pytest.skip(reason, allow_module_level=True)
