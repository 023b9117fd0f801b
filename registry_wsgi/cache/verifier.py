"""
The check: is every model whole?

A manifest says which blobs a model needs and how large each is. A blob's name is the hash of its
content. The sizes are looked up in no time; the hashes (*deep*) take every byte.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ..errors import OutOfReachError, StoreError, UntouchableError
from ..names import Name
from ..stores.base import Blob, Read, Store
from .collector.progress import Progress, silent
from .downloads import is_temporary
from .manifest import blob_name, parse_manifest
from .reading import Refuse, is_left_by_others, is_whole, name_of, read_models

__all__ = ["Problem", "Verifier", "VerifyReport"]

_log = logging.getLogger("registry_wsgi")

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Problem:
    """
    One thing that is wrong.

    Attributes:
        kind: ``unreadable`` (a manifest, or in a deep check a blob, cannot be read),
            ``out of reach`` (a link among the manifests leads nowhere, or a folder cannot be
            entered), ``unseen`` (there are models in a layout that is not understood here),
            ``missing`` (a blob is not there), ``wrong size`` (a blob has not the size that the
            manifest says), ``corrupt`` (a blob has other content), ``foreign`` (a file among the
            blobs that is neither one nor an unfinished download; it does no harm).
        subject: The digest ``sha256:<hex>``, the name of the foreign file, or the path of the
            manifest or folder below ``manifests/``.
        models: The full names of the models that need it.
        detail: What exactly is wrong, for people.
        repaired: Whether it has been put right.
    """

    kind: str
    subject: str
    models: tuple[str, ...] = ()
    detail: str = ""
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """
    What a check found.

    Attributes:
        models: How many models were checked.
        blobs: How many blobs.
        bytes: How many bytes were read, in a deep check; else how many the blobs have.
        problems: What is wrong, and what was until it was repaired.
    """

    models: int
    blobs: int
    bytes: int
    problems: tuple[Problem, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every model checked is whole now."""
        return all(problem.repaired or problem.kind == "foreign" for problem in self.problems)


