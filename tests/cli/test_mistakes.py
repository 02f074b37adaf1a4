"""Every command with a wrong account or path, and with a daemon that is away, hangs, or is another: one sentence."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from cloudfs.cli import common, output
from cloudfs.config import Folders
from cloudfs.control import client
from cloudfs.control.instance import Holder, hold
from cloudfs.daemon import process
from cloudfs.errors import ExitCode
from tests.cli.conftest import UNUSED, Result, Run, add_account

ASKING = [
    ("status",),
    ("status", "--watch"),
    ("pause",),
    ("resume",),
    ("sync", "--wait"),
    ("conflicts",),
    ("deletions", "accept"),
    ("cache", "info"),
    ("cache", "clear"),
    ("cache", "verify"),
    ("unmount",),
]
"""Commands that need a daemon, and no path."""
WITH_PATH = [("ls",), ("info",), ("conflicts", "keep-mine"), ("sync", "--wait")]
TAKE_ACCOUNT = [
    *(words for words in ASKING if words != ("sync", "--wait")),
    ("log",),
    ("doctor", "--offline"),
    ("logout",),
    ("service", "status"),
]


def is_one_sentence(result: Result) -> bool:
    return bool(result.said) and result.said[0].endswith(".") and "Traceback" not in result.err


@pytest.mark.parametrize("words", [*ASKING, ("log",), ("logout",), ("service", "install")], ids=" ".join)
def test_without_an_account(run: Run, words: tuple[str, ...]) -> None:
    result = run(*words)
    assert (result.code, result.said[0]) == (ExitCode.NO_ACCOUNT, "There is no account yet.")


@pytest.mark.parametrize("words", TAKE_ACCOUNT, ids=" ".join)
def test_a_wrong_account(run: Run, folders: Folders, words: tuple[str, ...]) -> None:
    add_account(folders)
    result = run(*words, "wrok")
    assert (result.code, result.said[0]) == (ExitCode.NO_ACCOUNT, "There is no account wrok.")


@pytest.mark.parametrize("words", ASKING, ids=" ".join)
def test_nothing_is_mounted(run: Run, folders: Folders, words: tuple[str, ...]) -> None:
    add_account(folders, UNUSED)
    result = run(*words)
    assert (result.code, result.said[0]) == (ExitCode.NOT_MOUNTED, f"The account {UNUSED} is not mounted.")


@pytest.mark.parametrize("words", WITH_PATH, ids=" ".join)
@pytest.mark.parametrize("path", ["outside", "absent/file", "\n", "x" * 5000])
def test_a_wrong_path(run: Run, folders: Folders, tmp_path: Path, words: tuple[str, ...], path: str) -> None:
    add_account(folders)
    (tmp_path / "outside").mkdir()
    result = run(*words, tmp_path / path)
    assert result.code in {ExitCode.NOT_MOUNTED, ExitCode.USAGE}
    assert "is in no mounted account." in result.err or is_one_sentence(result)
    assert "unexpected" not in result.err


@pytest.mark.parametrize("words", [*WITH_PATH, ("pin",), ("free",), ("pause",)], ids=" ".join)
def test_no_path_is_not_the_current_folder(run: Run, folders: Folders, words: tuple[str, ...]) -> None:
    """As a script has it whose variable is empty."""
    add_account(folders)
    result = run(*words, "")
    assert (result.code, result.said[0]) == (ExitCode.USAGE, "The path is empty text.")


@pytest.mark.parametrize("others", [(), ("home",)])
def test_a_mount_without_a_folder(
    run: Run, folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: tuple[str, ...]
) -> None:
    """Not "make the folder ./work", which would only lead on."""
    monkeypatch.chdir(tmp_path)
    for name in ("work", *others):
        add_account(folders, name)
    result = run("mount", "work")
    assert (result.code, result.said[1]) == (
        ExitCode.USAGE,
        "Name an empty folder, too: `cloudfs mount work ~/Cloud`.",
    )


@contextmanager
def daemon_that(folders: Folders, answer: Callable[[socket.socket], None]) -> Iterator[None]:
    """Have the account held by this process, and its clients answered in that way."""
    add_account(folders)
    stop = threading.Event()
    with (
        hold(folders.account_state("work"), "work") as held,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        held.note(Holder(os.getpid(), "/m", str(folders.runtime)))
        listener.bind(str(folders.runtime / "work.sock"))
        listener.listen()
        listener.settimeout(0.05)

        def serve() -> None:
            while not stop.is_set():
                try:
                    peer, _ = listener.accept()
                except TimeoutError:
                    continue
                with peer:
                    peer.settimeout(5)
                    answer(peer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def says(text: bytes) -> Callable[[socket.socket], None]:
    def answer(peer: socket.socket) -> None:
        if peer.recv(100_000):
            peer.sendall(text)

    return answer


@pytest.mark.parametrize("words", ASKING, ids=" ".join)
def test_a_daemon_that_hangs(
    run: Run, folders: Folders, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(client, "PATIENCE_S", 0.2)

    def hang(peer: socket.socket) -> None:
        while peer.recv(100_000):
            pass

    with daemon_that(folders, hang):
        result = run(*words)
    assert result.code == ExitCode.NOT_MOUNTED
    assert result.said[0] == "The daemon of this account cannot be asked: it does not answer."
    assert len(result.said) == 2


def test_at_a_terminal_it_is_said_that_it_is_waited_for(
    run: Run, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PATIENCE_S", 0.2)
    monkeypatch.setattr(client, "MOMENT_S", 0.05)
    monkeypatch.setattr(output, "is_screen", lambda _: True)

    def hang(peer: socket.socket) -> None:
        while peer.recv(100_000):
            pass

    with daemon_that(folders, hang):
        result = run("pause")
    assert result.err.startswith("\r\033[Kwaiting for the daemon of work …\r\033[K")
    assert result.err.splitlines()[-2].endswith("it does not answer.")


OLDER = json.dumps({"v": 1, "id": 1, "error": {"code": 2, "message": "The daemon knows no method 'x'."}})


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b'{"v": 2, "id": 1, "outcome": {}}\n', "The daemon speaks version 2 of the protocol, not 1."),
        (OLDER.encode() + b"\n", "The daemon knows no method 'x'."),
        (b"HTTP/1.1 400 Bad Request\r\n", "The daemon of this account cannot be asked: its answer is not"),
        (
            b'{"v": 1, "id": 1, "result": 5}\n',
            "The daemon of this account cannot be asked: its answer is not",
        ),
        (b'{"v": 1, "id": 9, "result": {}}\n', "The daemon of this account cannot be asked: it answered"),
        (b'{"v": 1, "id": 1, "res', "The daemon of this account cannot be asked: it ended."),
        (b"", "The daemon of this account cannot be asked: it ended."),
    ],
)
@pytest.mark.parametrize(
    "words", [("status",), ("pause",), ("cache", "verify"), ("conflicts",)], ids=" ".join
)
def test_a_daemon_that_is_another(
    run: Run, folders: Folders, words: tuple[str, ...], answer: bytes, sentence: str
) -> None:
    with daemon_that(folders, says(answer)):
        result = run(*words)
    assert result.code in {ExitCode.NOT_MOUNTED, ExitCode.USAGE}
    assert result.said[0].startswith(sentence)
    assert is_one_sentence(result)


@pytest.mark.mount
@pytest.mark.parametrize("words", [*WITH_PATH, ("pause",), ("unmount",)], ids=" ".join)
def test_a_path_in_a_mount_that_hangs(
    run: Run,
    mounted: Callable[..., int],
    mount_point: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
) -> None:
    """What is in such a mount must not even be looked at: the kernel would wait with us."""
    monkeypatch.setattr(client, "PATIENCE_S", 0.2)
    pid = mounted()
    os.kill(pid, signal.SIGSTOP)
    # Who does look waits in the kernel, where nothing reaches it: then this ends it.
    rescue = threading.Timer(20, os.kill, (pid, signal.SIGCONT))
    rescue.start()
    try:
        result = run(*words, mount_point if words == ("unmount",) else mount_point / "hello.txt")
    finally:
        rescue.cancel()
        os.kill(pid, signal.SIGCONT)
    assert result.code == ExitCode.NOT_MOUNTED
    assert result.said[0] == "The daemon of this account cannot be asked: it does not answer."


@pytest.mark.mount
def test_whatever_leads_into_a_mount_that_hangs(
    run: Run,
    mounted: Callable[..., int],
    mount_point: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also through a link, from within, and as the place for another mount."""
    monkeypatch.setattr(client, "PATIENCE_S", 0.2)
    (tmp_path / "way").symlink_to(tmp_path)
    (tmp_path / "place").symlink_to(mount_point)
    pid = mounted()
    monkeypatch.chdir(mount_point)
    os.kill(pid, signal.SIGSTOP)
    rescue = threading.Timer(20, os.kill, (pid, signal.SIGCONT))
    rescue.start()
    told = "The daemon of this account cannot be asked: it does not answer."
    try:
        for words in (
            ("info", tmp_path / "way" / "cloud" / "hello.txt"),
            ("ls", tmp_path / "place"),
            ("pause", tmp_path / "place" / "hello.txt"),
            ("pause", "hello.txt"),
            ("unmount", tmp_path / "place"),
            ("unmount", mount_point / "folder" / "inside"),
            ("mount", mount_point / "folder"),
            ("mount", "folder"),
            ("mount", tmp_path / "way" / "cloud" / "folder"),
        ):
            result = run(*words)
            assert (result.code, result.said[0]) == (ExitCode.NOT_MOUNTED, told), words
            assert f"process {pid}" in result.said[1]
        result = run("mount", tmp_path / "place")
        assert result.code == ExitCode.ALREADY_MOUNTED, result.err
    finally:
        rescue.cancel()
        os.kill(pid, signal.SIGCONT)


