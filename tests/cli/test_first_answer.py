"""A mount always works; but whoever makes it learns at once that nothing can be sent, and what to do."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import closing, redirect_stderr, redirect_stdout, suppress
from pathlib import Path

import msgspec
import pytest

from cloudfs import config
from cloudfs.cli import states
from cloudfs.cli.main import main
from cloudfs.config import Folders
from cloudfs.control.instance import find_holder
from cloudfs.control.records import FirstAnswer
from cloudfs.errors import ExitCode
from tests.cli.conftest import Run
from tests.fuse.test_operations import wait_for
from tests.servers import StandIn
from tests.servers.standin.faults import Answer

PASSWORD = "login-Pass-123"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where it is mounted; in the end nothing is. An answer is waited for as long as a slow machine takes."""
    monkeypatch.setattr(states, "_ANSWER_S", 60.0)
    place = tmp_path / "cloud"
    place.mkdir()
    yield place
    state = Folders.from_environment().state / "work"
    if holder := find_holder(state):
        os.kill(holder.pid, signal.SIGTERM)
        wait_for(lambda: find_holder(state) is None)


def log_in(run: Run, server: StandIn, *more: object) -> None:
    words = ("--user", "jo", "--password-stdin", "--account", "work", *more)
    assert run("login", server.url, *words, stdin=f"{PASSWORD}\n").code == ExitCode.OK


def mounted(run: Run, place: Path) -> tuple[str, str]:
    """Mount; return what is told of the server."""
    result = run("mount", "work", place, "--json")
    assert (result.code, result.err) == (ExitCode.OK, "")
    told = json.loads(result.out)
    assert told["pid"] > 0
    assert run("unmount", "work").code == ExitCode.OK
    return told["state"], told["reason"]


@pytest.mark.mount
def test_programs_are_told_the_state_with_the_mount(run: Run, place: Path) -> None:
    with StandIn({"jo": PASSWORD}) as server:
        log_in(run, server)
        assert mounted(run, place) == ("online", "")
        server.maintenance = True
        assert mounted(run, place)[0] == "maintenance"
        server.maintenance = False
        server.faults.add(
            Answer(200, b"<html>Log in to the network</html>", {"Content-Type": "text/html"}), times=None
        )
        state, reason = mounted(run, place)
        assert (state in {"online", "failing"}, bool(reason)) == (True, True)
    assert mounted(run, place) == ("offline", "the server refuses the connection")


@pytest.mark.mount
def test_a_person_learns_that_the_password_is_dead(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StandIn({"jo": PASSWORD}) as server:
        log_in(run, server)
        server.account("jo").revoke(config.read_secret(Folders.from_environment(), "work"))
        shown = at_a_terminal(monkeypatch, "mount", "work", place)
        assert f"Mounted work at {place}" in shown
        again = "log in again with `cloudfs login --account work`"
        assert again in shown
        assert len([it for it in server.requests if it.status == 401]) == 1, "nor is it tried twice"
        assert again in run("status").out


@pytest.mark.mount
def test_a_server_whose_certificate_is_not_trusted_any_more(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StandIn({"jo": PASSWORD}, tls=True) as server:
        assert server.certificate is not None
        log_in(run, server, "--ca-file", server.certificate.certificate)
        folders = Folders.from_environment()
        account = config.load_account(folders, "work")
        config.save_account(folders, "work", msgspec.structs.replace(account, ca_file=None))
        shown = at_a_terminal(monkeypatch, "mount", "work", place)
        assert "the certificate is not trusted" in shown
        assert "--ca-file FILE`" in shown
        status = json.loads(run("status", "--json").out)
        assert (status["state"], status["untrusted"]) == ("offline", True)


@pytest.mark.mount
def test_a_server_that_says_nothing_is_not_waited_for(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states, "_ANSWER_S", 0.1)
    with StandIn({"jo": PASSWORD}) as server:
        log_in(run, server)
    folders = Folders.from_environment()
    account = config.load_account(folders, "work")
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        base = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        moved = msgspec.structs.replace(
            account, url=account.url.replace(account.base_url, base), base_url=base
        )
        config.save_account(folders, "work", moved)
        assert mounted(run, place) == ("", "")


class Terminal(io.StringIO):
    """What a person looks at."""

    def isatty(self) -> bool:
        return True


def at_a_terminal(monkeypatch: pytest.MonkeyPatch, *words: object) -> str:
    """Run a command there, with exit code 0; return what was shown."""
    shown = Terminal()
    with monkeypatch.context() as patch, redirect_stdout(shown), redirect_stderr(shown):
        patch.setattr(sys, "argv", ["cloudfs", *map(str, words)])
        with suppress(SystemExit):
            main()
    return shown.getvalue()


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (FirstAnswer("online", "", untrusted=False, known=True), ""),
        (
            FirstAnswer("online", "", untrusted=False, known=False),
            "The server has not answered yet; `cloudfs status` tells how it stands.\n",
        ),
        (
            FirstAnswer("online", "a web page came", untrusted=False, known=True),
            "The server answers, but not as it should (a web page came); `cloudfs doctor work` tells more.\n",
        ),
        (
            FirstAnswer("needs-login", "it was revoked", untrusted=False, known=True),
            (
                "Needs-login (it was revoked): log in again with `cloudfs login --account work`;"
                " the mount then goes on by itself.\n"
            ),
        ),
    ],
)
def test_one_line_with_the_next_step(answer: FirstAnswer, line: str) -> None:
    assert states.warning(answer, "work") == line
