"""A remote wipe on a disk that does not go along: what can be made unreadable is, with a note or without."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cloudfs import config
from cloudfs.config import Account, Folders, Settings
from cloudfs.daemon import wiping
from cloudfs.daemon.wiping import wipe
from cloudfs.errors import ExitCode, UserError
from cloudfs.vault.opening import Opened, open_account
from cloudfs.wiped import find_wiped, note_wiped
from tests.secrets.session import Desktop

ACCOUNT = Account(
    url="http://127.0.0.1:1/dav/",
    user="jo",
    base_url="http://127.0.0.1:1/",
    secret_store="file",
    settings=Settings(cache_encrypt=True, cache_key="file"),
)

pytestmark = pytest.mark.expect_log("remote wipe|cannot be told|no room|not known what is lost")


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    monkeypatch.setattr(wiping, "_PAUSE_S", 0.0)
    monkeypatch.setattr(wiping, "_TRIES", 1)
    made = Folders.from_environment({"CLOUDFS_HOME": str(tmp_path)})
    made.create()
    config.write_secret(made, "work", "app-password")
    config.save_account(made, "work", ACCOUNT)
    return made


@pytest.fixture
def opened(folders: Folders) -> Opened:
    found = open_account(folders, "work", ACCOUNT)
    assert list((folders.state / "work").glob("cache-key-*"))
    return found


def is_gone(folders: Folders) -> bool:
    return not (folders.state / "work").exists() and not folders.account_file("work").exists()


def test_a_disk_without_room_for_the_note_keeps_nothing(
    folders: Folders, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The note is left once there is room again."""

    def note(*words: object) -> None:
        if list((folders.state / "work").glob("cache-key-*")):
            raise UserError("no room", code=ExitCode.BAD_CONFIG)
        note_wiped(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(wiping, "note_wiped", note)
    wipe(folders, "work", ACCOUNT, "app-password", opened)
    assert is_gone(folders)
    assert list(find_wiped(folders)) == ["work"]


def test_a_disk_that_does_not_tell_what_is_lost_is_wiped_all_the_same(
    folders: Folders, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(wiping, "only_here", fail)
    wipe(folders, "work", ACCOUNT, "app-password", opened)
    assert is_gone(folders)


def test_a_folder_above_that_has_become_open_to_all_keeps_nothing(folders: Folders, opened: Opened) -> None:
    folders.state.parent.chmod(0o777)
    wipe(folders, "work", ACCOUNT, "app-password", opened)
    assert is_gone(folders)


def test_a_key_in_the_keyring_goes_too(folders: Folders, desktop: Desktop) -> None:
    """Of what stays on the disk, deleted or in a backup, nothing can be read then."""
    account = Account(
        url=ACCOUNT.url,
        user=ACCOUNT.user,
        base_url=ACCOUNT.base_url,
        secret_store="file",
        settings=Settings(cache_encrypt=True),
    )
    config.save_account(folders, "work", account)
    found = open_account(folders, "work", account)
    assert len(desktop.secrets()) == 1
    wipe(folders, "work", account, "app-password", found)
    assert not desktop.secrets()
    assert is_gone(folders)
