"""Who runs a command, for the history."""

from __future__ import annotations

import os

__all__ = ["user_name", "who"]


def who(how: str = "CLI") -> tuple[str, str]:
    """Tell which user runs this (with sudo: who has called it), and *how*, on which machine."""
    user = user_name(os.geteuid()) or f"user {os.geteuid()}"
    behind = os.environ.get("SUDO_USER")
    if behind and behind != user:
        user = f"{behind} as {user}"
    return user, f"{how} {os.uname().nodename}"


def user_name(uid: int) -> str | None:
    """Look up the name of the user with the number *uid*; in a container there may be none."""
    try:
        import pwd  # noqa: PLC0415 - not everywhere

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        return None
