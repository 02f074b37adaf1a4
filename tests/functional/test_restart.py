"""What a restart finds: contents that stand on others."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from tests.functional.drivers import read, write
from tests.functional.stages import USER, VfsStage
from tests.servers import Hold, StandIn


@pytest.mark.shared_engine
def test_an_edit_on_top_of_what_was_just_sent_survives_a_restart(tmp_path: Path) -> None:
    """Written during the upload, not sent yet, and the upload's own staging file still needed: never zeros."""
    data = os.urandom(3_000_000)
    expected = data[:1_000_000] + b"edited here" + data[1_000_011:]
    with StandIn() as server:
        stage = VfsStage(tmp_path / "engine", server)
        upload = server.faults.add(Hold(), method="PUT", times=1)
        write(stage.root(), "file", data)
        assert upload.wait_hit()
        file = stage.root().open("file", os.O_RDWR)
        file.write(1_000_000, b"edited here")
        file.fsync()
        upload.release()
        # While it is open for writing the edit is not sent for 30 s.
        stage.wait(lambda: any(node.s_version for node in stage.engine.store.nodes.dirty()))
        stage.close()
        stage = VfsStage(tmp_path / "engine", server, quiet_s=3600.0)
        assert read(stage.root(), "file") == expected
        stage.sync()
        assert server.account(USER).read("/file") == expected
        stage.close()


@pytest.mark.shared_engine
def test_a_folder_removed_here_keeps_what_another_client_just_put_there(tmp_path: Path) -> None:
    with StandIn() as server:
        there = server.account(USER)
        there.mkdir("/folder")
        stage = VfsStage(tmp_path / "engine", server, quiet_s=3600.0, listing_ttl_s=0.0)
        assert stage.root().names("folder") == []
        there.write("/folder/new", b"new")
        with contextlib.suppress(OSError):  # its new member may be seen in time
            stage.root().rmdir("folder")
        stage.look()
        stage.sync()
        stage.look()
        assert there.tree() == {"folder": None, "folder/new": b"new"}
        assert read(stage.root(), "folder/new") == b"new"
        stage.close()
