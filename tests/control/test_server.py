"""The control socket: what it answers, and that nothing a client sends does harm."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from cloudfs.control import server
from cloudfs.control.client import Client
from cloudfs.control.instance import Holder, find_holder, hold
from cloudfs.control.methods import Method
from cloudfs.control.protocol import (
    MAX_LINE_BYTES,
    Blocked,
    ConflictPair,
    Decide,
    Decided,
    LoggedIn,
    Progress,
    Resolution,
    Status,
    SyncOutcome,
    Unmounted,
)
from cloudfs.errors import ExitCode, UserError

STATUS = Status(
    version="1",
    pid=7,
    account="work",
    url="https://h/",
    user="jo",
    mount_point="/m",
    state="online",
    pending=1,
    in_flight=0,
    blocked=[Blocked("/a", "no", "do")],
    conflicts=0,
    cache_bytes=0,
    uptime_s=1.5,
)

PAIR = ConflictPair("/a.txt", "/a (conflicted copy 2026-01-31 235959).txt", 1.0, 2, 3, 4.0, 5.0)


class Pretender:
    def __init__(self) -> None:
        self.cancelled = trio.Event()
        self.waits: list[tuple[str, float | None]] = []
        self.decisions: list[Resolution] = []
        self.methods: dict[str, Method] = {}

    def status(self) -> Status:
        return STATUS

    async def sync_wait(self, path: str, timeout_s: float | None, report: server.Report) -> SyncOutcome:
        self.waits.append((path, timeout_s))
        await report(Progress(2, 1))
        if path == "/never":
            try:
                await trio.sleep_forever()
            finally:
                self.cancelled.set()
        if path == "/bug":
            raise ZeroDivisionError
        if path == "/much":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._tell_much, report)
        return SyncOutcome(0, [])

    async def _tell_much(self, report: server.Report) -> None:
        try:
            while True:
                await report(Progress(2, 1))
        finally:
            self.cancelled.set()

    async def unmount(self, *, lazy: bool) -> Unmounted:
        if not lazy:
            raise UserError("It is in use.", hint="End it.", code=ExitCode.MOUNT_POINT)
        return Unmounted(3)

    def conflicts(self) -> list[ConflictPair]:
        return [PAIR]

    async def resolve(self, path: str, decision: Resolution) -> None:
        if path == "/never":
            await trio.sleep_forever()
        if path != PAIR.path:
            raise UserError("It is in no conflict.", code=ExitCode.NOT_DONE)
        self.decisions.append(decision)

    async def log_in(self) -> LoggedIn:
        return LoggedIn("online")

    async def decide_deletions(self, wanted: Decide) -> Decided:
        return Decided(*((7, 0) if wanted.decision == "accept" else (5, 2)))


@asynccontextmanager
async def serving(folder: Path, handlers: Pretender) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, folder, "work.sock", handlers)
        yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def raw_client(folder: Path) -> AsyncIterator[trio.SocketStream]:
    async with await trio.open_unix_socket(folder / "work.sock") as stream:
        yield stream


async def ask(stream: trio.SocketStream, line: bytes) -> dict[str, Any]:
    await stream.send_all(line + b"\n")
    reply: dict[str, Any] = json.loads(await stream.receive_some())
    return reply


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    # Longer than a Unix address may be.
    path = tmp_path / ("x" * 120)
    path.mkdir(mode=0o700)
    return path


async def test_client_and_server_understand_each_other(folder: Path) -> None:
    handlers = Pretender()

    def talk() -> None:
        told: list[Progress] = []
        with Client(folder, "work.sock") as client:
            assert client.status() == STATUS
            assert client.sync_wait("/docs", 5, report=told.append) == SyncOutcome(0, [])
            assert told == [Progress(2, 1)]
            with pytest.raises(UserError, match="in use") as caught:
                client.unmount()
            assert (caught.value.code, caught.value.hint) == (ExitCode.MOUNT_POINT, "End it.")
            assert client.unmount(lazy=True) == Unmounted(3)
            assert client.conflicts() == [PAIR]
            client.resolve("/a.txt", "keep-mine")
            assert client.log_in() == LoggedIn("online")
            assert client.decide_deletions(Decide("server", "restore")) == Decided(5, 2)
            with pytest.raises(UserError, match="no conflict") as caught:
                client.resolve("/b.txt", "keep-both")
            assert caught.value.code == ExitCode.NOT_DONE

    async with serving(folder, handlers):
        await trio.to_thread.run_sync(talk)
    assert handlers.waits == [("/docs", 5)]
    assert handlers.decisions == ["keep-mine"]
    assert list(folder.iterdir()) == []


async def test_the_socket_is_private_and_replaces_an_orphan(folder: Path) -> None:
    orphan = socket.socket(socket.AF_UNIX)
    descriptor = os.open(folder, os.O_PATH)
    orphan.bind(f"/proc/self/fd/{descriptor}/work.sock")
    os.close(descriptor)
    orphan.close()
    before = os.umask(0)
    async with serving(folder, Pretender()):
        os.umask(before)
        assert stat.S_IMODE((folder / "work.sock").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"", "no request"),
        (b"GET / HTTP/1.1", "no request"),
        (b"\xff\xfe", "no request"),
        (b"[" * 20_000, "no request"),
        (b'{"v": 1}', "no request"),
        (b'{"v": 1, "id": "x", "method": "status"}', "no request"),
        (b'{"v": 2, "id": 5, "method": "status"}', "version 1"),
        (
            b'{"v": 1, "id": 5, "method": "status", "params": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
            "nested",
        ),
        (b'{"v": 1, "id": 5, "method": "format_disk"}', "knows no method 'format_disk'"),
        (b'{"v": 1, "id": 5, "method": "sync_wait", "params": {"path": 7}}', "parameters of sync_wait"),
        (b'{"v": 1, "id": 5, "method": "sync_wait", "params": {"timeout_s": -1}}', "parameters of sync_wait"),
        (b'{"v": 1, "id": 5, "method": "unmount", "params": {"force": true}}', "parameters of unmount"),
        (b'{"v": 1, "id": 5, "method": "unmount", "params": []}', "parameters of unmount"),
        (
            b'{"v": 1, "id": 5, "method": "resolve", "params": {"path": "/a", "decision": "burn"}}',
            "parameters of resolve",
        ),
    ],
)
async def test_hostile_lines_get_a_clear_error_and_the_conversation_goes_on(
    tmp_path: Path, line: bytes, said: str
) -> None:
    async with serving(tmp_path, Pretender()), raw_client(tmp_path) as client:
        reply = await ask(client, line)
        assert said in reply["error"]["message"]
        assert reply["error"]["code"] == ExitCode.USAGE
        good = await ask(client, b'{"v": 1, "id": 9, "method": "status", "extra": 1}')
        assert (good["id"], good["result"]["pid"]) == (9, 7)


async def test_an_endless_line_is_cut_off(tmp_path: Path) -> None:
    async with serving(tmp_path, Pretender()), raw_client(tmp_path) as client:
        await client.send_all(b"x" * (MAX_LINE_BYTES + 1))
        reply = json.loads(await client.receive_some())
        assert "bytes" in reply["error"]["message"]
        assert await client.receive_some() == b""


async def test_requests_may_arrive_in_pieces_and_in_bunches(tmp_path: Path) -> None:
    async with serving(tmp_path, Pretender()), raw_client(tmp_path) as client:
        for piece in (
            b'{"v": 1, "id"',
            b': 1, "method": "status"}\n{"v": 1, ',
            b'"id": 2, "method": "status"}\n',
        ):
            await client.send_all(piece)
            await trio.sleep(0.01)
        received = b""
        while received.count(b"\n") < 2:
            received += await client.receive_some()
        assert [json.loads(line)["id"] for line in received.splitlines()] == [1, 2]


async def test_what_nobody_waits_for_is_given_up(tmp_path: Path) -> None:
    handlers = Pretender()
    async with serving(tmp_path, handlers):
        async with raw_client(tmp_path) as client:
            await ask(client, b'{"v": 1, "id": 1, "method": "sync_wait", "params": {"path": "/never"}}')
        with trio.fail_after(5):
            await handlers.cancelled.wait()


async def test_what_was_given_up_before_it_was_read_is_not_begun(tmp_path: Path) -> None:
    """As after Ctrl-C in front of a daemon that was stopped: what it finds afterwards, nobody wants any more."""
    handlers = Pretender()
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, tmp_path, "work.sock", handlers)
        await trio.testing.wait_all_tasks_blocked()
        with socket.socket(socket.AF_UNIX) as client:  # the loop does not run meanwhile
            client.connect(str(tmp_path / "work.sock"))
            client.send(b'{"v": 1, "id": 1, "method": "sync_wait"}\n')
            client.send(b'{"v": 1, "id": 2, "method": "sync_wait"}\n')
        async with raw_client(tmp_path) as later:
            assert (await ask(later, b'{"v": 1, "id": 3, "method": "conflicts"}'))["id"] == 3
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert handlers.waits == []
        nursery.cancel_scope.cancel()


async def test_who_says_nothing_more_is_answered_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `printf … | socat - UNIX:…` does, whose input has ended."""
    monkeypatch.setattr(server, "_LOOK_S", 0.01)
    handlers = Pretender()
    async with serving(tmp_path, handlers), raw_client(tmp_path) as stream:
        await stream.send_all(b'{"v": 1, "id": 1, "method": "sync_wait", "params": {"path": "/never"}}\n')
        await stream.send_eof()
        assert json.loads(await stream.receive_some())["progress"]
        await trio.sleep(0.1)
        assert not handlers.cancelled.is_set()
        await stream.aclose()
        with trio.fail_after(5):
            await handlers.cancelled.wait()


