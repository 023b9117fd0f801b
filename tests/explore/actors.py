"""What programs do to a store of models: ours by calls of the library, others call by call."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from typing import Any

from explore.schedule import Actor
from explore.seam import START, Disk
from kit.clocks import DAY, HOUR
from kit.trees import HOST, blob, manifest
from registry_wsgi import DiskStore, ModelCache
from registry_wsgi.cache.collector import PAUSE
from registry_wsgi.errors import (
    InvalidManifestError,
    ModelExistsError,
    ModelIncompleteError,
    ModelNotFoundError,
    ModelProtectedError,
)

Act = Callable[[Disk], object]

#: For how long a pull may go without a change: the ``in_flight`` of the caches here.
IN_FLIGHT = HOUR

#: A blob is called by a letter here: its file name, by its letter, and the other way round.
NAMES = {letter: blob(letter.encode() * 4) for letter in "cgknorsx"}
LETTERS = {name: letter for letter, name in NAMES.items()}
LIBRARY = f"manifests/{HOST}/library"


def content(letter: str) -> bytes:
    """The content of the blob *letter*."""
    return letter.encode() * 4


def model(layers: str) -> bytes:
    """A manifest with these layers, and the config ``c``."""
    return manifest(*map(content, layers), config=content("c"))


def mentioned(document: bytes | None) -> set[str]:
    """The names of the blobs in a manifest; none if it is not whole."""
    try:
        found = json.loads(document or b"")
    except ValueError:
        return set()
    return {layer["digest"].replace(":", "-") for layer in [*found["layers"], found["config"]]}


def cache(disk: Disk) -> ModelCache:
    """A cache as a process of its own opens it."""
    found = ModelCache(DiskStore(disk.root), clock=disk.clock, in_flight=IN_FLIGHT)
    found.pause = PAUSE
    # A line of the history is written when a change is made already, to a file that nothing else
    # depends on: each of its calls would be one more step without another outcome.
    found.recording = False
    return found


# Files, as other programs use them


def write(path: str, data: bytes, parts: int = 1) -> None:
    """Write a file in its place."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        size = -(-len(data) // parts)
        for at in range(0, len(data), size or 1):
            os.write(file, data[at : at + size])
    finally:
        os.close(file)


def read(path: str) -> bytes | None:
    """Read a file; None if it is not there."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return os.read(file, 1 << 20)
    finally:
        os.close(file)


def exists(path: str) -> bool:
    """Look whether a file is there."""
    try:
        os.stat(path)
    except OSError:
        return False
    return True


def blob_path(disk: Disk, letter: str) -> str:
    """Where the blob *letter* is."""
    return f"{disk.root}/blobs/{NAMES[letter]}"


def manifest_path(disk: Disk, name: str) -> str:
    """Where the manifest of the model *name* is."""
    return f"{disk.root}/{LIBRARY}/{name}/latest"


def put_manifest(disk: Disk, name: str, document: bytes, parts: int = 1) -> None:
    """Write a manifest in its place. Who is told that the folder is gone tries again."""
    path = manifest_path(disk, name)
    for _ in range(3):
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            return write(path, document, parts)
        except FileNotFoundError:
            pass
    return None


# Other programs


def pull(name: str, layers: str, *, touch: bool = False, parts: int = 1, resume: str = "") -> Act:
    """
    Ollama's: a blob in its place is used as it is, any other is downloaded. The manifest is last.

    Args:
        name: Of the model.
        layers: The letters of its blobs.
        touch: Whether what is used is touched, as newer versions do.
        parts: In how many writes the manifest comes.
        resume: The letters of which the first half has come before.
    """

    def act(disk: Disk) -> None:
        for letter in layers + "c":
            path = blob_path(disk, letter)
            if exists(path):
                if not touch:
                    continue
                try:
                    os.utime(path)
                    continue
                except FileNotFoundError:
                    pass  # it went: it is downloaded
            flags = 0 if letter in resume and exists(f"{path}-partial") else os.O_TRUNC
            file = os.open(f"{path}-partial", os.O_WRONLY | os.O_CREAT | flags)
            try:
                os.write(file, content(letter)[:2])
                os.write(file, content(letter)[2:])
            finally:
                os.close(file)
            os.rename(f"{path}-partial", path)
        put_manifest(disk, name, model(layers), parts)

    return act


def create(name: str, layers: str) -> Act:
    """Ollama's: each layer is written beside, and dropped if it is there already."""

    def act(disk: Disk) -> None:
        for number, letter in enumerate(layers + "c"):
            spare = f"{disk.root}/blobs/sha256-{number}"
            write(spare, content(letter))
            if exists(blob_path(disk, letter)):
                os.unlink(spare)
            else:
                os.rename(spare, blob_path(disk, letter))
        put_manifest(disk, name, model(layers))

    return act


