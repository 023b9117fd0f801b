"""What can go wrong at a call of the system, for `kit.os_seam`."""

from __future__ import annotations

import errno
from collections.abc import Callable

from kit.os_seam import Act, Call


class Killed(BaseException):
    """The process is gone: no code of it runs any more."""


def killed_at(number: int) -> Act:
    """From call *number* on, the process is gone."""

    def act(call: Call) -> None:
        if call.number >= number:
            raise Killed

    return act


def interrupted_at(number: int) -> Act:
    """Ctrl-C in call *number*; what then runs still runs."""

    def act(call: Call) -> None:
        if call.number == number:
            raise KeyboardInterrupt

    return act


def failing_at(number: int, code: int) -> Act:
    """Call *number* fails with *code*."""

    def act(call: Call) -> None:
        if call.number == number:
            raise call.error(code)

    return act


def failing_from(number: int, code: int) -> Act:
    """From call *number* on, all that would change something fails with *code*."""

    def act(call: Call) -> None:
        if call.number >= number and call.changes:
            raise call.error(code)

    return act


def without_links(call: Call) -> None:
    """There are no hard links on this file system."""
    if call.name == "link":
        raise call.error(errno.EPERM)


def full_disk(code: int = errno.ENOSPC) -> Act:
    """Nothing can be made or moved; files and directories can be removed."""

    def act(call: Call) -> None:
        if call.changes and call.name not in ("unlink", "rmdir", "utime"):
            raise call.error(code)

    return act


def failing(code: int, *functions: str) -> Act:
    """Every call of *functions* fails with *code*."""

    def act(call: Call) -> None:
        if call.name in functions:
            raise call.error(code)

    return act


class FailAt:
    """
    Lets the *k*-th call that it gets fail.

    Args:
        k: Which call, from 1.
        code: The error.
        on: Whether all calls after it fail as well.
    """

    def __init__(self, k: int, code: int, *, on: bool) -> None:
        self.k, self.code, self.on = k, code, on
        self.calls = 0

    @property
    def failed(self) -> bool:
        """Whether it came to that call."""
        return self.calls >= self.k

    def __call__(self, call: Call) -> None:
        self.calls += 1
        if self.calls == self.k or (self.on and self.failed):
            raise call.error(self.code)


class Once:
    """Calls *step* with the arguments of the first call of *function* that fits."""

    def __init__(
        self,
        function: str,
        step: Callable[..., object],
        *,
        where: Callable[..., bool] = lambda *arguments: True,
    ) -> None:
        self.function, self.step, self.where = function, step, where
        self.done = False

    def __call__(self, call: Call) -> None:
        if call.name == self.function and not self.done and self.where(*call.arguments):
            self.done = True
            self.step(*call.arguments)
