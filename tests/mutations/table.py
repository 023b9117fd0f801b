"""The mutations, as data."""

from __future__ import annotations

import ast
import shlex
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["TIERS", "DoesNotApplyError", "Mutation", "load"]

#: The options by which pytest runs the tests of one tier, the smallest tier first.
TIERS: dict[str, tuple[str, ...]] = {
    "default": (
        "-m",
        "not emulator and not exhaustive and not bench and not browser and not moments",
    ),
    "full": ("-m", "not exhaustive and not bench"),
    "exhaustive": ("-m", "not bench"),
}


class DoesNotApplyError(Exception):
    """The package no longer has the text that a mutation replaces, or has it more than once."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """
    One change to the package that takes a promise away.

    Attributes:
        name: The name of the mutation.
        promise: The promise that the package breaks with this change, as one sentence.
        where: A file or folder of the package. The text must occur in it exactly once.
        text: The text to replace.
        replacement: The text to write instead.
        tests: The tests that should notice: names of files of tests, and options of pytest.
        tier: The smallest tier whose tests notice, one of `TIERS`.
    """

    name: str
    promise: str
    where: str
    text: str
    replacement: str
    tests: str
    tier: str = "default"

    def apply(self, package: Path) -> tuple[Path, str]:
        """
        Make the change, in memory.

        Args:
            package: The folder of the package. Nothing in it is written.

        Returns:
            The file that changes, and its new content.

        Raises:
            DoesNotApplyError: The text does not occur exactly once below `where`, or the new
                content is not Python.
        """
        place = package / self.where
        files = [place] if place.is_file() else sorted(place.rglob("*.py"))
        contents = {path: path.read_text(encoding="utf-8") for path in files}
        found = [path for path, content in contents.items() if self.text in content]
        times = sum(content.count(self.text) for content in contents.values())
        if times != 1:
            raise DoesNotApplyError(
                f"{self.name}: the text occurs {times} times in {self.where}: {self.text!r}"
            )
        changed = contents[found[0]].replace(self.text, self.replacement)
        try:
            ast.parse(changed)
        except SyntaxError as error:
            raise DoesNotApplyError(f"{self.name}: the result is not Python: {error}") from error
        return found[0], changed

    def arguments(self, tests: Path) -> list[str]:
        """
        Give the arguments of pytest for the tests that should notice.

        Args:
            tests: The folder of tests. A file of tests is found by its path in this folder, or by
                its name wherever it lies.

        Raises:
            DoesNotApplyError: A file of tests is not there exactly once.
        """
        arguments = []
        for word in shlex.split(self.tests):
            name, colons, test = word.partition("::")
            if not name.endswith(".py"):
                arguments.append(word)
                continue
            exact = tests / name
            found = [exact] if exact.is_file() else [*tests.rglob(name)]
            if len(found) != 1:
                raise DoesNotApplyError(f"{self.name}: {len(found)} files are named {name}")
            arguments.append(f"{found[0]}{colons}{test}")
        return arguments


def load(folder: Path = Path(__file__).parent) -> dict[str, Mutation]:
    """
    Read all mutations.

    Raises:
        ValueError: Two have the same name, or a tier is unknown.
    """
    read = (
        Mutation(name, **{key: value.strip("\n") for key, value in fields.items()})
        for path in sorted(folder.glob("*.toml"))
        for name, fields in tomllib.loads(path.read_text(encoding="utf-8")).items()
    )
    return _by_name(read)


def _by_name(mutations: Iterable[Mutation]) -> dict[str, Mutation]:
    found: dict[str, Mutation] = {}
    for mutation in mutations:
        if mutation.name in found:
            raise ValueError(f"two mutations are named {mutation.name}")
        if mutation.tier not in TIERS:
            raise ValueError(f"{mutation.name}: no tier is named {mutation.tier}")
        found[mutation.name] = mutation
    return found
