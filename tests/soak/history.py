"""What the journals of a round say, to compare with what is listed."""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path


class History:
    """
    What the journals of a round say.

    Operations of several processes on one model overlap, and then nobody knows which was first.
    But if each delete had ended when a pull or restore began, the model must be listed; and if each
    pull and restore had ended when a delete began, it must not.

    Args:
        journals: Their directory.
        lag: How long after a process was killed what it has asked for may still happen.

    Attributes:
        errors: What processes have raised.
        broken: What processes have met that the promise forbids.
        lost: Which models have lost which blobs: the key, the pull and the blobs.
        moments: When that was seen.
        pulls: What each pull says of itself; *written*: when its manifest was, at the latest.
    """

    def __init__(self, journals: Path, lag: float) -> None:
        self.errors: list[str] = []
        self.broken: list[str] = []
        self.lost: set[tuple[str, str, str]] = set()
        self.moments: list[float] = []
        self.pulls: defaultdict[str, dict[str, float]] = defaultdict(dict)
        self._lag = lag
        self._losses: list[tuple[float, str, str, str]] = []
        self._puts: defaultdict[str, list[_Span]] = defaultdict(list)
        self._deletes: defaultdict[str, list[_Span]] = defaultdict(list)
        self._removals: defaultdict[str, list[_Removal]] = defaultdict(list)
        for path in journals.iterdir():
            self._read(path)
        for looked, key, pull, blobs in self._losses:
            self.lost.add((key, pull, blobs))
            self.moments.append(looked)

    def _read(self, path: Path) -> None:
        under_way: tuple[float, str, str, str] | None = None
        removals: list[_Removal] = []
        for line in path.read_text().splitlines():
            time_of, what, key, *details = line.split(" ")
            moment = float(time_of)
            if what in ("put", "delete"):
                under_way = moment, what, key, details[0]
            elif what == "remove":
                removals.append(_Removal(float(details[0]), float(details[1])))
                self._removals[key].append(removals[-1])
            elif what == "removed":
                while removals:
                    removals.pop().end = moment
            elif what == "lost":
                self._losses.append((float(details[2]), key, details[0], details[1]))
            elif what == "broken":
                self.broken.append(" ".join([key, *details]))
                self.moments.append(moment)
            elif what == "kept":
                self.pulls[details[0]]["kept"] = moment
            elif under_way is not None:  # "done", "none", an error or, after a kill, "start"
                cut_off = what in ("error", "told", "start")
                if cut_off:
                    moment += self._lag
                if what == "done" and details[0]:
                    self.pulls[details[0]] |= json.loads(" ".join(details[1:]))
                if what != "none":
                    self._add(*under_way, moment, cut_off=cut_off)
                under_way = None
            if what == "error":
                self.errors.append(line)
                self.moments.append(moment)
        if under_way is not None:
            self._add(*under_way, float("inf"), cut_off=True)

    def _add(
        self, begin: float, what: str, key: str, pull: str, end: float, *, cut_off: bool
    ) -> None:
        spans = self._puts if what == "put" else self._deletes
        spans[key].append(_Span(begin, end, cut_off))
        self.pulls[pull]["written"] = end

    def removed_unseen(self, pull: str, blobs: Iterable[str], hold: float) -> bool:
        """
        Tell whether the *blobs* that a pull found were removed as the promise excludes.

        That is, each was marked for *hold* seconds, and by a run that did not have to see the
        manifest, as it was not yet written when that began to read the manifests anew; and the pull
        has not had its blobs kept.
        """
        known = self.pulls[pull]
        if "written" not in known or "kept" in known:
            return False
        begun = known["written"] - known.get("spent", float("inf"))
        for blob in blobs:
            removals = [removal for removal in self._removals[blob] if removal.end >= begun]
            seen = (r.marked >= known["written"] or r.aside < hold for r in removals)
            if not removals or any(seen):
                return False
        return True

    def cut_off(self, key: str) -> bool:
        """Tell whether a process was killed, or failed, as it wrote the manifest at *key*."""
        return any(span.cut_off for span in self._puts[key])

    def forget(self, key: str) -> None:
        """Expect nothing of the model at *key*."""
        self._puts[key] = self._deletes[key] = []

    def compare(self, listed: set[str]) -> list[str]:
        """Say which models ought to be listed and are not, or the other way round."""
        wrong = []
        for key in sorted({*self._puts, *self._deletes, *listed}):
            puts, deletes = self._puts[key], self._deletes[key]
            whole_puts = [span for span in puts if not span.cut_off]
            whole_deletes = [span for span in deletes if not span.cut_off]
            if key not in listed:
                if any(all(d.end < put.begin for d in deletes) for put in whole_puts):
                    wrong.append(f"{key}: pulled or restored last, and not listed")
            elif any(all(put.end < d.begin for put in puts) for d in whole_deletes):
                wrong.append(f"{key}: deleted last, and listed")
            elif not puts:
                wrong.append(f"{key}: never pulled, and listed")
        return wrong


@dataclasses.dataclass(frozen=True)
class _Span:
    begin: float
    end: float
    cut_off: bool


@dataclasses.dataclass
class _Removal:
    """
    A blob that was removed for good.

    Attributes:
        marked: When the run that did began to read the manifests anew.
        aside: How long the blob had been set aside, in seconds.
        end: When the removal had ended.
    """

    marked: float
    aside: float
    end: float = float("inf")