def test_a_file_of_ours_that_is_none(run: Run, folders: Folders, mount_point: Path) -> None:
    """As one that belongs to root since a `sudo cloudfs mount`, or lies on a disk that takes nothing."""
    add_account(folders)
    for words, name in ((("mount", mount_point), "daemon.log"), (("logout",), "lock")):
        place = folders.state / "work" / name
        place.mkdir()
        result = run(*words)
        assert result.code == ExitCode.NOT_DONE
        assert result.said[0] == f"{place} cannot be used: Is a directory."
        place.rmdir()


@pytest.mark.expect_log("the daemon ended")
def test_what_ends_the_daemon_is_a_sentence(caplog: pytest.LogCaptureFixture) -> None:
    told = process._explain(PermissionError(errno.EACCES, "Permission denied", "/s/state.sqlite"))
    assert (told.code, told.message) == (
        ExitCode.NOT_DONE,
        "/s/state.sqlite cannot be used: Permission denied.",
    )
    assert "Traceback" not in caplog.text


def test_one_that_is_only_beginning_is_waited_for(run: Run, folders: Folders) -> None:
    """It holds the account already, and what it left the last time, killed, is no socket of its."""
    with socket.socket(socket.AF_UNIX) as former:
        former.bind(str(folders.runtime / "work.sock"))
    add_account(folders)
    with hold(folders.account_state("work"), "work") as held:
        held.note(Holder(os.getpid(), "/m", str(folders.runtime)))
        listening = threading.Timer(0.2, lambda: serve_once(folders, b'{"v": 1, "id": 1, "result": []}\n'))
        listening.start()
        result = run("conflicts", "--json")
        listening.join()
    assert (result.code, result.out) == (ExitCode.OK, "[]\n")


