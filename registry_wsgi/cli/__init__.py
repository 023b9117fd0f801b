"""The command line."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, program: str = "registry-wsgi") -> int:
    """Run the command line, see `registry_wsgi.cli.commands.main`; it needs the extra ``cli``."""
    from .commands import main as run  # noqa: PLC0415 - other modules here do without click

    return run(argv, program)
