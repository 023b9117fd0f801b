"""The command ``registry-wsgi``, also as ``python -m registry_wsgi``. See `registry_wsgi.cli`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def main(
    argv: Sequence[str] | None = None,
    program: str = "registry-wsgi",
    *,
    project: Mapping[str, Any] | None = None,
    called: Callable[[str], str] = str,
) -> int:
    """
    Run the command line, see `registry_wsgi.cli.commands.main`, or say how to install it.

    Args:
        argv: The arguments; None: those of the process.
        program: The command that the user typed before the arguments, for messages.
        project: The settings of the project whose command this is.
        called: What messages call such a setting.

    Returns:
        The exit code.
    """
    try:
        from .cli import commands, options  # noqa: PLC0415 - its packages may be absent
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        print(
            "registry-wsgi: this needs packages that are not installed:"
            " pip install 'registry-wsgi[cli]'",
            file=sys.stderr,
        )
        return 1
    return commands.main(argv, program, options.Options(project=project or {}, called=called))


if __name__ == "__main__":
    sys.exit(main())
