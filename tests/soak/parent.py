"""The parent of a soak: it starts, disturbs and kills the other processes, and checks the store."""

from __future__ import annotations

import dataclasses
import fcntl
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import TypeVar, cast

from kit.outages import Weather
from registry_wsgi.errors import (
    StoreError,
)
from soak.board import EVENTS, Board, Count, Journal, Phase
from soak.checks import Checks, Findings
from soak.collecting import disable
from soak.places import Place
from soak.roles import ROLES
from soak.settings import Settings
from soak.workers import Worker

_T = TypeVar("_T")


@dataclasses.dataclass
class Slot:
    """A process that is started again after each kill."""

    number: int
    role: str
    generation: int = 0
    process: ForkProcess | None = None


@dataclasses.dataclass
class Outcome:
    """
    What a soak came to.

    Attributes:
        figures: The counts, by their names.
        broken: What the promise forbids and was found, a line each.
        excused: Models that lost a blob as the promise excludes: their pull was held up.
        errors: What processes raised.
    """

    figures: dict[str, int | float]
    broken: list[str]
    excused: list[str]
    errors: list[str]

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.figures.items())

    def add(self, found: Findings) -> None:
        """Add what the check of one round found."""
        self.broken += found.broken
        self.excused += found.excused
        self.errors += found.errors

    @property
    def failed(self) -> bool:
        """Whether there is anything to look into."""
        return bool(self.broken or self.errors)

    @property
    def lines(self) -> dict[str, list[str]]:
        """What was found, by what it is called."""
        return {"error": self.errors, "excused": self.excused, "broken": self.broken}