@pytest.mark.expect_log("failed unexpectedly")
async def test_a_bug_is_an_error_for_one_client_only(tmp_path: Path) -> None:
    def talk() -> None:
        with Client(tmp_path, "work.sock") as client:
            with pytest.raises(UserError, match="The daemon failed"):
                client.sync_wait("/bug")
            assert client.status() == STATUS

    async with serving(tmp_path, Pretender()):
        await trio.to_thread.run_sync(talk)


async def test_many_clients_at_once(tmp_path: Path) -> None:
    def talk() -> None:
        with Client(tmp_path, "work.sock") as client:
            assert client.status() == STATUS

    async with serving(tmp_path, Pretender()), trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(trio.to_thread.run_sync, talk)


async def test_silent_clients_are_sent_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "IDLE_S", 0.05)
    async with serving(tmp_path, Pretender()), raw_client(tmp_path) as client:
        with trio.fail_after(5):
            assert await client.receive_some() == b""


async def test_who_never_reads_is_sent_away_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SEND_S", 0.05)
    handlers = Pretender()
    async with serving(tmp_path, handlers), raw_client(tmp_path) as stream:
        await stream.send_all(b'{"v": 1, "id": 1, "method": "sync_wait", "params": {"path": "/much"}}\n')
        with trio.fail_after(30):
            await handlers.cancelled.wait()
            await trio.testing.wait_all_tasks_blocked()


