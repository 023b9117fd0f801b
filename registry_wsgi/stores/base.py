"""
The protocol of a store: the few primitives that retention, restore and prune are made of.

A store keeps manifests under keys (``host/namespace/model/tag``), blobs under names
(``sha256-<hex>``, and whatever else a download leaves there), the trash (deleted manifests, each
with the moment of its deletion), and a few short texts, the patterns of the models that are
protected. It knows nothing of ages, references, pulls or what a pattern means:
`registry_wsgi.ModelCache` does, and asks for one small step at a time. Implement these methods for
a new kind of storage, and deletion, retention, restore and prune work on it.
``tests/core/stores/test_contract.py`` holds the contract as tests that take any store.

Each method is one step that either happens whole or not at all, whenever the process is killed, and
any number of threads and processes may call them at once on the same storage. Methods raise
`registry_wsgi.errors.StoreError`, with the path in the message and the cause chained, when the
storage fails.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import BinaryIO, NamedTuple, Protocol, runtime_checkable

from ..errors import StoreError
from ..names import Name
from .layout import entry_keep

__all__ = [
    "AsideStore",
    "Blob",
    "BlobStore",
    "Condemned",
    "Deleted",
    "Disk",
    "File",
    "Folder",
    "HistoryStore",
    "Manifest",
    "ManifestStore",
    "ProtectionStore",
    "Read",
    "Store",
    "SurveyedStore",
    "TrashStore",
    "WatchedStore",
    "WorkStore",
]

# There may be a million of some of these. So they are tuples, which are made in a quarter of the
# time that frozen dataclasses take.


class Manifest(NamedTuple):
    """
    The bytes of a manifest as they were read at one moment.

    Attributes:
        data: The content.
        modified: When it was last changed in any way, in seconds since the epoch: written, copied
            here or linked.
        version: Equal for as long as the stored manifest is not changed. None if it was written
            so recently that a change could keep the same timestamps.
        written: When its content was last written, in seconds since the epoch.
    """

    data: bytes
    modified: float
    version: Hashable | None
    written: float


class Folder(NamedTuple):
    """
    A folder that manifests lie in, or folders with manifests.

    Attributes:
        path: Where it is: empty for the folder of all hosts, else ``host``, ``host/namespace`` or
            ``host/namespace/model``.
        mark: Equal for as long as nothing comes into this folder or goes from it. None if
            something came or went so recently that another change could keep the same mark.
        empty: Whether nothing is in it. Not looked up for the folder of a model: then False.
    """

    path: str
    mark: Hashable | None
    empty: bool = False


#: What reading one of many manifests gave. None if it is gone, the error if it cannot be read.
Read = Manifest | StoreError | None


class Blob(NamedTuple):
    """
    What a store knows of one blob.

    Attributes:
        size: Its size in bytes.
        changed: When it last changed in any way, in seconds since the epoch: written, touched,
            copied here or linked.
        written: When it was last written or touched, in seconds since the epoch.
        content: Equal for two blobs if the space they take is the same space.
        links: How many names that space has. Only when all are gone is it free.
    """

    size: int
    changed: float
    written: float
    content: Hashable
    links: int = 1


class File(NamedTuple):
    """
    A file, folder or link in a store, and the space that it takes.

    Attributes:
        path: Where it is: ``blobs/<name>``, ``manifests/<key>``, ``trash/<id>/blobs/<name>``,
            ``condemned/<run>/<name>``, or where else below the root.
        content: Equal for two files if the space they take is the same space.
        size: Its size in bytes; 0 for a folder.
        taken: How many bytes of the disk it takes.
        links: How many names that space has. Only when all are gone is it free.
        changed: When it last changed in any way, in seconds since the epoch.
        folder: Whether it is a folder.
    """

    path: str
    content: Hashable
    size: int
    taken: int
    links: int
    changed: float
    folder: bool = False


class Disk(NamedTuple):
    """
    A disk, in bytes.

    Attributes:
        size: How many it has.
        free: How many can still be written.
        used: How many are taken, by whatever there is.
    """

    size: int
    free: int
    used: int


class Deleted(NamedTuple):
    """
    A manifest in the trash.

    Attributes:
        when: The moment of its deletion, in seconds since the epoch.
        id: What tells it from others in this store's trash.
        key: Where the manifest was, ``host/namespace/model/tag``.
    """

    when: float
    id: str
    key: str

    def expires(self, keep: float) -> float:
        """Tell when its time is over: the one in its id, or else *keep* seconds after *when*."""
        own = entry_keep(self.id)
        return self.when + (keep if own is None else own)


class Condemned(NamedTuple):
    """
    A blob that is set aside.

    Attributes:
        when: When it was set aside, in seconds since the epoch.
        id: Which run of the collector has set it aside.
        name: Its name before, and after if it is put back.
    """

    when: float
    id: str
    name: str


class ManifestStore(Protocol):
    """
    The manifests of the models that are in place.

    The methods of all these protocols that take or give many items do for each of them what the
    method for a single item does. They are there so that a store that answers slowly can ask for
    several items at a time. Each may fail after it has done some of the items.
    """

    def find(self, name: Name) -> str | None:
        """
        Look up the key under which the manifest of *name* is stored.

        The exact key wins. Only if it is absent, each part is compared without regard to case, and
        of several matches the lexically first is taken. None if there is no such manifest.
        """

    def resolve(self, key: str, *, tag: bool = True) -> str:
        """
        Tell the key of the manifest that stands at *key*: another one if links lead there.

        Args:
            key: Where to look.
            tag: Also follow a link that stands for the manifest itself. If not, the result is what
                ``discard`` would move.

        Returns:
            *key* itself, where the storage has no links, or if they lead out of the manifests.
        """

    def read(self, key: str) -> Manifest | None:
        """
        Read the manifest at *key*; None if it is gone.

        Raises:
            InvalidManifestError: It is too large to be one, say.
            OutOfReachError: A link stands there, and leads nowhere.
        """

    def read_all(self) -> Iterator[tuple[str, Read]]:
        """
        List the keys of all files that stand where a manifest would, and read each.

        A folder that cannot be entered, and a link that leads nowhere where a folder should be,
        are listed too: by their path (``host/namespace``, say), with an `OutOfReachError
        <registry_wsgi.errors.OutOfReachError>`.
        """

    def versions(self) -> Iterator[tuple[str, Hashable | None]]:
        """
        List the keys of all manifests, each with the version that `read` would give.

        A changed manifest never keeps its version. An unchanged one may get another; then it is
        read once more. None if the version cannot be told.

        Raises:
            OutOfReachError: One of the folders cannot be entered.
        """

    def folders(self) -> Iterator[Folder]:
        """
        List the folders of the manifests, each looked at before what is in it is listed.

        A walk through many folders is not one step: a manifest that is renamed meanwhile can be
        missed under both names. Where all folders, each with its mark, are the same before a walk
        and after it, nothing came or went, and the walk has met all manifests.

        A storage without folders lists none. There the keys and versions have to do.
        """

    def unseen(self) -> Iterator[str]:
        """
        List the manifests in a layout that this store does not understand, by their paths.

        They are of models that nothing here lists or deletes, so no blob may be removed.
        """


class BlobStore(Protocol):
    """The blobs that are in place, where other programs find them too."""

    def blobs(self) -> Iterator[str]:
        """List the names of all blobs, of unfinished downloads and whatever lies among them."""

    def blobs_changed(self) -> float:
        """
        Tell when one of what `blobs` lists last came or went, in seconds since the epoch.

        The time may be later than that (by changes of other kinds), but never earlier. 0 if none
        ever did, `math.inf` if that cannot be told.
        """

    def own_changes(self) -> tuple[float, float]:
        """
        Tell which changes of what `blobs` lists were the collector's alone.

        Returns:
            Two moments, in seconds since the epoch: after the first and before the second, nobody
            else let a blob come or go. Twice 0 if that is not known.
        """

    def note_own_changes(self, since: float, changed: float) -> None:
        """
        Keep in mind, for `own_changes`, that nobody else changed what `blobs` lists since *since*.

        Nothing is kept where the storage has no way, or if `blobs_changed` is no longer *changed*.
        """

    def preparing(self) -> float:
        """
        Tell when something last changed in the folders in which other programs prepare blobs.

        In seconds since the epoch; 0 if there are none.
        """

    def blob(self, name: str) -> Blob | None:
        """Look at the blob *name*; None if there is none."""

    def look(self, names: Iterable[str]) -> Iterator[tuple[str, Blob]]:
        """Look at many blobs, in no order; those that are gone are left out."""

    def open_blob(self, name: str) -> BinaryIO | None:
        """Open the blob *name* for reading; None if there is none."""

    def remove_blob(self, name: str) -> bool:
        """Remove the blob *name* at once; False if it was gone already."""


class AsideStore(Protocol):
    """The blobs that a prune has set aside, and may still put back."""

    @property
    def sets_aside(self) -> bool:
        """
        Whether a blob that is set aside is out of the reach of other programs.

        Where nothing can be renamed, a blob that is set aside stays in its place and is only
        marked. Then other programs still find it.
        """

    def changed_unseen(self) -> float:
        """
        Tell when the store last changed, where a pull can be under way without a trace.

        In seconds since the epoch; 0 where each pull shows. It matters only where `sets_aside` is
        False: there a pull that is not seen may have found a blob that is about to go.
        """

    def condemn(self, names: Iterable[str], when: float) -> Iterator[Condemned]:
        """
        Set the blobs *names* aside, one or some at a time as the result is asked for.

        A blob that is set aside is not listed any more, nor found by its name (unless the store
        only marks it), but can be put back unchanged. Those that are gone are left out. The others
        come in the order of *names*, all with the same moment and id. (A store that can have only
        one of a name aside leaves out those that have one there, too.)

        Args:
            names: Which blobs.
            when: The moment to record, in seconds since the epoch.

        Raises:
            NoRoomError: There is no room to set anything aside. Nothing is changed by the step
                that failed.
            UntouchableError: One of them cannot be moved. Those before it were set aside, those
                after it were not taken from *names* yet.
        """

    def condemned(self) -> Iterator[Condemned]:
        """List what is set aside, by this or any other process, oldest first."""

    def condemned_blob(self, blob: Condemned) -> Blob | None:
        """Look at a blob that is set aside; None if it is gone from there."""

    def look_aside(self, blobs: Iterable[Condemned]) -> Iterator[tuple[Condemned, Blob]]:
        """Look at many that are set aside, in no order; those that are gone are left out."""

    def pardon(self, blob: Condemned, *, replace: bool = False) -> bool:
        """
        Put a blob that is set aside back in its place, as if just written.

        Args:
            blob: Which one.
            replace: Let it take the place of another blob, which is lost then. (A store that only
                marks blobs has but one of a name.)

        Returns:
            False, with nothing changed, if another blob has taken the place (where the store only
            marks blobs, that one loses the mark), or if the blob is gone.

        Raises:
            UntouchableError: It cannot be moved, and is where it was.
        """

    def purge(self, blobs: Iterable[tuple[Condemned, float]]) -> Iterator[tuple[Condemned, bool]]:
        """
        Remove blobs that are set aside for good, one or some at a time as the result is asked for.

        Args:
            blobs: Each with the moment up to which it may have been written: one that was written
                later is left where it is.

        Returns:
            Each blob, in no order, and whether it was removed; else it was left where it is. Blobs
            that are gone already are left out.

        Raises:
            UntouchableError: One of them cannot be removed. Those after it were not taken from
                *blobs* yet.
        """


class TrashStore(Protocol):
    """The deleted models: their manifests, and what holds their blobs."""

    def discard(
        self, key: str, blobs: Iterable[str], when: float, keep: float | None = None
    ) -> Deleted | None:
        """
        Move the manifest at *key* into the trash.

        Of several callers at once, exactly one gets its entry in the trash, and None means that
        the manifest was gone. Where the storage has a way, the trash also takes hold of *blobs*,
        so that they outlive a removal from the store by another program. Whatever fails, the
        manifest is either in its place or in the trash.

        Args:
            key: Which manifest.
            blobs: The names of the blobs that it needs.
            when: The moment of deletion to record, in seconds since the epoch.
            keep: For how long to keep the entry, in seconds, which is recorded with it. None: that
                is left to whoever prunes.
        """

    def deleted(self, before: float | None = None, keep: float | None = None) -> list[Deleted]:
        """
        List the trash, oldest first.

        Args:
            before: Only what was deleted at this moment or earlier. None: all.
            keep: Only entries whose time is over by *before*: the time that was recorded with the
                entry, or else this one, in seconds after the deletion.
        """

    def read_deleted(self, entry: Deleted) -> Manifest | None:
        """
        Read a manifest in the trash; None if it is gone from there.

        Raises:
            InvalidManifestError: It is too large to be one, say.
        """

    def read_all_deleted(self, known: Container[Deleted] = ()) -> Iterator[tuple[Deleted, Read]]:
        """List the trash as `deleted` does, but for those *known*, and read each."""

    def blob_in_trash(self, entry: Deleted, name: str) -> Blob | None:
        """Look at the blob *name* that the trash holds for *entry*; None if it holds none."""

    def recover_blob(self, entry: Deleted, name: str) -> bool:
        """
        Put the blob *name* that the trash holds for *entry* in place of the store's own.

        Returns:
            False, with nothing changed, if it is gone from the trash.
        """

    def recover(self, entry: Deleted) -> bool:
        """
        Put the manifest of *entry* back in its place and take it out of the trash.

        Returns:
            False, with nothing changed, if it is gone from the trash.

        Raises:
            ModelExistsError: There is a manifest at that key. Nothing is changed.
        """

    def forget(self, entry: Deleted) -> bool:
        """
        Remove *entry* from the trash for good, with the holds on its blobs.

        Returns:
            False if it was gone already. The blobs themselves stay.
        """


class ProtectionStore(Protocol):
    """The patterns of the models that are not to be deleted."""

    def protected(self) -> Iterator[str]:
        """List the patterns that `protect` was given, in no order. If it cannot be told, raise."""

    def protect(self, pattern: str) -> None:
        """
        Keep *pattern*, a short text of ASCII characters; if it is kept already, nothing changes.

        Raises:
            StoreError: The pattern is too long for the storage, say.
        """

    def unprotect(self, pattern: str) -> bool:
        """Drop *pattern*; False if it was not kept."""


class Store(ManifestStore, BlobStore, AsideStore, TrashStore, ProtectionStore, Protocol):
    """Where models are kept: all of the protocols above, and what serves the storage as a whole."""

    def claim(self) -> Callable[[], None] | None:
        """
        Be the only one to do a long piece of work, as far as the storage can tell.

        No other method heeds the claim: it is there so that one of two processes can be told to
        wait. It ends with the process.

        Returns:
            What gives it back, from any thread. None if another has it now. A storage that cannot
            tell lets everyone have it.
        """

    def check_places(self, keys: Iterable[str], *, blobs: bool = True) -> None:
        """
        Check that this store may change the trash, the manifests at *keys*, and *blobs*.

        Raises:
            StoreError: They lie elsewhere, by a link that leads out of the store, say; or on a file
                system that may only be read.
        """

    def abandoned(self, before: float, *, creates: bool = False) -> Mapping[str, Sequence[Blob]]:
        """
        Look at the files that `tidy` would remove, given the same arguments.

        Returns:
            Those of each delete that was killed before it moved its manifest, and of each folder
            of a create, by the place of the trash entry or of the folder in the store.
        """

    def tidy(self, before: float, *, creates: bool = False) -> Mapping[str, StoreError]:
        """
        Finish what processes that were killed have left.

        Args:
            before: What was begun or changed after this moment is left alone, as it may be under
                way.
            creates: Whether to remove the folders, too, in which other programs make blobs.

        Returns:
            Why one of the places that `abandoned` gives cannot be touched, by that place.
        """


@runtime_checkable
class SurveyedStore(Protocol):
    """What a `Store` may have besides: it knows the space that each of its files takes."""

    def survey(self) -> Iterator[File]:
        """List everything that takes space, in no order: each name, folders and links too."""

    def disk(self) -> Disk | None:
        """Look at the disk that the blobs are on; None if there is none."""


@runtime_checkable
class WatchedStore(Protocol):
    """What a `Store` may have besides: it can tell which blobs are read."""

    def last_reads(self, names: Iterable[str]) -> Iterator[tuple[str, float]]:
        """
        Tell when the blobs *names* were last read, in seconds since the epoch.

        Those of which that is not known are left out: the storage keeps no such times, say. A time
        may be up to a day earlier than the last time that somebody read the blob, and never later.
        """

    def is_open(self, name: str) -> bool | None:
        """Tell whether a process has the blob *name* open or in memory; None if nobody can tell."""


@runtime_checkable
class HistoryStore(Protocol):
    """What a `Store` may have besides: it keeps the last changes, each as a line of text."""

    def append_history(self, line: str) -> None:
        """
        Add *line*, and drop the oldest ones if there are many.

        The line may get lost, when the power goes, say. No other method depends on it.

        Args:
            line: A few kilobytes of ASCII characters at most, without an end of line.

        Raises:
            StoreError: It could not be added. The lines before it stay.
        """

    def history(self) -> list[str]:
        """
        List the lines that were added, the oldest first.

        Whoever may write in the storage may have changed them, or added others.
        """


@runtime_checkable
class WorkStore(Protocol):
    """What a `Store` may have besides: each process sees the long work of another one."""

    def show_work(self) -> AbstractContextManager[Callable[[str], None]]:
        """
        Show for as long as the context lasts that there is work under way.

        Gives what shows a line, a kilobyte of ASCII characters at most, in the place of the one
        before. It shows nothing while another process does, and raises an error if it fails:
        a `registry_wsgi.errors.StoreError`. Leaving the context never raises. The line of a process
        that was killed does not show.
        """

    def work(self) -> str | None:
        """
        Tell the line that shows now; None if there is none.

        It may be empty or broken, as whoever may write in the storage may have changed it.
        """
