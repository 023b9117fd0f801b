"""Other users: code that runs as one who is not root, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kit.requirements import unavailable

#: The ids of two users, and of their groups, that have nothing on this machine.
SERVICE, STRANGER = 61_001, 61_002

# All is imported as root: the interpreter may lie where the user cannot read.
_PROLOGUE = """
import concurrent.futures.thread, contextlib, encodings.idna, fcntl, hashlib, importlib, io
import json, logging, os, pkgutil, sys, time
import werkzeug.test
import registry_wsgi
from registry_wsgi import *
for module in pkgutil.walk_packages(registry_wsgi.__path__, "registry_wsgi."):
    if not any(part in module.name for part in ("bucket", "management", "metrics")):  # slow
        with contextlib.suppress(ImportError):
            importlib.import_module(module.name)
with contextlib.suppress(ImportError):
    import rich.console, rich.progress, rich.table
user, mask, groups = json.loads(sys.argv.pop(1))
os.chdir("/")
os.setgroups(groups)
os.setresgid(user, user, user)
os.setresuid(user, user, user)
os.umask(mask)
def answer(value):
    print("\\n" + json.dumps(value))
"""


def run_as(
    user: int, code: str, *arguments: object, umask: int = 0o022, groups: Sequence[int] = ()
) -> Any:
    """
    Run *code* as *user*, with the public names of the package imported.

    Args:
        user: The id of the user and of the first group.
        code: What to run. It may call ``answer(value)`` once, at its end.
        arguments: What it finds in ``sys.argv[1:]``.
        umask: The process's umask.
        groups: The other groups.

    Returns:
        The answer, if there is one.
    """
    result = start_as(user, code, *arguments, umask=umask, groups=groups)
    out, err = result.communicate(timeout=60)
    assert result.returncode == 0, f"exit code {result.returncode}: {err}"
    return json.loads(out.splitlines()[-1]) if out.strip() else None


def start_as(
    user: int, code: str, *arguments: object, umask: int = 0o022, groups: Sequence[int] = ()
) -> subprocess.Popen[str]:
    """Start what `run_as` runs, and do not wait for it."""
    if os.geteuid() != 0:
        unavailable("only root may become another user")
    who = json.dumps([user, umask, [*groups]])
    # Not the package in this folder, but the one that is installed.
    command = [sys.executable, "-P", "-c", _PROLOGUE + code, who]
    # The user may not write where coverage is collected.
    environment = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def command_as(user: int, *arguments: object, groups: Sequence[int] = ()) -> tuple[int, str]:
    """Run the command line as *user*: its exit code, and all that it says."""
    code = "sys.exit(registry_wsgi.__main__.main(sys.argv[1:]))"
    process = start_as(user, code, *arguments, groups=groups)
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err, err
    return process.returncode, out + err


def give(user: int, *roots: Path) -> None:
    """Make *user* the owner of *roots* and all below them."""
    for root in roots:
        os.chown(root, user, user)
        for path in root.rglob("*"):
            os.chown(path, user, user, follow_symlinks=False)


def owners(root: Path) -> set[int]:
    """The ids of those who own *root*, or something below it."""
    return {path.lstat().st_uid for path in [root, *root.rglob("*")]}
