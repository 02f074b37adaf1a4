"""One kill for each row of the table of crash states: nothing is lost, nothing doubled, nothing left behind."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cloudfs.concurrency.killpoints import VARIABLE
from tests.crash.scenarios import APPEND_BYTES, OLD, SCENARIOS, SERVER
from tests.functional.drivers import tree
from tests.functional.stages import REPOSITORY, USER, VfsStage, wait_until
from tests.servers import StandIn

NO_LIMITS: dict[str, Any] = {"delete_guard": 0, "delete_guard_server": 0}
TABLE = REPOSITORY / "docs/CONCURRENCY.md"


def test_every_row_of_the_table_has_its_kill_and_every_kill_its_row() -> None:
    rows = dict(re.findall(r"^\| (\d+) \| (.*?) \|", TABLE.read_text(), re.MULTILINE))
    assert list(map(int, rows)) == list(range(1, len(rows) + 1))
    points = [cell.strip("`") for cell in rows.values() if is_kill_point(cell)]
    assert sorted(points) == sorted(SCENARIOS)
    assert {
        number: cell for number, cell in rows.items() if not is_kill_point(cell) and not is_excused(cell)
    } == {}


def is_kill_point(cell: str) -> bool:
    return re.fullmatch(r"`[a-z_]+( [a-z_]+)*(:\d)?`", cell) is not None


def is_excused(cell: str) -> bool:
    """A row without a kill point says why, and names tests that are there."""
    reason, _, rest = cell.partition("`")
    tests = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", f"`{rest}")
    there = [f"def {name}(" in (REPOSITORY / path).read_text() for path, name in tests]
    return len(reason.split()) > 3 and bool(there) and all(there)


@pytest.mark.parametrize(
    "cell",
    [
        "`",
        "a power cut",
        "see `tests/crash/test_kill.py`",
        "no reason at all",
        "`tests/crash/test_kill.py::test_x`",
        "none, the machine dies: see `tests/crash/test_kill.py::test_that_is_not_there`",
    ],
)
def test_a_row_with_neither_a_kill_nor_a_reason_and_a_test_is_noticed(cell: str) -> None:
    assert not is_kill_point(cell)
    assert not is_excused(cell)


def test_a_kill_point_is_nothing_where_nobody_asks_for_it() -> None:
    program = "from cloudfs.concurrency.killpoints import reached; reached(''); reached('a'); print('alive')"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=60)
    assert done.stdout == b"alive\n"


@pytest.mark.shared_engine
@pytest.mark.parametrize("point", SCENARIOS)
def test_killed_exactly_there(tmp_path: Path, server: StandIn, point: str) -> None:
    kill_and_go_on(tmp_path, server, point, point)


@pytest.mark.shared_engine
@pytest.mark.parametrize("move", [1, 3])
def test_killed_before_and_after_the_name_in_between_of_an_exchange_is_used(
    tmp_path: Path, server: StandIn, move: int
) -> None:
    """No name of ours (`.old.cloudfs-3`) stays on the server."""
    kill_and_go_on(tmp_path, server, f"move answered:{move}", "move answered:2")


def kill_and_go_on(tmp_path: Path, server: StandIn, point: str, name: str) -> None:
    """Kill a process at a point of a scenario; look what its successor finds, and that the server gets the same."""
    scenario = SCENARIOS[name]
    server.account(USER).populate(SERVER)
    checksum = f"SHA1:{hashlib.sha1(OLD, usedforsecurity=False).hexdigest()}"
    server.account(USER).write("/old", OLD, checksum=checksum)
    scenario.before(tmp_path / "engine", server)
    if name == "pieces removed":
        leave_pieces(tmp_path / "engine", server)
    acknowledged = run_until_killed(tmp_path / "engine", server, point, name)
    allowed = [SERVER, *scenario.trees][acknowledged:][:2]
    if acknowledged < len(scenario.steps):
        allowed += scenario.midway
    stage = VfsStage(tmp_path / "engine", server, append_bytes=APPEND_BYTES, **NO_LIMITS)
    try:
        shown = tree(stage.root())
        assert shown in allowed, sorted(shown)
        scenario.answered(stage)
        stage.sync()
        assert tree(stage.root()) == shown
        assert server.account(USER).tree() == {path: data for path, data in shown.items() if "~" not in path}
        of_here_alone = sum("~/" in path for path in shown)  # has its content nowhere else
        wait_until(lambda: len(list((tmp_path / "engine/state").glob("staging-*/*"))) == of_here_alone)
        wait_until(lambda: stage.call_sync(lambda: stage.engine.store.note("pieces")) is None)
        assert not server.account(USER).uploads
    finally:
        stage.close()


def leave_pieces(home: Path, server: StandIn) -> None:
    """Have a life end in the midst of an upload in pieces, and the next one give up what that was of."""
    run_until_killed(home, server, "base copied", "base copied")
    assert server.account(USER).uploads
    stage = VfsStage(home, server, append_bytes=APPEND_BYTES, quiet_s=3600.0)
    stage.root().unlink("old")
    stage.sync()
    stage.close()
    assert server.account(USER).uploads


def run_until_killed(home: Path, server: StandIn, point: str, scenario: str) -> int:
    """Run a scenario in a process that is killed at a point; return how many steps were acknowledged."""
    name, _, count = point.partition(":")
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.doomed", str(home), server.url, scenario],
        check=False,
        capture_output=True,
        cwd=REPOSITORY,
        env={**os.environ, VARIABLE: f"{name}:{count or 1}"},
        timeout=90,
    )
    assert done.returncode == -9, f"it never came to {point!r}: {done.stderr.decode()[-2000:]}"
    assert done.stderr == b"", "a warning, where nobody set up a log"
    return done.stdout.count(b"done")
