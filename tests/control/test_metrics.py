"""Figures for Prometheus: what they are, in a file and on a port."""

from __future__ import annotations

import contextlib
import re
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families
from trio.testing import MockClock

from cloudfs import publishing
from cloudfs.control.pinning import KeptState
from cloudfs.control.protocol import Blocked, HeldDeletions, Status
from cloudfs.control.records import Limits, Space
from cloudfs.daemon.metrics import exposition
from cloudfs.publishing import publish
from cloudfs.remote.limiting import Traffic

Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]


def figures_of(shown: str) -> Figures:
    """Read it by Prometheus's own library; the account's label is in each and left out."""
    found: Figures = {}
    for family in text_string_to_metric_families(shown):
        assert family.name.startswith("cloudfs_")
        assert family.documentation
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("account") == "work"
            found[sample.name, frozenset(labels.items())] = sample.value
    return found


def figure(found: Figures, name: str, **labels: str) -> float:
    return found[f"cloudfs_{name}", frozenset(labels.items())]


STATUS = Status(
    version="1.2",
    pid=1,
    account="work",
    url="https://h/",
    user="jo",
    mount_point="/m",
    state="offline",
    pending=3,
    in_flight=1,
    blocked=[Blocked("/a", "why", "what")],
    conflicts=2,
    cache_bytes=1000,
    uptime_s=5.5,
    requests={"read": 7},
    pending_bytes=300,
    deletions=[HeldDeletions("server", 500, [], 0.0)],
    paused_since=1.0,
    space=Space(free=10, used=20),
    used_bytes=20,
    cache_limit_bytes=5000,
    server="Nextcloud 29",
    kept=KeptState(files=9, bytes=90, missing_files=4, missing_bytes=40, cannot_files=1),
    limits=Limits(up=2e6, metered=True),
    cache_hits=11,
    cache_misses=12,
)


def test_what_is_told() -> None:
    traffic = Traffic()
    traffic.sent_bytes, traffic.received_bytes = 1000, 2000
    for outcome, seconds in (("207", 0.2), ("207", 0.02), ("unreachable", 12.0)):
        traffic.tally.note("PROPFIND", outcome, seconds)
    found = figures_of(exposition(STATUS, traffic))
    assert figure(found, "info", version="1.2", server="Nextcloud 29") == 1
    assert figure(found, "connection_state", state="offline") == 1
    assert sum(value for (name, _), value in found.items() if name == "cloudfs_connection_state") == 1
    locked = figures_of(exposition(msgspec.structs.replace(STATUS, state="waiting for the keyring"), traffic))
    assert figure(locked, "connection_state", state="waiting for the keyring") == 1
    assert (figure(found, "paused"), figure(found, "metered")) == (1, 1)
    assert figure(found, "limit_bytes_per_second", direction="up") == 2e6
    assert ("cloudfs_limit_bytes_per_second", frozenset({("direction", "down")})) not in found
    assert [figure(found, f"{name}_files") for name in ("pending", "in_flight", "blocked")] == [3, 1, 1]
    assert (figure(found, "pending_bytes"), figure(found, "conflicts")) == (300, 2)
    assert figure(found, "held_deletions", side="server") == 500
    assert (figure(found, "sent_bytes_total"), figure(found, "received_bytes_total")) == (1000, 2000)
    assert figure(found, "requests_total", method="PROPFIND", outcome="207") == 2
    assert figure(found, "requests_total", method="PROPFIND", outcome="unreachable") == 1
    assert figure(found, "request_seconds_bucket", method="PROPFIND", le="0.25") == 2
    assert figure(found, "request_seconds_count", method="PROPFIND") == 3
    assert [
        figure(found, f"cache_{name}") for name in ("bytes", "limit_bytes", "hits_total", "misses_total")
    ] == [
        1000,
        5000,
        11,
        12,
    ]
    kept = ("files", "bytes", "missing_files", "missing_bytes", "failing_files")
    assert [figure(found, f"kept_{name}") for name in kept] == [9, 90, 4, 40, 1]
    assert (figure(found, "quota_used_bytes"), figure(found, "quota_free_bytes")) == (20, 10)
    assert figure(found, "kernel_requests_total", operation="read") == 7


def test_no_path_and_no_address_is_told() -> None:
    shown = exposition(STATUS, Traffic())
    for secret in ("/m", "https://h/", "jo", "/a"):
        assert f'"{secret}' not in shown


# --- in a file


async def until(true: Callable[[], bool]) -> None:
    with trio.fail_after(30):
        while not true():
            await trio.sleep(0.01)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have it written often: the writing is a thread's matter, so no virtual time helps."""
    monkeypatch.setattr(publishing, "_EVERY_S", 0.05)
    monkeypatch.setattr(publishing, "_AGAIN_S", 0.1)


