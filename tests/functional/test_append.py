"""Appending to a file that another client has just made longer: at its end, not where it ended before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.functional.stages import USER, MountStage, wait_until
from tests.servers import Hold, StandIn

pytestmark = [pytest.mark.mount, pytest.mark.shared_engine]

APPEND = (
    "import os, sys; fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND); os.write(fd, b'+'); os.close(fd)"
)


def opened(stage: MountStage) -> int:
    """Return how often the kernel has asked for a file to be opened."""
    requests = stage.status()["requests"]
    assert isinstance(requests, dict)
    return int(requests["open"])


def test_a_file_that_grows_while_it_is_opened_is_appended_to_at_its_end(tmp_path: Path) -> None:
    with StandIn() as server:
        account = server.account(USER)
        account.write("/folder/log", b"0123456789")
        stage = MountStage(tmp_path / "home", server, settings="poll_s = 3600\nquiet_s = 0\n")
        try:
            log = stage.mount_point / "folder" / "log"
            assert log.stat().st_size == 10
            account.write("/folder/log", b"abcdefghijklmnopqrst")
            listing = server.faults.add(
                Hold(), method="PROPFIND", predicate=lambda record: record.headers.get("depth") == "1"
            )
            with pytest.raises(OSError, match="Stale file handle"):
                log.read_bytes()  # finds out about the other version, and has the folder listed
            assert listing.wait_hit()
            before = opened(stage)
            with subprocess.Popen([sys.executable, "-c", APPEND, os.fspath(log)]) as appending:
                wait_until(lambda: opened(stage) > before)
                listing.release()
                assert appending.wait(30) == 0
            stage.sync()
            assert log.read_bytes() == b"abcdefghijklmnopqrst+"
            assert account.read("/folder/log") == b"abcdefghijklmnopqrst+"
        finally:
            stage.close()
