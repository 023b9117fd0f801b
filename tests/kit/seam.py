"""
The seam between the disk store and the system: functions of `os`, watched or made to fail.

Everything else that the tests use is real: directories, files, links.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

#: What changes files. ``create`` is an `os.open` that may make the file.
CHANGING = ("create", "link", "mkdir", "rename", "rmdir", "unlink", "utime")

#: What looks at them.
READING = ("fstat", "listdir", "lstat", "open", "read", "readlink", "scandir", "stat")

#: Called before the system is, with the name of the function and its arguments.
Hook = Callable[[str, tuple[Any, ...]], None]


@contextmanager
def watched(hook: Hook, functions: Iterable[str] = CHANGING) -> Iterator[None]:
    """Call *hook* before each call of *functions*; what it raises, the store gets."""
    wanted = {*functions}

    def wrap(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            called = name
            if name == "open" and arguments[1] & os.O_CREAT:
                called = "create"
            if called in wanted:
                hook(called, arguments)
            return function(*arguments, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in {"open" if name == "create" else name for name in wanted}:
            patch.setattr(os, name, wrap(name, getattr(os, name)))
        yield


def failing(number: int, *functions: str) -> Hook:
    """Make every call of *functions* fail with the error *number*."""

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        if name in functions:
            raise OSError(number, os.strerror(number), *_paths(arguments))

    return hook


class FailAt:
    """
    A hook that lets the *k*-th call fail with the error *number*.

    Args:
        k: Which call, from 1.
        number: The error.
        on: Whether all calls after it fail as well.
    """

    def __init__(self, k: int, number: int, *, on: bool) -> None:
        self.k, self.number, self.on = k, number, on
        self.calls = 0

    @property
    def failed(self) -> bool:
        """Whether it came to that call."""
        return self.calls >= self.k

    def __call__(self, name: str, arguments: tuple[Any, ...]) -> None:
        self.calls += 1
        if self.calls == self.k or (self.on and self.failed):
            raise OSError(self.number, os.strerror(self.number), *_paths(arguments))


class Once:
    """A hook that calls *step* with the arguments of the first call of *function* that fits."""

    def __init__(
        self,
        function: str,
        step: Callable[..., object],
        *,
        where: Callable[..., bool] = lambda *arguments: True,
    ) -> None:
        self.function, self.step, self.where = function, step, where
        self.done = False

    def __call__(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name == self.function and not self.done and self.where(*arguments):
            self.done = True
            self.step(*arguments)


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count all calls by name, and under ``entries`` how much the listing of directories gave."""
    calls: Counter[str] = Counter()

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        calls[name] += 1
        if name in ("listdir", "scandir"):
            with real_scandir(*arguments) as entries:
                calls["entries"] += sum(1 for _ in entries)

    real_scandir = os.scandir
    with watched(hook, (*CHANGING, *READING)):
        yield calls


def _paths(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """What `OSError` takes after the message: a path, or two with the other system's error."""
    paths = [argument for argument in arguments[:2] if isinstance(argument, str)]
    return (paths[0], None, paths[1]) if len(paths) > 1 else (*paths,)
