"""``REGISTRY_WSGI`` in the settings of a Django project, its system check, and ``call_command``."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import pytest
from werkzeug.test import Client

from kit.requirements import require
from kit.trees import Tree

Given = Callable[[Any], AbstractContextManager[None]]


@pytest.fixture
def given() -> Given:
    """Settings of a project."""
    require("django")
    from django.conf import settings
    from django.test.utils import override_settings

    if not settings.configured:  # else another test has, in this process
        settings.configure(ALLOWED_HOSTS=["*"], DEBUG_PROPAGATE_EXCEPTIONS=True, SECRET_KEY="x")

    return lambda values: override_settings(REGISTRY_WSGI=values)


def found() -> list[tuple[str, str]]:
    """What the system check finds."""
    from registry_wsgi.django import check_settings

    return [(str(message.id), message.msg) for message in check_settings()]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (5, "REGISTRY_WSGI: must be a dictionary"),
        (
            {"RETENTON": "7d"},
            "REGISTRY_WSGI['RETENTON']: there is no such setting; is it RETENTION?",
        ),
        (
            {"models": "/"},
            "REGISTRY_WSGI['models']: there is no such setting; the keys are LOCATION,",
        ),
        ({"RETENTION": "7"}, "REGISTRY_WSGI['RETENTION']: invalid duration \"7\""),
        ({"PRUNE": 2}, "REGISTRY_WSGI['PRUNE']: \"2\" is neither 1 nor 0"),
        ({"ORIGINS": ["chat.example"]}, "REGISTRY_WSGI['ORIGINS']: "),
        ({"TOKEN_FILE": "/nonexistent"}, "REGISTRY_WSGI['TOKEN_FILE']: "),
        ({"MAINTENANCE": True, "MAX_USED": "1GB", "ROOM": "2GB"}, "evict: room is larger"),
        (
            {"TOKENS": "a", "TOKEN_FILE": "b"},
            "REGISTRY_WSGI['TOKEN_FILE']: REGISTRY_WSGI['TOKENS']",
        ),
    ],
)
def test_the_check_names_what_is_wrong(given: Given, values: Any, said: str) -> None:
    """The key, as it stands in the settings, and what may be meant."""
    with given(values):
        ((name, message),) = found()
    assert name == "registry_wsgi.E001"
    assert message.startswith(said)


def test_a_models_directory_that_is_missing_is_a_warning(given: Given, tree: Tree) -> None:
    """Where the check runs there may be none, and a bucket is not asked."""
    with given({"LOCATION": "/nonexistent"}):
        ((name, message),) = found()
    assert name == "registry_wsgi.W001"
    assert message.startswith("REGISTRY_WSGI['LOCATION']: /nonexistent: ")
    for location in (tree.root, str(tree.root), "memory:", "s3://models/prefix"):
        with given({"LOCATION": location, "PRUNE": False, "RETENTION": timedelta(days=1)}):
            assert found() == []


def test_the_app_of_a_project_is_wrapped_as_its_settings_say(given: Given, tree: Tree) -> None:
    """They, and *authorize* of the code, both have to agree."""
    tree.add("smol", b"weights")
    body = {"model": "smol"}
    values = {"LOCATION": tree.root, "TOKENS": ["secret"], "RETENTION": "3d"}
    asked: list[str] = []

    def authorize(environ: Any, action: str, name: str) -> bool:
        asked.append(name)
        return len(asked) > 1

    with given(values):
        from registry_wsgi.django import wrap

        app = wrap(lambda environ, start_response: [b"the app"], authorize=authorize)
    client = Client(app)
    headers = {"Authorization": "Bearer secret"}
    assert client.delete("/api/delete", json=body).status_code == 401
    assert asked == []
    assert client.delete("/api/delete", json=body, headers=headers).status_code == 403
    assert client.delete("/api/delete", json=body, headers=headers).status_code == 200
    assert getattr(app.cache, "retention") == timedelta(days=3).total_seconds()  # noqa: B009


def test_the_command_goes_by_the_settings_and_what_it_says_is_captured(
    given: Given, tree: Tree
) -> None:
    """And a failure is a `CommandError` that says what is wrong."""
    require("click", "rich")
    tree.add("smol", b"weights")

    def call(*arguments: str) -> tuple[str, str]:
        from django.core.management import CommandError, call_command

        from registry_wsgi.management.commands.registry import Command

        out, err = io.StringIO(), io.StringIO()
        try:
            call_command(Command(), *arguments, stdout=out, stderr=err)
        except CommandError as error:
            return f"{out.getvalue()}{error.returncode} {error}", err.getvalue()
        return out.getvalue(), err.getvalue()

    with given({"LOCATION": tree.root, "RETENTION": "3d"}):
        assert call("list", "-q") == ("smol:latest\n", "")
        said, err = call("rm", "smol", "absent", "--yes")
        assert (
            said
            == "1 registry rm smol absent --yes: absent:latest: there is no model of this name;"
            " is it smol:latest?"
        )
        assert err == ""
        said, _ = call("rm", "smol")
        assert said.splitlines()[-1] == "Undo: python manage.py registry restore smol:latest"
        said, _ = call("restore", "smol", "--models", "/nonexistent")
        assert said.startswith("2 registry restore smol --models /nonexistent: ")
        assert "'--models'" in said
        assert call("restore", "smol")[0] == "Restored smol:latest\n"
    with given({"LOCATION": "/nonexistent"}):
        said, _ = call("list")
        assert said.startswith("1 registry list: REGISTRY_WSGI['LOCATION']: /nonexistent: ")
    with given({"X": 1}):
        assert call("list")[0].startswith("1 REGISTRY_WSGI['X']: there is no such setting")
