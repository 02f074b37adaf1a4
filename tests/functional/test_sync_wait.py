"""What `cloudfs sync --wait` returns when programs hold something back."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloudfs.errors import ExitCode
from tests.functional.stages import USER, MountStage
from tests.servers import StandIn

pytestmark = [pytest.mark.mount, pytest.mark.shared_engine]


def test_a_removed_file_that_is_still_open_is_not_waited_for(tmp_path: Path) -> None:
    with StandIn() as server:
        account = server.account(USER)
        account.write("/file", b"content")
        account.write("/name", b"content")
        stage = MountStage(tmp_path / "home", server)
        try:
            with (stage.mount_point / "file").open("rb"), (stage.mount_point / "name").open("rb"):
                (stage.mount_point / "file").unlink()
                (stage.mount_point / "new").write_bytes(b"goes up")
                done = stage.cloudfs("sync", "--wait", check=False)
                assert (done.returncode, done.stderr) == (ExitCode.OK, "")
                assert account.read("/new") == b"goes up"
                (stage.mount_point / "name").unlink()
                (stage.mount_point / "name").mkdir()
                done = stage.cloudfs("sync", "--wait", check=False)
                assert done.returncode == ExitCode.PENDING
                assert done.stderr.splitlines() == [
                    "1 change is not on the server.",
                    "Programs that have removed files open hold them back; they go up once those are closed.",
                ]
            stage.sync()
            assert account.tree() == {"new": b"goes up", "name": None}
        finally:
            stage.close()
