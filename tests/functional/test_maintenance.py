"""Maintenance of a whole server, as the engine meets it over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudfs.sync import outages
from cloudfs.sync.connectivity import State
from tests.functional.drivers import read, write
from tests.functional.stages import USER, VfsStage
from tests.servers import StandIn
from tests.servers.standin.faults import Answer
from tests.servers.standin.log import Record

pytestmark = pytest.mark.shared_engine


@pytest.fixture
def stage(tmp_path: Path, server: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[VfsStage]:
    monkeypatch.setattr(outages, "_SOON_S", 0.05)
    monkeypatch.setattr(outages, "_FIRST_S", 0.05)
    server.account(USER).write("/known", b"known")
    made = VfsStage(tmp_path / "engine", server, listing_ttl_s=0)
    made.look()
    yield made
    made.close()


def is_status(record: Record) -> bool:
    return record.path == "/status.php"


def test_only_its_status_is_asked_until_it_is_over(stage: VfsStage, server: StandIn) -> None:
    here = stage.root()
    assert read(here, "known") == b"known"
    server.maintenance = True
    write(here, "new", b"new")
    stage.wait(lambda: stage.engine.connectivity.standstill.in_maintenance)
    stage.wait(lambda: all(record.done for record in server.requests))
    server.requests.reset()
    stage.wait(lambda: server.requests.count() >= 10)
    for _ in range(5):
        assert here.names() == ["known", "new"]
    assert read(here, "known") == b"known"
    asked = list(server.requests)
    assert all(map(is_status, asked)), asked
    assert all("authorization" not in it.headers and "cookie" not in it.headers for it in asked)
    assert stage.engine.connectivity.state is State.MAINTENANCE
    server.maintenance = False
    stage.wait(lambda: server.account(USER).exists("/new"))
    stage.wait(lambda: stage.engine.connectivity.online)


def test_an_upgrade_is_waited_for_too(stage: VfsStage, server: StandIn) -> None:
    server.maintenance = True
    server.faults.add(
        Answer(200, b'{"installed":true,"maintenance":false,"needsDbUpgrade":true,"version":"30.0.0.1"}'),
        path="^/status.php",
        times=None,
    )
    write(stage.root(), "new", b"new")
    stage.wait(lambda: "upgrade" in stage.engine.connectivity.reason)
    server.faults.clear()
    server.maintenance = False
    stage.wait(lambda: server.account(USER).exists("/new"))


def test_throttling_names_the_time(stage: VfsStage, server: StandIn) -> None:
    server.faults.add(Answer(429, headers={"Retry-After": "2"}), method="PUT")
    write(stage.root(), "new", b"new")
    stage.wait(lambda: stage.engine.connectivity.state is State.THROTTLED)
    (refused,) = [it for it in server.requests if it.status == 429]
    stage.wait(lambda: server.account(USER).exists("/new"))
    later = [it.came_at_s - refused.came_at_s for it in server.requests]
    # What was let in before the answer came may arrive right after it.
    assert not [seconds for seconds in later if 0.5 < seconds < 1.9], "nothing at all is sent before"
