"""What the remote makes of a Nextcloud that fails, lies, or is not there."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator

import pytest
import trio

from cloudfs.errors import (
    Changed,
    Forbidden,
    Locked,
    NotAuthenticated,
    NotFound,
    ProtocolViolation,
    QuotaExceeded,
    RemoteError,
    ServerFault,
    Unavailable,
    Unreachable,
)
from cloudfs.remote.connect import Site, discover
from cloudfs.remote.files import WebdavRemote
from cloudfs.remote.protocol import Condition
from cloudfs.remote.transport import Limits
from cloudfs.types import RemotePath, RemoteVersion
from tests.remote.conftest import body_of
from tests.servers import (
    CAPTIVE_PORTAL,
    Answer,
    BlackHole,
    CutResponse,
    Drop,
    LoseReply,
    StandIn,
    WrongLength,
)

ROOT, FILE = RemotePath("/"), RemotePath("/file")
DATA = bytes(range(256)) * 400
PAGE = {"Content-Type": "text/html"}
DAV_ERROR = (
    b'<?xml version="1.0"?><d:error xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns">'
    b"<s:exception>Sabre\\DAV\\Exception\\PreconditionFailed</s:exception><s:message/></d:error>"
)


@pytest.mark.parametrize("status", [404, 405, 409, 410, 412, 416])
@pytest.mark.parametrize("body", [CAPTIVE_PORTAL, b""])
async def test_nothing_is_concluded_from_a_page_s_refusal_of_a_change(
    remote: WebdavRemote, server: StandIn, version: RemoteVersion, status: int, body: bytes
) -> None:
    """Not that it exists, nor that it was changed, nor that a folder is missing."""
    server.faults.add(Answer(status, body, PAGE), times=None)
    new, data = RemotePath("/new"), b"new"
    for change in (
        lambda: remote.put(FILE, body_of(data), len(data), Condition(version=version)),
        lambda: remote.put(new, body_of(data), len(data), Condition(absent=True)),
        lambda: remote.put(FILE, body_of(DATA), len(DATA), Condition(version=version), name="x"),
        lambda: remote.delete(FILE, expect=version),
        lambda: remote.move(FILE, new, expect=version),
        lambda: remote.make_folder(new),
    ):
        with pytest.raises(ProtocolViolation) as caught:
            await change()
        assert caught.value.temporary


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


@pytest.fixture(scope="module")
def site(server: StandIn) -> Site:
    return trio.run(discover, server.url, "alice", server.account("alice").password)


@pytest.fixture
async def remote(server: StandIn, site: Site) -> AsyncIterator[WebdavRemote]:
    account = server.account("alice")
    account.write("/file", DATA)
    remote = WebdavRemote(site, account.app_password(), limits=Limits(read_s=0.5, attempt_s=5))
    yield remote
    server.faults.clear()
    server.requests.reset()
    await remote.aclose()


@pytest.fixture
async def version(remote: WebdavRemote, server: StandIn) -> RemoteVersion:
    found = (await remote.stat(FILE)).version
    server.requests.reset()
    return found


async def test_reads_survive_two_broken_connections(
    remote: WebdavRemote, server: StandIn, version: RemoteVersion
) -> None:
    for fault in (Drop(), Drop(reset=True), LoseReply(), Answer(502), Answer(500), CutResponse(50)):
        server.faults.add(fault, times=2)
        assert await remote.get_range(FILE, 0, 1000, version) == DATA[:1000]
        server.faults.clear()
        server.faults.add(fault, method="PROPFIND", times=2)
        assert (await remote.list_folder(ROOT))[1]
        server.faults.clear()


async def test_three_are_too_many(remote: WebdavRemote, server: StandIn) -> None:
    server.faults.add(Drop(), times=None)
    server.requests.reset()
    with pytest.raises(Unreachable):
        await remote.stat(FILE)
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Drop(), Unreachable),
        (LoseReply(), Unreachable),
        (Answer(500), ServerFault),
        (Answer(502, CAPTIVE_PORTAL, PAGE), ServerFault),
        (Answer(507), QuotaExceeded),
        (Answer(423), Locked),
        (Answer(200, CAPTIVE_PORTAL, PAGE), ProtocolViolation),
    ],
)
async def test_changes_are_sent_once(
    remote: WebdavRemote, server: StandIn, version: RemoteVersion, fault: Drop, kind: type[RemoteError]
) -> None:
    path = RemotePath("/other")
    server.account("alice").write("/folder/x", b"1")
    server.faults.add(fault, times=None)
    with pytest.raises(kind):
        await remote.put(FILE, body_of(b"new"), 3, Condition(version))
    with pytest.raises(kind):
        await remote.make_folder(RemotePath("/made"))
    with pytest.raises(kind):
        await remote.move(FILE, path)
    with pytest.raises(kind):
        await remote.copy(FILE, path)
    with pytest.raises(kind):
        await remote.delete(RemotePath("/folder"))
    with pytest.raises(kind):
        await remote.set_mtime(FILE, 1_500_000_000)
    assert server.requests.methods == ["PUT", "MKCOL", "MOVE", "COPY", "DELETE", "PROPPATCH"]
    server.faults.clear()
    for name in ("made", "other"):
        if server.account("alice").exists(f"/{name}"):
            server.account("alice").delete(f"/{name}")


@pytest.mark.parametrize(
    "fault",
    [
        Answer(200, CAPTIVE_PORTAL, PAGE),
        Answer(207, CAPTIVE_PORTAL, PAGE),
        Answer(207, b'<d:multistatus xmlns:d="DAV:"/>'),
        Answer(302, headers={"Location": "https://portal.example.org/"}),
        Answer(404, CAPTIVE_PORTAL, PAGE),
        Answer(404),
        CutResponse(300),
        WrongLength(-20),
    ],
)
async def test_nothing_is_concluded_from_a_false_answer(
    remote: WebdavRemote, server: StandIn, fault: Answer
) -> None:
    """Above all: no file is believed to be gone."""
    server.faults.add(fault, times=None)
    with pytest.raises(ProtocolViolation):
        await remote.stat(FILE)
    with pytest.raises(ProtocolViolation):
        await remote.list_folder(ROOT)
    with pytest.raises(ProtocolViolation):
        await remote.list_tree(ROOT, most=1000)
    with pytest.raises(ProtocolViolation):
        await remote.get_range(FILE, 0, 10, RemoteVersion("e", 10, 0))


@pytest.mark.parametrize(
    ("status", "body", "headers", "kind"),
    [
        (200, DATA, {"ETag": '"other"', "OC-ETag": '"other"'}, Changed),
        (200, DATA, {}, ProtocolViolation),
        (200, CAPTIVE_PORTAL, PAGE, ProtocolViolation),
        (206, DATA[:99], {"Content-Range": f"bytes 0-99/{len(DATA)}"}, ProtocolViolation),
        (206, DATA[:100], {"Content-Range": f"bytes 1-100/{len(DATA)}"}, ProtocolViolation),
        (206, DATA[:100], {"Content-Range": f"bytes 0-99/{len(DATA) + 1}"}, Changed),
        (206, DATA[:100], {}, ProtocolViolation),
        (204, b"", {}, ProtocolViolation),
        (412, DAV_ERROR, {}, Changed),
        (416, DAV_ERROR, {}, Changed),
        (412, CAPTIVE_PORTAL, PAGE, ProtocolViolation),
        (416, b"", {}, ProtocolViolation),
    ],
)
async def test_no_bytes_of_another_version_are_returned(
    remote: WebdavRemote,
    server: StandIn,
    version: RemoteVersion,
    status: int,
    body: bytes,
    headers: dict[str, str],
    kind: type[RemoteError],
) -> None:
    etag = {} if kind is ProtocolViolation and status == 200 else {"ETag": f'"{version.etag}"'}
    server.faults.add(Answer(status, body, etag | headers), method="GET", times=None)
    with pytest.raises(kind):
        await remote.get_range(FILE, 0, 100, version)
    with pytest.raises(kind):
        async with remote.stream(FILE, 0, 100, version) as chunks:
            [chunk async for chunk in chunks]


@pytest.mark.parametrize("fault", [CutResponse(1000), WrongLength(-1000)])
async def test_a_stream_never_ends_early_in_silence(
    remote: WebdavRemote, server: StandIn, version: RemoteVersion, fault: CutResponse
) -> None:
    server.faults.add(fault, method="GET", times=None)
    with pytest.raises(RemoteError) as caught:
        async with remote.stream(FILE, 0, len(DATA), version) as chunks:
            [chunk async for chunk in chunks]
    assert isinstance(caught.value, Unreachable | ProtocolViolation | Changed)


async def test_a_server_that_never_answers(remote: WebdavRemote, server: StandIn) -> None:
    server.faults.add(BlackHole(), times=None)
    with trio.fail_after(10), pytest.raises(Unreachable):
        await remote.stat(FILE)


async def test_maintenance_is_not_asked_twice(remote: WebdavRemote, server: StandIn) -> None:
    server.requests.reset()
    server.maintenance = True
    try:
        with pytest.raises(Unavailable):
            await remote.stat(FILE)
        assert len(server.requests) == 1
        with pytest.raises(Unavailable):
            await remote.connect()
    finally:
        server.maintenance = False


async def test_throttling_says_when_to_come_back(remote: WebdavRemote, server: StandIn) -> None:
    server.faults.add(Answer(429, headers={"Retry-After": "30"}), times=None)
    with pytest.raises(Unavailable) as caught:
        await remote.stat(FILE)
    assert caught.value.retry_after_s == 30


async def test_a_revoked_password(server: StandIn, site: Site) -> None:
    account = server.account("alice")
    password = account.app_password()
    remote = WebdavRemote(site, password)
    await remote.stat(ROOT)
    account.revoke(password)
    server.requests.reset()
    with pytest.raises(NotAuthenticated):
        await remote.stat(ROOT)
    assert len(server.requests) == 1
    await remote.aclose()


async def test_a_server_that_was_away_is_found_again() -> None:
    with StandIn(port=_free_port()) as server:
        site = await discover(server.url, "alice", server.account("alice").password)
        remote = WebdavRemote(site, server.account("alice").app_password())
        await remote.stat(ROOT)
        server.stop()
        with pytest.raises(Unreachable):
            await remote.stat(ROOT)
        server.start()
        await remote.stat(ROOT)
        await remote.aclose()


def _free_port() -> int:
    """Choose a port ourselves: one that the system chose cannot be listened on again at once."""
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        return int(chosen.getsockname()[1])


async def test_a_lost_reply_leaves_the_upload_there(remote: WebdavRemote, server: StandIn) -> None:
    server.faults.add(LoseReply(), method="PUT")
    with pytest.raises(Unreachable):
        await remote.put(RemotePath("/lost"), body_of(b"1"), 1, Condition(absent=True))
    assert (await remote.stat(RemotePath("/lost"))).version.size == 1


async def test_a_phantom_is_not_there(remote: WebdavRemote) -> None:
    """Nextcloud answers 207 for any `*.part` (protocol.md, rule 12)."""
    with pytest.raises(NotFound):
        await remote.stat(RemotePath("/none.part"))


async def test_read_only_is_forbidden(remote: WebdavRemote, server: StandIn) -> None:
    server.faults.add(Answer(403), method="PUT")
    with pytest.raises(Forbidden):
        await remote.put(RemotePath("/x"), body_of(b"1"), 1, Condition(absent=True))
