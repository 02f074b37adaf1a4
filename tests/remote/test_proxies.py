"""Servers behind a proxy: everything goes through it, under the environment's own rules, and nothing past it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import sha1
from pathlib import Path

import pytest
import trio

from cloudfs.errors import RemoteError, Unreachable, UserError
from cloudfs.remote.connect import discover
from cloudfs.remote.files import WebdavRemote
from cloudfs.remote.protocol import Condition
from cloudfs.remote.proxies import Proxy as Named
from cloudfs.remote.proxies import proxy_for
from cloudfs.remote.tls import make_context
from cloudfs.types import RemotePath
from tests.functional.stages import MountStage, wait_until
from tests.remote.conftest import body_of
from tests.servers import StandIn
from tests.servers.proxy import Proxy

USER, PASSWORD = "alice", "alice-Pass-123"
HOST = "cloud.test"
"""Only the proxy finds it."""


@pytest.fixture
def environment(guarded_home: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No proxy is named in it."""
    del guarded_home
    return monkeypatch


def url_of(server: StandIn) -> str:
    return server.url.replace("127.0.0.1", HOST)


@pytest.mark.parametrize(
    ("variables", "url", "expected"),
    [
        ({}, "https://c.example/", None),
        ({"HTTPS_PROXY": "http://p.example:3128"}, "https://c.example/", Named("p.example", 3128, None)),
        ({"https_proxy": "http://p.example:3128"}, "https://c.example/", Named("p.example", 3128, None)),
        ({"HTTPS_PROXY": "http://p.example:3128"}, "http://c.example/", None),
        ({"HTTP_PROXY": "p.example:3128"}, "http://c.example/", Named("p.example", 3128, None)),
        ({"ALL_PROXY": "http://p.example"}, "https://c.example:8443/", Named("p.example", 80, None)),
        ({"https_proxy": "http://z%6fe:p%40ss@p.example:1"}, "https://c/", Named("p.example", 1, ("zoe", "p@ss"))),
        ({"HTTPS_PROXY": "http://p.example:1", "NO_PROXY": "example"}, "https://c.example/", None),
        ({"HTTPS_PROXY": "http://p.example:1", "no_proxy": "d.example"}, "https://c/", Named("p.example", 1, None)),
        ({"HTTPS_PROXY": "http://p.example:1", "no_proxy": "*"}, "https://c.example/", None),
        ({"ALL_PROXY": "http://p.example:1"}, "http://localhost:8080/", None),
        ({"ALL_PROXY": "http://p.example:1"}, "http://127.0.0.1:8080/", None),
        ({"ALL_PROXY": "http://p.example:1"}, "http://[::1]:8080/", None),
        ({"HTTPS_PROXY": "http://[fd00::1]:3128"}, "https://c.example/", Named("fd00::1", 3128, None)),
    ],
)  # fmt: skip
def test_which_proxy(
    environment: pytest.MonkeyPatch, variables: dict[str, str], url: str, expected: Named | None
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    assert proxy_for(url) == expected


@pytest.mark.parametrize("value", ["socks5://p.example:1080", "https://p.example:1", "http://", "http://p:x"])
def test_a_proxy_that_cannot_be_used(environment: pytest.MonkeyPatch, value: str) -> None:
    environment.setenv("HTTPS_PROXY", value.replace("//", "//zoe:secret@"))
    with pytest.raises(UserError) as caught:
        proxy_for("https://c.example/")
    assert "secret" not in f"{caught.value}{caught.value.hint}"


@pytest.fixture(params=["http", "https"])
def server(request: pytest.FixtureRequest) -> Iterator[StandIn]:
    with StandIn(tls=request.param == "https", push=True) as standin:
        yield standin


async def connected(server: StandIn) -> WebdavRemote:
    ca_file = Path(server.certificate.certificate) if server.certificate else None
    tls = make_context(ca_file)
    site = await discover(url_of(server), USER, PASSWORD, tls=tls)
    return WebdavRemote(site, PASSWORD, tls=tls)


@pytest.mark.parametrize("login", [None, "zoe:p%40ss"])
async def test_everything_goes_through_it(
    server: StandIn, environment: pytest.MonkeyPatch, login: str | None
) -> None:
    """Small and large, up and down: a long body is read past HTTP's parser, and comes whole."""
    content = os.urandom(9_000_000)
    path = RemotePath("/large")
    with Proxy(login=None if login is None else "zoe:p@ss") as proxy:
        address = proxy.url if login is None else proxy.url.replace("zoe:p@ss", login)
        environment.setenv("ALL_PROXY", address)
        remote = await connected(server)
        try:
            checksum = f"SHA1:{sha1(content, usedforsecurity=False).hexdigest()}"
            await remote.put(path, body_of(content), len(content), Condition(absent=True), checksum=checksum)
            _, (entry,) = await remote.list_folder(RemotePath("/"))
            async with remote.stream(path, 0, len(content), entry.version) as chunks:
                assert b"".join([chunk async for chunk in chunks]) == content
            assert await remote.get_range(path, 10, 20, entry.version) == content[10:20]
        finally:
            await remote.aclose()
    if server.certificate:
        assert {line.split()[0] for line in proxy.asked} == {"CONNECT"}
    else:
        assert any(line.startswith(f"PUT http://{HOST}:{server.port}/") for line in proxy.asked)
    assert server.account(USER).tree() == {"large": content}


async def test_push_goes_through_it(server: StandIn, environment: pytest.MonkeyPatch) -> None:
    with Proxy(login="zoe:pass") as proxy:
        environment.setenv("ALL_PROXY", proxy.url)
        remote = await connected(server)
        try:
            async with trio.open_nursery() as nursery:
                ready, heard = trio.Event(), trio.Event()
                nursery.start_soon(remote.follow_changes, ready.set, lambda _: heard.set())
                with trio.fail_after(60):
                    await ready.wait()
                    server.account(USER).write("/new", b"new")
                    await heard.wait()
                nursery.cancel_scope.cancel()
        finally:
            await remote.aclose()
    assert f"CONNECT {HOST}:{server.port} HTTP/1.1" in proxy.asked


async def test_a_proxy_that_is_away(server: StandIn, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("ALL_PROXY", "http://127.0.0.1:1")
    with pytest.raises(Unreachable):
        await connected(server)


@pytest.mark.parametrize("server", ["https"], indirect=True)
async def test_a_proxy_that_refuses(server: StandIn, environment: pytest.MonkeyPatch) -> None:
    with Proxy() as proxy:
        environment.setenv("HTTPS_PROXY", proxy.url)
        remote = await connected(server)
        proxy.refused = True
        try:
            remote.distrust_connections()
            with pytest.raises(Unreachable, match="the proxy refuses the connection"):
                await remote.stat(RemotePath("/"))
            with pytest.raises(Unreachable, match="the proxy refuses the connection"):
                await remote.follow_changes(lambda: None, lambda _: None)
        finally:
            await remote.aclose()
    with pytest.raises(RemoteError):
        await connected(server)


@pytest.mark.mount
def test_a_mount_behind_a_proxy(tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    """From the login to the logout: the daemon has the environment of the command that starts it."""
    with StandIn(tls=True) as server, Proxy() as proxy:
        assert server.certificate
        environment.setenv("HTTPS_PROXY", proxy.url)
        ca_file = Path(server.certificate.certificate)
        stage = MountStage(tmp_path / "home", _Behind(url_of(server)), settings="poll_s = 1", ca_file=ca_file)
        try:
            (stage.mount_point / "new").write_bytes(b"new")
            stage.sync()
            assert server.account(USER).tree() == {"new": b"new"}
            server.account(USER).write("/theirs", b"theirs")
            wait_until((stage.mount_point / "theirs").exists)
            assert (stage.mount_point / "theirs").read_bytes() == b"theirs"
            stage.cloudfs("unmount", "--wait")
            stage.cloudfs("logout")
        finally:
            stage.close()


class _Behind:
    """A server by the name that it has behind the proxy."""

    def __init__(self, url: str) -> None:
        self.url = url