def copy(source: str, target: str) -> Act:
    """Ollama's ``cp``."""

    def act(disk: Disk) -> bool:
        document = read(manifest_path(disk, source))
        if document is not None:
            put_manifest(disk, target, document)
        return document is not None

    return act


def _needed(disk: Disk) -> set[str]:
    folder = f"{disk.root}/{LIBRARY}"
    documents = [read(f"{folder}/{name}/latest") for name in os.listdir(folder)]
    return set().union(*map(mentioned, documents))


def _remove_blobs(disk: Disk, names: set[str]) -> None:
    for name in sorted(names):
        with suppress(FileNotFoundError):
            os.unlink(f"{disk.root}/blobs/{name}")


def remove(name: str) -> Act:
    """Ollama's ``rm``: the manifest, then what no other manifest names."""

    def act(disk: Disk) -> None:
        path = manifest_path(disk, name)
        document = read(path)
        if document is not None:
            os.unlink(path)
            os.rmdir(os.path.dirname(path))
            _remove_blobs(disk, mentioned(document) - _needed(disk))

    return act


def sweep(disk: Disk) -> None:
    """What Ollama does when it starts: removes what no manifest names."""
    blobs = set(os.listdir(f"{disk.root}/blobs"))
    _remove_blobs(disk, blobs - _needed(disk) - {"condemned"})


def rename(*names: str) -> Act:
    """Rename a model, again and again: each time a copy, and the removal of the first."""

    def act(disk: Disk) -> None:
        for source, target in pairwise(names):
            if copy(source, target)(disk):
                remove(source)(disk)

    return act


def rsync(name: str, layers: str) -> Act:
    """Copy a model here with its old times: each file beside, and renamed into its place."""
    old = START // 1_000_000_000 - 40 * DAY

    def act(disk: Disk) -> None:
        files = [(blob_path(disk, letter), content(letter)) for letter in layers + "c"]
        for path, data in (*files, (manifest_path(disk, name), model(layers))):
            if path.endswith("/latest"):
                os.makedirs(os.path.dirname(path), exist_ok=True)
            elif exists(path):
                continue
            folder, _, base = path.rpartition("/")
            write(f"{folder}/.{base}.Ab12Cd", data)
            os.utime(f"{folder}/.{base}.Ab12Cd", (old, old))
            os.rename(f"{folder}/.{base}.Ab12Cd", path)

    return act


# Ours


def ours(method: str, *args: Any, **options: Any) -> Act:
    """A call of the library."""
    return lambda disk: getattr(cache(disk), method)(*args, **options)


def prunes(*waits: float) -> Act:
    """Prune now, and again after each of *waits*, in seconds."""

    def act(disk: Disk) -> None:
        cache(disk).prune()
        for wait in waits:
            disk.turns.sleep(wait)
            cache(disk).prune()

    return act


def after_deletes(disk: Disk) -> None:
    """Prune as after two deletes, one soon after the other, and then as a timer does."""
    cache(disk).prune_deleted()
    disk.turns.sleep(PAUSE / 4)
    cache(disk).prune_deleted()
    disk.turns.sleep(PAUSE / 4)
    cache(disk).prune()


