"""A tail whose base is nowhere to be had: what a program reads of it through a mount, and how a soak goes on."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any, cast

import pytest

from tests.functional.stages import USER, MountStage
from tests.servers import StandIn
from tests.soak.blocked import give_up

SIZE = 3_000_000
TAILS = [b"\n<<B.1 tail>>\n", b"\n<<B.2 tail>>\n"]


@pytest.mark.mount
@pytest.mark.shared_engine
@pytest.mark.expect_log("another client replaced the version")
def test_the_tails_are_there_until_the_file_is_removed(tmp_path: Path, server: StandIn) -> None:
    there = server.account(USER)
    there.write("/log", b"x" * SIZE, mtime=1_600_000_000)
    stage = MountStage(tmp_path / "home", server, settings="quiet_s = 3600")
    try:
        log = stage.mount_point / "log"
        for tail in TAILS:
            with log.open("ab") as file:
                file.write(tail)
        there.write("/log", b"y" * SIZE)
        there.node("/log").versions.clear()  # thinned out, or not kept
        stage.cloudfs("sync", "--wait", "--timeout", "60", check=False)
        blocked = cast("list[dict[str, Any]]", stage.status()["blocked"])
        with pytest.raises(OSError, match="Stale") as caught, log_of(stage, blocked).open("rb") as file:
            file.seek(SIZE)  # in a page of which most is missing
            file.read()
        assert caught.value.errno == errno.ESTALE
        found = give_up(stage.mount_point, blocked, [*TAILS, b"another"])
        assert found == [tail.decode() for tail in reversed(TAILS)]
        stage.sync()
        assert there.tree() == {"log": b"y" * SIZE}
        assert stage.status()["blocked"] == []
    finally:
        stage.close()


def log_of(stage: MountStage, blocked: list[dict[str, Any]]) -> Path:
    (trouble,) = blocked
    return stage.mount_point / str(trouble["path"]).lstrip("/")
