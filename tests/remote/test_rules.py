"""The sixteen rules of protocol.md §0, a case each: what goes over the wire obeys them.

What servers do, because of which there are such rules, is in tests/conformance/test_nextcloud_rules.py.
Further cases stand where the rule is at work: 3 in test_bulk, 4 in metadata/test_trees, 5 in sync/test_blindspots,
6 and 9 in test_chunked, 8 in functional/test_saves, 12 in functional/test_names, 13 in test_multistatus,
15 in sync/test_doubts.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator

import pytest
import trio

from cloudfs.errors import Locked, NotFound, Unreachable
from cloudfs.paths import is_local_only
from cloudfs.remote import dialect
from cloudfs.remote.connect import Site, discover, exchange_password
from cloudfs.remote.files import WebdavRemote
from cloudfs.remote.protocol import Condition, NewFile
from cloudfs.types import RemotePath, RemoteVersion
from tests.remote.conftest import body_of, store
from tests.servers import Account, Answer, LoseReply, StandIn

ROOT, FILE = RemotePath("/"), RemotePath("/file")
_LOCKED = (
    b'<?xml version="1.0"?><d:error xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns">'
    b"<s:exception>OCP\\Lock\\LockedException</s:exception><s:message>locked</s:message></d:error>"
)


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


@pytest.fixture
def account(server: StandIn) -> Account:
    return server.account("alice")


@pytest.fixture
def site(server: StandIn, account: Account) -> Site:
    return trio.run(discover, server.url, "alice", account.password)


@pytest.fixture
async def remote(server: StandIn, account: Account, site: Site) -> AsyncIterator[WebdavRemote]:
    remote = WebdavRemote(site, account.app_password())
    server.requests.reset()
    yield remote
    await remote.aclose()


async def test_rule_01_the_login_password_is_exchanged_and_sessions_are_kept(
    server: StandIn, account: Account, site: Site
) -> None:
    app_password = await exchange_password(site, account.password, "here")
    assert app_password != account.password
    remote = WebdavRemote(site, app_password)
    server.requests.reset()
    for _ in range(3):
        await remote.stat(ROOT)
    assert ["cookie" in request.headers for request in server.requests] == [False, True, True]
    await remote.aclose()


async def test_rule_02_each_account_has_its_own_session(server: StandIn, remote: WebdavRemote) -> None:
    """The cookie beats the password: bob's with carol's password acts as bob."""
    bob = server.account("bob")
    other = WebdavRemote(await discover(server.url, "bob", bob.password), bob.app_password())
    server.requests.reset()
    for _ in range(3):
        await remote.stat(ROOT)
        await other.stat(ROOT)
    assert [request.user for request in server.requests] == ["alice", "bob"] * 3
    cookies = [request.headers.get("cookie", "") for request in server.requests][2:]
    assert set(cookies[::2]).isdisjoint(cookies[1::2])
    await other.aclose()


async def test_rule_03_many_files_go_without_the_session(server: StandIn, remote: WebdavRemote) -> None:
    await remote.stat(ROOT)
    await remote.put_bulk([NewFile(FILE, b"new", 1_500_000_000)])
    await remote.stat(ROOT)
    (bulk,) = server.requests.matching("POST")
    assert "cookie" not in bulk.headers
    assert "cookie" in server.requests[-1].headers


async def test_rule_04_a_whole_tree_is_one_request(
    server: StandIn, account: Account, remote: WebdavRemote
) -> None:
    account.populate({f"a/{number}/f": b"" for number in range(50)})
    assert len(await remote.list_tree(ROOT, most=1000)) == 52
    assert [request.headers["depth"] for request in server.requests] == ["infinity"]


async def test_rule_05_an_etag_alone_is_no_version(account: Account, remote: WebdavRemote) -> None:
    account.write("/file", b"one", mtime=1_500_000_000, checksum="SHA1:" + "1" * 40)
    before = (await remote.stat(FILE)).version
    account.write("/file", b"two", mtime=1_500_000_000, checksum="SHA1:" + "2" * 40)
    after = (await remote.stat(FILE)).version
    assert before.size == after.size
    assert not before.same_content(RemoteVersion(before.etag, after.size, after.modified_s, after.checksum))


async def test_rule_06_an_existing_file_is_never_written_in_place_by_more_than_one_send(
    server: StandIn, account: Account, remote: WebdavRemote
) -> None:
    account.write("/file", b"old")
    version, data = (await remote.stat(FILE)).version, bytes(65 * 1024)
    await remote.put(FILE, body_of(data), len(data), Condition(version), name="x")
    assert not server.requests.matching("PUT", r"/files/alice/file$")
    assert account.read("/file") == data


async def test_rule_07_bodies_say_their_length(
    server: StandIn, account: Account, remote: WebdavRemote
) -> None:
    account.write("/file", b"old")
    version, data = (await remote.stat(FILE)).version, bytes(100_000)
    await remote.put(FILE, body_of(data), len(data), Condition(version), name="x")
    await store(remote, RemotePath("/new"), data)
    await store(remote, RemotePath("/empty"), b"")
    for request in server.requests:
        assert "transfer-encoding" not in request.headers
        assert request.method != "PUT" or "content-length" in request.headers


async def test_rule_08_a_move_replaces_nothing(
    server: StandIn, account: Account, remote: WebdavRemote
) -> None:
    account.populate({"file": b"", "folder/precious": b""})
    await remote.move(FILE, RemotePath("/moved"))
    await remote.copy(RemotePath("/moved"), RemotePath("/copied"))
    assert {
        request.headers["overwrite"] for request in server.requests if "destination" in request.headers
    } == {"F"}


async def test_rule_09_a_condition_on_pieces_is_about_what_they_replace(
    server: StandIn, account: Account, remote: WebdavRemote
) -> None:
    etag, data = account.write("/file", b"old"), bytes(100_000)
    version = (await remote.stat(FILE)).version
    await remote.put(FILE, body_of(data), len(data), Condition(version), name="x")
    (move,) = server.requests.matching("MOVE")
    assert "if-match" not in move.headers
    assert move.headers["if"].endswith(f'/files/alice/file> (["{etag}"])')


async def test_rule_10_two_bytes_are_asked_for_at_least(
    server: StandIn, account: Account, remote: WebdavRemote
) -> None:
    account.populate({"file": b"content", "empty": b""})
    version = (await remote.stat(FILE)).version
    assert await remote.get_range(FILE, 0, 1, version) == b"c"
    assert await remote.get_range(RemotePath("/empty"), 0, 0, RemoteVersion("", 0, 0)) == b""
    (get,) = server.requests.matching("GET")
    assert get.headers["range"] == "bytes=0-1"


@pytest.mark.parametrize("mtime_s", [-5, 0, 1, 86400])
async def test_rule_11_no_time_is_sent_that_the_server_chokes_on(
    server: StandIn, remote: WebdavRemote, mtime_s: int
) -> None:
    await remote.put(FILE, body_of(b"x"), 1, Condition(absent=True), mtime_s=mtime_s)
    await remote.put_bulk([NewFile(RemotePath("/bulk"), b"x", mtime_s)])
    (put,) = server.requests.matching("PUT")
    assert put.headers["x-oc-mtime"] == "86401"
    assert (await remote.stat(RemotePath("/bulk"))).version.modified_s == 86401


async def test_rule_12_part_files_are_phantoms_and_stay_here(remote: WebdavRemote) -> None:
    for path in ("/x.part", "/x.part/inside"):
        with pytest.raises(NotFound):
            await remote.stat(RemotePath(path))
    assert is_local_only("film.mkv.part")
    assert not NewFile(RemotePath("/x.part"), b"", 0).fits_bulk


async def test_rule_13_names_come_from_hrefs(account: Account, remote: WebdavRemote) -> None:
    account.populate({"\ufffe": b"", "plain": b""})
    assert {member.name for member in (await remote.list_folder(ROOT))[1]} == {"\ufffe", "plain"}
    asked = dialect.stat_properties(remote.features)
    assert "d:displayname" not in asked


async def test_rule_14_a_locked_move_is_known_by_its_exception(
    server: StandIn, account: Account, remote: WebdavRemote
) -> None:
    account.write("/file", b"")
    server.faults.add(Answer(500, _LOCKED, {"Content-Type": "application/xml"}), method="MOVE")
    with pytest.raises(Locked) as caught:
        await remote.move(FILE, RemotePath("/moved"))
    assert caught.value.temporary


async def test_rule_15_what_was_sent_may_be_done_and_a_checksum_proves_it(
    server: StandIn, account: Account, remote: WebdavRemote
) -> None:
    """One try: whoever sent it has to look before the next."""
    checksum = "SHA1:" + hashlib.sha1(b"ours", usedforsecurity=False).hexdigest()
    server.faults.add(LoseReply(), method="PUT", times=None)
    with pytest.raises(Unreachable):
        await remote.put(FILE, body_of(b"ours"), 4, Condition(absent=True), checksum=checksum)
    assert len(server.requests.matching("PUT")) == 1
    assert account.read("/file") == b"ours"
    assert (await remote.stat(FILE)).version.checksum == checksum


async def test_rule_16_every_request_says_who_asks_and_how(
    server: StandIn, account: Account, remote: WebdavRemote
) -> None:
    account.write("/file", b"content")
    version = (await remote.stat(FILE)).version
    await remote.list_folder(ROOT)
    await remote.get_range(FILE, 0, 7, version)
    async with remote.stream(FILE, 0, 7, version) as chunks:
        assert [chunk async for chunk in chunks] == [b"content"]
    await store(remote, RemotePath("/new"), b"")
    await remote.space()
    await remote.identify(["1"])
    assert await remote.set_mtime(FILE, 1_500_000_000) == 1_500_000_000
    encodings = {"GET": "identity", "PROPFIND": "gzip", "SEARCH": "gzip"}
    for request in server.requests:
        assert request.headers["user-agent"].startswith("cloudfs/")
        assert request.headers["ocs-apirequest"] == "true"
        if "/ocs/" not in request.path:
            assert request.headers["accept-encoding"] == encodings.get(
                request.method, request.headers["accept-encoding"]
            )
        asks_for_properties = request.method in {"PROPFIND", "PROPPATCH"}
        assert not asks_for_properties or request.headers["prefer"] == "return=minimal"
