"""Large uploads in pieces: on every server that takes them, and what they survive."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import httpx
import msgspec
import pytest
import trio

from cloudfs.errors import (
    AlreadyExists,
    Changed,
    Forbidden,
    ParentMissing,
    ProtocolViolation,
    QuotaExceeded,
    RemoteError,
    ServerFault,
    TooLarge,
    Unreachable,
)
from cloudfs.paths import join
from cloudfs.remote.connect import Site, discover
from cloudfs.remote.files import WebdavRemote
from cloudfs.remote.protocol import Condition
from cloudfs.remote.transport import Limits
from cloudfs.types import RemoteEntry, RemotePath, RemoteVersion, Stored
from tests.remote.conftest import Begun, Login, body_of, store, tidied
from tests.servers import Account, Answer, CutUpload, Drop, LoseReply, Record, StandIn

MIB = 1024 * 1024
PIECE = 5 * MIB
OLD = b"the old content"
NEW = random.Random(3).randbytes(2 * PIECE + 4711)
CHECKSUM = "SHA1:" + hashlib.sha1(NEW, usedforsecurity=False).hexdigest()
FILE = RemotePath("/file")


async def send(
    remote: WebdavRemote, path: RemotePath, condition: Condition, data: bytes = NEW, name: str = "x-1"
) -> Stored:
    checksum = "SHA1:" + hashlib.sha1(data, usedforsecurity=False).hexdigest()
    return await remote.put(
        path, body_of(data), len(data), condition, mtime_s=1_500_000_000, checksum=checksum, name=name
    )


# On every server.


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 64 * 1024 + 1, PIECE + 1])
async def test_a_file_is_replaced_by_exactly_these_bytes(
    remote: WebdavRemote, top: RemotePath, size: int
) -> None:
    path = join(top, "f")
    before = await store(remote, path, OLD)
    stored = await send(remote, path, Condition((await remote.stat(path)).version), NEW[:size])
    entry = await remote.stat(path)
    assert (entry.version.etag, entry.version.size) == (stored.etag, size)
    assert entry.file_id == stored.file_id == before.file_id
    assert await remote.get_range(path, 0, size, entry.version) == NEW[:size]
    if remote.features.nextcloud:
        assert (entry.version.modified_s, stored.mtime_kept) == (1_500_000_000, True)


async def test_the_version_replaced_is_the_one_that_was_meant(remote: WebdavRemote, top: RemotePath) -> None:
    path = join(top, "f")
    await store(remote, path, OLD)
    version = (await remote.stat(path)).version
    await trio.sleep(1.1)  # plain servers name versions by the second
    await send(remote, path, Condition(version), b"somebody else's" * 10_000, name="y-1")
    theirs = (await remote.stat(path)).version
    with pytest.raises(Changed):
        await send(remote, path, Condition(version))
    with pytest.raises(AlreadyExists):
        await send(remote, path, Condition(absent=True))
    assert (await remote.stat(path)).version == theirs


async def test_a_new_file_in_pieces(login: Login, site: Site, top: RemotePath) -> None:
    limits = Limits(whole_bytes=MIB, one_go_bytes=0, piece_bytes=PIECE)
    async with tidied(WebdavRemote(site, login.password, limits=limits)) as remote:
        stored = await send(remote, join(top, "f"), Condition(absent=True))
        entry = await remote.stat(join(top, "f"))
        assert (entry.version.etag, entry.file_id) == (stored.etag, stored.file_id)
        assert await remote.get_range(join(top, "f"), 0, len(NEW), entry.version) == NEW
        with pytest.raises(AlreadyExists):
            await send(remote, join(top, "f"), Condition(absent=True))


async def test_pieces_of_a_file_that_was_renamed_go_on(login: Login, site: Site, top: RemotePath) -> None:
    limits = Limits(whole_bytes=MIB, one_go_bytes=0, piece_bytes=PIECE)
    async with tidied(WebdavRemote(site, login.password, limits=limits)) as remote:
        if not site.features.chunking:
            pytest.skip("it takes no pieces")
        await remote.put(join(top, "f"), body_of(b"another's"), 9, Condition(absent=True))
        with pytest.raises(AlreadyExists):
            await send(remote, join(top, "f"), Condition(absent=True))

        def sent_again(start: int = 0) -> AsyncIterator[bytes]:
            raise AssertionError(start)

        await remote.put(
            join(top, "g"), sent_again, len(NEW), Condition(absent=True), checksum=CHECKSUM, name="x-1"
        )
        entry = await remote.stat(join(top, "g"))
        assert entry.version.checksum == CHECKSUM
        assert await remote.get_range(join(top, "g"), 0, len(NEW), entry.version) == NEW


# What goes wrong.


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


@pytest.fixture
async def account(server: StandIn) -> AsyncIterator[Account]:
    account = server.account("alice")
    account.write("/file", OLD)
    yield account
    server.faults.clear()
    for name in {path.strip("/").partition("/")[0] for path in account.tree()}:
        account.delete(f"/{name}")
    account.expire_uploads()
    account.set_quota(None)


@pytest.fixture
async def pieces(server: StandIn, account: Account) -> AsyncIterator[WebdavRemote]:
    site = await discover(server.url, "alice", account.password)
    remote = WebdavRemote(
        site,
        account.app_password(),
        limits=Limits(read_s=0.5, piece_bytes=PIECE, whole_bytes=PIECE, one_go_bytes=0),
    )
    yield remote
    await remote.aclose()


@pytest.fixture
async def version(pieces: WebdavRemote, server: StandIn) -> RemoteVersion:
    found = (await pieces.stat(FILE)).version
    server.requests.reset()
    return found


async def test_it_takes_one_request_more_than_pieces_and_the_two_ends(
    pieces: WebdavRemote, server: StandIn, version: RemoteVersion, account: Account
) -> None:
    await send(pieces, FILE, Condition(version))
    assert server.requests.methods == [
        "MKCOL",
        "PUT",
        "PUT",
        "MOVE",
        "PROPFIND",  # whether the checksum is kept, once for the account
    ]  # 5 MiB, and twice as much after a quick one
    assert account.read("/file") == NEW
    assert not account.uploads


@pytest.mark.parametrize(
    "fault", [Drop(), Drop(reset=True), CutUpload(1000), Answer(502), LoseReply()], ids=str
)
@pytest.mark.parametrize(("method", "nth"), [("MKCOL", 1), ("PUT", 1), ("PUT", 2), ("MOVE", 1)])
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
        await send(pieces, FILE, Condition(version))
    assembled = isinstance(fault, LoseReply) and method == "MOVE"
    assert account.read("/file") == (NEW if assembled else OLD)
    server.requests.reset()
    if assembled:
        with pytest.raises(Changed):  # who called looks, and finds that it is there
            await send(pieces, FILE, Condition(version))
    else:
        await send(pieces, FILE, Condition(version))
    assert account.read("/file") == NEW
    sent = sum(record.request_bytes for record in server.requests.matching("PUT"))
    if method == "MOVE" and not assembled:
        assert not sent, "what is there is not sent again"


async def test_a_line_that_lasts_for_one_piece_gets_it_all_there(
    pieces: WebdavRemote, server: StandIn, account: Account, version: RemoteVersion
) -> None:
    """Each try gets one piece there and no more: were it sent again by the next, none would ever get further."""
    for _ in range(3):
        cut = server.faults.add(CutUpload(1000), method="PUT", path="/uploads/", nth=2)
        with suppress(Unreachable):
            await send(pieces, FILE, Condition(version))
        server.faults.remove(cut)
    assert account.read("/file") == NEW


async def test_a_piece_that_was_cut_is_a_shorter_one(
    pieces: WebdavRemote, server: StandIn, account: Account, version: RemoteVersion
) -> None:
    """Pieces are put one behind the other: the next one begins where it ends."""
    server.faults.add(Answer(502), method="PUT", path="/uploads/", nth=2)
    with pytest.raises(ServerFault):
        await send(pieces, FILE, Condition(version))
    account.cut_chunk("00001", 4711)
    server.requests.reset()
    await send(pieces, FILE, Condition(version))
    assert account.read("/file") == NEW
    assert not server.requests.matching("PUT", "/00001$")


async def test_a_piece_of_a_dead_connection_that_comes_late_is_noticed(
    pieces: WebdavRemote, server: StandIn, account: Account, version: RemoteVersion
) -> None:
    server.faults.add(Answer(502), method="MOVE")
    with pytest.raises(ServerFault):
        await send(pieces, FILE, Condition(version))
    # Pieces 1 and 2 are there. Another one, of a try with smaller pieces, would be put behind them.
    (name,) = account.uploads
    url = f"{server.url}/remote.php/dav/uploads/alice/{name}/00009"
    async with httpx.AsyncClient(auth=("alice", account.app_password())) as late:
        assert (await late.put(url, content=b"late")).status_code == 201
    with pytest.raises(ServerFault) as caught:
        await send(pieces, FILE, Condition(version))
    assert caught.value.temporary
    assert account.read("/file") == OLD
    await send(pieces, FILE, Condition(version))
    assert account.read("/file") == NEW


async def test_a_file_that_lacks_a_piece_is_not_taken_for_the_one_that_was_sent(
    server: StandIn, account: Account, version: RemoteVersion
) -> None:
    """Version 2 puts together what it has, whatever OC-Total-Length says; its answer is as good as any."""
    site = await discover(server.url, "alice", account.password)
    remote = Short(site, account.app_password(), limits=Limits(piece_bytes=PIECE))
    with pytest.raises(ProtocolViolation, match=f"{PIECE} of {len(NEW)}"):
        await send(remote, FILE, Condition(version))
    await remote.aclose()


class Short(WebdavRemote):
    """Its server shows of a file that one piece arrived."""

    async def stat(self, path: RemotePath) -> RemoteEntry:
        entry = await super().stat(path)
        short = msgspec.structs.replace(entry.version, size=PIECE, checksum=None)
        return msgspec.structs.replace(entry, version=short)


@pytest.mark.parametrize(("name", "size"), [("00001", "9" * 5000), ("9" * 5000, "5"), ("00001", "\u0665")])
async def test_pieces_with_numbers_that_are_none_are_sent_again(
    pieces: WebdavRemote, server: StandIn, account: Account, version: RemoteVersion, name: str, size: str
) -> None:
    server.faults.add(Answer(502), method="MOVE")
    with pytest.raises(ServerFault):
        await send(pieces, FILE, Condition(version))
    body = (
        f"<d:multistatus xmlns:d='DAV:'><d:response><d:href>/{name}</d:href><d:propstat><d:prop>"
        f"<d:getcontentlength>{size}</d:getcontentlength></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat>"
        "</d:response></d:multistatus>"
    )
    server.faults.add(Answer(207, body.encode()), method="PROPFIND", path="/uploads/")
    await send(pieces, FILE, Condition(version))
    assert account.read("/file") == NEW


async def test_pieces_that_expired(
    pieces: WebdavRemote, server: StandIn, account: Account, version: RemoteVersion
) -> None:
    server.faults.add(Answer(502), method="MOVE")
    with pytest.raises(ServerFault):
        await send(pieces, FILE, Condition(version))
    account.expire_uploads()
    await send(pieces, FILE, Condition(version))
    assert account.read("/file") == NEW


# 404 is what Nextcloud says of missing pieces, of a missing target and, on a piece, of its missing folder.


async def test_the_target_is_gone(pieces: WebdavRemote, account: Account, version: RemoteVersion) -> None:
    account.delete("/file")
    with pytest.raises(Changed):
        await send(pieces, FILE, Condition(version))


@pytest.mark.parametrize("condition", ["a version", "absent"])
async def test_the_folder_is_gone(
    pieces: WebdavRemote, account: Account, version: RemoteVersion, condition: str
) -> None:
    wanted = Condition(absent=True) if condition == "absent" else Condition(version)
    error = ParentMissing if condition == "absent" else Changed
    with pytest.raises(error):
        await send(pieces, RemotePath("/gone/file"), wanted)
    account.write("/gone", b"a file has its place")
    with pytest.raises(error):
        await send(pieces, RemotePath("/gone/file"), wanted)


async def test_the_folder_goes_while_the_pieces_are_sent(
    pieces: WebdavRemote, server: StandIn, account: Account
) -> None:
    account.mkdir("/folder")
    path = RemotePath("/folder/file")
    server.faults.add(Answer(502), method="MOVE")
    with pytest.raises(ServerFault):
        await send(pieces, path, Condition(absent=True))
    account.delete("/folder")
    with pytest.raises(ParentMissing):
        await send(pieces, path, Condition(absent=True))


async def test_pieces_that_go_while_they_are_put_together(
    pieces: WebdavRemote, server: StandIn, account: Account, version: RemoteVersion
) -> None:
    """By an earlier request, that was given up, among others: what became of the file has to be found out."""

    def expire(_record: Record) -> bool:
        account.expire_uploads()
        return False

    server.faults.add(Drop(), method="MOVE", predicate=expire)
    with pytest.raises(ServerFault) as caught:
        await send(pieces, FILE, Condition(version))
    assert caught.value.temporary
    server.faults.clear()
    await send(pieces, FILE, Condition(version))
    assert account.read("/file") == NEW


async def test_a_proxy_that_takes_less(
    pieces: WebdavRemote, server: StandIn, account: Account, version: RemoteVersion
) -> None:
    server.faults.add(
        Answer(413),
        method="PUT",
        predicate=lambda record: int(record.headers["content-length"]) > PIECE,
        times=None,
    )
    await send(pieces, FILE, Condition(version))
    assert account.read("/file") == NEW
    server.faults.clear()
    server.faults.add(Answer(413), method="PUT", times=None)
    again = (await pieces.stat(FILE)).version
    with pytest.raises(TooLarge):
        await send(pieces, FILE, Condition(again), NEW[1:], name="x-2")


async def test_where_files_may_be_changed_and_none_created(
    pieces: WebdavRemote, server: StandIn, account: Account
) -> None:
    """As in a share that allows no more than to edit: the server puts no pieces together there, but takes a PUT."""
    account.populate({"share/file": OLD})
    account.share_root("/share", "SGNVW")
    path = RemotePath("/share/file")
    found = (await pieces.stat(path)).version
    await send(pieces, path, Condition(found))
    assert account.read("/share/file") == NEW
    with pytest.raises(Changed):
        await send(pieces, path, Condition(found), NEW[1:], name="x-2")
    account.set_permissions("/share", "SG")
    found = (await pieces.stat(path)).version
    with pytest.raises(Forbidden):
        await send(pieces, path, Condition(found), NEW[1:], name="x-2")
    with pytest.raises(Forbidden):
        await send(pieces, RemotePath("/share/new"), Condition(absent=True))
    assert account.read("/share/file") == NEW


async def test_another_refusal_never_makes_it_a_put(
    pieces: WebdavRemote, server: StandIn, account: Account
) -> None:
    """Where files may be created it has another reason, and a PUT that is cut would leave the file cut."""
    account.populate({"folder/file": OLD})
    path = RemotePath("/folder/file")
    found = (await pieces.stat(path)).version
    server.faults.add(Answer(403), method="MOVE")
    with pytest.raises(Forbidden):
        await send(pieces, path, Condition(found))
    assert server.requests.count("PUT", "/folder/file$") == 0
    assert account.read("/folder/file") == OLD


def takes_a_piece(server: StandIn) -> None:
    """Have a proxy in front of the server refuse bodies larger than a piece."""
    server.faults.add(
        Answer(413),
        method="PUT",
        predicate=lambda record: int(record.headers["content-length"]) > PIECE,
        times=None,
    )


async def test_a_new_file_that_a_proxy_does_not_take_whole_goes_in_pieces(
    server: StandIn, account: Account
) -> None:
    site = await discover(server.url, "alice", account.password)
    remote = WebdavRemote(site, account.app_password(), limits=Limits(read_s=0.5))
    takes_a_piece(server)
    await send(remote, RemotePath("/new"), Condition(absent=True))
    assert account.read("/new") == NEW
    with pytest.raises(AlreadyExists):
        await send(remote, RemotePath("/new"), Condition(absent=True))
    server.faults.add(Answer(413), method="PUT", times=None)
    with pytest.raises(TooLarge):
        await send(remote, RemotePath("/small"), Condition(absent=True), NEW[:PIECE])
    await remote.aclose()


async def test_what_a_proxy_refused_once_it_is_not_offered_again(
    pieces: WebdavRemote, server: StandIn, account: Account, version: RemoteVersion
) -> None:
    takes_a_piece(server)
    data = NEW * 2
    await send(pieces, FILE, Condition(version), data)
    refused = [record for record in server.requests.matching("PUT") if record.status == 413]
    assert len(refused) == 1, "each refused piece may cost its whole transfer"
    assert account.read("/file") == data


async def test_no_room(pieces: WebdavRemote, account: Account, version: RemoteVersion) -> None:
    account.set_quota(PIECE)
    with pytest.raises(QuotaExceeded):
        await send(pieces, FILE, Condition(version))
    assert account.read("/file") == OLD


async def test_other_bytes_under_the_same_name_are_another_upload(
    pieces: WebdavRemote, server: StandIn, account: Account, version: RemoteVersion
) -> None:
    server.faults.add(Answer(502), method="MOVE")
    with pytest.raises(ServerFault):
        await send(pieces, FILE, Condition(version))
    other = NEW[::-1]
    await send(pieces, FILE, Condition(version), other)
    assert account.read("/file") == other


async def test_the_target_changes_between_the_pieces(
    pieces: WebdavRemote, server: StandIn, account: Account, version: RemoteVersion
) -> None:
    server.faults.add(Answer(502), method="MOVE")
    with pytest.raises(RemoteError):
        await send(pieces, FILE, Condition(version))
    account.write("/file", b"somebody else's", mtime=1_600_000_000)  # in the same second it had the same ETag
    with pytest.raises(Changed):
        await send(pieces, FILE, Condition(version))
    assert account.read("/file") == b"somebody else's"


@pytest.mark.parametrize("new", [True, False])
async def test_pieces_go_on_under_another_name(
    pieces: WebdavRemote, server: StandIn, account: Account, version: RemoteVersion, new: bool
) -> None:
    """Renamed after the line broke: in version 1 of the protocol pieces belong to no place."""
    pieces.note_pieces(begun := Begun())
    condition = Condition(absent=True) if new else Condition(version)
    source, target = RemotePath("/new") if new else FILE, RemotePath("/renamed")
    server.faults.add(Answer(502), method="MOVE")
    with pytest.raises(ServerFault):
        await send(pieces, source, condition)
    if not new:
        await pieces.move(FILE, target)
    server.requests.reset()
    await send(pieces, target, condition)
    assert not server.requests.matching("PUT")
    assert account.read("/renamed") == NEW
    assert not account.uploads
    assert not begun.folders