_REFUSED = (ModelNotFoundError, ModelExistsError, InvalidManifestError, ModelIncompleteError)
_HALF = (InvalidManifestError,)  # a manifest that is half written stops a prune

#: Ours, by name: what it does, how it may end, and which models may be gone for good then.
OURS: dict[str, tuple[Act, tuple[type[Exception], ...], str]] = {
    "unlink": (ours("unlink", "kept"), (ModelProtectedError,), ""),
    "restore": (ours("restore", "gone"), _REFUSED, ""),
    "restore-back": (ours("restore", "back"), _REFUSED, ""),
    "restore-kept": (ours("restore", "kept"), _REFUSED, ""),
    "prune": (ours("prune"), _HALF, "gone"),
    "prune-later": (prunes(40 * 60, 40 * 60), _HALF, "gone"),
    "prune-age": (ours("prune", age=2 * HOUR), _HALF, "gone back"),
    "prune-all": (ours("prune", all=True), _HALF, "gone kept"),
    "prune-deleted": (ours("prune", deleted_only=True), _HALF, "gone"),
    "after-deletes": (after_deletes, _HALF, "gone"),
    "prune-dry": (ours("prune", dry_run=True), _HALF, ""),
    "forget": (ours("forget", "gone"), (ModelNotFoundError, *_HALF), "gone"),
    "forget-back": (ours("forget", "back"), (ModelNotFoundError, *_HALF), "back"),
    "verify": (ours("verify", repair=True), (), ""),
    "protect": (ours("protect", "kept"), (), ""),
}

#: Those of other programs, by name, with the models that may be gone for good.
OTHERS: dict[str, tuple[Act, str]] = {
    "pull": (pull("new", "ogn"), ""),
    "pull-shown": (pull("new", "nog"), ""),  # what it downloads comes first
    "pull-found": (pull("new", "og"), ""),  # all of it is there
    "pull-touch": (pull("new", "ogn", touch=True), ""),
    "pull-aside": (pull("new", "ox"), ""),  # x is aside
    "pull-kept": (pull("kept", "oks"), ""),
    "pull-gone": (pull("gone", "gs"), ""),  # there is nothing to download
    "pull-half": (pull("new", "on", parts=2), ""),
    "pull-resumed": (pull("new", "on", resume="n"), ""),
    "pull-unlink": (lambda disk: (pull("new", "og")(disk), cache(disk).unlink("new")), ""),
    "create": (create("new", "ogx"), ""),
    "create-found": (create("new", "o"), ""),  # all of it is there
    "copy": (copy("kept", "new"), ""),
    "rm": (remove("kept"), "kept"),
    "rename": (rename("kept", "zz"), "kept"),
    "rename-up": (rename("kept", "aa"), "kept"),
    "rename-back": (rename("kept", "zz", "kept"), ""),
    "rsync": (rsync("new", "ogn"), ""),
    "sweep": (sweep, ""),
}


def actor(name: str, *, unseen: float, held: bool) -> Actor:
    """
    Make the actor *name*; a number at its end tells two of a kind apart.

    Args:
        name: A key of `OURS` or `OTHERS`.
        unseen: How long another program may go without a change while it shows nothing.
        held: Whether the trash holds what others remove from ``blobs``.
    """
    kind = name.rstrip("0123456789")
    if kind in OURS:
        act, may_raise, loses = OURS[kind]
        return Actor(name, act, may_raise, frozenset(loses.split()))
    act, loses = OTHERS[kind]
    if kind in ("rm", "sweep") and not held:
        loses += " gone back"
    if kind == "pull-touch":  # what was touched stays, also if nothing else shows a pull
        unseen = IN_FLIGHT
    # It fails, and says so.
    makes = {"pull-kept": "kept", "pull-gone": "gone"}.get(kind, "new")
    if not kind.startswith(("pull", "create", "copy", "rsync")) or kind == "pull-unlink":
        makes = ""
    return Actor(name, act, (OSError,), frozenset(loses.split()), makes, IN_FLIGHT, unseen)
