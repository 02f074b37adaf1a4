"""A withdrawn app password: everything stops and is kept, and goes on with the next login, without a remount."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudfs import config
from cloudfs.errors import ExitCode
from tests.functional.stages import PASSWORD, USER, MountStage
from tests.servers import StandIn

pytestmark = [pytest.mark.mount, pytest.mark.shared_engine]


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


@pytest.fixture
def stage(tmp_path: Path, server: StandIn) -> Iterator[MountStage]:
    """A mount with one file known and one pending, whose app password is withdrawn."""
    made = MountStage(tmp_path / "home", server, settings="listing_ttl_s = 0")
    (made.mount_point / "known").write_bytes(b"known")
    made.sync()
    server.account(USER).revoke(secret(made))
    (made.mount_point / "pending").write_bytes(b"pending")
    made.wait(lambda: made.status()["state"] == "needs-login")
    yield made
    made.close()


def folders(stage: MountStage) -> config.Folders:
    return config.Folders.from_environment({"CLOUDFS_HOME": str(stage.home)})


def secret(stage: MountStage) -> str:
    return config.read_secret(folders(stage), "a")


def log_in(stage: MountStage, server: StandIn) -> str:
    return stage.cloudfs(
        "login", server.url, "--user", USER, "--password-stdin", "--account", "a", stdin=PASSWORD
    ).stdout


def test_everything_stops_and_is_kept(stage: MountStage, server: StandIn) -> None:
    assert (stage.mount_point / "known").read_bytes() == b"known"
    assert (stage.mount_point / "pending").read_bytes() == b"pending"
    done = stage.cloudfs("sync", "--wait", check=False)
    assert done.returncode == ExitCode.PENDING
    assert "cloudfs login" in done.stderr
    assert "log in again with `cloudfs login --account a`" in stage.cloudfs("status").stdout
    stage.wait(lambda: stage.status()["state"] == "needs-login")
    server.requests.reset()
    for _ in range(3):
        list(stage.mount_point.iterdir())
    assert server.requests.count() == 0
    assert "pending" not in server.account(USER).tree()


def test_a_mount_goes_on_with_the_next_login(stage: MountStage, server: StandIn) -> None:
    pid, old = stage.status()["pid"], secret(stage)
    assert f"The mount at {stage.mount_point} goes on with the new login." in log_in(stage, server)
    status = stage.status()
    assert (status["pid"], status["state"]) == (pid, "online")
    stage.wait(lambda: server.account(USER).tree() == {"known": b"known", "pending": b"pending"})
    log = (stage.home / "state/a/daemon.log").read_text()
    assert old not in log
    assert secret(stage) not in log


def test_a_withdrawn_app_password_is_not_tried_again_to_revoke_it(stage: MountStage, server: StandIn) -> None:
    """Each failed login slows down every login from this address."""
    server.requests.reset()
    log_in(stage, server)
    assert server.requests.count("DELETE") == 0


def test_a_mount_that_is_well_goes_on_without_the_old_app_password(
    stage: MountStage, server: StandIn
) -> None:
    log_in(stage, server)
    stage.sync()
    old = secret(stage)
    server.requests.reset()
    log_in(stage, server)
    found = server.site.users.get(USER)
    assert found is not None
    assert set(found.app_passwords) == {secret(stage)} != {old}
    (stage.mount_point / "after").write_bytes(b"after")
    stage.sync()
    assert server.account(USER).tree()["after"] == b"after"
    assert stage.status()["state"] == "online"
    assert [it for it in server.requests if it.status == 401] == []


def test_it_finds_a_new_secret_file_by_itself(stage: MountStage, server: StandIn) -> None:
    config.write_secret(folders(stage), "a", server.account(USER).app_password())
    stage.wait(lambda: server.account(USER).tree() == {"known": b"known", "pending": b"pending"})
    assert stage.status()["state"] == "online"


def test_whoever_waits_has_it_look_at_once(stage: MountStage, server: StandIn) -> None:
    config.write_secret(folders(stage), "a", server.account(USER).app_password())
    stage.sync()
    assert server.account(USER).tree() == {"known": b"known", "pending": b"pending"}


def test_a_damaged_secret_file_changes_nothing(stage: MountStage, server: StandIn) -> None:
    config.write_private(folders(stage).secret_file("a"), b"\n\n")
    assert stage.cloudfs("sync", "--wait", check=False).returncode == ExitCode.PENDING
    log_in(stage, server)
    stage.sync()
