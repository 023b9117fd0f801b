"""
The ways in which a blob is taken out of reach, brought back, and removed for good.

`MarkOnly` is that of every bucket: a marked blob stays where it is. `MarkAndHide` is that of a
bucket behind S3 that keeps old versions, where a delete hides what it deletes. `EndUpload` is that
of an unfinished upload, which is no object yet.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ...errors import StoreError
from .lookup import Lookup
from .marks import Mark
from .requests import Bucket, Meta
from .uploads import Uploads
from .versions import History, Versions

__all__ = ["Aside", "EndUpload", "MarkAndHide", "MarkOnly", "Removal"]


@dataclass(frozen=True, slots=True)
class Aside:
    """
    A blob that is set aside.

    Attributes:
        mark: Its mark.
        meta: The blob itself, in its place or hidden.
        history: What else there is of that name.
    """

    mark: Mark
    meta: Meta
    history: History

    @property
    def name(self) -> str:
        """The name of the blob."""
        return self.mark.blob.name

    @property
    def is_hidden(self) -> bool:
        """Whether no pull finds it."""
        return self.meta != self.history.current

    @property
    def is_unchanged(self) -> bool:
        """Whether it is the blob that was marked, not one that came later."""
        return self.meta.fingerprint == self.mark.means


class Removal(Protocol):
    """
    One way of removing blobs.

    Attributes:
        hides: Whether blobs that are marked from now on are hidden, too.
        looks_first: Whether some of what is marked may not be touched, so that it has to be looked
            at before its mark is replaced by a tombstone.
    """

    @property
    def hides(self) -> bool: ...

    looks_first: bool

    def histories(self, names: Sequence[str]) -> Mapping[str, History]:
        """Look what there is of each of *names*."""

    def meant(self, mark: Mark, history: History) -> Meta | None:
        """Tell what *mark* has set aside; None if that is gone, or not set aside (yet)."""

    def hide(self, names: Sequence[str]) -> None:
        """Hide the blobs *names*, which were marked just now, if this is the way to do it."""

    def show(self, histories: Iterable[tuple[str, History]]) -> None:
        """Bring back the blobs of these names and histories, if they are hidden."""

    def remove(self, asides: Sequence[Aside]) -> Collection[str]:
        """
        Remove blobs for good. If it fails for some of them, others may be gone.

        Returns:
            The keys of those that were left, as another blob is in their place by now.
        """


class MarkOnly:
    """
    Leave a marked blob in its place, where any pull still finds it.

    Args:
        bucket: Where the blobs are.
        lookup: What looks at them.
    """

    hides = False
    looks_first = False

    def __init__(self, bucket: Bucket, lookup: Lookup) -> None:
        self._bucket = bucket
        self._lookup = lookup

    def histories(self, names: Sequence[str]) -> Mapping[str, History]:
        metas = self._lookup.many(names)
        return {name: History(metas.get(name)) for name in names}

    def meant(self, mark: Mark, history: History) -> Meta | None:
        # A blob that was hidden while the bucket kept versions is out of reach here.
        return None if mark.hides else history.current

    def hide(self, names: Sequence[str]) -> None:
        pass

    def show(self, histories: Iterable[tuple[str, History]]) -> None:
        pass

    def remove(self, asides: Sequence[Aside]) -> Collection[str]:
        return self._bucket.delete_unchanged([aside.meta for aside in asides])


class MarkAndHide:
    """
    Put a delete marker above a marked blob, so that no pull finds it.

    It also serves where versioning is suspended. Then it hides no more blobs, but shows or removes
    those that were hidden before.

    Args:
        bucket: Where the blobs are.
        versions: Their versions.
    """

    looks_first = True

    def __init__(self, bucket: Bucket, versions: Versions) -> None:
        self._bucket = bucket
        self._versions = versions

    @property
    def hides(self) -> bool:
        return self._versions.on

    def histories(self, names: Sequence[str]) -> Mapping[str, History]:
        tuning = self._bucket.tuning
        found = {}
        if len(names) > tuning.few:
            found = self._versions.find_all({*names}, len(names) * tuning.density)
        rest = [name for name in names if name not in found]
        return found | dict(zip(rest, self._bucket.at_once(self._versions.find, rest), strict=True))

    def meant(self, mark: Mark, history: History) -> Meta | None:
        if history.hidden is not None:
            # If another blob came between the mark and the delete, that one is hidden. Its time
            # shows that it is not the one that was marked.
            return history.hidden
        if mark.hides or self.hides:
            return next((meta for meta in history.older if meta.fingerprint == mark.means), None)
        return history.current

    def hide(self, names: Sequence[str]) -> None:
        if not self.hides:
            return
        # Ask again, as marking took its time: if the bucket keeps no versions any more, this delete
        # would be for good.
        self._versions.ask()
        if not self.hides:
            raise StoreError(
                f"{self._bucket.name}/blobs/: versioning was switched off while {len(names)} blobs"
                " were marked: they stay in their place"
            )
        self._bucket.delete(*(f"blobs/{name}" for name in names))

    def show(self, histories: Iterable[tuple[str, History]]) -> None:
        self._versions.destroy(
            (name, id_)
            for name, history in histories
            if history.current is None
            for id_ in history.markers
        )

    def remove(self, asides: Sequence[Aside]) -> Collection[str]:
        hidden = [aside for aside in asides if aside.is_hidden]
        visible = [aside.meta for aside in asides if not aside.is_hidden]
        changed = self._bucket.delete_unchanged(visible)
        self._versions.destroy((aside.name, aside.meta.version or "null") for aside in hidden)
        # The delete markers go last: without them a pull would have found the blob. Where older
        # versions remain, the markers stay, or the newest of these would come back.
        self.show((each.name, each.history) for each in hidden if len(each.history.older) == 1)
        return changed


class EndUpload:
    """
    End an unfinished upload, which no pull finds anyway.

    Args:
        bucket: Whose requests are paced.
        uploads: The unfinished uploads.
    """

    hides = False
    looks_first = False

    def __init__(self, bucket: Bucket, uploads: Uploads) -> None:
        self._bucket = bucket
        self._uploads = uploads

    def histories(self, names: Sequence[str]) -> Mapping[str, History]:
        looks = self._bucket.at_once(self._uploads.look, names)
        return dict(zip(names, map(History, looks), strict=True))

    def meant(self, mark: Mark, history: History) -> Meta | None:
        del mark
        return history.current

    def hide(self, names: Sequence[str]) -> None:
        pass

    def show(self, histories: Iterable[tuple[str, History]]) -> None:
        pass

    def remove(self, asides: Sequence[Aside]) -> Collection[str]:
        for aside in asides:
            self._uploads.abort(aside.name)
        return ()