def serve_once(folders: Folders, answer: bytes) -> None:
    path = folders.runtime / "work.sock"
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        peer, _ = listener.accept()
        with peer:
            says(answer)(peer)


def test_one_that_is_just_ending_is_not_mounted(run: Run, folders: Folders) -> None:
    add_account(folders, UNUSED)
    with ExitStack() as ending:
        held = ending.enter_context(hold(folders.account_state(UNUSED), UNUSED))
        held.note(Holder(os.getpid(), "/m", str(folders.runtime)))
        timer = threading.Timer(0.2, ending.close)
        timer.start()
        result = run("unmount", UNUSED)
        timer.join()
    assert (result.code, result.said[0]) == (ExitCode.NOT_MOUNTED, f"The account {UNUSED} is not mounted.")


def test_a_socket_that_nobody_serves(run: Run, folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "_SETTLE_S", 0.1)
    add_account(folders)
    with hold(folders.account_state("work"), "work") as held:
        held.note(Holder(os.getpid(), "/m", str(folders.runtime)))
        result = run("status")
        assert result.code == ExitCode.NOT_MOUNTED
        told = f"The account work is just being mounted or unmounted, by the process {os.getpid()}."
        assert result.said[0] == told


@pytest.mark.parametrize("words", [("status",), ("unmount", "work")], ids=" ".join)
def test_a_mounted_one_whose_socket_is_gone_is_not_waited_for(
    run: Run, folders: Folders, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """Something has cleared the runtime folder: no socket comes by itself. It serves its mount all the same."""
    monkeypatch.setattr(common, "_SETTLE_S", 600.0)  # as good as for ever: nothing is to wait for it
    add_account(folders)
    with hold(folders.account_state("work"), "work") as held:
        held.note(Holder(os.getpid(), "/proc", str(folders.runtime), connection="7"))
        result = run(*words)
    assert result.code == ExitCode.NOT_MOUNTED
    assert result.said == [
        f"The account work is mounted at /proc, but its control socket in {folders.runtime} is gone.",
        "`fusermount3 -u /proc` ends it, and nothing is lost; then mount it again.",
    ]
