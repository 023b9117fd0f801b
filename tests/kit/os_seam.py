"""The seam of `os`: calls of the system are watched, or something is done in place of one."""

from __future__ import annotations

import dataclasses
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, cast

#: What looks at files. ``getdents`` is the reading of a directory that `os.scandir` has opened.
READING = ("open", "read", "close", "scandir", "listdir", "stat", "lstat", "fstat", "readlink")

#: What changes files. ``create`` is an `os.open` that may make the file.
CHANGING = (
    *("create", "rename", "replace", "link", "symlink", "unlink", "remove", "rmdir", "mkdir"),
    *("utime", "write", "fsync", "chmod", "truncate", "ftruncate"),
)


@dataclasses.dataclass(frozen=True)
class Call:
    """
    A call of the system.

    Attributes:
        number: Which it is, from 0.
        name: The function of `os`.
        path: The path that it is about; of what is open, the path by which it was opened.
        changes: Whether it may change what is on disk.
        arguments: What the function was called with, by position, with whole paths.
    """

    number: int
    name: str
    path: str
    changes: bool
    arguments: tuple[Any, ...] = ()

    def error(self, code: int) -> OSError:
        """The error *code* as this call would raise it, with the other path if there are two."""
        paths = [argument for argument in self.arguments[:2] if isinstance(argument, str)]
        second = (None, paths[1]) if len(paths) > 1 else ()
        return OSError(code, os.strerror(code), self.path, *second)


#: What is done at a call: it may raise in place of the call.
Act = Callable[[Call], None]


def nothing(call: Call) -> None:
    """What a seam does when it only counts."""


class Seam:
    """
    Comes between `os` and everybody who calls it about something below *root*.

    While it is active, *before* is called before each such call, *after* after it. Either may raise
    in place of the call. Calls that they make themselves go straight through.

    Args:
        root: Below which folder; None: everywhere.
        before: Called before each call.
        after: Called after each call.
        only: The names of the calls that count.
    """

    def __init__(
        self,
        root: Path | None,
        before: Act = nothing,
        after: Act = nothing,
        *,
        only: Iterable[str] = (*READING, *CHANGING, "getdents"),
    ) -> None:
        self.calls: list[Call] = []
        self._root = str(root or "")
        self._before = before
        self._after = after
        self._only = {*only}
        self._files: dict[int, str] = {}
        self._originals: dict[str, Any] = {}
        self._active = False
        self._acting = threading.local()

    def __enter__(self) -> Self:
        for name in (*READING, *CHANGING):
            if name != "create":
                self._originals[name] = original = getattr(os, name)
                setattr(os, name, self._wrapped(name, original))
        # A generator that is closed after the process "is gone" raises where nobody catches.
        self._hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        self._active = True
        return self

    def __exit__(self, *exc_info: object) -> None:
        sys.unraisablehook = self._hook
        for name, original in self._originals.items():
            setattr(os, name, original)

    @property
    def names(self) -> Counter[str]:
        """How often each function was called."""
        return Counter(call.name for call in self.calls)

    def _wrapped(self, function_name: str, original: Any) -> Any:
        def function(*args: Any, **options: Any) -> Any:
            name = function_name
            path = self._path(args, options)
            if not (self._sees() and path is not None and path.startswith(self._root)):
                return original(*args, **options)
            changes = name in CHANGING
            if name == "open":
                flags = args[1] if len(args) > 1 else options.get("flags", 0)
                changes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
                name = "create" if flags & os.O_CREAT else "open"
            if name not in self._only:
                result = original(*args, **options)
                self._note(name, args, path, result)
                return self._entries(name, Call(-1, name, path, changes), result)
            call = Call(len(self.calls), name, path, changes, self._whole(path, args, options))
            self.calls.append(call)
            failed = True
            try:
                self._do(self._before, call)
                failed = False
            finally:
                # Whatever it says, a file is closed then.
                if failed and name == "close":
                    self._files.pop(args[0], None)
                    original(*args)
            result = original(*args, **options)
            self._note(name, args, path, result)
            result = self._entries(name, call, result)
            try:
                self._do(self._after, call)
            except BaseException:
                if name in ("open", "create"):  # whoever is gone leaves no file open
                    self._originals["close"](result)
                raise
            return result

        return function

    def _sees(self) -> bool:
        return self._active and not getattr(self._acting, "now", False)

    def _path(self, args: tuple[Any, ...], options: dict[str, Any]) -> str | None:
        """The path that a call is about; None if it is about no file that this seam knows."""
        given = args[0] if args else options.get("path", ".")
        if type(given) is int:
            return self._opened(given)
        if isinstance(given, os.PathLike):
            given = os.fspath(given)
        if not isinstance(given, str):
            return None
        folder = options.get("dir_fd", options.get("src_dir_fd"))
        if folder is not None and not given.startswith("/"):
            above = self._opened(folder)
            return None if above is None else f"{above}/{given}"
        return given

    def _whole(self, path: str, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, ...]:
        if "dir_fd" not in options and "src_dir_fd" not in options:
            return args
        above = self._opened(options["dst_dir_fd"]) if "dst_dir_fd" in options else None
        return (path, *(f"{above}/{args[1]}" if above else arg for arg in args[1:2]), *args[2:])

    def _opened(self, file: int) -> str | None:
        """The path of what is open as *file*; None if it is no file."""
        if file not in self._files:
            try:
                path = str(self._originals["readlink"](f"/proc/self/fd/{file}"))
            except OSError:
                return None
            return path if path.startswith("/") else None
        return self._files[file]

    def _note(self, name: str, args: tuple[Any, ...], path: str, result: Any) -> None:
        if name in ("open", "create"):
            self._files[result] = path
        elif name == "close":
            self._files.pop(args[0], None)

    def _entries(self, name: str, call: Call, result: Any) -> Any:
        wanted = name == "scandir" and "getdents" in self._only
        return _Entries(self, call, result) if wanted else result

    def _do(self, act: Act, call: Call) -> None:
        self._acting.now = True
        try:
            act(call)
        finally:
            self._acting.now = False

    def _read_entries(self, call: Call) -> None:
        if self._sees():
            call = Call(len(self.calls), "getdents", call.path, False)
            self.calls.append(call)
            self._do(self._before, call)


class _Entries:
    """What `os.scandir` returns: reading the directory is a call of its own, which may fail."""

    def __init__(self, seam: Seam, call: Call, entries: Any) -> None:
        self._seam = seam
        self._call: Call | None = call
        self._entries = entries

    def __iter__(self) -> _Entries:
        return self

    def __next__(self) -> os.DirEntry[str]:
        if self._call is not None:
            call, self._call = self._call, None
            try:
                self._seam._read_entries(call)
            except BaseException:
                self._entries.close()
                raise
        return cast("os.DirEntry[str]", next(self._entries))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        self._entries.close()


def watched(act: Act, functions: Iterable[str] = CHANGING) -> Seam:
    """A seam at which *act* is called before each call of *functions*, whatever they are about."""
    return Seam(None, act, only=functions)


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count all calls by name, and under ``entries`` how much the listing of directories gave."""
    calls: Counter[str] = Counter()

    def act(call: Call) -> None:
        calls[call.name] += 1
        if call.name in ("listdir", "scandir"):
            with os.scandir(*call.arguments) as entries:
                calls["entries"] += sum(1 for _ in entries)

    with watched(act, (*CHANGING, *READING)):
        yield calls
