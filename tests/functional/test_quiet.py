"""When a change goes up by itself."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from tests.functional.drivers import write
from tests.functional.stages import USER, VfsStage, wait_until
from tests.servers import StandIn


@pytest.mark.shared_engine
def test_a_file_that_is_being_written_is_not_sent_because_another_one_is_due(tmp_path: Path) -> None:
    with StandIn() as server:
        stage = VfsStage(tmp_path / "engine", server)
        file = stage.root().open("file", os.O_WRONLY | os.O_CREAT)
        file.write(0, b"the first half, ")
        for number in range(5):
            write(stage.root(), f"{number}", b"x")
            wait_until(partial(_has, server, f"{number}"))
        assert "file" not in [record.path.rpartition("/")[2] for record in server.requests]
        file.write(16, b"and the second half")
        file.close()
        stage.sync()
        assert server.account(USER).read("/file") == b"the first half, and the second half"
        stage.close()


def _has(server: StandIn, name: str) -> bool:
    return name in server.account(USER).tree()
