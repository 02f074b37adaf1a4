"""From an address and a password to an account."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from cloudfs.errors import (
    Forbidden,
    NotAuthenticated,
    NotFound,
    ProtocolViolation,
    RemoteError,
    TlsRejected,
    Unavailable,
    Unreachable,
)
from cloudfs.remote.connect import discover, exchange_password, revoke
from cloudfs.remote.files import WebdavRemote
from cloudfs.remote.tls import make_context
from cloudfs.types import RemotePath
from tests.servers import CAPTIVE_PORTAL, Answer, StandIn, WsgidavServer

PASSWORD = "alice-Pass-123"


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        standin.account("alice").mkdir("/Photos/2026 ä")
        standin.account("alice").write("/file", b"1")
        yield standin


@pytest.mark.parametrize(
    ("typed", "root"),
    [
        ("", "/"),
        ("/", "/"),
        ("/index.php", "/"),
        ("/index.php/apps/files/?dir=/x", "/"),
        ("/index.php/login", "/"),
        ("/remote.php/dav", "/"),
        ("/remote.php/webdav", "/"),
        ("/remote.php/dav/files/alice", "/"),
        ("/remote.php/dav/files/ALICE/", "/"),
        ("/remote.php/dav/files/alice/Photos/2026%20%C3%A4", "/Photos/2026%20%C3%A4/"),
        ("/remote.php/webdav/Photos/", "/Photos/"),
    ],
)
async def test_addresses_of_a_nextcloud(server: StandIn, typed: str, root: str) -> None:
    site = await discover(server.url + typed, "alice", PASSWORD)
    assert site.root_url == server.dav_url("alice").rstrip("/") + root
    assert (site.base_url, site.user, site.user_id) == (server.url + "/", "alice", "alice")
    assert site.features.nextcloud
    assert site.features.depth_infinity
    assert "\\" in site.features.name_rules.forbidden_characters


@pytest.mark.parametrize(
    ("typed", "user", "password", "kind"),
    [
        ("", "alice", "wrong", NotAuthenticated),
        ("", "nobody", PASSWORD, NotAuthenticated),
        ("/remote.php/dav/files/alice/none", "alice", PASSWORD, NotFound),
        ("/remote.php/dav/files/alice/file", "alice", PASSWORD, ProtocolViolation),
        ("/remote.php/dav/files/bob", "alice", PASSWORD, Forbidden),
        ("/remote.php/dav/calendars/alice", "alice", PASSWORD, ProtocolViolation),
    ],
)
async def test_what_is_wrong(
    server: StandIn, typed: str, user: str, password: str, kind: type[RemoteError]
) -> None:
    with pytest.raises(kind) as caught:
        await discover(server.url + typed, user, password)
    assert type(caught.value) is kind
    assert PASSWORD not in str(caught.value)


async def test_no_password_is_sent_before_the_server_is_known(server: StandIn) -> None:
    server.faults.add(
        Answer(302, headers={"Location": "https://elsewhere.example.org/status.php"}), times=None
    )
    server.requests.reset()
    with pytest.raises(ProtocolViolation):
        await discover(server.url, "alice", PASSWORD)
    server.faults.clear()
    assert "Authorization" not in server.requests[0].headers


@pytest.mark.parametrize("status", [200, 404, 403])
async def test_a_page_is_no_webdav(server: StandIn, status: int) -> None:
    server.faults.add(Answer(status, CAPTIVE_PORTAL, {"Content-Type": "text/html"}), times=None)
    with pytest.raises(RemoteError) as caught:
        await discover(server.url, "alice", PASSWORD)
    server.faults.clear()
    assert isinstance(caught.value, ProtocolViolation | NotFound | Forbidden)


@pytest.mark.parametrize("name", ["..", "a/../b", ".", "", "a\r\nX-File-Path: /b", "\0", "a" * 10_000])
async def test_a_user_whose_name_leads_elsewhere(server: StandIn, name: str) -> None:
    body = json.dumps({"ocs": {"meta": {"statuscode": 200}, "data": {"id": name}}}).encode()
    rule = server.faults.add(Answer(200, body), path="/cloud/user$", times=None)
    with pytest.raises(ProtocolViolation, match="a name that is none"):
        await discover(server.url, "alice", PASSWORD)
    server.faults.clear()
    assert rule.hits


@pytest.mark.parametrize(
    "to",
    [
        "https://127.0.0.1:1/\x9b2J/status.php",
        "https://jo:pw@127.0.0.1:1/status.php",
        "https://b.example:1/status.php",
    ],
)
async def test_an_upgrade_to_an_address_that_nobody_would_type_is_none(server: StandIn, to: str) -> None:
    """What a redirect from http to https leads to becomes the account's address."""
    rule = server.faults.add(Answer(302, headers={"Location": to}), path=r"/status\.php$", times=None)
    with pytest.raises(NotFound):  # and not Unreachable, as of whoever goes there
        await discover(server.url, "alice", PASSWORD)
    server.faults.clear()
    assert rule.hits


