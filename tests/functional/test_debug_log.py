"""What `cloudfs mount --debug` logs: every step and every request, and no credentials."""

from __future__ import annotations

import logging
import re
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
        numbers = {record.headers.get("x-request-id") for record in server.requests}
    assert "file: Upload begins" in caplog.messages
    said = [
        re.fullmatch(r"\[(\w{8}-\d+)(?:, there \S+)?\] (.*) after \d+ ms", line) for line in caplog.messages
    ]
    requests = {line[1]: line[2] for line in said if line}
    assert {"PUT /file: 201", "PROPFIND /: 207"} <= {*requests.values()}
    # The server hears the number that the log has.
    assert {*requests} <= numbers
    assert PASSWORD not in caplog.text
    assert "Authorization" not in caplog.text
