"""Programs that walk through many folders: so few requests, whatever becomes of a whole tree's answer."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.functional.drivers import VfsDriver, tree
from tests.functional.stages import USER, MountStage, VfsStage
from tests.servers import Account, StandIn
from tests.servers.standin.faults import Action, Answer, CutResponse, Drop, Hold
from tests.servers.standin.log import Record

pytestmark = pytest.mark.shared_engine

FILES: dict[str, bytes | None] = {
    f"bench/d{number:02}/f{n:02}": b"%d %d" % (number, n) for number in range(50) for n in range(20)
}
_ERROR = (
    b'<?xml version="1.0"?><d:error xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns">'
    b"<s:exception>Sabre\\DAV\\Exception\\%s</s:exception><s:message/></d:error>"
)


@pytest.fixture
def account(server: StandIn) -> Account:
    made = server.account(USER)
    made.populate(FILES)
    return made


@pytest.fixture
def stage(tmp_path: Path, server: StandIn, account: Account) -> Iterator[VfsStage]:
    del account
    made = VfsStage(tmp_path / "engine", server, listing_ttl_s=600)
    assert made.root().names() == ["bench"]
    server.requests.reset()
    yield made
    made.close()


def walk(driver: VfsDriver, path: str) -> list[str]:
    """Read everything below a folder as `find` does, which keeps what it has read of each."""
    found = []
    for name in driver.names(path):
        below = f"{path}/{name}"
        found += [below, *(walk(driver, below) if driver.is_folder(below) else ())]
    return found


def asked(server: StandIn) -> list[str]:
    """Return the listings that were asked for, but the root's: their depth and path."""
    return [
        f"{record.headers['depth']} {record.path.rpartition(USER)[2]}"
        for record in server.requests.matching("PROPFIND", "/bench")
        if record.headers["depth"] != "0"
    ]


ONE, TWO = ["infinity /bench"], ["1 /bench", "infinity /bench"]
"""The first where the account's root was read right before."""


@pytest.mark.mount
def test_find_through_a_mount_is_two_requests_at_most(
    tmp_path: Path, server: StandIn, account: Account
) -> None:
    del account
    stage = MountStage(tmp_path / "home", server)
    try:
        assert [it.name for it in stage.mount_point.iterdir()] == ["bench"]
        server.requests.reset()
        found = subprocess.run(
            ["find", stage.mount_point / "bench"], check=True, capture_output=True, text=True, timeout=60
        )
        assert len(found.stdout.splitlines()) == 1 + 50 + 1000
        assert asked(server) in (ONE, TWO)
        again = subprocess.run(
            ["ls", "-R", stage.mount_point / "bench"], check=True, capture_output=True, text=True, timeout=60
        )
        assert again.stdout.count("f07") == 50
        assert [it for it in asked(server) if it.startswith("infinity")] == ["infinity /bench"]
    finally:
        stage.close()


def test_what_a_walk_brings_is_what_the_server_has(
    stage: VfsStage, server: StandIn, account: Account
) -> None:
    assert walk(stage.root(), "bench") == sorted(set(walk(stage.root(), "bench")))
    assert asked(server) in (ONE, TWO)
    for path in ("/bench/d00/f00", "/bench/d49/f19"):
        node = stage.call_sync(partial(stage.engine.tree.resolve, path))
        assert node is not None
        assert node.s_etag == account.node(path).etag
        assert node.s_file_id == str(account.node(path).file_id)
    folder = stage.call_sync(lambda: stage.engine.tree.resolve("/bench/d31"))
    assert folder is not None
    assert folder.s_etag == account.node("/bench/d31").etag, "as a listing of its own would have kept it"
    server.requests.reset()
    assert tree(VfsDriver(stage.engine.filesystem, stage.token, "bench/d07")) == account.tree("/bench/d07")
    assert asked(server) == []


def _is_tree(record: Record) -> bool:
    return record.headers.get("depth") == "infinity"


@pytest.mark.parametrize(
    ("action", "times"),
    [
        (Answer(403, _ERROR % b"Forbidden"), None),
        (Answer(412, _ERROR % b"PreconditionFailed"), None),
        (Answer(500, b"Allowed memory size exhausted"), None),
        (Answer(502, b"<html>Bad Gateway</html>"), None),
        (Answer(504, b"<html>Gateway Time-out</html>"), None),
        (CutResponse(9000), None),
        (Drop(), None),
    ],
    ids=["403", "412", "500", "502", "504", "cut", "dropped"],
)
def test_without_trees_every_folder_is_listed_by_itself(
    stage: VfsStage, server: StandIn, action: Action, times: int | None
) -> None:
    server.faults.add(action, predicate=_is_tree, times=times)
    assert len(walk(stage.root(), "bench")) == 1050
    assert set(asked(server)) > {"1 /bench", *(f"1 /bench/d{number:02}" for number in range(50))}
    assert stage.engine.connectivity.online, "a tree that fails is no outage"


def test_a_tree_that_hangs_delays_a_walk_once_and_nothing_else(stage: VfsStage, server: StandIn) -> None:
    rule = server.faults.add(Hold(), predicate=_is_tree)
    assert len(walk(stage.root(), "bench")) == 1050
    assert len(asked(server)) == 52
    assert asked(server).count("infinity /bench") == 1
    rule.release()


def test_one_level_in_place_of_a_tree_is_seen_through(
    stage: VfsStage, server: StandIn, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that silently takes infinity for 1 shows every folder below as if it were empty."""
    del account
    monkeypatch.setattr("tests.servers.standin.dav.propfind.depth_of", lambda _: 1)
    assert len(walk(stage.root(), "bench")) == 1050
    assert len(asked(server)) > 50


def test_what_is_done_here_meanwhile_is_not_undone_by_a_tree(
    stage: VfsStage, server: StandIn, account: Account
) -> None:
    """Uploads, removals and renames that ended while the tree was on its way are newer than it."""
    root = stage.root()
    for path in ("bench/d10/f00", "bench/d11/f00"):
        assert root.size(path) == 4
    rule = server.faults.add(Hold(after_execution=True), predicate=_is_tree)
    root.names("bench")
    root.names("bench/d00")
    rule.wait_hit()
    made = root.open("bench/d12/new", os.O_CREAT | os.O_WRONLY)
    made.write(0, b"new")
    made.close()
    root.unlink("bench/d10/f00")
    root.rename("bench/d11", "bench/moved")
    root.rename("bench/d12/f01", "bench/d13/f77")
    stage.sync()
    rule.release()
    bench = stage.call_sync(lambda: stage.engine.tree.resolve("/bench/d49"))
    assert bench is not None
    stage.wait(lambda: bench.ino in stage.engine.lister._asked_at)
    shown = set(walk(root, "bench"))
    assert shown == {f"bench/{path}" for path in account.tree("/bench")}
    assert {"bench/d12/new", "bench/moved/f00", "bench/d13/f77"} <= shown
    assert not {"bench/d10/f00", "bench/d11", "bench/d12/f01"} & shown
