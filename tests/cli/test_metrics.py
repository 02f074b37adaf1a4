"""Figures for Prometheus of a real mount: by the account's file, and by the option."""

from __future__ import annotations

import socket
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cloudfs.config import Folders
from cloudfs.errors import ExitCode
from tests.cli.conftest import Run, add_account
from tests.functional.stages import USER, MountStage, wait_until
from tests.servers import StandIn

MIB = 1 << 20


def figures(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert sample.labels["account"] == "a"
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.mount
@pytest.mark.shared_engine
def test_a_file_and_a_port(tmp_path: Path) -> None:
    path, port = tmp_path / "a.prom", free_port()
    with StandIn() as server:
        server.account(USER).write("/theirs", bytes(MIB))
        stage = MountStage(tmp_path / "home", server, settings=f'metrics = "{path}"')
        try:
            wait_until(path.exists)
            assert figures(path.read_text())["cloudfs_pending_files"] == 0
            stage.cloudfs("unmount")
            wait_until(lambda: not path.exists())
            stage.cloudfs("mount", "--metrics", str(port), "a", str(stage.mount_point))
            assert len((stage.mount_point / "theirs").read_bytes()) == MIB
            (stage.mount_point / "mine").write_bytes(bytes(MIB))
            stage.sync()

            def ask() -> dict[str, float]:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as reply:
                    return figures(reply.read().decode())

            wait_until(lambda: ask()["cloudfs_pending_files"] == 0)
            found = ask()
            assert found["cloudfs_sent_bytes_total"] > MIB
            assert found["cloudfs_received_bytes_total"] > MIB
            assert found["cloudfs_requests_total"] == found["cloudfs_request_seconds_count"] >= 3
            assert found["cloudfs_connection_state"] == found["cloudfs_info"] == 1
            assert not path.exists()
        finally:
            stage.close()


@pytest.mark.parametrize("metrics", ["0", "80", "70000"])
def test_ports_that_cannot_be(run: Run, folders: Folders, mount_point: Path, metrics: str) -> None:
    add_account(folders)
    done = run("mount", "--metrics", metrics, "work", mount_point)
    assert done.code == ExitCode.USAGE
    assert done.said[0] == f"--metrics: {metrics} is no port that a user may have."
