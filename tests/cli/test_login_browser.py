"""Logging in in a browser: `cloudfs login` prints where, and waits."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cloudfs import config
from cloudfs.cli import browser as browsers
from cloudfs.config import Folders
from cloudfs.errors import ExitCode
from cloudfs.remote import loginflow
from tests.cli.conftest import REPOSITORY, Run
from tests.servers import WsgidavServer
from tests.servers.browser import Browser
from tests.servers.standin.faults import Answer
from tests.servers.standin.server import StandIn

PASSWORD = "login-Pass-123"


@pytest.fixture(params=["", "/nextcloud"])
def server(request: pytest.FixtureRequest) -> Iterator[StandIn]:
    with StandIn({"jo": PASSWORD}, prefix=request.param) as server:
        yield server


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loginflow, "_EVERY_S", 0.01)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that were shown; somebody may be waiting for them: see `agreeing`."""
    addresses: list[str] = []
    show = browsers.show_address

    def note(url: str) -> None:
        show(url)
        addresses.append(url)

    monkeypatch.setattr("cloudfs.cli.login.show_address", note)
    return addresses


@contextmanager
def agreeing(server: StandIn, shown: list[str], user: str = "jo", password: str = PASSWORD) -> Iterator[None]:
    """Have a person open the address that is shown, log in and agree."""
    over, pause = threading.Event(), threading.Event()

    def person() -> None:
        while not shown and not over.is_set():
            pause.wait(0.01)
        if shown:
            with Browser(server.url) as browser:
                browser.grant(shown[-1], user, password)

    thread = threading.Thread(target=person)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def app_passwords(server: StandIn, user: str = "jo") -> dict[str, str]:
    found = server.site.users.get(user)
    assert found is not None
    return found.app_passwords


@pytest.mark.parametrize("path", ["", "/", "/index.php/apps/files", "/remote.php/dav/files/jo/Projects"])
def test_an_account_comes_of_it(run: Run, server: StandIn, shown: list[str], path: str) -> None:
    server.account("jo").mkdir("/Projects")
    with agreeing(server, shown):
        result = run("login", f"{server.url}{path}", "--no-browser", "--account", "work")
    assert result.code == ExitCode.OK, result.err
    assert shown[0].startswith(f"{server.url}/login/v2/flow/"), "the server itself has lost its port"
    assert shown[0] in result.out
    assert "Logged in as jo to " in result.out
    account = config.load_account(Folders.from_environment(), "work")
    root = server.dav_url("jo") + ("Projects/" if "Projects" in path else "")
    assert (account.url, account.user, account.user_id) == (root, "jo", "jo")
    assert list(app_passwords(server)) == [config.read_secret(Folders.from_environment(), "work")]


def test_the_login_name_may_be_another_than_the_user_id(run: Run, server: StandIn, shown: list[str]) -> None:
    with agreeing(server, shown, user="JO"):
        assert run("login", server.url, "--no-browser", "--account", "work").code == ExitCode.OK
    account = config.load_account(Folders.from_environment(), "work")
    assert (account.user, account.user_id) == ("JO", "jo")
    assert account.url == server.dav_url("jo")


def test_a_user_name_is_filled_in_and_held_to(run: Run, server: StandIn, shown: list[str]) -> None:
    with agreeing(server, shown):
        assert run("login", server.url, "--no-browser", "--user", "jo").code == ExitCode.OK
    assert shown.pop().endswith("?user=jo")
    server.add_account("eve", PASSWORD)
    with agreeing(server, shown, user="eve"):
        result = run("login", server.url, "--no-browser", "--user", "jo")
    assert result.code == ExitCode.WRONG_PASSWORD
    assert result.said[0] == "The login in the browser was that of eve, not of jo."
    assert app_passwords(server, "eve") == {}


def test_what_cannot_be_kept_is_revoked(
    run: Run, server: StandIn, shown: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: object) -> None:
        raise config._bad("The disk is full.", "Make room.")

    monkeypatch.setattr(config, "save_account", full)
    with agreeing(server, shown):
        assert run("login", server.url, "--no-browser").code == ExitCode.BAD_CONFIG
    assert app_passwords(server) == {}


def test_a_busy_server_costs_nobody_a_second_login(run: Run, server: StandIn, shown: list[str]) -> None:
    server.faults.add(Answer(502), path="/ocs/v2.php/cloud/user$", times=2)
    with agreeing(server, shown):
        assert run("login", server.url, "--no-browser").code == ExitCode.OK


