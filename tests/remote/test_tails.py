"""Of a file that grew only its tail is sent: the server copies the rest, of no other version than is meant."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial

import httpx
import pytest
import trio
from trio.testing import MockClock

from cloudfs.errors import Changed, QuotaExceeded, ServerFault, Unreachable, Unsupported
from cloudfs.paths import join
from cloudfs.remote.connect import Site, discover
from cloudfs.remote.files import WebdavRemote
from cloudfs.remote.protocol import Condition, Features
from cloudfs.remote.transport import Limits
from cloudfs.types import RemotePath, RemoteVersion, Stored
from tests.remote.conftest import body_of, store
from tests.remote.test_multistatus import multistatus, response
from tests.servers import Account, Answer, CutUpload, Drop, Hold, LoseReply, Record, StandIn

MIB = 1024 * 1024
PIECE = 5 * MIB
OLD = random.Random(1).randbytes(700_000)
TAIL = random.Random(2).randbytes(PIECE + MIB)
FILE = RemotePath("/file")
MTIME_S = 1_500_000_000


def sha1(content: bytes) -> str:
    return "SHA1:" + hashlib.sha1(content, usedforsecurity=False).hexdigest()


async def append(
    remote: WebdavRemote, path: RemotePath, base: RemoteVersion, tail: bytes = TAIL, old: bytes = OLD
) -> Stored:
    """Send a tail; the body has nothing of the base in it."""
    content = bytes(len(old)) + tail
    return await remote.put(
        path,
        body_of(content),
        len(content),
        Condition(base),
        mtime_s=MTIME_S,
        name=f"x-{sha1(tail)}",
        base_bytes=len(old),
    )


# On every server.


async def test_the_file_is_its_base_and_the_tail(remote: WebdavRemote, top: RemotePath) -> None:
    path = join(top, "f")
    before = await store(remote, path, OLD)
    version = (await remote.stat(path)).version
    if not remote.features.appends:
        with pytest.raises(Unsupported):
            await append(remote, path, version)
        assert (await remote.stat(path)).version == version
        return
    stored = await append(remote, path, version)
    entry = await remote.stat(path)
    assert (entry.version.etag, entry.version.modified_s) == (stored.etag, MTIME_S)
    assert entry.file_id == stored.file_id == before.file_id
    assert entry.version.checksum is None
    size = len(OLD) + len(TAIL)
    assert await remote.get_range(path, 0, size, entry.version) == OLD + TAIL
    assert await remote.have_hashed(path, entry.version) == sha1(OLD + TAIL)
    hashed = (await remote.stat(path)).version
    assert (hashed.etag, hashed.checksum) == (stored.etag, sha1(OLD + TAIL))
    with pytest.raises(Changed):
        await append(remote, path, version)
    with pytest.raises(Changed):
        await remote.have_hashed(path, version)


# What goes wrong.


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


@pytest.fixture
async def account(server: StandIn) -> AsyncIterator[Account]:
    account = server.account("alice")
    account.write("/file", OLD, mtime=1_400_000_000, checksum=sha1(OLD))
    yield account
    server.faults.clear()
    for name in {path.strip("/").partition("/")[0] for path in account.tree()}:
        account.delete(f"/{name}")
    account.expire_uploads()


@pytest.fixture
async def pieces(server: StandIn, account: Account) -> AsyncIterator[WebdavRemote]:
    site = await discover(server.url, "alice", account.password)
    remote = WebdavRemote(site, account.app_password(), limits=Limits(read_s=0.5, piece_bytes=PIECE))
    yield remote
    await remote.aclose()


@pytest.fixture
async def version(pieces: WebdavRemote, server: StandIn) -> RemoteVersion:
    found = (await pieces.stat(FILE)).version
    server.requests.reset()
    return found


async def test_the_requests(
    pieces: WebdavRemote, server: StandIn, version: RemoteVersion, account: Account
) -> None:
    await append(pieces, FILE, version)
    assert server.requests.methods == ["MKCOL", "COPY", "PROPFIND", "PUT", "PUT", "PROPFIND", "MOVE"]
    assert sum(record.request_bytes for record in server.requests.matching("PUT")) < len(TAIL) + 10_000
    assert sum(record.response_bytes for record in server.requests) < 20_000
    assert account.read("/file") == OLD + TAIL
    assert not account.uploads


async def test_a_small_tail_is_there_before_the_base_is_copied(
    pieces: WebdavRemote, server: StandIn, account: Account, version: RemoteVersion
) -> None:
    copy = server.faults.add(Hold(), method="COPY")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(append, pieces, FILE, version, b"tail")
        while not any(record.done for record in server.requests.matching("PUT")):
            await trio.sleep(0.01)
        assert not any(record.done for record in server.requests.matching("COPY"))
        copy.release()
    assert account.read("/file") == OLD + b"tail"
    assert len(server.requests) == 6


async def test_version_2_of_the_protocol_never_begins(
    pieces: WebdavRemote, server: StandIn, version: RemoteVersion
) -> None:
    """It begins with a Destination, and would make the file of what was PUT alone."""
    await append(pieces, FILE, version)
    for method in ("MKCOL", "PUT"):
        assert all("destination" not in record.headers for record in server.requests.matching(method))


def before(server: StandIn, method: str, happen: Callable[[], object], *, nth: int = 1) -> None:
    """Have something happen on the server right before a request is carried out."""
    count = 0

    def look(_record: Record) -> bool:
        nonlocal count
        count += 1
        if count == nth:
            happen()
        return False

    server.faults.add(Drop(), method=method, predicate=look)


async def test_pieces_that_are_kept_in_another_way_are_not_put_together(
    pieces: WebdavRemote, server: StandIn, account: Account, version: RemoteVersion
) -> None:
    """As S3 lists its parts, which are not numbered with zeros."""
    before(server, "PROPFIND", lambda: account.rename_chunk("00002", "2"), nth=2)
    with pytest.raises(Unsupported):
        await append(pieces, FILE, version, b"tail")
    assert not server.requests.matching("MOVE")
    assert account.read("/file") == OLD
    assert not account.uploads


async def test_a_copy_that_is_not_whole_is_not_used(
    pieces: WebdavRemote, server: StandIn, account: Account, version: RemoteVersion
) -> None:
    before(server, "PROPFIND", lambda: account.cut_chunk("00001", len(OLD) - 1), nth=2)
    with pytest.raises(ServerFault) as caught:
        await append(pieces, FILE, version, b"tail")
    assert caught.value.temporary
    assert not server.requests.matching("MOVE")
    server.faults.clear()
    await append(pieces, FILE, version, b"tail")
    assert account.read("/file") == OLD + b"tail"


@pytest.mark.parametrize("status", [403, 405, 500, 501, 507])
async def test_a_server_that_does_not_copy_into_uploads(
    pieces: WebdavRemote, server: StandIn, account: Account, version: RemoteVersion, status: int
) -> None:
    server.faults.add(Answer(status), method="COPY")
    with pytest.raises(Unsupported):
        await append(pieces, FILE, version)
    assert account.read("/file") == OLD


@pytest.mark.parametrize("left", [-1, 0], ids=["one byte too few", "just enough"])
@pytest.mark.parametrize("as_tail", [True, False])
async def test_a_tail_needs_as_much_room_as_the_whole_file(
    pieces: WebdavRemote, account: Account, version: RemoteVersion, as_tail: bool, left: int
) -> None:
    """So no file is refused as a tail that would be taken whole."""
    content = OLD + TAIL
    account.set_quota(len(OLD) + len(content) + left)
    sent = (
        append(pieces, FILE, version)
        if as_tail
        else pieces.put(FILE, body_of(content), len(content), Condition(version), name="whole")
    )
    if left < 0:
        with pytest.raises(QuotaExceeded):
            await sent
    else:
        await sent
    assert account.read("/file") == (content if left >= 0 else OLD)


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_server_that_is_not_well_is_asked_again(
    pieces: WebdavRemote, server: StandIn, account: Account, version: RemoteVersion, status: int
) -> None:
    server.faults.add(Answer(status), method="COPY")
    with pytest.raises(ServerFault) as caught:
        await append(pieces, FILE, version)
    assert caught.value.temporary
    await append(pieces, FILE, version)
    assert account.read("/file") == OLD + TAIL


@pytest.mark.parametrize("nth", [1, 2], ids=["before the look", "before the pieces are listed"])
@pytest.mark.parametrize("checksum", [True, False], ids=["with a checksum", "without"])
async def test_another_content_with_the_same_etag(
    pieces: WebdavRemote,
    server: StandIn,
    account: Account,
    version: RemoteVersion,
    nth: int,
    checksum: bool,  # a parameter
) -> None:
    """Before the look it is seen; after it, it is overwritten with what it was not: never is the tail behind it."""
    theirs = b"!" + OLD[1:]

    def write() -> None:
        account.write("/file", theirs, mtime=1_400_000_000, checksum=sha1(theirs) if checksum else None)

    before(server, "PROPFIND", write, nth=nth)
    if nth == 1:
        with pytest.raises(Changed):
            await append(pieces, FILE, version)
        assert account.read("/file") == theirs
    else:
        await append(pieces, FILE, version)
        assert account.read("/file") == OLD + TAIL


async def test_another_version(
    pieces: WebdavRemote, server: StandIn, account: Account, version: RemoteVersion
) -> None:
    before(server, "MOVE", partial(account.write, "/file", b"theirs"))
    with pytest.raises(Changed):
        await append(pieces, FILE, version)
    server.faults.clear()
    with pytest.raises(Changed):
        await append(pieces, FILE, version)
    account.delete("/file")
    with pytest.raises(Changed):
        await append(pieces, FILE, version)


@pytest.mark.parametrize(
    "fault", [Drop(), Drop(reset=True), CutUpload(1000), Answer(502), LoseReply()], ids=str
)
@pytest.mark.parametrize(
    ("method", "nth"), [("MKCOL", 1), ("COPY", 1), ("PROPFIND", 1), ("PUT", 1), ("PUT", 2), ("MOVE", 1)]
)
async def test_a_failed_try_leaves_the_file_alone_and_the_next_one_goes_on(
    pieces: WebdavRemote,
    server: StandIn,
    account: Account,
    version: RemoteVersion,
    fault: Drop | CutUpload | Answer | LoseReply,
    method: str,
    nth: int,
) -> None:
    if isinstance(fault, CutUpload) and method != "PUT":
        fault = Drop()  # there is no body to cut
    server.faults.add(fault, method=method, nth=nth)
    with pytest.raises((Unreachable, ServerFault)):
        await append(pieces, FILE, version)
    arrived = isinstance(fault, LoseReply) and method == "MOVE"
    assert account.read("/file") == (OLD + TAIL if arrived else OLD)
    server.requests.reset()
    if arrived:
        with pytest.raises(Changed):  # who called looks, and finds that it is there
            await append(pieces, FILE, version)
    else:
        await append(pieces, FILE, version)
    assert account.read("/file") == OLD + TAIL
    if method == "MOVE" and not arrived:
        sent = sum(record.request_bytes for record in server.requests.matching("PUT"))
        assert sent < len(TAIL) - PIECE // 2, "what was there before the last piece is not sent again"


async def test_where_no_pieces_are_put_together_there_are_no_tails(
    pieces: WebdavRemote, account: Account
) -> None:
    account.write("/share/file", OLD, mtime=1_400_000_000, checksum=sha1(OLD))
    account.share_root("/share", "SGNVW")
    path = RemotePath("/share/file")
    with pytest.raises(Unsupported):
        await append(pieces, path, (await pieces.stat(path)).version)
    assert account.read("/share/file") == OLD


@pytest.mark.parametrize("status", [405, 501])
async def test_a_server_that_computes_no_checksums(
    pieces: WebdavRemote, server: StandIn, version: RemoteVersion, status: int
) -> None:
    body = b"<d:error xmlns:d='DAV:' xmlns:s='http://sabredav.org/ns'><s:exception>E</s:exception></d:error>"
    server.faults.add(Answer(status, body), method="PATCH")
    assert await pieces.have_hashed(FILE, version) is None


# A large file keeps the server busy.

HUGE = 20 * 1024**3


class Slow:
    """A Nextcloud that takes ten minutes to copy, put together or hash the one file that it has, without a word."""

    def __init__(self) -> None:
        self.methods: list[str] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.methods.append(request.method)
        if request.method in {"COPY", "MOVE", "PATCH"}:
            await trio.sleep(600)
        status = {"PROPFIND": 207, "MOVE": 204, "PATCH": 204}.get(request.method, 201)
        body = self._listing(request.url.path) if status == 207 else b""
        headers = {"ETag": '"new"', "OC-Checksum": sha1(b"all")}
        return httpx.Response(status, headers=headers, content=body_of(body)())

    @staticmethod
    def _listing(path: str) -> bytes:
        length = "<d:resourcetype/><d:getcontentlength>{}</d:getcontentlength>"
        if "/uploads/" in path:
            lengths = {"00001": HUGE, "00002": 4}
            return multistatus(*(response(path + name, length.format(it)) for name, it in lengths.items()))
        known = f"<d:getetag>&quot;old&quot;</d:getetag><oc:fileid>1</oc:fileid>{length.format(HUGE)}"
        return multistatus(response(path, f"{known}<oc:checksums>{sha1(b'base')}</oc:checksums>"))


async def test_what_a_server_does_with_a_large_file_is_waited_for(autojump_clock: MockClock) -> None:
    """Given up earlier it would be asked for again, and never be heard to its end."""
    del autojump_clock
    server = Slow()
    features = Features(name="Nextcloud", nextcloud=True, chunking=True, checksums=True)
    site = Site("http://h/remote.php/dav/files/jo/", "jo", features, "http://h/", "jo")
    remote = WebdavRemote(site, "secret", wire=lambda _lane: httpx.MockTransport(server))

    async def tail(start: int = 0) -> AsyncIterator[bytes]:
        assert start == HUGE
        yield b"tail"

    base = RemoteVersion("old", HUGE, MTIME_S, sha1(b"base"))
    await remote.put(FILE, tail, HUGE + 4, Condition(base), name="x", base_bytes=HUGE)
    assert await remote.have_hashed(FILE, RemoteVersion("new", HUGE + 4, MTIME_S)) == sha1(b"all")
    assert sorted(server.methods[1:3]) == ["COPY", "PUT"]
    assert [server.methods[0], *server.methods[3:]] == ["MKCOL", "PROPFIND", "PROPFIND", "MOVE", "PATCH"]
    await remote.aclose()
