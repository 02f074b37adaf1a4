"""`login`, `logout` and `doctor` with a keyring, without one, and with a credential of systemd."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from cloudfs import config
from cloudfs.cli import keeping
from cloudfs.config import Folders
from cloudfs.errors import ExitCode, UserError
from tests.cli.conftest import REPOSITORY, Result, Run
from tests.functional.stages import wait_until
from tests.secrets.session import Desktop
from tests.servers import StandIn

PASSWORD = "login-Pass-123"
FILE = ("--secret-store", "file")
KEYRING = ("--secret-store", "keyring")


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn({"jo": PASSWORD}) as server:
        yield server


def log_in(run: Run, server: StandIn, *options: str, password: str = PASSWORD) -> Result:
    words = ("login", server.url, "--user", "jo", "--password-stdin", "--account", "work")
    return run(*words, *options, stdin=f"{password}\n")


def folders() -> Folders:
    return Folders.from_environment()


def written_store() -> str:
    """Return what the account's file says."""
    return str(tomllib.loads(folders().account_file("work").read_text()).get("secret_store", "file"))


def app_passwords(server: StandIn) -> set[str]:
    found = server.site.users.get("jo")
    assert found is not None
    return set(found.app_passwords)


# --- with a keyring


def test_a_login_keeps_its_password_in_the_keyring(
    run: Run, server: StandIn, desktop: Desktop, tmp_path: Path
) -> None:
    result = log_in(run, server)
    assert (result.code, result.err) == (ExitCode.OK, "")
    assert "Its password is kept in the keyring.\n" in result.out
    assert written_store() == "keyring"
    (secret,) = desktop.secrets().values()
    assert app_passwords(server) == {secret}
    assert not folders().secret_file("work").exists()
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert secret.encode() not in everything
    # Who has a keyring for the password has one for the key of what is kept here; a later login changes nothing of it.
    account = config.load_account(folders(), "work")
    assert account.settings.cache_encrypt is True
    plain = msgspec.structs.replace(account, settings=config.Settings(cache_encrypt=False))
    config.save_account(folders(), "work", plain)
    log_in(run, server)
    assert config.load_account(folders(), "work").settings.cache_encrypt is False


def test_another_login_replaces_it(run: Run, server: StandIn, desktop: Desktop) -> None:
    log_in(run, server)
    before = desktop.secrets()
    assert log_in(run, server).err == ""
    assert desktop.secrets() != before
    assert app_passwords(server) == set(desktop.secrets().values())


def test_it_moves_where_it_is_told_to(run: Run, server: StandIn, desktop: Desktop) -> None:
    log_in(run, server)
    result = log_in(run, server, *FILE)
    assert (result.code, result.err) == (ExitCode.OK, "")
    assert f"Its password is kept in {folders().secret_file('work')}, readable by you alone." in result.out
    assert (written_store(), desktop.secrets()) == ("file", {})
    assert app_passwords(server) == {config.read_secret(folders(), "work")}
    log_in(run, server)
    assert (written_store(), desktop.secrets()) == ("file", {}), "it stays where it is"
    assert log_in(run, server, *KEYRING).err == ""
    assert not folders().secret_file("work").exists()
    assert app_passwords(server) == set(desktop.secrets().values())


def test_a_logout_removes_it(run: Run, server: StandIn, desktop: Desktop) -> None:
    log_in(run, server)
    assert run("logout").err == ""
    assert (desktop.secrets(), app_passwords(server)) == ({}, set())


def test_a_keyring_that_stays_locked_is_no_reason_for_a_file(
    run: Run, server: StandIn, desktop: Desktop
) -> None:
    desktop.lock()
    server.requests.reset()
    result = log_in(run, server)
    assert (result.code, result.said[0]) == (ExitCode.NOT_DONE, "The keyring is locked.")
    assert "--secret-store file" in result.said[1]
    assert server.requests.count() == 0
    assert not folders().state.exists()
    assert log_in(run, server, *FILE).code == ExitCode.OK