def test_nobody_agrees(run: Run, server: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(loginflow, "LIFETIME_S", 0.1)
    result = run("login", server.url, "--no-browser")
    assert (result.code, len(result.said)) == (ExitCode.NOT_DONE, 2)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("offered", [True, False])
def test_a_password_on_standard_input_needs_no_browser(run: Run, server: StandIn, offered: bool) -> None:
    server.application.web_login.offered = offered
    result = run("login", server.url, "--user", "jo", "--password-stdin", stdin=f"{PASSWORD}\n")
    assert result.code == ExitCode.OK, result.err
    assert not [it for it in server.requests if "/login/v2" in it.path]


def test_a_server_without_the_flow_takes_a_password(run: Run, server: StandIn, tmp_path: Path) -> None:
    server.application.web_login.offered = False
    result = run("login", server.url)
    assert (result.code, result.said[1]) == (ExitCode.USAGE, "Give the user name with --user NAME.")
    result = run("login", server.url, "--user", "jo")
    assert (result.code, result.said[0]) == (ExitCode.USAGE, "There is no terminal to ask for the password.")
    assert not (tmp_path / "home").exists()


@pytest.mark.server("wsgidav")
def test_a_plain_server_takes_a_password(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with WsgidavServer() as plain:
        assert run("login", plain.url).code == ExitCode.USAGE
        monkeypatch.setattr("getpass.getpass", lambda _: plain.password)
        monkeypatch.setattr("tests.cli.conftest.io.StringIO", Terminal)
        result = run("login", plain.url, "--user", plain.user, "--account", "plain", stdin="\n")
    assert result.code == ExitCode.OK, result.err
    assert config.read_secret(Folders.from_environment(), "plain") == plain.password


@pytest.mark.usefixtures("guarded_home")
def test_ctrl_c_gives_up(server: StandIn, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "cloudfs.cli.main", "login", server.url, "--no-browser"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert process.stdout is not None
    while "Ctrl-C" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert not (tmp_path / "home").exists()


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


# --- how the address is shown


@pytest.mark.parametrize(
    ("environ", "local"),
    [
        ({"DISPLAY": ":0"}, True),
        ({"DISPLAY": "unix:0.0"}, True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, True),
        ({}, False),
        ({"DISPLAY": "localhost:10.0"}, False),
        ({"DISPLAY": ":0", "SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22"}, False),
        ({"WAYLAND_DISPLAY": "wayland-0", "SSH_TTY": "/dev/pts/1"}, False),
    ],
)
def test_a_browser_is_opened_only_where_it_is_seen(environ: dict[str, str], local: bool) -> None:
    assert browsers.has_local_screen(environ) is local


@pytest.fixture
def opener(tmp_path: Path) -> Callable[[], str]:
    """An `xdg-open` that notes what it was asked to open; returns its PATH and later the note."""
    folder, note = tmp_path / "bin", tmp_path / "opened"
    folder.mkdir()
    os.mkfifo(note)
    program = folder / "xdg-open"
    program.write_text(f'#!/bin/sh\nprintf %s "$1" > {note}\n')
    program.chmod(0o755)
    return lambda: str(folder)


def test_the_desktop_opens_the_address(opener: Callable[[], str], tmp_path: Path) -> None:
    environ = {"PATH": f"{opener()}:{os.environ['PATH']}", "DISPLAY": ":0"}
    assert browsers.open_browser("https://h/login/v2/flow/x", environ)
    assert (tmp_path / "opened").read_text() == "https://h/login/v2/flow/x"
    assert not browsers.open_browser("https://h/", {**environ, "SSH_TTY": "/dev/pts/0"})
    assert not browsers.open_browser("https://h/", {"PATH": str(tmp_path), "DISPLAY": ":0"})


def test_no_browser_when_none_is_wanted(
    run: Run, server: StandIn, shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def open_it(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setattr("cloudfs.cli.login.open_browser", open_it)
    with agreeing(server, shown):
        assert run("login", server.url, "--no-browser").code == ExitCode.OK
    assert opened == []
    first = shown.pop()
    with agreeing(server, shown):
        result = run("login", server.url)
    assert opened == [shown[0]] != [first]
    assert "It was opened in your browser." in result.out


def test_a_terminal_shows_a_code_for_telephones(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "https://cloud.example.org/index.php/login/v2/flow/" + "x" * 128
    monkeypatch.setenv("COLUMNS", "80")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    browsers.show_address(url)
    drawn = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())
    assert browsers.qr_code(url).splitlines()[5] in drawn
    for columns, encoding in (("40", "utf-8"), ("80", "ascii")):
        monkeypatch.setenv("COLUMNS", columns)
        plain = Terminal()
        plain.encoding = encoding
        monkeypatch.setattr(sys, "stdout", plain)
        browsers.show_address(url)
        assert url in plain.getvalue()
        assert "█" not in plain.getvalue()


def test_the_code_says_the_address() -> None:
    """Drawn light on dark, and one module to the half block."""
    lines = browsers.qr_code("x").splitlines()
    assert {len(line) for line in lines} == {21 + 2 * 2}
    assert len(lines) == (21 + 2 * 2 + 1) // 2
    assert set("".join(lines)) <= set(" ▀▄█")
    assert lines[1].startswith("██ ▄▄▄▄▄ "), "the mark in the corner, dark on light"
