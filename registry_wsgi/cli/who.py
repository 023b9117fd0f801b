"""Who runs a command, for the history."""

from __future__ import annotations

import os

__all__ = ["who"]


def who(how: str = "CLI") -> tuple[str, str]:
    """Tell which user runs this (with sudo: who has called it), and *how*, on which machine."""
    try:
        import pwd  # noqa: PLC0415 - not everywhere

        user = pwd.getpwuid(os.geteuid()).pw_name
    except (ImportError, KeyError):  # in a container, a user may have no name
        user = f"user {os.geteuid()}"
    behind = os.environ.get("SUDO_USER")
    if behind and behind != user:
        user = f"{behind} as {user}"
    return user, f"{how} {os.uname().nodename}"
