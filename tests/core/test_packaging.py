"""The package as it is installed: its names, its metadata, and what an import of it costs."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

import registry_wsgi
from kit.requirements import installation, require
from registry_wsgi import LocalRegistry, ModelCache, create_app, open_cache

# Fixed by the design: outside checks use them.
PUBLIC = {
    *("DiskStore", "LocalRegistry", "MemoryStore", "ModelCache", "PruneReport", "RegistryError"),
    *("create_app", "open_cache"),
}


def test_the_public_names_are_the_fixed_ones() -> None:
    """``__all__`` has each of them, in order, and each is there."""
    assert {*registry_wsgi.__all__} == PUBLIC
    assert registry_wsgi.__all__ == sorted(registry_wsgi.__all__)
    assert all(hasattr(registry_wsgi, name) for name in PUBLIC)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_public_names_have_documentation(name: str) -> None:
    """`help` says what each of them is for."""
    assert inspect.getdoc(getattr(registry_wsgi, name))


def test_the_calls_are_the_fixed_ones() -> None:
    """What is positional comes in the fixed order, and the options are keyword-only."""

    def parameters(call: object) -> list[str]:
        assert callable(call)
        return [str(p).partition(":")[0] for p in inspect.signature(call).parameters.values()]

    assert parameters(LocalRegistry)[:2] == ["app", "cache"]
    assert parameters(open_cache) == ["location", "**options"]
    assert parameters(ModelCache) == ["store", "retention", "in_flight", "hold", "clock"]
    assert parameters(create_app) == []
    for call, positional, options in (
        (LocalRegistry, {"app", "cache"}, {"prune", "authorize", "logger"}),
        (ModelCache, {"store"}, {"retention", "in_flight", "hold", "clock"}),
    ):
        found = inspect.signature(call).parameters
        assert {
            name for name in found if found[name].kind is not inspect.Parameter.KEYWORD_ONLY
        } == (positional)
        assert options <= set(found)
        assert all(found[name].default is not inspect.Parameter.empty for name in options)


def test_the_types_ship() -> None:
    """The marker for type checkers lies in the package."""
    assert files("registry_wsgi").joinpath("py.typed").is_file()


def test_the_metadata_is_that_of_the_project() -> None:
    """Name, version, the one dependency and the extras are as pyproject.toml has them."""
    installed = installation()
    project = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text())
    assert installed.version == registry_wsgi.__version__
    base = [text for text in installed.requires or () if "extra ==" not in text]
    assert [re.split(r"\W", text)[0] for text in base] == ["werkzeug"]
    extras = installed.metadata.get_all("Provides-Extra") or ()
    assert {*extras} == {*project["project"]["optional-dependencies"]}
    assert {*extras} == {*("buckets", "cli", "metrics", "s3", "serve")}
    assert "Typing :: Typed" in (installed.metadata.get_all("Classifier") or ())


def test_the_commands_are_declared() -> None:
    """One for the shell, which runs without the extra too, and one for Flask."""
    points = {(point.group, point.name, point.value) for point in installation().entry_points}
    assert points == {
        ("console_scripts", "registry-wsgi", "registry_wsgi.__main__:main"),
        ("flask.commands", "registry", "registry_wsgi.cli.commands:cli"),
    }


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    """As of any other module, and `dir` names those that are."""
    with pytest.raises(AttributeError, match="module 'registry_wsgi' has no attribute 'Spam'"):
        _ = registry_wsgi.Spam  # type: ignore[attr-defined]
    assert set(dir(registry_wsgi)) >= PUBLIC


def test_an_import_loads_werkzeug_and_nothing_else() -> None:
    """What is optional is not imported before it is used, and the import prints nothing."""
    new = loaded("from registry_wsgi import *")
    packages = {name.partition(".")[0] for name in new} - sys.stdlib_module_names
    assert packages == {"registry_wsgi", "werkzeug", "markupsafe"}


def test_the_command_line_answers_without_werkzeug() -> None:
    """It would take twice as long to."""
    require("click")
    new = loaded("import registry_wsgi.cli.commands")
    assert not {
        name for name in new if name.startswith(("werkzeug", "registry_wsgi.cache.model_cache"))
    }


def loaded(statement: str) -> set[str]:
    """The modules that *statement* loads in a fresh Python, where it prints nothing."""
    script = (
        f"import sys; before = set(sys.modules); {statement}; print(*set(sys.modules) - before)"
    )
    package = Path(registry_wsgi.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    return set(done.stdout.split())