class Soak:
    """
    A soak over a place.

    Args:
        settings: How much of what.
        place: Where the models are. It may hold some from an earlier soak with the same seed.
        work: A directory for journals and locks, outside of the store.
        weather: What brings outages about.
    """

    def __init__(
        self, settings: Settings, place: Place, work: Path, weather: Weather | None = None
    ) -> None:
        self.settings = settings
        self._weather = weather
        self._weather_ends = 0.0
        self._outage = False
        self._outages = 0
        self.place = place
        self._checks = Checks(settings, place)
        self.work = work
        roles = ["watcher", *["writer"] * settings.writers, *["deleter"] * settings.deleters]
        roles += [*["restorer"] * settings.restorers, *["pruner"] * settings.pruners]
        roles += [*["renamer"] * settings.renamers, *["fetcher"] * settings.fetchers]
        roles += [*["blocker"] * settings.blockers, *["forgetter"] * settings.forgetters]
        self._slots = [Slot(number, role) for number, role in enumerate(roles)]
        self._board = Board(len(roles))
        self._rng = random.Random(f"parent {settings.seed}")
        self._context = multiprocessing.get_context("fork")
        self._interrupted = False
        self._kills = 0
        self._rounds = 0
        self._first: float | None = None  # when the first thing broke
        self._outcome = Outcome({}, [], [], [])
        (work / "locks").mkdir(parents=True, exist_ok=True)
        (work / "locks" / "pulling").touch()
        (work / "locks" / "pulling").chmod(0o666)  # whoever opens it first

    def run(self) -> Outcome:
        """Go on until there were enough events, or the time is up, or something is broken."""
        settings = self.settings
        disable(settings.without)
        # An exception could be lost: Python ignores those that are raised as it forks.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._interrupt)
        began = time.monotonic()
        deadline = began + settings.seconds
        listed = self._apart(self._checks.listed)
        while True:
            over = self._round(deadline, listed)
            if self._interrupted:
                raise KeyboardInterrupt
            found = self._apart(lambda: self._checks.after_a_round(self._journals()))
            listed = found.listed
            self._outcome.add(found)
            print(f"after {time.monotonic() - began:.0f} s: {self._events} events", file=sys.stderr)
            if (found.broken or found.errors) and self._first is None:
                self._first = min(found.moments, default=time.monotonic()) - began
            if over or (self._outcome.failed and not settings.go_on):
                break
        if not self._outcome.failed:
            self._outcome.broken += self._apart(self._checks.deleted)
            self._outcome.broken += self._apart(self._checks.collected)
        self._outcome.figures = self._figures(time.monotonic() - began)
        return self._outcome

    def _apart(self, function: Callable[[], _T]) -> _T:
        """Call *function* in another process: this one opens no store, as it goes on to fork."""
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(target=lambda: sender.send(function()), daemon=True)
        process.start()
        sender.close()
        with receiver:
            try:
                return cast("_T", receiver.recv())
            finally:
                process.join()

    def _interrupt(self, number: int, frame: object) -> None:
        self._interrupted = True

    @property
    def _events(self) -> int:
        return sum(self._board.total(what) for what in EVENTS) + self._kills

    def _round(self, deadline: float, listed: set[str]) -> bool:
        """Let the processes run for a while, and tell whether that was the last time."""
        self._rounds += 1
        self._journals().mkdir(parents=True)
        opening = Journal(self._journals() / "opening")
        for key in listed:
            opening.write("put", key, "before")
            opening.write("done", key)
        ends = time.monotonic() + self.settings.round
        if time.monotonic() < deadline:
            ends = min(deadline, ends)
        try:
            self._set_phase(Phase.BUSY)
            for slot in self._slots:
                self._start(slot)
            while time.monotonic() < ends and self._events < self.settings.events:
                if self._interrupted:
                    break
                time.sleep(self._rng.expovariate(self.settings.kills))
                self._kill_one()
                self._change_phase()
                self._change_weather()
            late = (
                time.monotonic() >= deadline
                and self._board.total(Count.COMMITTED) >= self.settings.committed
            )
            return late or self._events >= self.settings.events
        finally:
            self._stop()

    def _set_phase(self, phase: Phase) -> None:
        settings = self.settings
        lengths = {
            # Mostly short, sometimes long enough for the hold to be over while pulls go on.
            Phase.BUSY: self._rng.choice([0.2, 0.5, 1, 1, 2 * settings.hold]),
            # Until no pull seems to be under way, and what was deleted has expired.
            Phase.PAUSE: settings.calm,
            Phase.REST: settings.calm,
            Phase.STILL: self._rng.uniform(0.1, settings.still),
            Phase.ALONE: 0.5,
            Phase.QUIET: 0.7,
            Phase.STOP: 0.0,
        }
        self._board.phase = phase
        self._phase_ends = time.monotonic() + lengths[phase]

    def _change_phase(self) -> None:
        if time.monotonic() >= self._phase_ends:
            if self._board.phase in (Phase.PAUSE, Phase.REST):
                phases = [Phase.BUSY, Phase.STILL, Phase.ALONE] * 2
                self._set_phase(self._rng.choice(phases + [Phase.QUIET] * self.place.others))
                if not self.settings.at_rest:
                    self.place.stir()
            else:
                rests = self._rng.random() < self.settings.rest
                self._set_phase(Phase.REST if rests else Phase.PAUSE)

    def _change_weather(self) -> None:
        if self._weather is None or time.monotonic() < self._weather_ends:
            return
        if self._outage:
            self._clear_weather()
        else:
            self._weather.worsen(self._rng)
            self._outage = True
            self._outages += 1
            self._weather_ends = time.monotonic() + self._rng.uniform(0.2, 2)

    def _clear_weather(self) -> None:
        if self._weather is not None:
            self._weather.clear()
            self._outage = False
            wait = self._rng.expovariate(self.settings.outages / 60)
            self._weather_ends = time.monotonic() + wait

    def _start(self, slot: Slot) -> None:
        slot.generation += 1
        slot.process = self._context.Process(target=self._work, args=(slot,), daemon=True)
        slot.process.start()

    def _work(self, slot: Slot) -> None:
        """What a process runs."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which stops us
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # What the process before has started may still be at work: it has not ended till then.
        running = os.open(self.work / "locks" / f"running-{slot.number}", os.O_WRONLY | os.O_CREAT)
        fcntl.flock(running, fcntl.LOCK_EX)
        worker = Worker(
            settings=self.settings,
            place=self.place,
            board=self._board,
            slot=slot.number,
            generation=slot.generation,
            journal=Journal(self._journals() / str(slot.number)),
            second=Journal(self._journals() / f"{slot.number}-second"),
            locks=self.work / "locks",
            running=running,
            rng=random.Random(f"{self.settings.seed} {slot.number} {slot.generation}"),
        )
        self.place.enter(slot.role, slot.number)
        while True:
            try:
                ROLES[slot.role](worker)
                return
            except StoreError as error:
                worker.error(error)
                worker.pause(0.2)

    def _kill_one(self) -> None:
        """Kill a process, more often than not a pruner, and start it again."""
        pruners = self._rng.random() < 0.75
        choice = [s for s in self._slots if (s.role == "pruner") == pruners and s.role != "watcher"]
        slot = self._rng.choice(choice)
        self._end(slot, kill=True)
        self._kills += 1
        self._start(slot)

    def _end(self, slot: Slot, *, kill: bool) -> None:
        process, slot.process = slot.process, None
        if process is None:
            return
        if not kill:
            process.join(15)
        if process.is_alive():
            process.kill()
            process.join()
        if process.exitcode not in (0, -signal.SIGKILL):
            self._outcome.errors.append(f"{slot.role} {slot.number}: exit {process.exitcode}")
        process.close()

    def _stop(self) -> None:
        """End all processes: half of the pruners are killed, the others finish what they are at."""
        self._board.phase = Phase.STOP
        self._clear_weather()
        for slot in self._slots:
            if slot.process is not None:
                kill = slot.role == "pruner" and self._rng.random() < 0.5
                self._end(slot, kill=kill)
                self._kills += kill
        self.place.after_a_round()

    def _journals(self) -> Path:
        return self.work / f"journals-{self._rounds}"

    def _figures(self, seconds: float) -> dict[str, int | float]:
        figures: dict[str, int | float] = {"events": self._events}
        figures |= {what.name.lower(): self._board.total(what) for what in Count}
        figures |= {"kills": self._kills, "rounds": self._rounds, "seconds": round(seconds, 1)}
        figures |= {"outages": self._outages, "errors": len(self._outcome.errors)}
        if self._first is not None:
            figures["first"] = round(self._first, 2)
        return figures | {
            "excused": len(self._outcome.excused),
            "broken": len(self._outcome.broken),
        }
