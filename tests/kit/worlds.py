"""
Real file systems: images on loop devices, mounts, immutable files.

Everything is made for one test, and is gone after that test, also if the test fails, is interrupted
or its process is killed.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from kit.requirements import require, require_command, unavailable

# What runs beside the tests, and takes away all that is mounted below the folder $1, once the
# tests' process has ended in whatever way: then the pipe that is its input comes to an end.
_GUARD = """
cat >/dev/null
chattr -R -f -i "$1" 2>/dev/null
losetup -nlO NAME,BACK-FILE | while read -r device file; do
    case $file in "$1"/*) losetup -d "$device" ;; esac
done
findmnt -rno TARGET | grep -F "$1/" | sort -r | while read -r place; do umount -l "$place"; done
umount -l "$1" 2>/dev/null
rm -rf --one-file-system "$1"
"""


@dataclass(frozen=True)
class Overlay:
    """
    A mounted overlay.

    Attributes:
        root: Both layers together.
        upper: Where changes go.
    """

    root: Path
    upper: Path

    def copied_up(self) -> int:
        """Tell how many bytes of files were copied to the upper layer."""
        files = [path.lstat() for path in self.upper.rglob("*")]
        return sum({file.st_ino: file.st_size for file in files if S_ISREG(file.st_mode)}.values())


class Worlds:
    """
    Makes file systems below a folder that every user may enter.

    What the system here cannot do skips the test; see `kit.requirements.unavailable`.

    Args:
        base: The folder.
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        self._stack = ExitStack()

    # File systems

    def ext4(self, megabytes: int = 16, *, inodes: int | None = None) -> Path:
        """Mount a new ext4 that keeps no blocks for root; with *inodes*, only so many files."""
        options = ["-q", "-F", "-m", "0", *(["-N", str(inodes)] if inodes else [])]
        return self._formatted("mkfs.ext4", options, megabytes)

    def xfs(self) -> Path:
        """Mount a new xfs, of the least size that it takes."""
        return self._formatted("mkfs.xfs", ["-q", "-f"], 300)

    def btrfs(self, megabytes: int = 110) -> Path:
        """Mount a new btrfs, by default of about the least size that it takes."""
        return self._formatted("mkfs.btrfs", ["-q", "-f"], megabytes)

    def exfat(self) -> Path:
        """Mount a new exFAT: no links, no owners, names without regard to case."""
        return self._formatted("mkfs.exfat", [], 40, driver="mount.exfat-fuse")

    def ntfs(self) -> Path:
        """Mount a new NTFS that lists all names in lower case, and takes them in any."""
        require_command("lowntfs-3g")
        image = self._image("mkfs.ntfs", ["-q", "-F"], 40)
        place = self.folder("ntfs")
        _run("lowntfs-3g", "-o", "ignore_case,permissions", image, place)
        self._stack.callback(unmount, place)
        return place

    def tmpfs(self, megabytes: int = 16) -> Path:
        """Mount a new tmpfs."""
        place = self.folder("tmpfs")
        self.mount("-t", "tmpfs", "-o", f"size={megabytes}m", "none", place)
        return place

    def overlay(self, lower: Path, megabytes: int = 8) -> Overlay:
        """Mount an overlay over *lower*, whose upper layer has so much room."""
        top, root = self.tmpfs(megabytes), self.folder("overlay")
        for name in ("upper", "work"):
            (top / name).mkdir()
        options = f"lowerdir={lower},upperdir={top}/upper,workdir={top}/work"
        self.mount("-t", "overlay", "overlay", "-o", options, root)
        return Overlay(root, top / "upper")

    def share(self) -> Path:
        """Mount what a network share is like: see `kit.share`."""
        require("mfusepy")
        if not os.path.exists("/dev/fuse"):
            unavailable("there is no /dev/fuse")
        back, place = self.folder("back"), self.folder("share")
        script = Path(__file__).with_name("share.py")
        process = subprocess.Popen([sys.executable, script, back, place], start_new_session=True)
        self._stack.callback(process.wait, 10)
        self._stack.callback(unmount, place)
        until = time.monotonic() + 20
        while not os.path.ismount(place):
            if process.poll() is not None or time.monotonic() > until:
                unavailable("the share cannot be mounted")
            time.sleep(0.01)
        return place

    # Mounts

    def bind(self, source: Path, place: Path | None = None, *, read_only: bool = False) -> Path:
        """Mount *source* at *place* too, or over itself."""
        place = place or source
        self.mount("--bind", source, place)
        if read_only:
            _run("mount", "-o", "remount,bind,ro", place)
        return place

    def mount(self, *arguments: str | Path) -> None:
        """Call ``mount``; the last of the *arguments* is the place."""
        self._check()
        try:
            _run("mount", *arguments)
        except subprocess.CalledProcessError as error:
            unavailable(f"cannot mount: {error.stderr.strip()}")
        self._stack.callback(unmount, Path(arguments[-1]))

    # Files

    def immutable(self, *paths: Path) -> None:
        """Let nobody change, rename, link or remove *paths*, root included."""
        self._check()
        require_command("chattr")
        for path in paths:
            try:
                _run("chattr", "+i", path)
            except subprocess.CalledProcessError as error:
                unavailable(f"cannot make a file immutable: {error.stderr.strip()}")

    def mutable(self, place: Path) -> None:
        """Take all of that back, for *place* and all below it."""
        subprocess.run(["chattr", "-R", "-f", "-i", place], check=False, capture_output=True)

    def folder(self, name: str) -> Path:
        """Make a new folder."""
        path = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.base))
        path.chmod(0o755)
        return path

    def unmount(self) -> None:
        """Unmount everything."""
        self.mutable(self.base)
        self._stack.close()

    def _formatted(
        self, command: str, options: list[str], megabytes: int, *, driver: str | None = None
    ) -> Path:
        image = self._image(command, options, megabytes)
        place = self.folder(command.removeprefix("mkfs."))
        if driver is None:
            self.mount("-o", "loop", image, place)
            return place
        require_command(driver)
        device = _run("losetup", "--find", "--show", image).strip()
        try:
            _run(driver, device, place)
            self._stack.callback(unmount, place)
        finally:
            _run("losetup", "--detach", device)  # at once, or as soon as the device is not in use
        return place

    def _image(self, command: str, options: list[str], megabytes: int) -> Path:
        self._check()
        require_command(command)
        image = self.folder("image") / "image"
        with image.open("wb") as file:
            file.truncate(megabytes << 20)
        _run(command, *options, image)
        return image

    @staticmethod
    def _check() -> None:
        if os.geteuid() != 0:
            unavailable("only root may mount file systems")


@contextmanager
def made_below(folder: str | None = None) -> Iterator[Worlds]:
    """Make a `Worlds` in a new folder (in *folder*), and take away all that was made there."""
    base = Path(tempfile.mkdtemp(prefix="registry-wsgi-worlds-", dir=folder)).resolve()
    base.chmod(0o755)
    guard = subprocess.Popen(
        ["sh", "-c", _GUARD, "guard", base],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is not for the guard
    )
    worlds = Worlds(base)
    # In memory, as what waits for a disk waits for all others that use that disk.
    memory: list[str | Path] = ["mount", "-t", "tmpfs", "-o", "mode=755", "none", base]
    in_memory = subprocess.run(memory, check=False, capture_output=True).returncode == 0
    try:
        yield worlds
    finally:
        try:
            worlds.unmount()
            if in_memory:
                unmount(base)
        finally:
            guard.communicate()
    assert not base.exists(), f"{base}: cannot be taken away"


def unmount(place: Path) -> None:
    """Unmount *place*; lazily, if it is still in use after a moment."""
    for _ in range(20):
        if subprocess.run(["umount", place], check=False, capture_output=True).returncode == 0:
            return
        time.sleep(0.02)
    _run("umount", "--lazy", place)


def fill(place: Path) -> None:
    """Take all the room that is left on the file system of *place*, to the last byte."""
    with open(place / "filler", "wb", buffering=0) as file:
        size = 1 << 20
        while size:
            try:
                file.write(bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                size //= 2
        os.fsync(file.fileno())


def take_all_inodes(place: Path) -> None:
    """Make files until the file system of *place* takes no more."""
    folder = place / "fillers"
    folder.mkdir()
    try:
        for number in range(1_000_000):
            (folder / str(number)).touch()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


def power_cut(worlds: Worlds, place: Path, work: Callable[[], object]) -> Path:
    """
    Cut the power of the file system at *place*, at the worst moment after *work*.

    The system writes names before contents: here all names are on the disk, and of the contents
    only what *work* has synced.

    Args:
        worlds: Where the file system was made.
        place: An ext4 of `Worlds.ext4`.
        work: What is done just before. What was done before that is on the disk.

    Returns:
        Where the file system is mounted again, with what was on the disk.
    """
    device = _run("findmnt", "-no", "SOURCE", place).strip()
    _run("sync", "--file-system", place)  # not all there are: other tests have theirs
    work()
    with open(place / "commit", "wb") as file:  # syncing one file writes the journal of all names
        os.fsync(file.fileno())
    image = worlds.folder("cut") / "image"
    # What the loop device has written; the device itself would show what waits in memory, too.
    shutil.copyfile(_run("losetup", "-nO", "BACK-FILE", device).strip(), image)
    after = worlds.folder("after")
    worlds.mount("-o", "loop", image, after)
    return after


def _run(*command: str | Path) -> str:
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return result.stdout
