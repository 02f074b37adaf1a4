"""A device that is to be wiped: nothing of the account stays on it, and whoever sits there is told (SEMANTICS.md)."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from cloudfs.config import Folders, account_names, load_account
from cloudfs.daemon.wiping import wipe
from cloudfs.errors import UserError
from cloudfs.vault.opening import open_account
from cloudfs.wiped import find_wiped
from tests.functional.stages import PASSWORD, USER, MountStage
from tests.servers import StandIn

pytestmark = [pytest.mark.mount, pytest.mark.expect_log("remote wipe", optional=True)]

KNOWN, PENDING = os.urandom(2_000_000), b"never sent: 3f1c94"


@pytest.fixture
def stage(tmp_path: Path, server: StandIn) -> Iterator[MountStage]:
    made = MountStage(tmp_path / "home", server, settings="listing_ttl_s = 0")
    yield made
    made.close()


def app_password(server: StandIn) -> str:
    user = server.site.users.get(USER)
    assert user is not None
    (secret,) = user.app_passwords
    return secret


def asked(server: StandIn, what: str) -> int:
    return server.requests.count("POST", f"/core/wipe/{what}")


def resist(path: Path, onerror: Callable[..., None]) -> None:
    """Be `shutil.rmtree` where nothing can be removed."""
    onerror(None, str(path), (PermissionError, PermissionError(errno.EPERM, "no"), None))


def left_of_it(stage: MountStage) -> list[Path]:
    """Return whatever still tells something of the account's contents."""
    words = [b"secret name", KNOWN[1000:1032], PENDING]
    files = [path for path in stage.home.rglob("*") if path.is_file()]
    return [path for path in files if any(word in path.read_bytes() for word in words)]


def test_everything_is_removed_and_told(stage: MountStage, server: StandIn) -> None:
    server.account(USER).write("/secret name", KNOWN)
    assert (stage.mount_point / "secret name").read_bytes() == KNOWN
    secret = app_password(server)
    server.account(USER).mark_for_wipe(secret)
    (stage.mount_point / "pending").write_bytes(PENDING)
    stage.wait(lambda: not server.site.users.wiped(secret, done=False))  # it was said to be done
    stage.wait(lambda: not (stage.home / "config/accounts/a.toml").exists())
    assert left_of_it(stage) == []
    assert [
        path for path in stage.home.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()
    ] == []
    assert asked(server, "check") == 1
    assert asked(server, "success") == 1
    assert not os.path.ismount(stage.mount_point)
    for command in (("status", "a"), ("mount", "a", str(stage.mount_point)), ("accounts",)):
        done = stage.cloudfs(*command, check=False)
        said = done.stdout + done.stderr
        assert "remote wipe" in said, command
        assert "1 change not on the server yet" in said, command


def test_of_an_encrypted_account_the_key_goes_too(tmp_path: Path, server: StandIn) -> None:
    sealed = 'listing_ttl_s = 0\ncache_encrypt = true\ncache_key = "file"'
    stage = MountStage(tmp_path / "home", server, settings=sealed)
    try:
        (key,) = (stage.home / "state/a").glob("cache-key-*")
        words = key.read_bytes().strip()
        server.account(USER).mark_for_wipe(app_password(server))
        (stage.mount_point / "pending").write_bytes(PENDING)
        stage.wait(lambda: asked(server, "success") == 1)
        left = [path for path in stage.home.rglob("*") if path.is_file()]
        assert [path for path in left if words in path.read_bytes()] == []
        assert not key.exists()
        assert find_wiped(Folders.from_environment(stage.environ))["a"].changes == 1, (
            "it was looked into before"
        )
    finally:
        stage.close()


def test_an_encrypted_account_is_unreadable_whatever_stays_of_it(
    tmp_path: Path, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = MountStage(tmp_path / "home", server, settings='cache_encrypt = true\ncache_key = "file"')
    try:
        stage.cloudfs("unmount", "a")
        folders = Folders.from_environment(stage.environ)
        account = load_account(folders, "a")
        opened = open_account(folders, "a", account)
        with monkeypatch.context() as patch, pytest.raises(UserError, match="cannot be removed"):
            patch.setattr(shutil, "rmtree", resist)
            wipe(folders, "a", account, "any", opened)
        assert list((stage.home / "state/a").glob("cache-key-*")) == []
        assert list((stage.home / "state/a").glob("sealed-*/state.sqlite")), "it could not be removed"
    finally:
        stage.close()


def test_what_cannot_be_removed_is_tried_again(
    stage: MountStage, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account and its password stay, so that the next mount is told once more."""
    server.account(USER).write("/secret name", KNOWN)
    assert (stage.mount_point / "secret name").read_bytes() == KNOWN
    stage.cloudfs("unmount", "a")
    secret = app_password(server)
    server.account(USER).mark_for_wipe(secret)
    folders = Folders.from_environment(stage.environ)
    account = load_account(folders, "a")

    with monkeypatch.context() as patch, pytest.raises(UserError, match="blocks cannot be removed"):
        patch.setattr(shutil, "rmtree", resist)
        wipe(folders, "a", account, secret, open_account(folders, "a", account))
    assert asked(server, "success") == 0
    stage.mount()
    stage.wait(lambda: asked(server, "success") == 1)
    assert left_of_it(stage) == []
    assert find_wiped(folders)["a"].changes == 0


@pytest.mark.expect_log("cannot be told")
def test_a_server_that_is_away_changes_nothing_and_a_login_ends_it(
    stage: MountStage, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloudfs.daemon.wiping._PAUSE_S", 0.0)
    stage.cloudfs("unmount", "a")
    folders = Folders.from_environment(stage.environ)
    account = load_account(folders, "a")
    gone = msgspec.structs.replace(account, base_url="http://127.0.0.1:1/")
    wipe(folders, "a", gone, "no password", open_account(folders, "a", account))
    assert account_names(folders) == []
    assert list(find_wiped(folders)) == ["a"]
    stage.cloudfs("login", server.url, "--user", USER, "--password-stdin", "--account", "a", stdin=PASSWORD)
    assert find_wiped(folders) == {}
