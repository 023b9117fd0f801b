"""The options of the group, and those that several commands share."""

from __future__ import annotations

import dataclasses
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from ..errors import ConfigurationError, InvalidDurationError, InvalidSizeError, one_line
from ..settings import CacheSettings
from .terminal import PROGRAM
from .who import user_name

if TYPE_CHECKING:
    from ..cache.model_cache import ModelCache

_S = TypeVar("_S", bound=CacheSettings)

__all__ = [
    "GROUP_OPTIONS",
    "Options",
    "checked",
    "dry_run_option",
    "json_option",
    "missing_extra",
    "quiet_option",
    "reverse_option",
    "yes_option",
]

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Write JSON: sizes in bytes, times in ISO form."
)
dry_run_option = click.option("--dry-run", "-n", is_flag=True, help="Only say what would go.")
quiet_option = click.option(
    "--quiet-store", is_flag=True, help="Nobody else is at work: wait for no download."
)
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
reverse_option = click.option("--reverse", "-r", is_flag=True, help="The other way round.")


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """
    The values of the options of the group.

    Attributes:
        models: The location of the models; None: the environment says it.
        verbose: Whether to say what is being done.
        color: Whether the output may have colors.
        project: The settings of the project whose command this is, by field.
        called: What messages call a setting of the project.
    """

    models: str | None = None
    verbose: bool = False
    color: bool = True
    project: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    called: Callable[[str], str] = str

    def settings(self, kind: type[_S], **given: Any) -> _S:
        """
        Take the settings from what was typed, from the project, and from the environment.

        Raises:
            ConfigurationError: One of them cannot be used.
        """
        if self.models is not None:
            given["location"] = self.models

        def called(field: str) -> str:
            return field if field in given else self.called(field)

        return kind.read(None, called, **{**self.project, **given})

    def cache(self) -> ModelCache:
        """
        Open the store.

        Raises:
            ConfigurationError: A setting in the environment cannot be used.
            click.BadParameter: The location that was typed cannot be used.
        """
        from ..cache.opening import cache_from, open_cache  # noqa: PLC0415

        with self.blamed():
            if not self.project:
                return open_cache(self.models)
            return cache_from(self.settings(CacheSettings))

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Turn the error about a location that was typed into one about the option."""
        try:
            yield
        except ConfigurationError as error:
            message = str(error)
            if not message.startswith("location: "):  # an error about the environment
                if self._is_default():
                    message += f", and so does --models; to try it without any: {PROGRAM} demo"
                raise ConfigurationError(message + self.whose(error)) from error
            message = one_line(message[10:]) + self.whose(error)
            raise click.BadParameter(message, param_hint="'--models'") from error

    def whose(self, error: BaseException) -> str:
        """Say whose the models are, if *error* is that this user may not do something to them."""
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, PermissionError):
            cause = cause.__cause__
        if cause is None:
            return ""
        try:
            owner = os.stat(os.path.expanduser(self.settings(CacheSettings).location)).st_uid
        except (OSError, ConfigurationError):
            return ""
        if owner == os.geteuid():
            return ""
        name = user_name(owner) or f"#{owner}"
        user = shlex.quote(name)
        return (
            f"; the models are those of the user {name}: run this as that user, with sudo -u {user}"
        )

    def undo(self, context: click.Context, arguments: Iterable[str]) -> str:
        """Write the command that restores *arguments*, quoted for a shell."""
        program = context.parent.command_path if context.parent else PROGRAM
        if program == PROGRAM and not _is_on_path():
            program = f"{shlex.quote(sys.executable)} -m registry_wsgi"
        known = self.models is None and "location" in self.project
        options = []
        if not (known or self._is_default()):
            options = ["--models", self.settings(CacheSettings).location]
        return one_line(f"{program} {shlex.join([*options, 'restore', *arguments])}")

    def _is_default(self) -> bool:
        """Tell whether the models are where they are if nobody says so."""
        return self.settings(CacheSettings).location == CacheSettings().location


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Keep an option of the group in the `Options`, whether it stands before a command or after."""
    if value is None:
        return
    options = context.find_object(Options) or Options()
    context.obj = dataclasses.replace(options, **{str(parameter.name): value})
    if isinstance(context.command, click.Group):
        return
    if context.obj.verbose:  # the group has begun to show the log already
        logging.getLogger("registry_wsgi").setLevel(logging.INFO)


def _complete_place(
    context: click.Context, parameter: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Let the shell complete a directory."""
    del context, parameter
    return [CompletionItem(typed, type="dir")]


_option = partial(click.Option, callback=_keep, expose_value=False)

#: Understood before the name of a command, and after it.
GROUP_OPTIONS = (
    _option(
        ["--models"],
        metavar="PATH_OR_URL",
        shell_complete=_complete_place,
        help="Where the models are; default: $OLLAMA_MODELS, else ~/.ollama/models.",
    ),
    _option(["--verbose", "-v"], is_flag=True, default=None, help="Say what is being done."),
    _option(
        ["--no-color", "color"],
        is_flag=True,
        flag_value=False,
        default=None,
        help="No colors; so does the variable NO_COLOR.",
    ),
)


def checked(parse: Callable[[str], float]) -> Callable[..., str | None]:
    """Make a callback of click that refuses what *parse* refuses: a duration, or a size."""

    def check(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
        del context, parameter
        try:
            parse(text or "0")
        except (InvalidDurationError, InvalidSizeError) as error:
            raise click.BadParameter(str(error)) from error
        return text

    return check


def missing_extra(extra: str) -> str:
    """Say what to install for a command whose packages are not there."""
    return f"this needs packages that are not installed: pip install 'registry-wsgi[{extra}]'"


def _is_on_path() -> bool:
    """Tell whether the shell finds the command of this installation."""
    command = shutil.which(PROGRAM)
    here = os.path.dirname(sys.executable)
    return command is not None and os.path.dirname(os.path.realpath(command)) == here