def test_a_person_at_the_screen_is_asked_to_unlock_it(
    run: Run, server: StandIn, desktop: Desktop, monkeypatch: pytest.MonkeyPatch
) -> None:
    desktop.lock()
    monkeypatch.setenv("DISPLAY", ":99")
    for name in ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY"):
        monkeypatch.delenv(name, raising=False)
    with desktop.prompter() as asked:

        def answer() -> None:
            wait_until(lambda: bool(asked))
            desktop.unlock()

        thread = threading.Thread(target=answer)
        thread.start()
        result = log_in(run, server)
        thread.join()
    assert (result.code, len(asked)) == (ExitCode.OK, 1)
    assert result.said == ["Waiting until the keyring is unlocked; Ctrl-C gives up."]
    assert app_passwords(server) == set(desktop.secrets().values())


def test_a_person_who_declines_is_told(
    run: Run, server: StandIn, desktop: Desktop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody shows the prompt here, which is to the keyring as if it had been closed."""
    desktop.lock()
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-99")
    for name in ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY"):
        monkeypatch.delenv(name, raising=False)
    result = log_in(run, server)
    assert (result.code, result.said[1]) == (ExitCode.NOT_DONE, "The keyring is locked.")


def test_ctrl_c_while_a_person_is_asked(desktop: Desktop) -> None:
    desktop.lock()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SSH_")}
    environ |= {"DISPLAY": ":99", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-P", "-m", "cloudfs", "login", "http://127.0.0.1:9", "--user", "jo"]
    with (
        desktop.prompter() as asked,
        subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process,
    ):
        wait_until(lambda: bool(asked))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "Waiting until the keyring is unlocked; Ctrl-C gives up.\n")


def test_nor_is_one_that_hangs(run: Run, server: StandIn, desktop: Desktop) -> None:
    with desktop.silent():
        result = log_in(run, server)
    assert (result.code, result.said[0]) == (ExitCode.NOT_DONE, "The keyring does not answer.")


def test_a_login_that_the_keyring_refuses_is_taken_back(
    run: Run, server: StandIn, desktop: Desktop, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = keeping.keep

    def locked_meanwhile(*arguments: object) -> None:
        desktop.lock()
        keep(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("cloudfs.cli.login.keep", locked_meanwhile)
    result = log_in(run, server)
    assert (result.code, result.said[0]) == (ExitCode.NOT_DONE, "The keyring is locked.")
    assert app_passwords(server) == set()
    assert config.account_names(folders()) == []


def test_a_logout_does_not_leave_a_valid_password_in_a_locked_keyring(
    run: Run, server: StandIn, desktop: Desktop
) -> None:
    log_in(run, server)
    desktop.lock()
    result = run("logout")
    assert result.code == ExitCode.NOT_DONE
    assert result.said[0] == (
        "The keyring is locked. So the app password cannot be revoked, and nothing was removed."
    )
    assert config.account_names(folders()) == ["work"]
    result = run("logout", "--keep-remote")
    assert (result.code, result.said) == (
        ExitCode.OK,
        ["The keyring is locked. The password is still in it, for whoever opens it."],
    )
    assert config.account_names(folders()) == []


def test_a_logout_goes_on_where_it_was_removed_by_hand(run: Run, server: StandIn, desktop: Desktop) -> None:
    log_in(run, server)
    folders_before = folders()
    keeping.forget(folders_before, "work", "keyring")
    result = run("logout")
    assert result.code == ExitCode.OK
    assert result.said[0].startswith("The keyring has no password for this account. So the app password")


def test_doctor_tells_of_the_keyring(run: Run, server: StandIn, desktop: Desktop) -> None:
    log_in(run, server)

    def found() -> dict[str, tuple[str, str]]:
        lines = json.loads(run("doctor", "--json").out)
        return {line["name"]: (line["verdict"], line["reason"]) for line in lines}

    assert found()["keyring"] == ("ok", "it is there, and open")
    assert found()["password"] == ("ok", "kept in the keyring")
    assert found()["login"][0] == "ok"
    desktop.lock()
    assert found()["keyring"] == ("ok", "it is there, and locked")
    assert found()["password"] == ("problem", "kept in the keyring. The keyring is locked.")
    assert found()["server"][0] == "skipped"
    desktop.unlock()
    keeping.forget(folders(), "work", "keyring")
    assert found()["password"] == ("problem", "The keyring has no password for this account.")


# --- without one


def test_without_a_keyring_a_file_is_used_only_where_somebody_asks_for_it(
    run: Run, server: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CLOUDFS_HOME")
    for name in ("CONFIG", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    result = log_in(run, server)
    assert (result.code, result.out, len(result.said)) == (ExitCode.NOT_DONE, "", 2)
    assert "--secret-store file" in result.said[1]
    assert list(server.requests) == []
    assert not list(tmp_path.rglob("*.toml"))
    assert log_in(run, server, *FILE).code == ExitCode.OK
    assert app_passwords(server) == {config.read_secret(folders(), "work")}
    assert log_in(run, server).code == ExitCode.OK, "as before"


def test_a_home_of_ones_own_keeps_the_password_too_and_says_so(run: Run, server: StandIn) -> None:
    result = log_in(run, server)
    assert (result.code, result.err) == (ExitCode.OK, "")
    (line,) = (line for line in result.out.splitlines() if "password" in line)
    assert line == (
        f"Its password is kept in {folders().secret_file('work')}, readable by you alone;"
        " there is no keyring here (--secret-store chooses)."
    )
    assert written_store() == "file"
    assert app_passwords(server) == {config.read_secret(folders(), "work")}
    assert config.load_account(folders(), "work").settings.cache_encrypt is None
    again = log_in(run, server)
    assert "no keyring" not in again.out


def test_without_a_keyring_none_can_be_wanted(run: Run, server: StandIn) -> None:
    result = log_in(run, server, *KEYRING)
    assert (result.code, result.said[0]) == (ExitCode.NOT_DONE, "There is no keyring on this machine.")
    assert list(server.requests) == []


@pytest.mark.parametrize(("answer", "kept"), [("", True), ("y", True), ("n", False)])
def test_a_person_is_asked_whether_a_file_will_do(
    monkeypatch: pytest.MonkeyPatch, answer: str, *, kept: bool
) -> None:
    class Terminal:
        @staticmethod
        def isatty() -> bool:
            return True

    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", Terminal)
        patch.setattr(sys, "stdout", Terminal)
        patch.setattr("builtins.input", ask)
        if kept:
            assert keeping.choose_store(folders(), "work", None, None) == keeping.Choice("file")
        else:
            with pytest.raises(UserError, match="nowhere to keep"):
                keeping.choose_store(folders(), "work", None, None)
    assert len(asked) == 1


def test_a_keyring_that_went_away_is_told_of(run: Run, server: StandIn, desktop: Desktop) -> None:
    log_in(run, server)
    desktop.stop_keyring()
    assert log_in(run, server).said[0] == "There is no keyring on this machine."
    result = log_in(run, server, *FILE)
    assert result.code == ExitCode.OK
    assert any(line.startswith("The former app password could not be revoked: ") for line in result.said)
    assert any(line.startswith("The former password is still kept in the keyring: ") for line in result.said)


# --- a credential of systemd


def credential(server: StandIn) -> str:
    return server.account("jo").app_password()


def test_a_credential_is_tried_and_not_kept(run: Run, server: StandIn, tmp_path: Path) -> None:
    secret = credential(server)
    result = log_in(run, server, "--secret-store", "credential", password=secret)
    assert (result.code, result.err) == (ExitCode.OK, "")
    assert "Its password is kept by systemd, as the credential cloudfs-work.\n" in result.out
    assert written_store() == "credential"
    everything = b"".join(path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file())
    assert secret.encode() not in everything


def test_a_login_password_is_no_credential(run: Run, server: StandIn) -> None:
    result = log_in(run, server, "--secret-store", "credential")
    assert (result.code, len(result.said)) == (ExitCode.USAGE, 2)
    assert "app password" in result.said[1]
    assert app_passwords(server) == set()
    assert config.account_names(folders()) == []


def test_a_credential_is_brought_along(run: Run, server: StandIn) -> None:
    result = run("login", server.url, "--secret-store", "credential")
    assert (result.code, "takes a user name and a password" in result.said[0]) == (ExitCode.USAGE, True)


def test_who_is_no_unit_cannot_mount_it(run: Run, server: StandIn, tmp_path: Path) -> None:
    log_in(run, server, "--secret-store", "credential", password=credential(server))
    (tmp_path / "place").mkdir()
    result = run("mount", tmp_path / "place")
    assert result.code == ExitCode.BAD_CONFIG
    assert result.said[0].startswith("The password is the systemd credential cloudfs-work, and no unit")
    lines = {line["name"]: line for line in json.loads(run("doctor", "--json").out)}
    assert (lines["password"]["verdict"], lines["server"]["verdict"]) == ("skipped", "skipped")
    assert run("logout").code == ExitCode.OK
