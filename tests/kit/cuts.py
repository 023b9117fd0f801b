"""
Power cuts: what the disk has at any moment of some work, on a real file system.

The disk is a file in a file system that copies by reference, and is mounted. A copy of the file is
what the disk has just then, without what waits in memory. To mount the copy is to start the machine
again: the file system plays its journal.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kit.os_seam import Act, Call, nothing, watched
from kit.requirements import require_command, unavailable
from kit.worlds import Worlds, unmount

# What to ask the kernel for: a copy by reference; the begin of a commit of btrfs, and its end.
_CLONE = 0x40049409
_BEGIN_COMMIT, _AWAIT_COMMIT = 0x80089418, 0x40089416


@dataclass(frozen=True)
class _Format:
    """How a file system is made, and what mounts it."""

    make: tuple[str, ...]
    megabytes: int
    mount: tuple[str, ...] = ("mount",)


_FORMATS = {
    "ext4": _Format(("mkfs.ext4", "-q", "-F", "-m", "0"), 8),
    "xfs": _Format(("mkfs.xfs", "-q", "-f"), 300),
    "btrfs": _Format(("mkfs.btrfs", "-q", "-f"), 110),
    "exfat": _Format(("mkfs.exfat",), 16, ("mount.exfat-fuse",)),
}

#: The file systems whose power can be cut.
KINDS = tuple(_FORMATS)


class Machine:
    """
    A machine whose power can be cut. It has one disk at a time.

    Args:
        worlds: Where its disks are.
        kind: Their file system, of `KINDS`.
    """

    def __init__(self, worlds: Worlds, kind: str) -> None:
        self._kind, self._format = kind, _FORMATS[kind]
        require_command(self._format.make[0], self._format.mount[0])
        self._disks = worlds.btrfs(4_000)  # of which only what is written takes room
        self._place = worlds.folder("disk")
        self._device = ""
        self._made = 0

    def disk(self) -> Path:
        """Make an empty disk."""
        disk = self._new()
        with disk.open("wb") as file:
            file.truncate(self._format.megabytes << 20)
        _run(*self._format.make, disk)
        return disk

    def copy(self, disk: Path) -> Path:
        """Copy what *disk* has just now."""
        copy = self._new()
        with disk.open("rb") as source, copy.open("wb") as target:
            fcntl.ioctl(target, _CLONE, source.fileno())
        return copy

    @contextmanager
    def on(self, disk: Path) -> Iterator[Path]:
        """Mount *disk* until the end, when everything is written to it."""
        self._device = device = _run("losetup", "--find", "--show", disk)
        try:
            _run(*self._format.mount, device, self._place)
        except subprocess.CalledProcessError as error:
            unavailable(f"cannot mount: {error.stderr.strip()}")
        finally:
            _run("losetup", "--detach", device)  # as soon as the device is not in use
        try:
            yield self._place
        finally:
            unmount(self._place)
            if self._kind == "btrfs":  # which would take a copy for the disk that it knows
                _run("btrfs", "device", "scan", "--forget")

    def cuts(
        self,
        disk: Path,
        work: Callable[[Path], object],
        *,
        names: bool,
        every: int = 1,
        act: Act = nothing,
    ) -> list[Path]:
        """
        Cut the power before each call of *work* that changes something, and at the end.

        Args:
            disk: What there is before. It stays as it is.
            work: What is done, given the place where the disk is mounted.
            names: Whether all names have just been written to the disk, as happens every few
                seconds, but contents only if *work* has waited for that. Without, the disk has
                nothing that *work* has not waited for.
            every: Which calls count: each, or only each *every*-th.
            act: Called before each call; it may raise in place of the call.

        Returns:
            What the disk had, each time that it had something else.
        """
        disk, found, known = self.copy(disk), list[Path](), set[str]()

        def cut() -> None:
            if names:
                self._write_names()
            written = self._written()
            if written not in known:
                known.add(written)
                found.append(self.copy(disk))

        def before(call: Call) -> None:
            if call.number % every == every - 1:
                cut()
            act(call)

        with self.on(disk) as place:
            with watched(before):
                work(place)
            cut()
        return found

    def _write_names(self) -> None:
        """Have the journal written with all names in it, but no contents."""
        if self._kind == "btrfs":
            file = os.open(self._place, os.O_RDONLY)
            try:
                which = fcntl.ioctl(file, _BEGIN_COMMIT, bytes(8))
                fcntl.ioctl(file, _AWAIT_COMMIT, which)
            finally:
                os.close(file)
        else:  # to wait for one file is to wait for the journal
            with open(self._place / "file", "ab") as marker:
                marker.write(b"!")
                marker.flush()
                os.fsync(marker.fileno())

    def _written(self) -> str:
        """Tell how much was written to the disk since it is mounted."""
        return Path("/sys/block", Path(self._device).name, "stat").read_text().split()[6]

    def _new(self) -> Path:
        self._made += 1
        return self._disks / str(self._made)


def _run(*command: str | Path) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.strip()
