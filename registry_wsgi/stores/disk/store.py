"""
A store in a directory, laid out as Ollama lays out its models.

::

    <root>/
        blobs/sha256-<hex>                                   content, and unfinished downloads
        manifests/<host>/<namespace>/<model>/<tag>           small JSON documents
        trash/<when>-<random>/                               one deleted model, a store of its own:
            manifests/<host>/<namespace>/<model>/<tag>           its manifest, moved here
            blobs/sha256-<hex>                                   hard links to its blobs
        condemned/<when>-<random>/                           what one prune has set aside:
            sha256-<hex>                                         a blob that nothing needs
        protected/<pattern>                                  empty files: what is not to be deleted,
                                                             percent-encoded
        history.jsonl                                        the last changes, one a line
        history.old.jsonl                                    those before
        under-way.json                                       how far a removal is, while it lasts

Only these are ours but for ``blobs/`` and ``manifests/``, and on a full disk files beside them
called ``trash-…`` (`registry_wsgi.stores.disk.trash`). Nothing of ours lies under ``blobs/``
(Ollama sweeps that at each start) unless it is a mount of its own, or four levels deep under
``manifests/`` (Ollama would list it).

Every change is one ``rename``, ``link`` or ``unlink``, so a process may be killed between any two
of them. Where no rename leads from one directory to the other, a manifest is copied, and the copy
is on the disk before the original goes. Hard links hold the content of a deleted model even when
another program cleans ``blobs/``; where the file system or its rights do not allow them, a delete
does without, and the deleted model can be restored for as long as its blobs stay in ``blobs/``.

No file outside the root is changed: keys and blob names are checked before they become paths, each
change names a file in an open directory, and a directory that a symbolic link puts elsewhere is
read, so that the blobs it names are kept, but nothing is moved, made or removed in it.

The parts of the store, each a module: ``places`` (paths, and the guards on the way), ``directory``
(open directories), ``system`` (what the system says, and what that means), and by what they serve
``manifests``, ``blobs``, ``aside``, ``trash``, ``protection``, ``survey``, ``reads``, ``history``
and ``work``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable

from ...errors import StoreError
from ..base import Blob
from .aside import Aside
from .history import History
from .manifests import Manifests
from .places import Places
from .protection import Protection
from .reads import Reads
from .survey import Survey
from .system import Reported, refuse_read_only, unlock
from .trash import Trash
from .work import Work
from .workshops import files_of_abandoned, remove_abandoned

__all__ = ["DiskStore"]

_log = logging.getLogger("registry_wsgi")


class DiskStore(Manifests, Aside, Trash, Protection, Survey, Reads, History, Work):
    """
    A `~registry_wsgi.stores.base.Store` in a directory of the local file system.

    Args:
        root: The models directory: what ``OLLAMA_MODELS`` names, ``~/.ollama/models`` by default
            there. It must exist; ``blobs`` and ``manifests`` in it need not.

    Attributes:
        root: The same, from the root of the file system on.

    Raises:
        StoreError: *root* is not a directory, or cannot be reached.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.places = Places(root)
        self._unlisted = {}
        self.root = self.places.root

    def __repr__(self) -> str:
        return f"DiskStore({self.root!r})"

    def claim(self) -> Callable[[], None] | None:
        import fcntl  # noqa: PLC0415 - not everywhere, and needed for nothing else

        with Reported(self.root):
            file = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                return None
            except OSError as error:  # some network file systems have no locks for directories
                _log.debug("%s: cannot be locked: %s", self.root, error.strerror)

        def release() -> None:
            unlock(file)
            os.close(file)

        return release

    def check_places(self, keys: Iterable[str], *, blobs: bool = True) -> None:
        folders = {"manifests/" + key.rpartition("/")[0] for key in keys}
        ours = (self.places.root, self.places.trash, *([self.places.condemned] if blobs else []))
        theirs = [f"{self.places.root}/{folder}" for folder in folders]
        for path in (*ours, *theirs, *([self.places.blobs] if blobs else [])):
            with Reported(path):
                refuse_read_only(path)
        with Reported(self.places.root), self.places.open() as top:
            for folder in (*(["blobs"] if blobs else []), *sorted(folders)):
                try:
                    self.places.shared(top, *folder.split("/")).close()
                except OSError as error:
                    # A folder that is absent, or cannot be entered, is named when its turn comes.
                    _log.debug("%s/%s: %s", self.places.root, folder, error.strerror)

    def abandoned(self, before: float, *, creates: bool = False) -> dict[str, list[Blob]]:
        left = self._abandoned_deletes(before)
        return left | files_of_abandoned(self.places, before) if creates else left

    def tidy(self, before: float, *, creates: bool = False) -> dict[str, StoreError]:
        self._tidy_runs()
        failures = self._tidy_deletes(before)
        return failures | remove_abandoned(self.places, before) if creates else failures
