"""The soak's models in a directory, and the programs that are at work there."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import os
import pkgutil
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import registry_wsgi
from kit.clocks import Clock
from kit.downloads import Download
from kit.kinds import DiskKind, Pause, no_pause
from kit.trees import blob
from kit.users import SERVICE, give
from registry_wsgi.errors import StoreError

_LONG_AGO = 10 * 86_400.0
_COPY = {"cp": ["cp", "-a"], "rsync": ["rsync", "-a"]}


class Disk(DiskKind):
    """
    A `Place` in a directory, with writers that do there what Ollama does.

    Where root runs the soak, the directory belongs to a service. The writers are that service, and
    so is a part of those who go through the library; the others are root.

    Args:
        root: The models directory.
        work: A directory for locks, and for what is copied in.
    """

    usual: Mapping[str, int | float] = {}
    touches = True
    keeps = False
    others = True
    at_work = 0.0
    lag = 0.0

    def __init__(self, root: Path, work: Path) -> None:
        super().__init__(root.parent, Clock(), root.name)
        self._work = work
        for name in ("locks", "elsewhere"):
            (work / name).mkdir(exist_ok=True)
            (work / name).chmod(0o777)
        work.chmod(0o711)
        closed = [p for p in self.tree.blobs.parents if not p.stat().st_mode & stat.S_IXOTH]
        self._left_out: dict[str, str] = {}
        if os.geteuid() != 0:
            self._left_out["another user"] = "only root can act as one"
        elif closed:
            self._left_out["another user"] = f"none may enter {closed[-1]}"
        self.service = not self._left_out
        if self.service:
            give(SERVICE, self.tree.root)
            # The interpreter may lie where the service cannot read.
            for module in pkgutil.walk_packages(registry_wsgi.__path__, "registry_wsgi."):
                if not any(part in module.name for part in ("bucket", "management", "metrics")):
                    with contextlib.suppress(ImportError):
                        importlib.import_module(module.name)

    def __str__(self) -> str:
        return str(self.tree.root)

    def left_out(self) -> Mapping[str, str]:
        left_out = dict(self._left_out)
        for command, setting in (("cp", "copied"), ("rsync", "rsynced")):
            if shutil.which(command) is None:
                left_out[setting] = f"the command {command} is not installed"
        trial = self._work / "immutable"
        trial.touch()
        try:
            for immutable in (True, False):
                set_immutable(trial, immutable=immutable)
        except OSError as error:
            left_out["blockers"] = f"no file can be made immutable: {error.strerror}"
        trial.unlink()
        return left_out

    def enter(self, role: str, number: int) -> None:
        through_the_library = role in ("watcher", "deleter", "restorer", "forgetter", "pruner")
        if self.service and role != "blocker" and (not through_the_library or number % 3 == 1):
            os.setgroups([])
            os.setresgid(SERVICE, SERVICE, SERVICE)
            os.setresuid(SERVICE, SERVICE, SERVICE)

    def limits(self, hold: float, in_flight: float) -> tuple[float, float]:
        return hold, in_flight

    def blobs(self) -> set[str]:
        return set(os.listdir(self.tree.blobs))

    def look(self, name: str) -> bool:
        return os.path.exists(os.path.join(self.tree.blobs, name))

    def touch(self, name: str) -> bool:
        try:
            os.utime(os.path.join(self.tree.blobs, name))
        except FileNotFoundError:
            return False
        return True

    def stir(self) -> None:
        path = self.tree.blobs / "sha256-somebody-partial"
        path.touch()
        path.unlink()

    def verify(self, name: str) -> bool:
        try:
            return blob((self.tree.blobs / name).read_bytes()) == name
        except FileNotFoundError:
            return False

    def keep(self, blobs: Mapping[str, bytes], failed: Callable[[StoreError], None]) -> int:
        raise NotImplementedError

    def remove(self) -> None:
        """If it is temporary, it is removed with the directory that it is in."""

    # Other ways for a blob to come

    def download(self, name: str, data: bytes, pause: Pause = no_pause, *, part: float = 1) -> bool:
        """Half of the blobs come in parts, and go on where another download of them was stopped."""
        if name[-1] in "01234567":
            return super().download(name, data, pause, part=part)
        in_parts = Download(self.tree.blobs, data, len(data) // 4 + 1, pause)
        with self._alone(name):  # an Ollama makes one download of those that want the same blob
            if self.look(name):
                return True
            try:
                if part == 1:
                    return in_parts.comes() and self.look(name)
                if not in_parts.files():
                    in_parts.start(int(4 * part))
            except FileNotFoundError:
                pass  # it was given up for so long that a prune is just removing it
            except ValueError:  # another was killed as it wrote down how far it was
                for path in in_parts.files():
                    path.unlink(missing_ok=True)
            return False

    def create(self, name: str, data: bytes, pause: Pause) -> bool:
        """Make a blob as ``ollama create`` does."""
        path = self.tree.blobs / f"sha256-{time.monotonic_ns()}"
        half = len(data) // 2
        with path.open("wb") as file:
            for piece in (data[:half], data[half:]):
                file.write(piece)
                file.flush()
                pause()
        try:
            path.rename(self.tree.blobs / name)
        except FileNotFoundError:
            return False
        return self.look(name)

    def copy_in(
        self, way: str, slot: int, files: Mapping[str, bytes], locks: Sequence[int]
    ) -> bool:
        """
        Copy files of long ago in from another directory.

        Args:
            way: ``cp`` or ``rsync``.
            slot: Who copies.
            files: Their contents, by their paths in the models directory.
            locks: What stays locked until all is copied, also if this process is killed.
        """
        source = self._work / "elsewhere" / str(slot)
        shutil.rmtree(source, ignore_errors=True)
        for name, data in files.items():
            path = source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            os.utime(path, (time.time() - _LONG_AGO,) * 2)
        # Of a blob that is there, cp would cut the file that others use, for a moment.
        once = ["-n"] if way == "cp" and all(name.startswith("blobs/") for name in files) else []
        done = subprocess.run(
            [*_COPY[way], *once, *(str(path) for path in source.iterdir()), str(self.tree.root)],
            capture_output=True,
            check=False,
            pass_fds=locks,
        )
        return done.returncode == 0

    @contextlib.contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        lock = os.open(self._work / "locks" / name, os.O_WRONLY | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    # What people do

    def rename_model(self, key: str, other: str) -> Callable[[], bool] | None:
        """
        Rename a model, as Ollama and its users do: by a copy and a removal.

        Returns:
            What makes the copy, and then tells whether the old name was there to be removed. None
            if there is no whole manifest at *key*.
        """
        path, new = self.tree.path(key), self.tree.path(other)
        try:
            data = path.read_bytes()
            json.loads(data)
        except (FileNotFoundError, ValueError):
            return None

        def rename() -> bool:
            self.write_manifest(other, [data])
            try:
                path.unlink()
            except FileNotFoundError:
                return False
            with contextlib.suppress(OSError):
                path.parent.rmdir()
            return new != path

        return rename

    @contextlib.contextmanager
    def untouchable(self, path: Path) -> Iterator[None]:
        """Let nobody change, move or remove the file *path*, for a while."""
        set_immutable(path, immutable=True)
        try:
            yield
        finally:
            self.free()

    def free(self) -> None:
        """Let everybody touch again what one who was killed has left untouchable, too."""
        for folder, _, names in os.walk(self.tree.root):  # what goes meanwhile is passed over
            for name in names:
                with contextlib.suppress(OSError):
                    set_immutable(Path(folder, name), immutable=False)

    def after_a_round(self) -> None:
        """Do what people do after a crash: no file stays immutable, and no copy half done."""
        with open(self._work / "locks" / "pulling", "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # what killed processes have started comes to its end
        if os.geteuid() == 0:
            self.free()
        for path in self.tree.manifests.glob("*/*/*/.*"):  # of rsync
            path.unlink()


def set_immutable(path: Path, *, immutable: bool) -> None:
    """Set or clear the flag that ``chattr +i`` sets."""
    get, put, flag = 0x80086601, 0x40086602, 0x10
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        flags = int.from_bytes(fcntl.ioctl(file, get, bytes(8))[:4], "little")
        wanted = flags | flag if immutable else flags & ~flag
        if wanted != flags:
            fcntl.ioctl(file, put, wanted.to_bytes(8, "little"))
    finally:
        os.close(file)
