"""Child processes that end with the tests, even if these are killed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence


def mortal(command: Sequence[str]) -> list[str]:
    """The same *command*, ended by the system when the thread that starts it ends."""
    setpriv = shutil.which("setpriv")
    return [*([setpriv, "--pdeathsig=TERM"] if setpriv else []), *command]
