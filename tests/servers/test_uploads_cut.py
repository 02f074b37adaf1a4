"""What is left when a body breaks off or is still on its way (protocol.md §6, §14)."""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.servers import Account, CutUpload, StandIn
from tests.servers.conftest import client_of

OLD = b"O" * 3_000_000


@pytest.fixture
def unbuffered() -> Iterator[StandIn]:
    with StandIn(buffered=False) as server:
        yield server
        assert server.failures == []


@contextmanager
def put_under_way(server: StandIn, path: str, sent: bytes, announced: int) -> Iterator[socket.socket]:
    """A PUT of which only a part has been sent."""
    credentials = base64.b64encode(f"alice:{server.account('alice').app_password()}".encode()).decode()
    head = f"PUT /remote.php/dav/files/alice/{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {announced}\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(f"{head}Authorization: Basic {credentials}\r\n\r\n".encode() + sent)
        yield connection


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def cut(server: StandIn, path: str) -> None:
    server.requests.reset()
    with put_under_way(server, path, b"N" * 1_000_000, len(OLD)):
        pass
    wait_until(lambda: len(server.requests) == 1 and server.requests[0].done)


def test_buffered_front_end_keeps_the_old_file(server: StandIn) -> None:
    server.account("alice").write("/f", OLD)
    cut(server, "f")
    assert server.account("alice").read("/f") == OLD


@pytest.mark.parametrize("buffered", [True, False])
def test_new_file_never_appears(buffered: bool) -> None:
    with StandIn(buffered=buffered) as server:
        cut(server, "f")
        assert server.account("alice").tree() == {}


def test_unbuffered_front_end_truncates_the_live_file(unbuffered: StandIn) -> None:
    account = unbuffered.account("alice")
    etag = account.write("/f", OLD, mtime=1_600_000_000)
    cut(unbuffered, "f")
    with client_of(unbuffered) as client:
        stale = client.request("PROPFIND", "f", headers={"Depth": "0"}).text
        assert etag in stale
        assert "<d:getcontentlength>3000000<" in stale
        # Whole blocks of 8 KiB were copied.
        reply = client.get("f")
        assert reply.content == b"N" * 999_424
        assert reply.headers["ETag"] != f'"{etag}"'
        assert "<d:getcontentlength>999424<" in client.request("PROPFIND", "f", headers={"Depth": "0"}).text
    assert account.node("/").size_bytes == 999_424


def test_cut_by_a_fault(unbuffered: StandIn) -> None:
    unbuffered.account("alice").write("/f", OLD)
    unbuffered.faults.add(CutUpload(500_000), method="PUT")
    with client_of(unbuffered) as client, pytest.raises(httpx.TransportError):
        client.put("f", content=b"N" * 3_000_000)
    wait_until(lambda: unbuffered.requests[0].done)
    assert unbuffered.account("alice").read("/f") == b"N" * (500_000 // 8192 * 8192)


def test_unbuffered_front_end_loses_chunked_bodies(unbuffered: StandIn) -> None:
    with client_of(unbuffered) as client:
        assert client.put("f", content=iter([b"x" * 300_000] * 4)).status_code == 201
    assert unbuffered.account("alice").read("/f") == b""


def test_a_new_put_after_a_broken_one_heals_the_file(unbuffered: StandIn) -> None:
    unbuffered.account("alice").write("/f", OLD)
    cut(unbuffered, "f")
    with client_of(unbuffered) as client:
        client.put("f", content=b"good").raise_for_status()
        assert client.get("f").content == b"good"
    assert unbuffered.account("alice").node("/").size_bytes == 4


class TestLocks:
    """The table of §14."""

    @pytest.fixture
    def account(self, unbuffered: StandIn) -> Account:
        account = unbuffered.account("alice")
        account.populate({"d/f": OLD, "d/sibling": b"1"})
        return account

    @pytest.fixture
    def client(self, unbuffered: StandIn) -> Iterator[httpx.Client]:
        with client_of(unbuffered) as client:
            yield client

    def statuses(self, server: StandIn, client: httpx.Client, path: str) -> dict[str, int]:
        def to(name: str) -> dict[str, str]:
            return {"Destination": server.dav_url("alice") + name}

        return {
            "PROPFIND": client.request("PROPFIND", path, headers={"Depth": "0"}).status_code,
            "HEAD": client.head(path).status_code,
            "PUT": client.put(path, content=b"x").status_code,
            "MOVE": client.request("MOVE", path, headers=to("moved")).status_code,
            "MOVE parent": client.request("MOVE", "d", headers=to("moved")).status_code,
            "DELETE": client.request("DELETE", path).status_code,
            "COPY": client.request("COPY", path, headers=to("copied")).status_code,
            "sibling": client.put("d/sibling", content=b"2").status_code,
        }

    def test_while_a_file_is_overwritten(
        self, unbuffered: StandIn, account: Account, client: httpx.Client
    ) -> None:
        with put_under_way(unbuffered, "d/f", b"N" * 100_000, len(OLD)) as connection:
            # Not by a GET until one is refused: the lock of one that comes before the PUT would have that refused.
            wait_until(lambda: account.is_written("/d/f"))
            assert client.get("d/f").status_code == 423
            assert self.statuses(unbuffered, client, "d/f") == {
                "PROPFIND": 207, "HEAD": 200, "PUT": 423, "MOVE": 500, "MOVE parent": 500, "DELETE": 423,
                "COPY": 423, "sibling": 204,
            }  # fmt: skip
            connection.sendall(b"N" * (len(OLD) - 100_000))
            assert connection.recv(100).startswith(b"HTTP/1.1 204")
        assert account.read("/d/f") == b"N" * len(OLD)

    def test_while_a_file_is_read(self, unbuffered: StandIn, account: Account, client: httpx.Client) -> None:
        account.write("/d/big", b"x" * 64_000_000)
        with client_of(unbuffered) as reader, reader.stream("GET", "d/big") as reply:
            pieces = reply.iter_raw(1000)
            next(pieces)
            statuses = self.statuses(unbuffered, client, "d/big")
        assert statuses == {
            "PROPFIND": 207, "HEAD": 200, "PUT": 423, "MOVE": 500, "MOVE parent": 500, "DELETE": 423,
            "COPY": 201, "sibling": 204,
        }  # fmt: skip
        wait_until(lambda: client.put("d/big", content=b"free").status_code == 204)

    def test_who_has_read_all_never_meets_its_own_lock(self, client: httpx.Client, account: Account) -> None:
        assert account.exists("/d/f")
        for _ in range(10):
            assert client.get("d/f").status_code == 200
            assert client.put("d/f", content=OLD).status_code == 204

    def test_one_creator_wins(self, server: StandIn) -> None:
        """One request creates; another that looked before and came after overwrites (204), as on Nextcloud 29."""
        results: list[int] = []
        with client_of(server) as client:

            def create() -> None:
                results.append(
                    client.put("f", content=b"x" * 100_000, headers={"If-None-Match": "*"}).status_code
                )

            threads = [threading.Thread(target=create) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert results.count(201) == 1
        assert set(results) <= {201, 204, 412, 423}
