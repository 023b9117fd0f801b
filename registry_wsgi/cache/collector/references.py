"""Which blobs there are, and which of them something needs. No I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator

from ...stores.base import Condemned
from ..manifest import blob_name, is_blob_name
from .suspects import Run

__all__ = ["References"]


class References:
    """
    The blobs of a store, by name, each with whether it is needed.

    A name is never taken out, and "needed" is never taken back.

    Attributes:
        set_aside: The blobs that this run has set aside.
    """

    def __init__(self) -> None:
        self._needed: dict[str, bool] = {}
        self._aside: dict[str, tuple[Run, ...]] = {}
        self._spellings: defaultdict[str, set[str]] = defaultdict(set)  # in unusual letters
        self._pardons: list[Condemned] = []
        self._files: set[str] = set()  # names that are no blob's: downloads, say, which may grow
        self.set_aside: set[str] = set()

    def add_aside(self, blobs: Iterable[Condemned]) -> None:
        runs: dict[Run, tuple[Run]] = {}  # shared by all blobs of a run, of which there may be many
        for blob in blobs:
            run = blob.when, blob.id
            self._aside[blob.name] = self._aside.get(blob.name, ()) + runs.setdefault(run, (run,))
            self._note_spelling(blob.name)

    def add_listed(self, names: Iterable[str]) -> None:
        self._needed = dict.fromkeys(names, False)
        for name in self._needed:
            if name != name.lower() or name[6:7] == ":":
                self._note_spelling(name)

    def need(self, blobs: Collection[str]) -> None:
        for blob in blobs:
            if blob in self._needed:
                self._needed[blob] = True
        if self._aside or self._spellings:
            for blob in blobs:
                if blob in self._aside:
                    self._pardons += (Condemned(*run, blob) for run in self._aside.pop(blob))
                if blob in self._spellings:
                    self.need(self._spellings[blob])

    def keep(self, name: str) -> None:
        """Count *name* as needed, as it was put back."""
        self._needed[name] = True

    def take_pardons(self) -> list[Condemned]:
        """Give the needed blobs that earlier runs have set aside, each once."""
        pardons, self._pardons = self._pardons, []
        return pardons

    def is_needed(self, name: str) -> bool:
        return self._needed.get(name, False)

    @property
    def any_aside(self) -> bool:
        """Whether earlier runs have left anything aside, be it needed by now or not."""
        return bool(self._aside or self._pardons)

    def is_aside(self, name: str) -> bool:
        """Tell whether an earlier run has set a blob of this name aside."""
        return name in self._aside

    def may_be_a_pull(self, name: str) -> bool:
        """
        Tell whether a change of *name* now would mean a pull.

        It would if *name* was not listed, is a file that may grow, or was set aside by this run and
        is in its place again.
        """
        return name not in self._needed or name in self._files or name in self.set_aside

    def count_unneeded(self) -> int:
        return len(self._needed) - sum(self._needed.values())

    def unneeded(self) -> Iterator[str]:
        for name, needed in self._needed.items():
            if not needed:
                if not is_blob_name(name):
                    self._files.add(name)
                yield name

    def aside(self) -> Iterator[Condemned]:
        return (Condemned(*run, name) for name, runs in self._aside.items() for run in runs)

    def _note_spelling(self, name: str) -> None:
        canonical = blob_name(name)
        if canonical is not None and canonical != name:
            self._spellings[canonical].add(name)
