"""Starting, stopping, big bodies, TLS, and the stand-in as a program."""

from __future__ import annotations

import json
import resource
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.servers import PlainServer, RcloneServer, StandIn, WsgidavServer
from tests.servers.conftest import client_of
from tests.servers.plain import ApacheServer

MIB = 1024 * 1024
REPOSITORY = Path(__file__).parents[2]


def test_start_and_stop_are_quick_and_leave_no_thread() -> None:
    threads = set(threading.enumerate())
    begin = time.monotonic()
    server = StandIn().start()
    started = time.monotonic()
    with client_of(server) as client:
        client.put("f", content=b"1").raise_for_status()
        server.close()
    assert started - begin < 1.0
    assert set(threading.enumerate()) == threads


def test_state_survives_a_restart_on_the_same_port() -> None:
    with StandIn() as server:
        url = server.url
        with client_of(server) as client:
            client.put("f", content=b"1").raise_for_status()
            server.stop()
            with pytest.raises(httpx.ConnectError):
                httpx.get(url)
            server.start()
            assert server.url == url
            assert client.get("f").content == b"1"


def test_stop_cuts_off_what_is_under_way(server: StandIn) -> None:
    server.account("alice").write("/f", b"x" * 64_000_000)
    with client_of(server) as client, client.stream("GET", "f") as reply:
        pieces = reply.iter_raw(1000)
        next(pieces)
        begin = time.monotonic()
        server.stop()
        assert time.monotonic() - begin < 3
        with pytest.raises(httpx.TransportError):
            list(pieces)


@pytest.mark.parametrize("buffered", [True, False])
def test_big_bodies_take_little_memory(buffered: bool) -> None:
    size_mib = 256
    block = bytes(range(256)) * (MIB // 256)

    def blocks() -> Iterator[bytes]:
        for _ in range(size_mib):
            yield block

    headers = {"Content-Length": str(size_mib * MIB)}
    with StandIn(buffered=buffered) as server, client_of(server) as client:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert client.put("big", content=blocks(), headers=headers).status_code == 201
        received = 0
        with client.stream("GET", "big") as reply:
            for piece in reply.iter_raw(MIB):
                received += len(piece)
        grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        assert received == size_mib * MIB
        assert server.account("alice").read("/big")[-MIB:] == block
    assert grown_mib < 100


def test_contents_are_removed_from_disk(server: StandIn) -> None:
    blobs = server.site.folder / "blobs"
    account = server.account("alice")
    account.write("/f", b"x" * MIB)
    account.copy("/f", "/g")
    assert len(list(blobs.iterdir())) == 1
    account.delete("/f")
    assert account.read("/g") == b"x" * MIB
    account.write("/g", b"small")
    assert len(list(blobs.iterdir())) == 1  # an old version of it
    account.delete("/g")
    assert len(list(blobs.iterdir())) == 1  # in the trash
    account.empty_trash()
    assert list(blobs.iterdir()) == []


def test_clock_is_the_tests(tmp_path: Path) -> None:
    assert tmp_path.exists()
    clock = [1_600_000_000.0]
    with StandIn(now=lambda: clock[0]) as server:
        account = server.account("alice")
        first = account.write("/f", b"1")
        assert account.node("/f").mtime == 1_600_000_000
        assert account.write("/f", b"22") == first
        clock[0] += 1
        assert account.write("/f", b"33") != first


def test_tls() -> None:
    with StandIn(tls=True) as server:
        assert server.certificate is not None
        context = ssl.create_default_context(cafile=str(server.certificate.certificate))
        auth = ("alice", server.account("alice").app_password())
        with httpx.Client(base_url=server.dav_url("alice"), auth=auth, verify=context) as client:
            assert client.base_url.scheme == "https"
            assert client.put("f", content=b"x" * MIB).status_code == 201
            assert client.get("f").content == b"x" * MIB
        with pytest.raises(httpx.ConnectError):
            httpx.get(server.url)


def test_as_a_program(tmp_path: Path) -> None:
    tree, password = tmp_path / "tree", tmp_path / "password"
    (tree / "docs").mkdir(parents=True)
    (tree / "docs" / "a.txt").write_text("hello")
    password.write_text("secret-Pass-1\n")
    command = [sys.executable, "-m", "tests.servers.standin", "--user", "demo"]
    command += ["--password-file", str(password), "--tree", str(tree)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        described = json.loads(process.stdout.readline())
        assert described["user"] == "demo"
        url = f"{described['url']}/remote.php/dav/files/demo/docs/a.txt"
        assert httpx.get(url, auth=("demo", "secret-Pass-1")).text == "hello"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(WsgidavServer, marks=pytest.mark.server("wsgidav")),
        pytest.param(RcloneServer, marks=pytest.mark.server("rclone")),
        pytest.param(ApacheServer, marks=pytest.mark.server("apache")),
    ],
)
def test_plain_servers_share_an_interface(make: type[PlainServer]) -> None:
    with make() as server:
        server.write("/d/f", b"disk", mtime=1_600_000_000)
        with httpx.Client(base_url=server.url, auth=(server.user, server.password)) as client:
            assert client.get("d/f").content == b"disk"
            client.put("d/f", content=b"http").raise_for_status()
            client.request("MKCOL", "d/e").raise_for_status()
            server.delete("/d/e")
            assert client.get("d/e").status_code == 404
        assert httpx.get(server.url).status_code == 401
        assert server.read("/d/f") == b"http"
        assert server.tree() == {"d": None, "d/f": b"http"}
        url = server.url
        server.stop()
        with pytest.raises(httpx.TransportError):
            httpx.get(url)
        server.start()
        assert server.url == url
        assert httpx.get(server.url).status_code == 401
