"""One operation on copies of one store, each time with another fault."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from kit.clocks import Clock
from kit.copies import Mould
from kit.os_seam import Call, Seam
from kit.scenes import DiskScene


class Play:
    """One operation on copies of one store, each time with another fault."""

    def __init__(self, folder: Path, furnish: Callable[[DiskScene], None]) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self._clock = Clock.far_ahead()
        first = DiskScene(folder / "first", self._clock)
        furnish(first)
        self._mould = Mould(first.tree.root)
        self._made = 0

    def scene(self) -> DiskScene:
        """A fresh copy of the store."""
        self._made += 1
        root = self._folder / str(self._made)
        return DiskScene(root, Clock(self._clock.now), self._mould)

    def calls_of(self, operation: Callable[[DiskScene], object]) -> list[Call]:
        """The calls of the system that *operation* makes."""
        scene = self.scene()
        with Seam(scene.tree.root) as seam:
            operation(scene)
        return seam.calls

    def scenes(self, numbers: Iterable[int]) -> Iterator[tuple[int, DiskScene]]:
        """A fresh copy for each of *numbers*, removed when it has served."""
        for number in numbers:
            scene = self.scene()
            yield number, scene
            shutil.rmtree(scene.tree.root)
