"""The command ``registry-wsgi``, also as ``python -m registry_wsgi``. See `registry_wsgi.cli`."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None, program: str = "registry-wsgi") -> int:
    """Run the command line, see `registry_wsgi.cli.commands.main`, or say how to install it."""
    try:
        from .cli import commands  # noqa: PLC0415 - its packages may be absent
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        print(
            "registry-wsgi: this needs packages that are not installed:"
            " pip install 'registry-wsgi[cli]'",
            file=sys.stderr,
        )
        return 1
    return commands.main(argv, program)


if __name__ == "__main__":
    sys.exit(main())
