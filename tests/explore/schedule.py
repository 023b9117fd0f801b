"""One schedule, played: who has the turn at which step, and who is killed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from greenlet import getcurrent, greenlet

from explore.conflicts import Conflicts
from explore.seam import CHANGES, Storage

#: What to do at which choice: give the turn to that actor, or `KILL` the one that has it.
Schedule = tuple[tuple[int, int], ...]
KILL = -1

_NOBODY = -2
_NEVER = 99


class KilledError(BaseException):
    """The process is gone, or the schedule is given up: no code of an actor runs any more."""


@dataclass(frozen=True)
class Actor:
    """
    A program that works on the store.

    Attributes:
        name: What it is called.
        act: Does what it does.
        may_raise: The errors that it may end with.
        loses: The models that may be gone for good after it.
        makes: The model that is there after it, if nobody deletes that.
        in_time: The longest time between two changes of blobs or manifests, in seconds, for which
            it is promised that nothing breaks. Infinite: however long it takes.
        unseen: The same while nothing that it has written lies among the blobs.
    """

    name: str
    act: Callable[[Any], object]
    may_raise: tuple[type[Exception], ...] = ()
    loses: frozenset[str] = frozenset()
    makes: str = ""
    in_time: float = float("inf")
    unseen: float = float("inf")


class Play:
    """What became of an actor in one schedule."""

    def __init__(self, actor: Actor, number: int) -> None:
        self.actor = actor
        self.number = number
        self.status = "waits"  # then "acts", and "ended" or "killed"
        self.result: Any = None
        self.seen = 0  # a hash of all that its steps have told it
        self.steps = self.randoms = 0
        self.shown: set[str] = set()  # what it has written among the blobs, and not removed
        self.last = 0  # when it began, or was to be seen
        self.greenlet: Any = None

    @property
    def able(self) -> bool:
        return self.status in ("waits", "acts")

    def random(self, size: int) -> bytes:
        """Give bytes that no other call of any actor gets."""
        self.randoms += 1
        return bytes([self.number + 1, *(size - 2) * [0], self.randoms])

    def show(self, name: str, paths: Sequence[str], now: int) -> None:
        """Note what is to be seen of it after a step: among the blobs, or a manifest."""
        if name == "write" or "/blobs/" in paths[-1]:
            self.last = now
        if name in ("unlink", "rename"):
            self.shown.discard(paths[0])
        if name in ("create", "write", "rename") and "/blobs/" in paths[-1]:
            self.shown.add(paths[-1])

    def made(self, entry: str) -> bool:
        """Tell whether the name of this *entry*, of the trash or aside, has such bytes."""
        return entry.rpartition("-")[2].startswith(f"{self.number + 1:02x}")


class Stage:
    """
    Plays schedules of actors on a disk, which tells it of each step.

    Attributes:
        actors: Who acts.
        disk: What they work on.
        conflicts: Which of their steps matter.
        plays: What became of each actor.
        choices: The ways to go on that the schedule has not taken: the number of the choice, who
            would have had the turn, how many preemptions that costs, and the state.
        journal: All steps, if it is not None: who, which, and whether it is a place to switch.
        killed: Whether an actor was killed.
        changing: The steps that change something.
    """

    disk: Storage

    def __init__(self, changing: Collection[str] = CHANGES) -> None:
        self.changing = changing
        self.actors: list[Actor] = []
        self.conflicts = Conflicts()
        self.plays: list[Play] = []
        self.running: Play | None = None
        self.journal: list[tuple[Play, tuple[str, ...], bool]] | None = None
        self.choices: list[tuple[int, int, int, int]] = []
        self.killed = self._over = self._given_up = self._kills = False
        self._hub = getcurrent()
        self._made = 0

    def play(self, schedule: Schedule, visited: dict[int, int], level: int, *, kills: bool) -> bool:
        """
        Follow *schedule*, and go on without preemptions; False if that was given up.

        Args:
            schedule: What to do at which choice.
            visited: The states that were met, with the fewest preemptions.
            level: How many preemptions the schedule has.
            kills: Whether to offer kills among the choices.
        """
        self.plays = [Play(actor, number) for number, actor in enumerate(self.actors)]
        self._decisions, self._visited, self._level = dict(schedule), visited, level
        self._last = schedule[-1][0] if schedule else -1
        self._number = self._sum = 0
        self._disk: dict[str, int] = {}  # what has happened to each thing on disk, as a hash
        self._kills = kills
        self.choices = []
        self.killed = self._over = self._given_up = False
        self._hub = getcurrent()
        for play in self.plays:
            play.greenlet = greenlet(lambda play=play: self._act(play), self._hub)
        while not self._given_up and any(play.able for play in self.plays):
            self.running = None
            self._choose(None, changes=False, cost=0)
        self.running, self._over = None, True
        for play in self.plays:
            if play.greenlet:
                play.greenlet.throw(KilledError)
            play.greenlet = None
        return not self._given_up

    def reset(self) -> None:
        """Let nobody act: a new store is made."""
        self.running, self.plays, self._made = None, [], 0

    def state(self, turn: int, *, killed: int = _NOBODY) -> int:
        """What all that can still happen depends on, as a hash."""
        plays = tuple((p.seen, "killed" if p.number == killed else p.status) for p in self.plays)
        return hash((self._sum, self.disk.now, turn, plays))

    # What the disk tells

    def step(self, name: str, *paths: str) -> None:
        play = self.running
        if play is None:
            if self._over and getcurrent() is not self._hub:
                raise KilledError  # what a killed actor still does in its `finally`
            return
        play.steps += 1
        step = (name, *paths)
        changes = name in self.changing
        matters = self.conflicts.matters(play.number, step)
        if matters or (self._kills and changes):
            self._choose(play, changes=changes, cost=1)
        if play.steps == 1:
            play.last = self.disk.now
            self.saw(play.last)
        if changes:
            limit = play.actor.in_time if play.shown else play.actor.unseen
            if self.disk.now - play.last >= limit * 1e9:
                self._give_up()
        if self.journal is not None:
            self.journal.append((play, step, matters))

    def saw(self, what: object) -> None:
        if self.running is not None:
            self.running.seen = hash((self.running.seen, what))

    def did(self, name: str, *paths: str) -> None:
        play = self.running
        if play is not None:
            for thing in self.conflicts.accessed((name, *paths))[1]:
                if thing[0] != "L":  # follows from the entries
                    before = self._disk.get(thing, 0)
                    change = before, thing, play.number, play.steps, self.disk.now
                    self._disk[thing] = hash(change)
                    self._sum += self._disk[thing] - before
            play.show(name, paths, self.disk.now)
            self.saw(self.disk.now)

    def new_name(self) -> str:
        play = self.running
        if play is not None:
            return f"{play.number}.{play.steps}"
        self._made += 1
        return f"made.{self._made}"

    def random(self, size: int) -> bytes:
        play = self.running
        if play is None:
            self._made += 1
            return self._made.to_bytes(size, "big")
        return play.random(size)

    def sleep(self, seconds: float) -> bool:
        play = self.running
        if getcurrent() is not (play.greenlet if play else self._hub):
            return False  # another thread
        if not seconds:
            return True  # only a thread gives way so
        if play is None:
            self.disk.now += int(seconds * 1e9)
            return True
        for _ in range(2):  # so that others may also act in the midst of it
            until = self.disk.now + int(seconds / 2 * 1e9)
            self.saw(until)
            self._choose(play, changes=False, cost=0)
            self.disk.now = max(self.disk.now, until)
            self.saw("awake")
        if self.journal is not None:
            self.journal.append((play, ("sleep", f"{seconds} s"), False))
        return True

    # Turns

    def _choose(self, play: Play | None, *, changes: bool, cost: int) -> None:
        """Let the schedule say whose turn it is: by default that of *play*, if there is one."""
        number, self._number = self._number, self._number + 1
        turn = self._decisions.get(number)
        if turn is None:
            turn = self._go_on(play, number, changes=changes, cost=cost)
        if play is not None and turn == KILL:
            play.status, self.killed = "killed", True
            self._hub.switch()
            raise KilledError  # at the end of the schedule
        if play is None or turn != play.number:
            other = self.plays[turn]
            self.running, other.status = other, "acts"
            other.greenlet.switch()
            if play is None:
                return
            if self._over:
                raise KilledError
            self.running = play

    def _go_on(self, play: Play | None, number: int, *, changes: bool, cost: int) -> int:
        able = [other.number for other in self.plays if other.able]
        turn = able[0] if play is None else play.number
        if number > self._last:
            here = self.state(turn)
            if self._visited.get(here, _NEVER) <= self._level:
                self._give_up()
            self._visited[here] = self._level
            cost = 0 if play is None else cost
            for other in able:
                if other != turn:
                    self.choices.append((number, other, cost, self.state(other)))
            if play and changes and self._kills and not self.killed:
                state = self.state(KILL, killed=play.number)
                self.choices.append((number, KILL, 1, state))
        return turn

    def _give_up(self) -> None:
        self._given_up = self._over = True
        if getcurrent() is not self._hub:
            self._hub.switch()
            raise KilledError

    def _act(self, play: Play) -> None:
        try:
            play.result = play.actor.act(self.disk)
        except KilledError:
            return
        except Exception as error:  # noqa: BLE001 - the checks judge it
            play.result = _without_frames(error)
        play.status = "ended"


def _without_frames(error: BaseException) -> BaseException:
    """Let go of what the functions had that *error* went through, which closes their files."""
    for other in (error.__context__, error.__cause__):
        if other is not None:
            _without_frames(other)
    return error.with_traceback(None)
