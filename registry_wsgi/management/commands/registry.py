"""``python manage.py registry …``: the command line, in a Django project."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from registry_wsgi.__main__ import main


class Command(BaseCommand):  # type: ignore[misc]  # Django ships no types
    """Passes its arguments to the command line of this library."""

    help = "Delete local models with a way back, and free the space that nothing needs."
    requires_system_checks = ()

    def run_from_argv(self, argv: list[str]) -> None:
        """Run the command with all arguments as typed; Django parses none, not even ``--help``."""
        sys.exit(main(argv[2:], f"python {argv[0]} {argv[1]}"))

    def add_arguments(self, parser: CommandParser) -> None:
        """Let `django.core.management.call_command` take any arguments."""
        parser.add_argument("arguments", nargs=argparse.REMAINDER)

    def handle(self, *, arguments: list[str], **options: Any) -> None:
        """Run the command for `django.core.management.call_command`."""
        del options
        if code := main(arguments, "python manage.py registry"):
            raise CommandError(f"registry {' '.join(arguments)}: see above", returncode=code)
