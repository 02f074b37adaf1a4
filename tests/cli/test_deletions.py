"""`cloudfs deletions` over a real mount."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudfs.errors import ExitCode
from tests.functional.stages import USER, MountStage
from tests.servers import Account, StandIn

pytestmark = [pytest.mark.mount, pytest.mark.shared_engine]

MANY = 120


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


@pytest.fixture
def there(server: StandIn) -> Account:
    account = server.account(USER)
    account.mkdir("/big")
    for number in range(MANY):
        account.write(f"/big/{number}", b"content", mtime=1_600_000_000)
    account.write("/single", b"single")
    return account


@pytest.fixture
def stage(tmp_path: Path, server: StandIn, there: Account) -> Iterator[MountStage]:
    del there
    made = MountStage(tmp_path / "home", server, settings="listing_ttl_s = 0")
    yield made
    made.close()


def waiting(stage: MountStage) -> list[object]:
    found = stage.status()["deletions"]
    assert isinstance(found, list)
    return found


def look(stage: MountStage) -> bool:
    """Use the root, which has it listed again in the background; True once something waits."""
    list(stage.mount_point.iterdir())
    return bool(waiting(stage))


def test_the_server_loses_much(stage: MountStage, there: Account) -> None:
    big = stage.mount_point / "big"
    assert len(list(big.iterdir())) == MANY
    assert (big / "7").read_bytes() == b"content"
    there.delete("/big")
    stage.wait(lambda: look(stage))
    assert len(list(big.iterdir())) == MANY
    assert (big / "7").read_bytes() == b"content"
    said = stage.cloudfs("status").stdout
    assert "the server shows 121 files and folders fewer than before (/big …); they stay here" in said
    assert "`cloudfs deletions accept` shows them gone here too," in said
    (big / "8").write_bytes(b"mine")
    done = stage.cloudfs("sync", "--wait", check=False)
    assert done.returncode == ExitCode.PENDING
    assert "/big/8: its folder is gone on the server" in done.stderr
    assert "`cloudfs deletions accept` sends it as new" in done.stderr
    assert "/big/8: its folder is gone on the server" in stage.cloudfs("status").stdout
    (big / "8").unlink()
    stage.sync()
    done = stage.cloudfs("deletions", "accept", str(stage.mount_point))
    assert done.stdout == "121 files and folders are gone here too.\n"
    assert [item.name for item in stage.mount_point.iterdir()] == ["single"]
    assert waiting(stage) == []
    done = stage.cloudfs("deletions", "accept", check=False)
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        ExitCode.NOT_DONE,
        "No deletions wait for an answer.",
    )


def test_what_is_here_goes_up_again(stage: MountStage, there: Account) -> None:
    big = stage.mount_point / "big"
    for path in list(big.iterdir()):
        assert path.read_bytes() == b"content"
    there.delete("/big")
    stage.wait(lambda: look(stage))
    assert (
        stage.cloudfs("deletions", "restore").stdout == "121 files and folders go up to the server again.\n"
    )
    stage.sync()
    assert len(there.tree("/big")) == MANY
    assert waiting(stage) == []


def test_rm_goes_too_far(stage: MountStage, there: Account) -> None:
    subprocess.run(["rm", "-r", str(stage.mount_point / "big")], check=True, timeout=60)
    done = stage.cloudfs("sync", "--wait", check=False)
    assert done.returncode == ExitCode.PENDING
    assert "`cloudfs deletions accept` deletes it there too" in done.stderr
    said = stage.cloudfs("status").stdout
    assert (
        "121 files and folders were deleted here (/big …); they stay on the server until you answer" in said
    )
    assert len(there.tree("/big")) == MANY
    stage.cloudfs("unmount", "a")
    stage.mount()
    assert stage.cloudfs("deletions", "restore").stdout == "121 files and folders are back here.\n"
    assert (stage.mount_point / "big" / "7").read_bytes() == b"content"
    stage.sync()
    assert len(there.tree("/big")) == MANY
    assert waiting(stage) == []


def test_rm_is_meant(stage: MountStage, there: Account) -> None:
    subprocess.run(["rm", "-r", str(stage.mount_point / "big")], check=True, timeout=60)
    assert stage.cloudfs("unmount", "a", "--wait", check=False).returncode == ExitCode.PENDING
    assert (
        stage.cloudfs("deletions", "accept", "--side", "server").stdout
        == "121 files and folders are being deleted on the server.\n"
    )
    assert stage.cloudfs("unmount", "a", "--wait").stdout.endswith("everything is on the server.\n")
    assert there.tree() == {"single": b"single"}


@pytest.mark.expect_log("the server was set back to a backup")
def test_a_backup_is_restored(stage: MountStage, server: StandIn, there: Account) -> None:
    single = stage.mount_point / "single"
    there.write("/single", b"newer", mtime=1_700_000_000)
    stage.wait(lambda: not look(stage) and single.stat().st_size == 5)
    assert single.read_bytes() == b"newer"
    there.write("/single", b"older", mtime=1_600_000_000)
    server.site.fingerprint = "b0a1c2"
    stage.wait(lambda: look(stage))
    assert single.read_bytes() == b"newer"
    said = stage.cloudfs("status").stdout
    assert "a backup was restored on the server; it shows older versions of 1 files (/single …);" in said
    assert "`cloudfs deletions restore --side here` sends to the server what is newer here" in said
    done = stage.cloudfs("deletions", "restore", "--side", "here")
    assert done.stdout == "1 files and folders go up to the server, over what is older there.\n"
    stage.sync()
    assert there.read("/single") == b"newer"
    assert waiting(stage) == []
