"""The command that keeps limits on space: evict."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from ..durations import to_seconds
from ..errors import escape
from ..sizes import to_bytes
from .change import can_ask, confirm
from .options import Options, checked, dry_run_option, json_option, yes_option
from .terminal import (
    LISTED,
    counted,
    echo_json,
    echo_table,
    format_size,
    short_name,
    show_progress,
)

if TYPE_CHECKING:
    from ..cache.evict import EvictReport
    from ..cache.evict_plan import Action

__all__ = ["evict"]


def _limit(name: str, metavar: str, text: str, **options: Any) -> Callable[..., Any]:
    parse = to_bytes if metavar == "SIZE" else to_seconds
    return click.option(name, metavar=metavar, callback=checked(parse), help=text, **options)


@click.command()
@_limit("--max-used", "SIZE", "How much the store may take, with its trash: 200GB, say.")
@_limit("--min-free", "SIZE", "How much of the disk is to be free.")
@_limit("--unused", "DURATION", "Models that were not read for longer go, whatever room there is.")
@_limit(
    *("--recent", "DURATION", "What may have been read within this time stays."),
    default="1d",
    show_default=True,
)
@_limit(
    *("--room", "SIZE", "How much of --max-used the models leave to the trash and the next pull."),
    default="0",
    show_default=True,
)
@dry_run_option
@yes_option
@json_option
@click.pass_obj
def evict(
    options: Options,
    *,
    max_used: str | None,
    min_free: str | None,
    unused: str | None,
    recent: str,
    room: str,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """
    Let go models that were not read for long.

    \b
    evict --unused 30d       those that were not read for 30 days
    evict --max-used 200GB   as many as it takes for the store to fit into that
    evict --min-free 50GB    as many as it takes for that much of the disk to be free

    They go into the trash, the least recently read first, and can be restored. For good goes only
    as much as --max-used and --min-free want: what "prune" takes, then the trash, the oldest first.

    A model stays that is protected, open or may have been read within --recent, and each of which
    nobody can tell when it was last read. At a terminal it asks. The exit code is 1 if a limit is
    not kept, or something could not be removed.
    """
    if max_used is None and min_free is None and unused is None:
        raise click.UsageError("give at least one of --max-used, --min-free and --unused")
    if to_bytes(room) > to_bytes(max_used or "0"):
        raise click.UsageError("--room is a part of --max-used, and cannot be larger")
    cache = options.cache()

    def run(*, dry_run: bool, within: EvictReport | None = None) -> EvictReport:
        with show_progress(options.color) as progress:
            return cache.evict(
                max_used=max_used,
                min_free=min_free,
                unused=unused,
                recent=recent,
                room=room,
                within=within,
                dry_run=dry_run,
                progress=progress,
            )

    plan = None
    if not (dry_run or yes) and can_ask():
        plan = run(dry_run=True)
        _echo(options, plan, stderr=True)
        if plan.actions:
            confirm("Let them go?")
    report = run(dry_run=dry_run, within=plan)  # nothing goes that was not shown
    if as_json:
        echo_json(report)
    else:
        _echo(options, report)
    failures = []
    if report.short:
        failures.append(f"not kept: {format_size(report.short)} are still wanting")
    if report.failures:
        files = counted(len(report.failures), "file")
        failures.append(f"{files} could not be moved or removed; the rest is done")
    if failures:
        raise click.ClickException("; ".join(failures))


def _echo(options: Options, report: EvictReport, *, stderr: bool = False) -> None:
    """Say what an eviction let go, or would let go, and what stays."""
    rows = [
        (
            _subject(action),
            format_size(action.bytes),
            "gone for good" if action.final else "in the trash",
            action.reason,
        )
        for action in report.actions
    ]
    if rows:
        headings = ["WHAT", "FREES", "THEN", "WHY"]
        echo_table(options.color, headings, rows, wraps=["WHY"], stderr=stderr)
    verb = "Would free" if report.dry_run else "Freed"
    free = "" if report.free is None else f", {format_size(report.free)} of the disk are free"
    used = f"the store takes {format_size(report.used)}{free}"
    click.echo(f"{verb} {format_size(report.freed)}; then {used}.", err=stderr)
    if report.stopped and report.dry_run:  # else the log has said so, and what has failed
        click.echo(f"Would end early: {report.stopped}.", err=stderr)
    if report.kept and (options.verbose or report.short):
        stays = [(short_name(name), escape(why)) for name, why in report.kept.items()]
        shown = stays if options.verbose else stays[:LISTED]
        echo_table(options.color, ["STAYS", "WHY"], shown, wraps=["WHY"], stderr=stderr)
        if len(shown) < len(stays):
            click.echo(f"and {len(stays) - len(shown):,} more", err=stderr)


def _subject(action: Action) -> str:
    return "what nothing needs" if action.model is None else short_name(action.model)