class Verifier:
    """
    One check of a store.

    Args:
        store: What to check.
        wanted: Only models of these names; None: all, and foreign files too.
        deep: Whether to read the blobs and compare their content.
        repair: Whether to put back what the trash, or an unfinished prune, still has.
        threads: How many blobs are read at once; None: as many as there are processors, up to 8.
        progress: Called with what is being done, how many bytes (or models) are done, and how many
            there are.
    """

    def __init__(
        self,
        store: Store,
        wanted: set[Name] | None = None,
        *,
        deep: bool = False,
        repair: bool = False,
        threads: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._store = store
        self._wanted = None if wanted is None else {name.key.lower() for name in wanted}
        self._deep = deep
        self._repair = repair
        self._threads = threads or min(8, os.cpu_count() or 1)
        self._progress = progress or silent
        self._lock = threading.Lock()
        self._found: dict[str, Problem] = {}  # what is wrong with a blob, by its name
        self._problems: list[Problem] = []
        self._stopped = False

    def run(self) -> VerifyReport:
        """Check."""
        sizes: dict[str, int | None] = {}
        models = 0
        for _, blobs in self._models(self._refuse):
            models += 1
            sizes.update(blobs)
        count, total = len(sizes), 0
        whole: dict[str, int] = {}
        # There may be a million blobs: one that is whole is forgotten as soon as it was looked at.
        for name, look in self._store.look(list(sizes)):
            if name in sizes and is_whole(look, sizes[name]):
                del sizes[name]
                total += look.size
                if self._deep:
                    whole[name] = look.size
        for name, size in sizes.items():
            found = self._judge(name, size)
            if found is not None:
                total += found.size
                whole[name] = found.size
        if self._deep:
            self._read(whole)
        self._report_found()
        if self._wanted is None:
            self._look_for_foreign()
            self._look_for_unseen()
        return VerifyReport(models, count, total, tuple(self._problems))

    def _models(self, refuse: Refuse) -> Iterator[tuple[str, dict[str, int | None]]]:
        found = self._told(self._store.read_all())
        parsed = read_models(found, lambda _, manifest: parse_manifest(manifest.data), refuse)
        for key, _, blobs in parsed:
            yield key, blobs

    def _told(self, found: Iterable[tuple[str, Read]]) -> Iterator[tuple[str, Read]]:
        """Pass on the wanted models among *found*, and tell how far the reading is."""
        for done, (key, manifest) in enumerate(found):
            self._progress("reading manifests", done, None)
            if self._wanted is None or key.lower() in self._wanted:
                yield key, manifest

    def _refuse(self, key: str, error: StoreError | None) -> None:
        name = name_of(key)
        if isinstance(error, OutOfReachError) and (name is not None or key.count("/") < 3):
            self._problems.append(Problem("out of reach", key, _names([key]), str(error)))
        elif error is not None and name is not None and not is_left_by_others(key):
            self._problems.append(Problem("unreadable", key, (str(name),), str(error)))

    def _judge(self, name: str, size: int | None) -> Blob | None:
        """Look again at a blob that is not whole, put it back if that is wanted, or note it."""
        blob = self._store.blob(name)
        if is_whole(blob, size):
            return blob
        if blob is None:
            kind, detail = "missing", "it is not there"
        else:
            kind, detail = "wrong size", f"it has {blob.size} bytes instead of {size}"
        if self._repair and self._put_back(name, size):
            self._found[name] = Problem(kind, name, (), f"{detail}; put back", repaired=True)
            return self._store.blob(name)
        self._found[name] = Problem(kind, name, (), detail)
        return None

    def _report_found(self) -> None:
        """Report the blobs that were noted, each with the models that need it."""
        if not self._found:
            return
        users: defaultdict[str, list[str]] = defaultdict(list)
        for key, blobs in self._models(lambda *_: None):
            for name in blobs.keys() & self._found.keys():
                users[name].append(key)
        for name, problem in self._found.items():
            # A model that was deleted meanwhile has taken its blobs with it.
            if name in users or problem.repaired:
                digest, models = name.replace("-", ":", 1), _names(users[name])
                self._problems.append(replace(problem, subject=digest, models=models))

    def _put_back(self, name: str, size: int | None) -> bool:
        """Put back a whole blob that is aside or in the trash, in place of one that is not."""
        store = self._store
        for aside in store.condemned():
            if blob_name(aside.name) == name and is_whole(store.condemned_blob(aside), size):
                with _tried():
                    store.pardon(aside, replace=True)
            if is_whole(store.blob(name), size):
                return True
        for entry in store.deleted():
            if is_whole(store.blob_in_trash(entry, name), size):
                with _tried():
                    store.recover_blob(entry, name)
            if is_whole(store.blob(name), size):
                return True
        return False

    def _read(self, sizes: dict[str, int]) -> None:
        # Not imported above: a delete does not need it.
        from concurrent.futures import ThreadPoolExecutor, wait  # noqa: PLC0415

        total = sum(sizes.values())
        done = 0

        def count(read: int) -> None:
            nonlocal done
            with self._lock:
                done += read
                self._progress("reading blobs", done, total)

        def check(name: str) -> str | Exception | None:
            try:
                return self._hash(name, count)
            except (OSError, StoreError) as error:
                return error

        # The large blobs come first, so that no thread is left with one at the end.
        names = sorted(sizes, key=lambda name: sizes[name], reverse=True)
        with ThreadPoolExecutor(self._threads) as pool:
            try:
                for name, future in [(name, pool.submit(check, name)) for name in names]:
                    # Python heeds a Ctrl-C that comes just before a wait only after the wait.
                    while wait([future], timeout=1).not_done:
                        pass
                    found = future.result()
                    if isinstance(found, Exception):
                        detail = f"it cannot be read: {found}"
                        self._found[name] = Problem("unreadable", name, (), detail)
                    elif found is not None and found != name:
                        detail = f"its content is {found.replace('-', ':', 1)}"
                        self._found[name] = Problem("corrupt", name, (), detail)
            except BaseException:
                # After a Ctrl-C, say, nobody waits for the terabytes that are left.
                self._stopped = True
                pool.shutdown(cancel_futures=True)
                raise

    def _hash(self, name: str, count: Callable[[int], None]) -> str | None:
        stream = self._store.open_blob(name)
        if stream is None:
            return None  # it went with its model meanwhile
        digest = hashlib.sha256()
        buffer = bytearray(_CHUNK)
        view = memoryview(buffer)
        with stream:
            # Other threads run while this one reads or hashes.
            while not self._stopped and (
                size := stream.readinto(buffer)  # type: ignore[attr-defined]
            ):
                digest.update(view[:size])
                count(size)
        return f"sha256-{digest.hexdigest()}"

    def _look_for_foreign(self) -> None:
        for name in self._store.blobs():
            if not name.lower().startswith("sha256") and not is_temporary(name):
                self._problems.append(Problem("foreign", name, (), "it is no blob"))

    def _look_for_unseen(self) -> None:
        unseen = list(self._store.unseen())
        if unseen:
            folder = unseen[0].partition("/")[0]
            detail = f"{len(unseen)} manifests in a layout that is not understood here"
            self._problems.append(Problem("unseen", folder, (), detail))


@contextmanager
def _tried() -> Iterator[None]:
    """Log that a blob cannot be put back, and go on."""
    try:
        yield
    except UntouchableError as error:
        _log.warning("cannot be put back: %s", error)


def _names(keys: Iterable[str]) -> tuple[str, ...]:
    """Name the models whose manifests are at *keys*."""
    return tuple(str(name_of(key) or key) for key in keys)