async def test_who_asks_nothing_keeps_nobody_from_asking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(server, "MAX_CLIENTS", 2)
    monkeypatch.setattr(server, "MOST_WAITING", 3)
    async with serving(tmp_path, Pretender()), raw_client(tmp_path) as one, raw_client(tmp_path) as other:
        assert (await ask(one, b'{"v": 1, "id": 1, "method": "conflicts"}'))["id"] == 1
        began = trio.current_time()
        async with raw_client(tmp_path) as client:
            assert (await ask(client, b'{"v": 1, "id": 3, "method": "conflicts"}'))["id"] == 3
        assert trio.current_time() - began < server.IDLE_S / 2
        assert await one.receive_some() == await other.receive_some() == b""


async def test_more_than_can_wait_are_sent_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each holds a descriptor, of which the daemon needs some for files."""
    monkeypatch.setattr(server, "MAX_CLIENTS", 1)
    monkeypatch.setattr(server, "MOST_WAITING", 1)
    monkeypatch.setattr(server, "HURRY_S", server.IDLE_S)  # the place stays taken, however slow this is
    async with serving(tmp_path, Pretender()), raw_client(tmp_path) as one:
        await ask(one, b'{"v": 1, "id": 1, "method": "conflicts"}')
        async with raw_client(tmp_path), raw_client(tmp_path) as third:
            with trio.fail_after(5):
                assert await third.receive_some() == b""


async def test_who_follows_keeps_nobody_from_being_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_CLIENTS", 1)
    monkeypatch.setattr(server, "MOST_FOLLOWERS", 2)
    never = b'{"v": 1, "id": 1, "method": "sync_wait", "params": {"path": "/never"}}'
    handlers = Pretender()
    async with serving(tmp_path, handlers), raw_client(tmp_path) as one:
        assert "progress" in await ask(one, never)
        async with raw_client(tmp_path) as other:
            assert "progress" in await ask(other, never)
            async with raw_client(tmp_path) as third:
                error = (await ask(third, never))["error"]
                assert (error["code"], error["message"]) == (
                    ExitCode.NOT_DONE,
                    "2 programs follow this account, or wait for it, already.",
                )
                assert (await ask(third, b'{"v": 1, "id": 2, "method": "conflicts"}'))["id"] == 2
        await handlers.cancelled.wait()
        async with raw_client(tmp_path) as third:
            assert "progress" in await ask(third, never)


@pytest.mark.expect_log("refused a control client of the user")
async def test_other_users_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_peer_uid", lambda _: os.geteuid() + 1)
    async with serving(tmp_path, Pretender()), raw_client(tmp_path) as client:
        assert await client.receive_some() == b""


def test_a_missing_daemon_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be asked") as caught:
        Client(tmp_path, "work.sock")
    assert caught.value.code is ExitCode.NOT_MOUNTED


# --- one daemon per account


def test_an_account_is_held_once(tmp_path: Path) -> None:
    holder = Holder(os.getpid(), "/m", "/run")
    assert find_holder(tmp_path) is None
    with hold(tmp_path, "work") as held:
        with pytest.raises(UserError, match="already mounted by another process"), hold(tmp_path, "work"):
            pass
        held.note(Holder(1, "/a very long mount point" * 10, "/run"))
        held.note(holder)
        assert find_holder(tmp_path) == holder
        with (
            pytest.raises(UserError, match=f"at /m by the process {os.getpid()}") as caught,
            hold(tmp_path, "work"),
        ):
            pass
        assert caught.value.code is ExitCode.ALREADY_MOUNTED
    assert find_holder(tmp_path) is None
    with hold(tmp_path, "work"):
        assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600
