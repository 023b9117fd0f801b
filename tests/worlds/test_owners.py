"""
Rule 6: what we make belongs to the store's owner.

Root deletes, protects and prunes in the store of a service; the service goes on with all of it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from kit.clocks import A_DAY, later
from kit.os_seam import Call, watched
from kit.trees import Tree, broken
from kit.users import SERVICE, STRANGER, command_as, give, owners, run_as

pytestmark = pytest.mark.world

MONTH = 30 * A_DAY

#: The group that both users are in.
TEAM = 61_003


@pytest.fixture
def tree(shared_tree: Tree) -> Tree:
    """The store of a service."""
    for name in "abcd":
        shared_tree.add(name, b"weights of " + name.encode())
    give(SERVICE, shared_tree.root)
    return shared_tree


def foreign(tree: Tree) -> list[str]:
    """What does not belong to the service."""
    return [
        str(path.relative_to(tree.root))
        for path in tree.root.rglob("*")
        if (path.lstat().st_uid, path.lstat().st_gid) != (SERVICE, SERVICE)
    ]


def test_what_root_makes_is_the_service_s(tree: Tree) -> None:
    cache = later(tree.root)
    cache.unlink("a")
    cache.protect("b")
    cache.unlink("c")
    cache.restore("c")
    tree.add_blob(b"left over")
    give(SERVICE, tree.blobs)
    later(tree.root, MONTH, retention="60d", in_flight="31d").prune(age="1d")  # sets aside
    assert list(tree.root.glob("condemned/*/*"))
    assert foreign(tree) == []
    later(tree.root, MONTH).prune(age=0, all=True)
    assert foreign(tree) == []
    assert owners(tree.root) == {SERVICE}


def test_a_manifest_that_is_copied_back_is_the_service_s(tree: Tree) -> None:
    """Where there are no links a restore writes a new file."""
    cache = later(tree.root)
    cache.unlink("a")

    def no_links(call: Call) -> None:
        raise call.error(errno.EPERM)

    with watched(no_links, ["link"]):
        cache.restore("a")
    assert foreign(tree) == []
    assert broken(tree.root) == []


@pytest.mark.parametrize("first", ["service", "root"])
def test_the_service_goes_on_after_root(tree: Tree, first: str) -> None:
    run: Callable[..., tuple[int, str]] = command_as
    if first == "service":
        assert run(SERVICE, "--models", tree.root, "rm", "a")[0] == 0
    later(tree.root).unlink("b")
    later(tree.root).protect("d")
    for arguments in (
        ["rm", "c"],
        ["restore", "b"],
        ["unprotect", "d"],
        ["protect", "a*"],
        ["rm", "d"],
        ["prune", "--yes", "--age", "0"],
    ):
        code, said = run(SERVICE, "--models", tree.root, *arguments)
        assert code == 0, f"{arguments}: {said}"
    left = {path.name for path in tree.path("b").parents[1].iterdir()}
    assert left == ({"b"} if first == "service" else {"a", "b"})
    assert list(tree.trash.iterdir()) == []


def test_it_finishes_what_root_has_set_aside(tree: Tree) -> None:
    tree.add_blob(b"left over")
    give(SERVICE, tree.blobs)
    later(tree.root, MONTH, in_flight="31d").prune()
    assert list(tree.root.glob("condemned/*/*"))
    code, said = command_as(SERVICE, "--models", tree.root, "prune", "--yes", "--age", "0")
    assert code == 0, said
    assert not list(tree.root.glob("condemned/*/*"))


def test_a_delete_over_http_by_root_and_then_by_the_service(tree: Tree) -> None:
    from werkzeug.test import Client

    from registry_wsgi import LocalRegistry

    client = Client(LocalRegistry(None, later(tree.root)))
    assert client.delete("/api/delete", json={"model": "a"}).status_code == 200
    code = """
from werkzeug.test import Client
client = Client(LocalRegistry(None, open_cache(sys.argv[1])))
answer(client.delete("/api/delete", json={"model": "b"}).status_code)
"""
    assert run_as(SERVICE, code, tree.root) == 200


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755, 0o770, 0o2775, 0o2770])
def test_directories_have_the_mode_of_the_models_directory(
    tree: Tree, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.root.chmod(mode)
    umask = os.umask(0o077)
    try:
        later(tree.root).unlink("a")
        later(tree.root).protect("b")
    finally:
        os.umask(umask)
    made = [tree.trash, *tree.trash.glob("*"), tree.root / "protected"]
    assert {oct(stat.S_IMODE(path.stat().st_mode)) for path in made} == {oct(mode)}


def test_the_members_of_a_group_work_on_one_store(shared_tree: Tree) -> None:
    """Two users, and a directory that hands its group on."""
    tree = shared_tree
    for name in "ab":
        tree.add(name, name.encode())
    give(SERVICE, tree.root)
    for path in [tree.root, *tree.root.rglob("*")]:
        os.chown(path, SERVICE, TEAM)
        path.chmod(0o2775 if path.is_dir() else 0o664)
    for name, one, other in (("a", STRANGER, SERVICE), ("b", SERVICE, STRANGER)):
        for user, command in ((one, "rm"), (other, "restore")):
            code, said = command_as(user, "--models", tree.root, command, name, groups=[TEAM])
            assert code == 0, said
    assert broken(tree.root) == []


def test_whoever_may_not_is_told_who_may(tree: Tree) -> None:
    """The user whose models they are, be it by a name or a number; none if it is the same."""
    for path in (tree.root.parent, tree.root):
        path.chmod(0o755)
    code, said = command_as(STRANGER, "--models", tree.root, "rm", "a")
    assert (code, f"the user #{SERVICE}: run this as that user" in said) == (1, True), said
    tree.root.chmod(0o700)
    code, said = command_as(STRANGER, "--models", tree.root, "list")
    assert (code, f"with sudo -u '#{SERVICE}'" in said) == (2, True), said
    give(STRANGER, tree.root)
    tree.root.chmod(0o500)
    code, said = command_as(STRANGER, "--models", tree.root, "rm", "a")
    assert (code, "run this as" in said) == (1, False), said


def test_a_first_delete_by_another_user_who_may_is_no_obstacle(tree: Tree) -> None:
    """Who is not root cannot give anything away: it is open to those who may write in the store."""
    for path in (tree.root, *[path for path in tree.root.rglob("*") if path.is_dir()]):
        path.chmod(0o777)
    assert command_as(STRANGER, "--models", tree.root, "rm", "a")[0] == 0
    for arguments in (["restore", "a"], ["rm", "b"], ["prune", "--yes", "--age", "0"]):
        code, said = command_as(SERVICE, "--models", tree.root, *arguments)
        assert code == 0, f"{arguments}: {said}"


def test_root_s_own_store_stays_root_s(root: Path) -> None:
    tree = Tree(root)
    tree.add("a", b"a")
    later(root).unlink("a")
    assert owners(root) == {0}
