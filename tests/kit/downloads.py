"""
A download in parts, as Ollama makes one: stopped, resumed, or unable to go on.

While a blob comes, ``<blob>-partial`` has its content, of full length from the start, and one file
of JSON for each part, ``<blob>-partial-<n>``, says how much of that part is there. Whoever goes on
later trusts these files: the sum of the parts is the length, and a part that says so is complete.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from kit.trees import blob


@dataclass
class Download:
    """
    One blob on its way.

    Args:
        blobs: Where it is to be.
        data: Its content.
        part: How long each part is, in bytes.
        pause: Called between two writes.
    """

    blobs: Path
    data: bytes
    part: int = 4
    pause: Callable[[], None] = lambda: None

    @property
    def place(self) -> Path:
        return self.blobs / blob(self.data)

    @property
    def content(self) -> Path:
        return self.blobs / f"{blob(self.data)}-partial"

    def files(self) -> list[Path]:
        """All its files that are there: the content, then the parts by their numbers."""
        parts = sorted(self.blobs.glob(f"{self.content.name}-*"), key=_number)
        return [path for path in (self.content, *parts) if path.exists()]

    def start(self, complete: int) -> None:
        """Download the first *complete* parts, and be stopped in the middle of the next."""
        _write(self.content, bytes(len(self.data)))
        for number, offset in enumerate(range(0, len(self.data), self.part)):
            size = min(self.part, len(self.data) - offset)
            done = size if number < complete else size // 2 * (number == complete)
            self._save(offset, self.data[offset : offset + done])
            state = {"N": number, "Offset": offset, "Size": size, "Completed": done}
            self._part(number).write_text(json.dumps(state))

    def resume(self) -> bool:
        """
        Go on to the end; False if that fails.

        A failure may leave nothing that stands in the way of another try; see `comes`.
        """
        files = [path for path in self.files() if path != self.content]
        if not files:
            self.start(0)
            return self.resume()
        parts = [json.loads(path.read_bytes()) for path in files]
        total = sum(part["Size"] for part in parts)
        if not self.content.exists():
            self.content.touch()
        os.truncate(self.content, total)
        for path, part in zip(files, parts, strict=True):
            if part["Completed"] < part["Size"]:
                start, end = part["Offset"] + part["Completed"], part["Offset"] + part["Size"]
                self._save(start, self.data[start:end])
                path.write_text(json.dumps({**part, "Completed": part["Size"]}))
                self.pause()
        for number in range(len(parts)):
            try:
                self._part(number).unlink()
            except FileNotFoundError:
                return False
        self.content.rename(self.place)
        if self.place.read_bytes() == self.data:
            return True
        self.place.unlink()
        return False

    def comes(self) -> bool:
        """Tell whether the blob comes, if somebody who is told of a failure tries once more."""
        return self.resume() or self.resume()

    def _part(self, number: int) -> Path:
        return self.content.with_name(f"{self.content.name}-{number}")

    def _save(self, offset: int, data: bytes) -> None:
        with self.content.open("r+b") as file:
            file.seek(offset)
            file.write(data)


def age(path: Path, passed: timedelta) -> None:
    """Let *path* be last written so long ago; negative: in the future."""
    moment = time.time() - passed.total_seconds()
    os.utime(path, (moment, moment))


def _number(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