async def test_maintenance(server: StandIn) -> None:
    server.maintenance = True
    try:
        with pytest.raises(Unavailable):
            await discover(server.url, "alice", PASSWORD)
    finally:
        server.maintenance = False


async def test_nobody_there() -> None:
    with pytest.raises(Unreachable, match="refuses"):
        await discover("http://127.0.0.1:9/", "alice", PASSWORD)
    with trio.fail_after(30), pytest.raises(Unreachable):
        await discover("https://no-such-host.invalid/", "alice", PASSWORD)


async def test_a_private_certificate_authority(tmp_path: Path) -> None:
    del tmp_path
    with StandIn(tls=True) as secure:
        with pytest.raises(TlsRejected):
            await discover(secure.url, "alice", PASSWORD)
        assert secure.certificate is not None
        context = make_context(Path(secure.certificate.certificate))
        site = await discover(secure.url, "alice", PASSWORD, tls=context)
        remote = WebdavRemote(site, PASSWORD, tls=context)
        assert (await remote.stat(RemotePath("/"))).file_id
        await remote.aclose()


async def test_app_passwords(server: StandIn) -> None:
    site = await discover(server.url, "alice", PASSWORD)
    app_password = await exchange_password(site, PASSWORD, "cloudfs test")
    assert app_password != PASSWORD
    assert await exchange_password(site, app_password, "cloudfs test") == app_password
    remote = WebdavRemote(site, app_password)
    assert await remote.connect() == site.features
    await remote.aclose()
    assert not await revoke(site, PASSWORD)
    assert await revoke(site, app_password)
    assert not await revoke(site, app_password)
    with pytest.raises(NotAuthenticated):
        await discover(server.url, "alice", app_password)


@pytest.mark.parametrize("word", ["", "two\nlines", "\x1b[2J", "x" * 5000])
async def test_an_app_password_that_is_none(server: StandIn, word: str) -> None:
    """It would be kept, and be refused at the next start, when the login password is forgotten."""
    site = await discover(server.url, "alice", PASSWORD)
    meta = {"status": "ok", "statuscode": 200, "message": "OK"}
    told = json.dumps({"ocs": {"meta": meta, "data": {"apppassword": word}}}).encode()
    server.faults.add(Answer(200, told, {"Content-Type": "application/json"}), path="getapppassword")
    with pytest.raises(ProtocolViolation, match="app password"):
        await exchange_password(site, PASSWORD, "cloudfs test")


@pytest.mark.server("wsgidav")
async def test_a_folder_of_a_plain_server() -> None:
    with WsgidavServer() as server:
        server.mkdir("/a/b c")
        site = await discover(server.url + "a/b%20c", server.user, server.password)
        assert (site.root_url, site.base_url, site.user_id) == (server.url + "a/b%20c/", None, None)
        assert not site.features.nextcloud
        assert await exchange_password(site, "p", "x") == "p"
        assert not await revoke(site, "p")
        with pytest.raises(NotAuthenticated):
            await discover(server.url, server.user, "wrong")
        with pytest.raises(NotFound):
            await discover(server.url + "none", server.user, server.password)
        server.write("/file", b"1")
        with pytest.raises(RemoteError):
            await discover(server.url + "file", server.user, server.password)
