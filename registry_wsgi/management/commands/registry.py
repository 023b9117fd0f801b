"""``python manage.py registry …``: the command line, in a Django project."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from registry_wsgi.__main__ import main
from registry_wsgi.django import given_settings, name_in_settings
from registry_wsgi.errors import ConfigurationError


class Command(BaseCommand):  # type: ignore[misc]  # Django ships no types
    """Passes its arguments to the command line of this library."""

    help = "Delete local models with a way back, and free the space that nothing needs."
    requires_system_checks = ()

    def run_from_argv(self, argv: list[str]) -> None:
        """Run the command with all arguments as typed; Django parses none, not even ``--help``."""
        try:
            code = _run(argv[2:], f"python {argv[0]} {argv[1]}")
        except ConfigurationError as error:
            self.stderr.write(f"registry-wsgi: {error}")
            code = 1
        sys.exit(code)

    def add_arguments(self, parser: CommandParser) -> None:
        """Let `django.core.management.call_command` take any arguments."""
        parser.add_argument("arguments", nargs=argparse.REMAINDER)

    def handle(self, *, arguments: list[str], **options: Any) -> None:
        """
        Run the command for `django.core.management.call_command`.

        What it says goes to the *stdout* and *stderr* that are given there.

        Raises:
            CommandError: It failed; the message says why, and ``returncode`` is the exit code.
        """
        said = io.StringIO()
        with ExitStack() as stack:
            if options.get("stdout"):
                stack.enter_context(redirect_stdout(options["stdout"]))
            stack.enter_context(redirect_stderr(said))
            try:
                code = _run(arguments, "python manage.py registry")
            except ConfigurationError as error:
                raise CommandError(str(error)) from error
        *lines, last = said.getvalue().splitlines() or [""]
        if code == 0:
            lines.append(last)
        for line in filter(None, lines):
            self.stderr.write(line)
        if code:
            reason = last.removeprefix("registry-wsgi: ") or "something is wrong, as it says"
            raise CommandError(f"registry {' '.join(arguments)}: {reason}", returncode=code)


def _run(arguments: Sequence[str], program: str) -> int:
    """
    Run the command line by the settings of the project.

    Raises:
        ConfigurationError: ``REGISTRY_WSGI`` is no dictionary, or has an unknown key.
    """
    return main(arguments, program, project=given_settings(), called=name_in_settings)
