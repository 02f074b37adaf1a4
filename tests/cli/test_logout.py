"""Logging out: what is only here is not thrown away by accident, and nothing of an account stays behind."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from cloudfs import config
from cloudfs.config import Folders
from cloudfs.control.instance import hold
from cloudfs.errors import ExitCode
from tests.cli.conftest import REPOSITORY, Result, Run
from tests.functional.stages import USER, MountStage
from tests.servers import StandIn, WsgidavServer
from tests.servers.standin.faults import Answer

PASSWORD = "login-Pass-123"


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn({"jo": PASSWORD}) as server:
        yield server


@pytest.fixture
def folders(run: Run, server: StandIn) -> Folders:
    log_in(run, server.url)
    return Folders.from_environment()


def log_in(run: Run, url: str, user: str = "jo", password: str = PASSWORD) -> Result:
    return run("login", url, "--user", user, "--password-stdin", "--account", "work", stdin=f"{password}\n")


def left_over(folders: Folders) -> list[str]:
    """Files that speak of the account."""
    places = (folders.accounts, folders.state, folders.cache, folders.runtime)
    return [str(path) for place in places for path in place.rglob("*")]


def app_passwords(server: StandIn, user: str = "jo") -> dict[str, str]:
    found = server.site.users.get(user)
    assert found is not None
    return found.app_passwords


def test_the_app_password_is_revoked_and_everything_is_removed(
    run: Run, server: StandIn, folders: Folders
) -> None:
    (folders.account_cache("work") / "block").write_bytes(b"x")
    secret = config.read_secret(folders, "work")
    result = run("logout")
    assert (result.code, result.err) == (ExitCode.OK, "")
    assert result.out.startswith("Logged out of work: its app password was revoked, and everything of it was")
    assert app_passwords(server) == {}
    reply = httpx.request("PROPFIND", server.dav_url("jo"), auth=("jo", secret))
    assert reply.status_code == 401
    assert left_over(folders) == []
    assert run("logout").code == ExitCode.NO_ACCOUNT
    assert log_in(run, server.url).code == ExitCode.OK


def test_programs_are_told_in_json(run: Run, server: StandIn, folders: Folders) -> None:
    words = ("--user", "jo", "--password-stdin", "--account", "work", "--json")
    logged_in = json.loads(run("login", server.url, *words, stdin=f"{PASSWORD}\n").out)
    assert (logged_in["account"], logged_in["user"], logged_in["password_kept"]) == ("work", "jo", "file")
    assert logged_in["url"] == config.load_account(folders, "work").url
    assert json.loads(run("logout", "--json").out) == {
        "account": "work",
        "app_password": "its app password was revoked",
        "thrown_away": [],
    }


def test_a_plain_server_has_nothing_to_revoke(run: Run) -> None:
    with WsgidavServer() as plain:
        assert log_in(run, plain.url, plain.user, plain.password).code == ExitCode.OK
    assert run("logout", "work").code == ExitCode.OK, "it is not even asked"
    assert left_over(Folders.from_environment()) == []


def test_what_was_brought_along_stays_valid_and_a_line_says_so(run: Run, server: StandIn) -> None:
    """Other programs may use it; Nextcloud shows by its 403 that a password is an app password already."""
    brought = server.account("jo").app_password()
    assert log_in(run, server.url, password=brought).code == ExitCode.OK
    server.requests.reset()
    result = run("logout")
    assert (result.code, result.err) == (ExitCode.OK, "")
    first, second = result.out.splitlines()
    assert first.startswith("Logged out of work: its app password was brought along and stays valid, and ")
    assert second.endswith(f"can be revoked by hand: {server.url}/index.php/settings/user/security")
    assert server.requests.count() == 0
    assert set(app_passwords(server)) == {brought}
    assert left_over(Folders.from_environment()) == []


def test_what_was_brought_along_is_revoked_if_that_is_said(run: Run, server: StandIn) -> None:
    log_in(run, server.url, password=server.account("jo").app_password())
    result = run("logout", "--revoke")
    assert result.out.startswith("Logged out of work: its app password was revoked, ")
    assert app_passwords(server) == {}


def test_one_of_ours_that_was_brought_again_is_revoked(run: Run, server: StandIn, folders: Folders) -> None:
    log_in(run, server.url, password=config.read_secret(folders, "work"))
    assert run("logout").code == ExitCode.OK
    assert app_passwords(server) == {}


def as_before(folders: Folders) -> None:
    """Have the account be one of which nobody has noted who made its app password."""
    account = config.load_account(folders, "work")
    config.save_account(folders, "work", msgspec.structs.replace(account, own_password=None))


def test_what_nobody_has_noted_stays_valid_in_a_script(run: Run, server: StandIn, folders: Folders) -> None:
    as_before(folders)
    result = run("logout")
    assert result.out.startswith("Logged out of work: its app password stays valid, ")
    assert "by its name beginning with `cloudfs on`" in result.out
    assert len(app_passwords(server)) == 1


def test_an_app_password_that_was_withdrawn_is_no_obstacle(
    run: Run, server: StandIn, folders: Folders
) -> None:
    server.account("jo").revoke(config.read_secret(folders, "work"))
    result = run("logout")
    assert (result.code, left_over(folders)) == (ExitCode.OK, [])
    assert "its app password was not valid any more" in result.out


@pytest.mark.parametrize("state", ["away", "maintenance", "broken", "refused by what is before it"])
def test_a_server_that_cannot_be_asked(run: Run, server: StandIn, folders: Folders, state: str) -> None:
    page = f"{server.url}/index.php/settings/user/security"
    before = left_over(folders)
    if state == "away":
        server.stop()
    elif state == "maintenance":
        server.maintenance = True
    else:
        server.faults.add(Answer(500 if state == "broken" else 403), times=None)
    result = run("logout")
    assert result.code in {ExitCode.UNREACHABLE, ExitCode.NOT_WEBDAV}
    assert result.said[0].startswith("The app password could not be revoked, and nothing was removed. ")
    assert page in result.said[1]
    assert "--keep-remote" in result.said[1]
    assert [it for it in left_over(folders) if not it.endswith("/lock")] == before
    server.requests.reset()
    result = run("logout", "--keep-remote")
    assert (result.code, left_over(folders)) == (ExitCode.OK, [])
    assert page in result.out
    assert server.requests.count() == 0
    assert len(app_passwords(server)) == 1


def test_a_lost_password_file(run: Run, server: StandIn, folders: Folders) -> None:
    folders.secret_file("work").unlink()
    result = run("logout")
    assert (result.code, left_over(folders)) == (ExitCode.OK, [])
    assert "/settings/user/security" in result.err


def test_another_process_holds_it(run: Run, folders: Folders) -> None:
    with hold(folders.account_state("work"), "work"):
        assert run("logout").code in {ExitCode.NOT_DONE, ExitCode.ALREADY_MOUNTED}
    assert config.account_names(folders) == ["work"]


def test_killed_between_two_removals(run: Run, folders: Folders) -> None:
    """What it leaves is an account without a password, and no state that another one could inherit."""
    folders.account_state("work").rename(folders.state / ".work.removed")
    assert run("logout").code == ExitCode.OK
    assert left_over(folders) == []


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[MountStage]:
    """An account that was mounted, and has seen its server."""
    with StandIn() as server:
        stage = MountStage(tmp_path / "home", server, settings="listing_ttl_s = 0")
        stage.server = server  # type: ignore[attr-defined]
        yield stage
        stage.close()


@pytest.mark.mount
def test_changes_are_not_thrown_away_unasked(stage: MountStage) -> None:
    server: StandIn = stage.server  # type: ignore[attr-defined]
    result = stage.cloudfs("logout", check=False)
    assert result.returncode == ExitCode.NOT_DONE
    assert "cloudfs unmount --wait a" in result.stderr
    server.stop()
    (stage.mount_point / "pending").write_bytes(b"pending")
    (stage.mount_point / "note.txt~").write_bytes(b"stays here")
    stage.cloudfs("unmount")
    server.start()
    result = stage.cloudfs("logout", check=False)
    assert result.returncode == ExitCode.PENDING
    assert "1 change (7 bytes) not on the server yet; 1 file with names that never go up." in result.stderr
    assert "cloudfs mount a FOLDER" in result.stderr
    assert len(app_passwords(server, USER)) == 1
    stage.mount()
    assert (stage.mount_point / "pending").read_bytes() == b"pending"
    stage.cloudfs("unmount", "--wait")
    assert server.account(USER).tree() == {"pending": b"pending"}
    result = stage.cloudfs("logout", check=False)
    assert result.returncode == ExitCode.PENDING
    assert "Copy elsewhere what you want to keep." in result.stderr
    result = stage.cloudfs("logout", "--discard-changes")
    assert "Thrown away: 1 file with names that never go up." in result.stdout
    assert app_passwords(server, USER) == {}
    assert server.account(USER).tree() == {"pending": b"pending"}


def test_what_was_rescued_counts(run: Run, folders: Folders) -> None:
    state = folders.account_state("work")
    for name in ("recovered", "staging-lost"):
        (state / name).mkdir()
        (state / name / "part").write_bytes(b"x")
    result = run("logout")
    assert result.code == ExitCode.PENDING
    assert f"2 rescued files, the first is {state}/recovered/part" in result.said[0]
    for name in ("recovered", "staging-lost"):
        shutil.rmtree(state / name)
    assert run("logout").code == ExitCode.OK


def test_a_folder_above_that_has_become_open_to_all(run: Run, folders: Folders, tmp_path: Path) -> None:
    """No new account is made there, but whoever wants what is there out of it, or gone, is not kept from that."""
    folders.state.parent.chmod(0o777)
    assert run("cache", "recovered", "work", "--to", tmp_path / "copies").code == ExitCode.OK
    assert run("logout").code == ExitCode.OK
    assert left_over(folders) == []


def test_a_database_that_cannot_be_read(run: Run, folders: Folders) -> None:
    (folders.account_state("work") / "state.sqlite").write_bytes(b"no database" * 1000)
    result = run("logout")
    assert result.code == ExitCode.PENDING
    assert "maybe more, which nobody can tell" in result.said[0]
    assert run("logout", "--discard-changes").code == ExitCode.OK
    assert left_over(folders) == []


@pytest.mark.parametrize(
    ("answer", "code"), [("n", ExitCode.PENDING), ("", ExitCode.PENDING), ("y", ExitCode.OK)]
)
def test_at_a_terminal_a_person_is_asked(run: Run, folders: Folders, answer: str, code: ExitCode) -> None:
    (folders.account_state("work") / "recovered").mkdir()
    (folders.state / "work/recovered/part").write_bytes(b"x")
    assert run("logout").code == ExitCode.PENDING  # a script says --discard-changes
    process, shown = at_a_terminal(answer)
    assert process.returncode == code
    assert b"1 rescued file, the first is" in shown
    assert bool(left_over(folders)) is (code is not ExitCode.OK)


def test_the_name_of_a_rescued_file_steers_no_terminal(folders: Folders) -> None:
    """It is that of a file in the mount, which others may have named."""
    (folders.account_state("work") / "recovered").mkdir()
    (folders.state / "work/recovered/7.1 \x1b]0;evil\x07\x1b[2J").write_bytes(b"x")
    process, shown = at_a_terminal("y")
    assert process.returncode == ExitCode.OK
    assert b"7.1 ?]0;evil??[2J" in shown
    assert b"evil\x07" not in shown


@pytest.mark.parametrize(("answer", "left"), [("", 1), ("y", 0)])
def test_a_person_is_asked_about_what_nobody_has_noted(
    server: StandIn, folders: Folders, answer: str, left: int
) -> None:
    as_before(folders)
    process, shown = at_a_terminal(answer)
    assert process.returncode == ExitCode.OK
    assert b"Revoke it on the server? [y/N]" in shown
    assert len(app_passwords(server)) == left
    assert left_over(folders) == []


def at_a_terminal(answer: str) -> tuple[subprocess.Popen[bytes], bytes]:
    """Log out there and answer what is asked; return the process, which has ended, and what was shown until then."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-P", "-m", "cloudfs.cli.main", "logout"]
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ) as process:
        os.close(theirs)
        shown = b""
        while b"[y/N]" not in shown:
            shown += os.read(ours, 4096)
        os.write(ours, f"{answer}\n".encode())
        process.wait(60)
        shown += os.read(ours, 4096)
    os.close(ours)
    return process, shown
