"""What `cloudfs mount --debug` logs: every step and every request, and no credentials."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.functional.drivers import write
from tests.functional.stages import PASSWORD, USER, VfsStage
from tests.servers import StandIn


@pytest.mark.shared_engine
def test_every_step_and_request_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with StandIn() as server, caplog.at_level(logging.DEBUG, "cloudfs"):
        server.account(USER)
        stage = VfsStage(tmp_path / "engine", server)
        try:
            write(stage.root(), "file", b"content")
            stage.sync()
        finally:
            stage.close()
    assert "file: Upload begins" in caplog.messages
    assert any(line.startswith("PUT /file: 201 after ") for line in caplog.messages)
    assert any(line.startswith("PROPFIND /: 207 after ") for line in caplog.messages)
    assert PASSWORD not in caplog.text
    assert "Authorization" not in caplog.text
