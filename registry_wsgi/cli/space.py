"""The commands about the space that models take: forget."""

from __future__ import annotations

from datetime import datetime
from functools import partial

import click

from .change import confirm, must_ask
from .options import Options, dry_run_option, json_option, quiet_option, yes_option
from .targets import by_name, choose_delete, complete_deleted, resolve_deleted
from .terminal import (
    counted,
    echo_freed,
    echo_json,
    echo_names,
    fail_for,
    format_size,
    show_progress,
)

__all__ = ["forget"]


@click.command()
@click.argument(
    "names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_deleted
)
@click.option(
    "--at",
    metavar="TIME",
    help="Of several deletes of one name, only the one at this time, as 'deleted' shows it, or with"
    " this id of 'deleted --json'.",
)
@quiet_option
@dry_run_option
@yes_option
@json_option
@click.pass_obj
def forget(
    options: Options,
    names: tuple[str, ...],
    at: str | None,
    *,
    quiet_store: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """
    Remove deleted models for good, and free their space now.

    A NAME may be a pattern, in quotes: 'llama*'. It stands for all deletes of that name. Nothing
    else goes, and what a download under way may use stays until the next prune. It asks first.
    """
    asks = not dry_run and must_ask(yes)
    cache = options.cache()
    models = resolve_deleted(cache, names)
    chosen: str | datetime | None = None
    if at is not None:
        if len(models) > 1:
            raise click.UsageError("--at goes with a single name")
        chosen = choose_delete(by_name(cache.deleted())[models[0].lower()], models[0], at)
    run = partial(cache.forget, *models, at=chosen, quiet_store=quiet_store)
    if asks:
        report = run(dry_run=True)
        echo_names(f"This removes for good {counted(len(models), 'model')}:", models, err=True)
        deletes = counted(report.models, "delete")
        click.echo(f"{deletes}, {format_size(report.bytes)} will be freed now.", err=True)
        confirm("Remove for good?")
    with show_progress(options.color) as progress:
        report = run(dry_run=dry_run, progress=progress)
    if as_json:
        echo_json(report)
    else:
        echo_freed(report, models)
    fail_for(report)
