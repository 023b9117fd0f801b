"""
The command line: the calls of the cache, for an operator, a timer and scripts.

Results go to stdout; errors (one line), questions and progress go to stderr. The commands are in
modules by what they do: `registry_wsgi.cli.look`, `registry_wsgi.cli.change`,
`registry_wsgi.cli.space`, `registry_wsgi.cli.evict` and `registry_wsgi.cli.serve`. Packages that
only some commands need are imported inside those, so that ``--help`` and the completion of names
are quick.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import click

from ..errors import (
    ConfigurationError,
    InvalidDurationError,
    InvalidNameError,
    RegistryError,
    one_line,
)
from . import change, look, serve, space
from .evict import evict
from .options import GROUP_OPTIONS, Options, missing_extra
from .terminal import PROGRAM, echo_error, show_log, system_error
from .who import who

__all__ = ["cli", "main"]


def main(
    argv: Sequence[str] | None = None, program: str = PROGRAM, options: Options | None = None
) -> int:
    """
    Run the command line.

    Args:
        argv: The arguments; None: those of the process.
        program: The command that the user typed before the arguments, for messages.
        options: What holds unless the arguments say otherwise.

    Returns:
        The exit code.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path need not be valid text
    code = _run(argv, program, options)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        if code == 0:
            code = echo_error(system_error(error))
        # At its end Python would write the rest of the buffer, and fail again: let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _run(argv: Sequence[str] | None, program: str, options: Options | None) -> int:
    try:
        code = cli.main(argv, prog_name=program, standalone_mode=False, obj=options)
    except (click.Abort, KeyboardInterrupt) as error:
        # Click turns Ctrl-C into an Abort, and also the end of the input at a question.
        interrupted = isinstance(error, KeyboardInterrupt) or isinstance(
            error.__context__, KeyboardInterrupt
        )
        return 130 if interrupted else 1
    except click.ClickException as error:
        message = error.format_message()
        if isinstance(error, click.UsageError) and error.ctx is not None:
            message = f"{message.rstrip('.')}; see {error.ctx.command_path} --help"
        return echo_error(message, error.exit_code)
    except OSError as error:  # from the output of --help, which is not the work of a command
        return 1 if error.errno == errno.EPIPE else echo_error(system_error(error))
    return code if isinstance(code, int) else 0


_MEANT = {"delete": "rm", "remove": "rm", "ls": "list"}


class _Group(click.Group):
    """The group, which turns the exceptions of the library into errors of the command line."""

    def invoke(self, ctx: click.Context) -> Any:
        from ..cache.history import acting  # noqa: PLC0415 - not for --help

        try:
            with acting(*who()):
                return super().invoke(ctx)
        except (InvalidNameError, InvalidDurationError) as error:
            raise click.UsageError(str(error)) from error
        except RegistryError as error:
            options = ctx.find_object(Options) or Options()
            whose = "" if isinstance(error, ConfigurationError) else options.whose(error)
            raise click.ClickException(one_line(str(error)) + whose) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader (`head`, say) is done: no message
                raise click.exceptions.Exit(1) from error
            raise click.ClickException(one_line(system_error(error))) from error

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Find a command, also by the name that other programs have for the like."""
        return super().get_command(ctx, _MEANT.get(cmd_name, cmd_name))

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order of use."""
        del ctx
        return list(self.commands)


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    invoke_without_command=True,
    epilog="Exit codes: 0 all is well, 1 failure, 2 wrong usage, 130 Ctrl-C.",
)
@click.version_option(package_name=PROGRAM)
@click.pass_context
def cli(context: click.Context) -> None:
    """Delete local models with a way back, and free the space that nothing needs."""
    if find_spec("rich") is None:  # Flask depends on click, so that click may be there alone
        raise click.ClickException(missing_extra("cli"))
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
    context.obj = options = context.find_object(Options) or Options()
    serves = context.invoked_subcommand in ("serve", "demo")
    level = logging.INFO if options.verbose or serves else logging.WARNING
    show_log(context, level, "%(asctime)s %(levelname)s" if serves else f"{PROGRAM}:")


cli.params[:0] = GROUP_OPTIONS
for _command in (
    *(look.list_models, change.rm, look.deleted, change.restore, change.protect, change.unprotect),
    *(
        space.df,
        space.orphans,
        space.forget,
        change.prune,
        evict,
        look.verify,
        look.history,
        serve.serve,
        serve.demo,
        look.completion,
    ),
):
    _command.params.extend(GROUP_OPTIONS)
    cli.add_command(_command)
