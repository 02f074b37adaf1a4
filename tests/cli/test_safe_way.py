"""Places in which others could put their folders in the place of ours: refused before anything is put there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cloudfs import config
from cloudfs.config import Account, Folders
from cloudfs.doctor.account import check_folders
from cloudfs.doctor.report import Verdict
from cloudfs.errors import ExitCode, UserError
from tests.cli.conftest import Run

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
ACCOUNT = Account(url="https://cloud.example.org/dav/", user="jo")


def folders_at(home: Path) -> Folders:
    return Folders.from_environment({"CLOUDFS_HOME": str(home)})


def refusal_of(home: Path) -> UserError:
    made = folders_at(home)
    with pytest.raises(UserError, check=lambda error: error.code is ExitCode.BAD_CONFIG) as raised:
        made.create()
    return raised.value


@pytest.fixture
def place(tmp_path: Path) -> Path:
    made = tmp_path / "place"
    made.mkdir()
    return made


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be nobody special, for the time of a look at whose a folder is."""
    monkeypatch.setattr(os, "geteuid", lambda: 4321)


@ROOT_ONLY
@pytest.mark.usefixtures("somebody")
@pytest.mark.parametrize("further_up", [False, True])
def test_another_users_folder(place: Path, further_up: bool) -> None:
    """As /tmp/NAME, made by somebody before us."""
    os.chown(place, 1234, 1234)
    home = place / "ours" if further_up else place
    home.mkdir(exist_ok=True)
    assert refusal_of(home).message.startswith(
        f"{place}, on the way to {home}/config, belongs to another user"
    )
    assert list(home.iterdir()) == []


def test_a_folder_that_is_open_to_all(place: Path) -> None:
    place.chmod(0o777)
    told = refusal_of(place / "ours")
    assert f"{place}, on the way to {place}/ours/config, is open to every user" in told.message
    assert told.hint == (
        f"`chmod o-w {place}`.\nOr choose another place, with CLOUDFS_HOME or the XDG variables."
    )
    assert list(place.iterdir()) == []
    place.chmod(0o1777)
    folders_at(place / "ours").create()  # as in /tmp itself


@ROOT_ONLY
def test_root_in_the_folder_of_a_user(place: Path) -> None:
    """As a container has it whose volume is somebody's folder; but not one that anybody could have put there."""
    os.chown(place, 1234, 1234)
    folders_at(place / "ours").create()
    place.parent.chmod(0o1777)
    assert "belongs to another user" in refusal_of(place / "ours").message


@ROOT_ONLY
def test_a_folder_that_somebody_makes_in_the_moment_between(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing when it was looked at, theirs when ours are made in it: they could put others in the place of these."""
    place.chmod(0o1777)
    make = config.private_folder

    def private_folder(path: Path) -> Path:
        if not (place / "ours").exists():
            (place / "ours").mkdir()
            os.chown(place / "ours", 1234, 1234)
        return make(path)

    monkeypatch.setattr(config, "private_folder", private_folder)
    assert refusal_of(place / "ours").message.startswith(f"{place}/ours, on the way to ")


def test_what_is_there_already_is_not_left_behind(place: Path) -> None:
    """Changes that were not sent lie in it."""
    made = folders_at(place)
    made.create()
    config.save_account(made, "work", ACCOUNT)
    place.chmod(0o777)
    told = refusal_of(place)
    assert told.hint is not None
    assert told.hint.startswith(
        f"`chmod o-w {place}`.\nOr move all of cloudfs's folders elsewhere, as they are"
    )
    place.chmod(0o775)
    made.create()


def test_the_doctor_says_so_too(place: Path) -> None:
    made = folders_at(place)
    made.create()
    place.chmod(0o777)
    told = refusal_of(place)
    (found,) = check_folders(made)
    assert (found.verdict, found.reason, found.repair) == (Verdict.PROBLEM, told.message, told.hint)


def test_a_link_that_lies_where_all_may_write(place: Path, tmp_path: Path) -> None:
    """Another user could make it anew, so that it leads elsewhere."""
    (tmp_path / "ours").mkdir()
    (place / "link").symlink_to(tmp_path / "ours")
    (tmp_path / "way").symlink_to("place/../place/link")
    place.chmod(0o777)
    assert f"{place}, on the way to {tmp_path}/way/" in refusal_of(tmp_path / "way" / "home").message
    place.chmod(0o1777)
    folders_at(tmp_path / "way" / "home").create()
    assert (tmp_path / "ours/home/state").is_dir()


@ROOT_ONLY
def test_a_link_of_another_user(place: Path, tmp_path: Path) -> None:
    place.chmod(0o1777)
    (place / "link").symlink_to(tmp_path)
    os.lchown(place / "link", 1234, 1234)
    assert f"{place}/link, on the way to " in refusal_of(place / "link" / "home").message


@pytest.mark.parametrize(
    ("home", "why"),
    [("file/home", "Not a directory"), ("loop/home", "Too many levels"), ("n" * 300, "File name too long")],
)
def test_a_way_that_leads_nowhere(
    place: Path, home: str, why: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "file").touch()
    (place / "loop").symlink_to("loop")
    assert why in refusal_of(place / home).message
    monkeypatch.setenv("CLOUDFS_HOME", str(place / home))
    for words in (("accounts",), ("login", "http://127.0.0.1:1/", "--allow-http", "--user", "jo")):
        told = run(*words)
        assert (told.code, why in told.said[0]) == (ExitCode.BAD_CONFIG, True)


def test_a_runtime_folder_that_is_open_to_all_is_not_taken(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one is: nobody is kept from mounting by a system that sets it badly."""
    monkeypatch.delenv("CLOUDFS_HOME")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place))
    assert Folders.from_environment().runtime == place / "cloudfs"
    place.chmod(0o777)
    assert Folders.from_environment().runtime.parent != place
