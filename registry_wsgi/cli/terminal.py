"""
The output of the command line: tables, reports, progress and the log.

Text that comes from elsewhere never drives the terminal: characters that do not print are escaped,
and no text is taken for markup.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from ..cache.downloads import is_temporary
from ..cache.results import plain, restorable_until
from ..durations import moment
from ..errors import escape, one_line
from ..figures import counted, format_size, format_time, made_by, short_name, short_names

if TYPE_CHECKING:
    from rich.console import Console

    from ..cache.collector import Item, Progress, PruneReport
    from ..cache.history import Change
    from ..cache.model_cache import ModelCache
    from ..cache.results import DeletedModel, Usage
    from ..cache.verifier import VerifyReport
    from .options import Options

__all__ = [
    "LISTED",
    "PROGRAM",
    "by_whom",
    "counted",
    "delete_outcome",
    "echo_error",
    "echo_freed",
    "echo_json",
    "echo_names",
    "echo_pruned",
    "echo_table",
    "echo_verified",
    "echo_young",
    "fail_for",
    "format_size",
    "format_time",
    "removal_outcome",
    "restorable_until",
    "short_file",
    "short_name",
    "short_names",
    "show_log",
    "show_progress",
    "system_error",
]

_log = logging.getLogger("registry_wsgi")

PROGRAM = "registry-wsgi"

# The columns of numbers, which end at the same place.
_NUMBERS = (
    *("SIZE", "SHARED", "FREES", "MODELS", "BLOBS", "FILES", "ON DISK", "FREES NOW", "LATER"),
    "AGE",
)

_DIGITS = re.compile(r"sha256[-:]([0-9a-fA-F]{12})[0-9a-fA-F]{52}")

# How many letters of a column that wraps stand in a line at least: as many as a time has.
_LEAST = 16

#: How many names are shown one by one where thousands may be meant.
LISTED = 20


def _is_terminal(*, stderr: bool = False) -> bool:
    """Tell whether somebody looks. For a file or a pipe, rich need not be loaded."""
    stream = sys.stderr if stderr else sys.stdout
    return stream is not None and stream.isatty()


def _console(color: bool, *, stderr: bool = False) -> Console:
    """Make a console that takes nothing in a text for markup."""
    from rich.console import Console  # noqa: PLC0415

    return Console(
        stderr=stderr,
        no_color=None if color else True,
        markup=False,
        highlight=False,
        emoji=False,
    )


def echo_json(value: Any) -> None:
    """Write JSON; times in ISO form."""
    click.echo(json.dumps(value, default=plain, indent=2))


def echo_error(message: str, code: int = 1) -> int:
    """Say on stderr, in one line, what went wrong; give the exit code *code* back."""
    with suppress(OSError):  # nobody reads stderr, but the exit code still tells
        click.echo(f"{PROGRAM}: {one_line(message)}", err=True)
    return code


def echo_table(
    color: bool,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    empty: str = "",
    *,
    sums: Callable[[], str] | None = None,
    spare: Sequence[str] = (),
    wraps: Sequence[str] = (),
    stderr: bool = False,
) -> None:
    """
    Write a table. A script gets all columns, and a row in each line; a terminal, what fits into it.

    Args:
        color: Whether a terminal may be written to in colors.
        headings: Those of the columns. What is in the first may take more than one line.
        rows: What is below.
        empty: A sentence that a terminal gets if there are no rows.
        sums: Gives a sentence that a terminal gets below the table.
        spare: The columns that a narrow terminal does without, the least needed first.
        wraps: Other columns that may take more than one line.
        stderr: Whether all this goes to stderr.
    """
    looks = _is_terminal(stderr=stderr)
    if not rows:
        if looks:
            click.echo(empty, err=True)
        return
    if not looks:
        right = [heading in _NUMBERS for heading in headings]
        widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
        for row in (headings, *rows):
            cells = zip(row, widths, right, strict=True)
            line = [cell.rjust(width) if end else cell.ljust(width) for cell, width, end in cells]
            click.echo("  ".join(line).rstrip(), err=stderr)
        return
    from rich.table import Table  # noqa: PLC0415

    console = _console(color, stderr=stderr)
    columns = dict(zip(headings, zip(*rows, strict=True), strict=True))
    for heading in spare:
        widths = [max(map(len, (name, *cells))) for name, cells in columns.items()]
        if sum(widths) + 2 * len(widths) - 2 > console.width:
            columns.pop(heading, None)
    table = Table(box=None, pad_edge=False)
    for heading, texts in columns.items():
        may_wrap = heading in (headings[0], *wraps)
        table.add_column(
            heading,
            justify="right" if heading in _NUMBERS else "left",
            no_wrap=not may_wrap,
            overflow="fold",
            min_width=min(max(map(len, texts)), _LEAST) if may_wrap else None,
        )
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    console.print(table)
    if sums is not None:
        click.echo(sums(), err=stderr)


def echo_names(heading: str, names: Sequence[str], *, err: bool = False) -> None:
    """Write a heading, and names below it; a single name goes into the line of the heading."""
    if len(names) == 1:
        click.echo(f"{heading.rpartition(' 1 ')[0]} {short_name(names[0])}", err=err)
        return
    click.echo(heading, err=err)
    _echo_list(names, err=err)


def _echo_list(
    names: Sequence[str], count: int | None = None, *, every: bool = False, err: bool = False
) -> None:
    """Write names, one a line: the first of *count*, unless *every* one is asked for."""
    shown = names if every else names[:LISTED]
    for name in shown:
        click.echo(f"  {short_name(name)}", err=err)
    more = (len(names) if count is None else count) - len(shown)
    if more > 0:
        click.echo(f"  and {more:,} more", err=err)


def delete_outcome(cache: ModelCache, usage: Usage) -> str:
    """Say how much a delete frees and when, and how much stays because other models use it."""
    freed = format_size(usage.size - usage.shared)
    if cache.retention:
        when = f"the first prune after {format_time(moment(time.time() + cache.retention))}"
    else:
        when = "the next prune, as the retention is 0"
    return f"{freed} will be freed, by {when}.{_shared(usage)}"


def removal_outcome(plan: PruneReport, usage: Usage) -> str:
    """Say what a delete for good frees, by its dry run, and what has to wait for pulls."""
    if plan.unsettled:
        return "Nothing will be freed: models come and go all the while. They stay in the trash."
    if not plan.models and plan.held_blobs:
        return (
            f"Nothing will be freed now: a download is under way, which may use {_held(plan)}."
            " So they will stay in the trash."
        )
    later = ""
    if plan.held_blobs:
        later = f"\n{_held(plan)}, wait for a later prune, as a pull may need them."
    return f"{format_size(plan.bytes)} will be freed now.{later}{_shared(usage)}"


def _shared(usage: Usage) -> str:
    return f"\n{format_size(usage.shared)} stay, as other models use them." if usage.shared else ""


_REASONS = {
    "expired": "deleted",
    "all": "older than the age",
    "partial": "unfinished downloads and other files",
    "unreferenced": "needed by nothing",
}


def echo_pruned(options: Options, report: PruneReport, *, stderr: bool = False) -> None:
    """Say what a prune removed or, after a dry run, would remove."""
    verb = "Would remove" if report.dry_run else "Removed"
    if report.models or report.blobs:
        _echo_reasons(options, verb, report, stderr=stderr)
    else:
        click.echo(f"{verb} nothing.", err=stderr)
    _echo_held(report, stderr=stderr)
    if report.protected:
        verb = "Would keep" if report.dry_run else "Kept"
        models = counted(report.protected, "model")
        click.echo(f"{verb} {models} that would go but for being protected.", err=stderr)


def echo_freed(report: PruneReport, names: Sequence[str]) -> None:
    """Say what `ModelCache.forget` has freed of the models *names*, or would free."""
    verb = "Would remove" if report.dry_run else "Removed"
    if report.unsettled:
        click.echo(f"{verb} nothing: models came and went all the while. Try again.")
    elif not report.models and report.held_blobs:
        click.echo(
            f"{verb} nothing: a download is under way, which may use {_held(report)}."
            ' Try "forget" once it has ended; or with --quiet-store, if there is none.'
        )
        return
    elif report.models:
        echo_names(f"{verb} for good {counted(len(names), 'model')}:", names)
        freed = "would be freed" if report.dry_run else "are free now"
        click.echo(f"{format_size(report.bytes)} {freed}.")
    _echo_held(report)


def _held(report: PruneReport) -> str:
    return f"{counted(report.held_blobs, 'blob')}, {format_size(report.held_bytes)}"


def _echo_held(report: PruneReport, *, stderr: bool = False) -> None:
    if report.held_until is None:
        return
    verb = "Would hold" if report.dry_run else "Holds"
    click.echo(
        f"{verb} {_held(report)}, as a pull may need them."
        " A prune takes them when no pull is under way,"
        f" at the latest from {format_time(report.held_until)};"
        " with --quiet-store, if nobody is at work, at once.",
        err=stderr,
    )


def fail_for(report: PruneReport) -> None:
    """
    Let the command end with 1 if something could not be removed.

    Raises:
        click.ClickException: The report has failures.
    """
    if report.failed:
        files = counted(report.failed, "file")
        raise click.ClickException(f"{files} could not be moved or removed; the rest is done")


def echo_young(options: Options, young: PruneReport, rule: str) -> None:
    """Say what no model needs, but is not old enough to go; *rule* tells when it is."""
    if young.models or young.blobs:
        _echo_reasons(options, "Not old enough to go:", young)
        click.echo(rule)


def _echo_reasons(
    options: Options, what: str, report: PruneReport, *, stderr: bool = False
) -> None:
    """Sum up *report*, name its models, and give the numbers for each reason."""
    count = f"{counted(report.models, 'model')} and {counted(report.blobs, 'blob')}"
    click.echo(f"{what} {count}, {format_size(report.bytes)}:", err=stderr)
    names = [item.model for item in report.items if item.model]
    _echo_list(names, report.models, every=options.verbose, err=stderr)
    if options.verbose:
        _echo_files(options, report, stderr=stderr)
    rows = [
        (_REASONS[reason], f"{gone.models:,}", f"{gone.blobs:,}", format_size(gone.bytes))
        for reason, gone in report.reasons.items()
    ]
    echo_table(options.color, ["WHY", "MODELS", "BLOBS", "SIZE"], rows, stderr=stderr)


def _echo_files(options: Options, report: PruneReport, *, stderr: bool) -> None:
    """Name the files of *report*."""
    rows = [
        (
            short_file(item.file, stderr=stderr),
            format_size(item.bytes),
            format_time(item.when),
            _why(item, item.file),
        )
        for item in report.items
        if item.file
    ]
    if rows:
        echo_table(options.color, ["FILE", "SIZE", "SINCE", "WHY"], rows, stderr=stderr)
    if report.left_out:
        click.echo(f"and {report.left_out:,} more, which are smaller", err=stderr)


def _why(item: Item, file: str) -> str:
    if item.held:
        return "waits"
    if item.reason == "partial":
        return "unfinished" if is_temporary(file) else "foreign"
    return _REASONS[item.reason]


def short_file(name: str, *, stderr: bool = False) -> str:
    """Write the name of a file among the blobs: on a terminal by twelve digits, as an ID has."""
    digits = _DIGITS.sub(r"\1…", name) if _is_terminal(stderr=stderr) else name
    return escape(digits)


def echo_verified(report: VerifyReport, *, deep: bool, repair: bool) -> None:
    """Say what `ModelCache.verify` found."""
    for problem in report.problems:
        users = ", ".join(map(short_name, problem.models))
        needed = f" (needed by {users})" if users else ""
        repaired = "repaired " if problem.repaired else ""
        subject, detail = escape(problem.subject), one_line(problem.detail)
        what = f"{repaired}{problem.kind} {subject}".rstrip()  # all manifests may be out of reach
        click.echo(f"{what}: {detail}{needed}")
    checked = f"{counted(report.models, 'model')}, {counted(report.blobs, 'blob')}"
    read = (
        f"{format_size(report.bytes)} read" if deep else f"{format_size(report.bytes)}, sizes only"
    )
    bad = sum(not problem.repaired and problem.kind != "foreign" for problem in report.problems)
    verdict = "all is well" if report.ok else counted(bad, "problem")
    click.echo(f"{checked}, {read}: {verdict}")
    if any(problem.kind != "out of reach" for problem in report.problems) and not report.ok:
        click.echo(f"{'' if repair else 'Try --repair. '}Pulling a model again mends it.")


_IN_BYTES = ("reading blobs", "removing blobs", "removing downloads")


@contextmanager
def show_progress(color: bool) -> Iterator[Progress | None]:
    """Show a progress bar on a terminal; elsewhere log each step (see `_log_steps`)."""
    if not _is_terminal(stderr=True):
        yield _log_steps()
        return
    from rich import progress as bars  # noqa: PLC0415

    text = bars.TextColumn("{task.description}")
    counts = (text, bars.BarColumn(), bars.MofNCompleteColumn())
    sizes = (
        *(text, bars.BarColumn(), bars.DownloadColumn()),
        *(bars.TransferSpeedColumn(), bars.TimeRemainingColumn()),
    )
    with bars.Progress(*counts, console=_console(color, stderr=True), transient=True) as bar:
        tasks: dict[str, bars.TaskID] = {}

        def show(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                for task in tasks.values():
                    bar.update(task, visible=False)
                bar.columns = sizes if what in _IN_BYTES else counts
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield show


def _log_steps() -> Progress:
    """Log each step when it begins. That is shown with --verbose."""
    begun: set[str] = set()

    def note(what: str, done: int, total: int | None) -> None:
        del done, total
        if what not in begun:
            begun.add(what)
            _log.info("%s", what)

    return note


class _Handler(logging.Handler):
    """Writes to the stderr of the moment: a progress bar replaces it, to write above the bar."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), err=True)


class _Formatter(logging.Formatter):
    """Keeps each message in one line."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return one_line(super().formatMessage(record))


def show_log(context: click.Context, level: int, prefix: str) -> None:
    """Send the library's log to stderr for as long as the command runs."""
    handler = _Handler()
    handler.setFormatter(_Formatter(f"{prefix} %(message)s"))
    before = _log.level
    _log.addHandler(handler)
    _log.setLevel(level)

    @context.call_on_close
    def stop() -> None:
        _log.removeHandler(handler)
        _log.setLevel(before)


def system_error(error: OSError) -> str:
    """Say in one line what the system refused."""
    named = f"{error.filename}: " if error.filename else ""
    return f"{named}{error.strerror or error}"


def by_whom(change: Change | DeletedModel) -> str:
    """Write who made *change* and from where, as far as that is known."""
    return made_by(change.user, change.source)
