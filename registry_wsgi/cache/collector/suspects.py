"""A compact table of blobs that may have to go."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator

from ...stores.base import Blob, Condemned

__all__ = ["NOT_ASIDE", "Run", "Suspects"]

#: A run of the collector that has set something aside: when, and its id.
Run = tuple[float, str]
NOT_ASIDE: Run = (0.0, "")


class Suspects:
    """Blobs that may have to go, each as it looked first. Of a million they take 40 megabytes."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.runs: list[Run] = []  # that have set them aside
        self._sizes = array("q")
        self._written = array("d")
        self._changed = array("d")
        self._linked: dict[int, Blob] = {}  # those whose content has other names

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[tuple[Condemned, Blob]]:
        for i, name in enumerate(self.names):
            yield Condemned(*self.runs[i], name), self._look(i)

    @property
    def bytes(self) -> int:
        """How many bytes all of them have together."""
        return sum(self._sizes)

    def add(self, name: str, run: Run, blob: Blob) -> None:
        """Add the blob *name*; the ``changed`` of *blob* is since when nothing needs it."""
        self.names.append(name)
        self.runs.append(run)
        self._sizes.append(blob.size)
        self._written.append(blob.written)
        self._changed.append(blob.changed)
        if blob.links != 1:
            self._linked[len(self.names) - 1] = blob

    def chosen(self, choose: Callable[[str, Blob], bool]) -> Suspects:
        """Give those for which *choose* is true."""
        some = Suspects()
        for i, name in enumerate(self.names):
            blob = self._look(i)
            if choose(name, blob):
                some.add(name, self.runs[i], blob)
        return some

    def _look(self, i: int) -> Blob:
        found = self._linked.get(i)
        return found or Blob(self._sizes[i], self._changed[i], self._written[i], None)
