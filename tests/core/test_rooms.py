"""The rooms of the package: an import leads down, and the environment is read in one place."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import registry_wsgi

PACKAGE = Path(registry_wsgi.__file__).parent

#: From the top floor down. An import leads to a room further down, or stays in its own.
ROOMS = [
    *("management", "apps", "django", "__main__", "__init__"),
    *("cli", "app", "http", "cache", "stores"),
    *("settings", "durations", "sizes", "figures", "names", "errors"),
]

MODULES = {
    path.relative_to(PACKAGE).with_suffix("").as_posix(): ast.parse(path.read_text())
    for path in sorted(PACKAGE.rglob("*.py"))
}

#: Here other variables are read: those of the providers of buckets, of Prometheus and of sudo.
OF_OTHERS = ("stores/bucket/", "http/metrics", "cli/who")


def imported(module: str) -> Iterator[str]:
    """The rooms that *module* imports anywhere: inside functions and for types alone, too."""
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            folder = ["registry_wsgi", *module.split("/")][: -node.level] if node.level else []
            start = ".".join([*folder, *([node.module] if node.module else [])])
            names = [f"{start}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package == "registry_wsgi":
                room = rest.partition(".")[0]
                yield room if room in ROOMS else "__init__"


@pytest.mark.parametrize("module", MODULES)
def test_an_import_leads_down(module: str) -> None:
    """Wherever it stands; so there are no circles between rooms either."""
    room = module.partition("/")[0]
    up = [other for other in imported(module) if other != room and other not in below(room)]
    assert up == []


def below(room: str) -> list[str]:
    """The rooms that *room* may import."""
    return ROOMS[ROOMS.index(room) + 1 :]


def test_each_room_is_there() -> None:
    """The list above is that of the package."""
    assert {module.partition("/")[0] for module in MODULES} == {*ROOMS}


def test_imports_are_found_wherever_they_stand() -> None:
    """So that the test above has something to find."""
    assert {"http", "cache", "settings"} <= {*imported("app")}
    assert "app" in {*imported("cli/server")}


def test_the_environment_is_read_in_one_place() -> None:
    """But for what belongs to other programs."""
    readers = {
        module
        for module, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv")
        if isinstance(node.value, ast.Name) and node.value.id == "os"
    }
    assert {module for module in readers if not module.startswith(OF_OTHERS)} == {"settings"}