@pytest.mark.usefixtures("often")
async def test_the_file_is_replaced_and_removed_at_the_end(tmp_path: Path) -> None:
    path, told = tmp_path / "cloudfs.prom", 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish, path, lambda: f"a {told}\n")
        await until(path.exists)
        # By another user, that of node_exporter.
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        with path.open() as reader:
            told = 2
            await until(lambda: path.read_text() == "a 2\n")
            assert reader.read() == "a 1\n"  # another file, never a changed one
        nursery.cancel_scope.cancel()
    assert not path.exists()


@pytest.mark.usefixtures("often")
@pytest.mark.expect_log("cannot be written")
async def test_a_file_that_cannot_be_written_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "later"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish, folder / "a.prom", lambda: "a 1\n")
        await until(lambda: "cannot be written" in caplog.text)
        folder.mkdir()
        await until((folder / "a.prom").exists)
        nursery.cancel_scope.cancel()


async def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    link = tmp_path / "a.prom"
    link.symlink_to(tmp_path / "precious")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish, link, lambda: "a 1\n")
        await until(lambda: link.read_text() == "a 1\n")
        nursery.cancel_scope.cancel()
    assert (tmp_path / "precious").read_text() == "precious"


# --- on a port


async def free_port() -> int:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        return int(listener.socket.getsockname()[1])


@asynccontextmanager
async def serving() -> AsyncIterator[int]:
    port = await free_port()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish, port, lambda: "a 1\n")
        with trio.fail_after(30):
            while True:
                try:
                    await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
                    break
                except OSError:
                    await trio.sleep(0.01)
        yield port
        nursery.cancel_scope.cancel()


async def ask(port: int, request: bytes) -> bytes:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(request)
        reply = b""
        with trio.fail_after(30):
            async for data in stream:
                reply += data
        return reply


async def test_it_is_answered_as_prometheus_asks() -> None:
    async with serving() as port, httpx.AsyncClient(trust_env=False) as client:
        for host in ("127.0.0.1", "localhost"):
            reply = await client.get(f"http://{host}:{port}/metrics")
            assert (reply.status_code, reply.text) == (200, "a 1\n")
            assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert (await client.head(f"http://127.0.0.1:{port}/")).status_code == 200
        assert (await client.get(f"http://127.0.0.1:{port}/other")).status_code == 404
        assert (await client.post(f"http://127.0.0.1:{port}/metrics")).status_code == 405


async def test_a_page_in_a_browser_gets_nothing() -> None:
    """A name of its own may lead here: the figures are this machine's affair."""
    async with serving() as port:
        for host in (b"evil.example", b"evil.example:%d" % port, b""):
            assert b"403" in await ask(port, b"GET /metrics HTTP/1.1\r\nHost: %s\r\n\r\n" % host)


@pytest.mark.parametrize(
    "request_", [b"\r\n\r\n", b"GET\r\n\r\n", b"\xff\xfe" * 8192, b"GET / SPDY/1\r\n\r\n"]
)
async def test_nonsense_is_answered_and_ended(request_: bytes) -> None:
    async with serving() as port:
        assert (await ask(port, request_)).startswith(b"HTTP/1.1 400")


async def test_those_who_say_nothing_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "_CLIENT_S", 0.2)
    async with serving() as port, contextlib.AsyncExitStack() as silent:
        for _ in range(20):
            await silent.enter_async_context(await trio.open_tcp_stream("127.0.0.1", port))
        reply = b""
        with trio.fail_after(30):
            while not reply.startswith(b"HTTP/1.1 200"):
                with contextlib.suppress(trio.BrokenResourceError):  # it waited too long behind the others
                    reply = await ask(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")


@pytest.mark.expect_log("cannot be had")
async def test_a_port_that_is_taken_is_tried_again(autojump_clock: MockClock) -> None:
    del autojump_clock
    (taken,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = int(taken.socket.getsockname()[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish, port, lambda: "a 1\n")
        await trio.testing.wait_all_tasks_blocked()
        await taken.aclose()
        await trio.sleep(61)
        assert b"a 1" in await ask(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        nursery.cancel_scope.cancel()


def test_every_figure_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs/CONFIG.md").read_text()
    text = text[text.index("## Figures for Prometheus") : text.index("## `[bandwidth]`")]
    traffic = Traffic()
    traffic.tally.note("GET", "200", 1.0)
    shown = exposition(STATUS, traffic)
    names = {
        line.split()[2].removeprefix("cloudfs_") for line in shown.splitlines() if line.startswith("# TYPE")
    }
    assert names <= set(re.findall(r"`(\w+)`", text))
