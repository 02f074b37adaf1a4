"""Large new files in one request where the line is quick, and in pieces where it is not."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import pytest
import trio
from trio.testing import MockClock

from cloudfs.errors import AlreadyExists, QuotaExceeded, RemoteError, ServerFault, Unreachable
from cloudfs.remote.connect import discover
from cloudfs.remote.files import WebdavRemote
from cloudfs.remote.onego import OneGo
from cloudfs.remote.protocol import Condition
from cloudfs.remote.transport import Limits
from cloudfs.types import RemotePath
from tests.remote.conftest import Begun, body_of
from tests.servers import Account, Answer, CutUpload, Hold, StandIn

MIB = 1024 * 1024
PIECE = 5 * MIB
DATA = random.Random(7).randbytes(2 * PIECE + 4711)
NEW = RemotePath("/new")
ABSENT = Condition(absent=True)


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


@pytest.fixture
def account(server: StandIn) -> Account:
    return server.account("alice")


@pytest.fixture
async def remote(server: StandIn, account: Account) -> AsyncIterator[WebdavRemote]:
    """Of 256 MiB and 64 MiB small ones are made, with which all goes as with these."""
    site = await discover(server.url, "alice", account.password)
    limits = Limits(whole_bytes=PIECE, piece_bytes=PIECE, one_go_bytes=4 * PIECE)
    remote = WebdavRemote(site, account.app_password(), limits=limits)
    await remote.stat(RemotePath("/"))
    server.requests.reset()
    yield remote
    await remote.aclose()


async def send(remote: WebdavRemote, path: RemotePath = NEW, data: bytes = DATA) -> None:
    await remote.put(path, body_of(data), len(data), ABSENT, name=f"name of {path}")


async def quick(remote: WebdavRemote) -> None:
    """Have the line be known: something went up."""
    await send(remote, RemotePath(f"/before {trio.current_time()}"), bytes(PIECE))


async def test_on_a_line_that_is_known_to_be_quick_it_is_one_request(
    remote: WebdavRemote, server: StandIn, account: Account
) -> None:
    await quick(remote)
    server.requests.reset()
    await send(remote)
    assert server.requests.methods == ["PUT"]
    assert account.read("/new") == DATA


async def test_pieces_tell_how_quick_it_is(remote: WebdavRemote, server: StandIn) -> None:
    await send(remote)
    assert server.requests.methods[0] == "MKCOL"
    server.requests.reset()
    await send(remote, RemotePath("/another"))
    assert server.requests.methods == ["PUT"]


async def test_what_is_too_large_goes_in_pieces_at_once(remote: WebdavRemote, server: StandIn) -> None:
    await quick(remote)
    server.requests.reset()
    await send(remote, data=bytes(4 * PIECE + 1))
    assert server.requests.methods[:2] == ["MKCOL", "PUT"]


async def test_a_proxy_that_takes_less_in_one_request_gets_pieces(
    remote: WebdavRemote, server: StandIn, account: Account
) -> None:
    await quick(remote)
    server.requests.reset()
    server.faults.add(Answer(413), method="PUT")
    await send(remote)
    assert server.requests.methods[:2] == ["PUT", "MKCOL"]
    assert account.read("/new") == DATA


async def test_after_a_broken_line_it_goes_in_pieces(
    remote: WebdavRemote, server: StandIn, account: Account
) -> None:
    await quick(remote)
    server.requests.reset()
    server.faults.add(CutUpload(MIB), method="PUT")
    with pytest.raises(Unreachable):
        await send(remote)
    assert "/new" not in account.tree()
    server.requests.reset()
    await send(remote)
    assert server.requests.methods[0] == "MKCOL"
    assert account.read("/new") == DATA


async def test_what_another_client_put_there_stays(
    remote: WebdavRemote, server: StandIn, account: Account
) -> None:
    await quick(remote)
    server.requests.reset()
    account.write("/new", b"theirs")
    with pytest.raises(AlreadyExists):
        await send(remote)
    assert account.read("/new") == b"theirs"
    assert "MKCOL" not in server.requests.methods


@pytest.mark.parametrize(("bytes_per_s", "quick"), [(11 * MIB, True), (9 * MIB, False)])
async def test_a_line_is_judged_by_what_all_of_it_would_take(
    autojump_clock: MockClock, bytes_per_s: int, quick: bool
) -> None:
    del autojump_clock
    one_go, size = OneGo(256 * MIB), 100 * MIB
    assert not one_go.is_quick(size, size), "nothing is known yet"
    with one_go.timed(16 * MIB):
        await trio.sleep(16 * MIB / bytes_per_s)
    assert one_go.is_quick(size, size) is quick
    assert not one_go.is_quick(size, size - 1), "a limit lets less through in time"
    assert not one_go.is_quick(256 * MIB + 1, size * 100)


async def test_a_line_is_slow_only_where_that_is_known(autojump_clock: MockClock) -> None:
    del autojump_clock
    one_go, size = OneGo(256 * MIB), 20 * MIB
    assert not one_go.is_slow(size, size), "nothing is known yet"
    one_go.learn(4 * MIB, 4.0)
    assert one_go.is_slow(size, size)
    assert not one_go.is_slow(16 * MIB - 1, size), "pieces are not worth it"
    one_go.learn(4 * MIB, 1.0)
    assert not one_go.is_slow(size, size)
    assert one_go.is_slow(size, size - 1), "a limit lets less through in time"
    one_go.learn(4 * MIB, 4.0)
    await trio.sleep(601)
    assert not one_go.is_slow(size, size)


@pytest.mark.parametrize(("slow", "first"), [(True, "MKCOL"), (False, "PUT")])
async def test_a_new_file_that_is_known_to_take_long_goes_in_pieces(
    server: StandIn, account: Account, monkeypatch: pytest.MonkeyPatch, slow: bool, first: str
) -> None:
    """Broken off, or cut, it loses little."""
    monkeypatch.setattr(OneGo, "is_slow", lambda *_: slow)
    site = await discover(server.url, "alice", account.password)
    remote = WebdavRemote(site, account.app_password(), limits=Limits(whole_bytes=PIECE))
    server.requests.reset()
    await send(remote, data=DATA[:PIECE])
    assert server.requests.methods[0] == first
    assert account.read("/new") == DATA[:PIECE]
    await remote.aclose()


async def test_what_is_small_or_old_or_failed_tells_nothing(autojump_clock: MockClock) -> None:
    del autojump_clock
    one_go = OneGo(MIB)
    with one_go.timed(MIB):
        pass
    assert not one_go.is_quick(MIB, MIB)
    with pytest.raises(Unreachable), one_go.timed(4 * MIB):
        raise Unreachable("broken")
    assert not one_go.is_quick(MIB, MIB)
    with one_go.timed(4 * MIB):
        pass
    assert one_go.is_quick(MIB, MIB)
    await trio.sleep(601)
    assert not one_go.is_quick(MIB, MIB)


@pytest.mark.parametrize("status", [400, 403, 408, 411, 415, 500, 502, 504])
async def test_whoever_takes_no_large_bodies_in_whatever_way_it_says_so_gets_pieces(
    remote: WebdavRemote, server: StandIn, account: Account, status: int
) -> None:
    await quick(remote)
    server.requests.reset()
    server.faults.add(Answer(status), method="PUT", path="/new$", times=None)
    try:
        await send(remote)
    except ServerFault:  # it may have been stored all the same, and was not
        server.requests.reset()
        await send(remote)
    assert "MKCOL" in server.requests.methods
    assert account.read("/new") == DATA


async def test_a_full_account_says_nothing_about_the_line(
    remote: WebdavRemote, server: StandIn, account: Account
) -> None:
    await quick(remote)
    server.requests.reset()
    account.set_quota(PIECE)
    for _ in range(2):
        server.requests.reset()
        with pytest.raises(QuotaExceeded):
            await send(remote)
        assert server.requests.methods[0] == "PUT"
    assert "MKCOL" not in server.requests.methods


async def test_pieces_from_before_a_restart_are_gone_on_with(
    remote: WebdavRemote, server: StandIn, account: Account
) -> None:
    await quick(remote)
    server.requests.reset()
    noted = Begun()
    remote.note_pieces(noted)
    server.faults.add(CutUpload(MIB), method="PUT")
    server.faults.add(CutUpload(MIB), method="PUT", path="uploads", nth=2)
    for _ in range(2):
        with pytest.raises(Unreachable):
            await send(remote)
    assert noted.folders
    await quick(remote)
    server.requests.reset()
    await send(remote)
    assert server.requests.methods[0] == "MKCOL"
    assert account.read("/new") == DATA


# A line of which nothing is known


@pytest.fixture
def noted(remote: WebdavRemote, monkeypatch: pytest.MonkeyPatch) -> Begun:
    """Who removes what nobody goes on with; and files are small here: a third of one may be sent twice."""
    monkeypatch.setattr("cloudfs.remote.onego._SENT_TWICE", 1 / 2)
    begun = Begun()
    remote.note_pieces(begun)
    return begun


def sent_to(server: StandIn) -> list[str]:
    """Return what was sent: pieces by their numbers, all else by its method and name."""
    names = [(it.method, it.path.rpartition("/")[2]) for it in server.requests]
    return [name if name.isdecimal() else f"{method} {name}".strip() for method, name in names]


async def test_one_piece_shows_that_the_line_is_quick(
    remote: WebdavRemote, server: StandIn, account: Account, noted: Begun
) -> None:
    await send(remote)
    assert sent_to(server) == ["MKCOL", "00001", "PUT new"]
    assert account.read("/new") == DATA
    assert noted.spare == noted.folders != set(), "left to be removed, and never forgotten"
    (upload,) = account.uploads.values()
    assert list(upload.values()) == [PIECE]
    server.requests.reset()
    await send(remote, RemotePath("/next"))
    assert sent_to(server) == ["PUT next"]


@pytest.mark.parametrize("seen", ["slow", "late"])
async def test_on_a_slow_line_or_once_much_is_sent_the_pieces_go_on(
    remote: WebdavRemote,
    server: StandIn,
    account: Account,
    noted: Begun,
    monkeypatch: pytest.MonkeyPatch,
    seen: str,
) -> None:
    if seen == "slow":
        monkeypatch.setattr(OneGo, "is_quick", lambda *_: False)
    else:
        monkeypatch.setattr("cloudfs.remote.onego._SENT_TWICE", 1 / 8)
    await send(remote)
    assert sent_to(server) == ["MKCOL", "00001", "00002", "MOVE .file"]
    assert account.read("/new") == DATA
    assert not noted.folders


async def test_what_nobody_would_remove_is_not_left(
    remote: WebdavRemote, server: StandIn, noted: Begun
) -> None:
    """So many are begun that no more can be noted."""
    noted.began = lambda *_: None  # type: ignore[method-assign]  # of this one alone
    await send(remote)
    assert sent_to(server)[-1] == "MOVE .file"


@pytest.mark.parametrize("answer", [Answer(413), Answer(400), CutUpload(MIB), Answer(502)])
async def test_where_it_then_is_not_taken_the_pieces_go_on(
    remote: WebdavRemote, server: StandIn, account: Account, noted: Begun, answer: Answer | CutUpload
) -> None:
    server.faults.add(answer, method="PUT", path="/new$", times=None)
    try:
        await send(remote)
    except (ServerFault, Unreachable):  # it is not known what became of it
        await send(remote)
    went_on = ["MKCOL", "PROPFIND", "00002", "00003", "PROPFIND", "MOVE .file"]
    assert sent_to(server) == ["MKCOL", "00001", "PUT new", *went_on]
    assert account.read("/new") == DATA
    assert not noted.folders
    assert not noted.spare
    server.requests.reset()
    await send(remote, RemotePath("/another"))
    assert sent_to(server)[0] == "MKCOL", "what was not taken is not tried again"
    assert "PUT another" not in sent_to(server)


async def test_what_another_client_puts_there_meanwhile_stays(
    remote: WebdavRemote, server: StandIn, account: Account, noted: Begun
) -> None:
    piece = server.faults.add(Hold(after_execution=True), method="PUT", path="00001$")
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def send_it() -> None:
            with pytest.raises(AlreadyExists):
                await send(remote)

        await trio.to_thread.run_sync(piece.wait_hit)
        account.write("/new", b"theirs")
        piece.release()
    assert account.read("/new") == b"theirs"
    assert noted.folders
    assert not noted.spare


async def test_a_first_try_that_is_refused_is_no_time_of_the_line(
    remote: WebdavRemote, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its session has ended: what waits for that, and what was sent in vain, says nothing about the line."""
    begun, timed = [0], OneGo.timed

    @contextmanager
    def counted(one_go: OneGo, size: int) -> Iterator[Callable[[], None]]:
        with timed(one_go, size) as begins:

            def counting() -> None:
                begun[0] += 1
                begins()

            yield counting

    monkeypatch.setattr(OneGo, "timed", counted)
    server.faults.add(Answer(401), method="PUT")
    await quick(remote)
    assert server.requests.methods == ["PUT", "PUT"]
    assert begun == [2]


async def test_only_what_is_after_the_first_byte_counts(autojump_clock: MockClock) -> None:
    del autojump_clock
    one_go = OneGo(256 * MIB)
    with one_go.timed(10 * MIB) as begins:
        await trio.sleep(1000)
        begins()
        await trio.sleep(1000)
        begins()
        await trio.sleep(1)
    assert one_go.known_bytes == 100 * MIB


async def test_what_failed_is_not_tried_for_ten_minutes_nor_what_is_larger(autojump_clock: MockClock) -> None:
    del autojump_clock
    one_go = OneGo(256 * MIB)
    one_go.failed(100 * MIB)
    one_go.failed(120 * MIB)
    one_go.learn(10 * MIB, 0.1)
    assert [one_go.is_quick(size * MIB, size * MIB) for size in (99, 100, 130)] == [True, False, False]
    await trio.sleep(599)
    one_go.learn(10 * MIB, 0.1)
    assert not one_go.is_quick(100 * MIB, 100 * MIB)
    await trio.sleep(2)
    assert one_go.is_quick(100 * MIB, 100 * MIB)
    one_go.failed(120 * MIB)
    one_go.learn(10 * MIB, 0.1)
    assert one_go.is_quick(100 * MIB, 100 * MIB), "what failed long ago is forgotten"


async def test_what_a_proxy_did_not_take_is_not_sent_to_it_again(
    remote: WebdavRemote, server: StandIn
) -> None:
    """The pieces that followed showed that the line is quick, so that each large file was sent in vain first."""
    await quick(remote)
    server.faults.add(Answer(413), method="PUT", path="/(new|another)$", times=None)
    await send(remote)
    server.requests.reset()
    await send(remote, RemotePath("/another"))
    assert server.requests.methods[0] == "MKCOL"


async def test_what_a_proxy_did_not_take_shows_nothing_with_its_first_piece(
    server: StandIn, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So large a file goes in one request on any line: it was refused, and then sent in vain once more."""
    monkeypatch.setattr("cloudfs.remote.onego._SENT_TWICE", 1 / 2)
    site = await discover(server.url, "alice", account.password)
    remote = WebdavRemote(site, account.app_password(), limits=Limits(whole_bytes=4 * PIECE))
    remote.note_pieces(Begun())
    server.faults.add(Answer(413), method="PUT", path="/(new|another)$", times=None)
    server.requests.reset()
    await send(remote)
    assert sent_to(server).count("PUT new") == 1
    assert account.read("/new") == DATA
    server.requests.reset()
    await send(remote, RemotePath("/another"))
    assert "PUT another" not in sent_to(server)
    await remote.aclose()


@pytest.mark.parametrize(("size", "then"), [(2 * PIECE, "MKCOL"), (2 * PIECE - 1, "PUT")])
async def test_what_breaks_in_one_request_goes_in_pieces_also_where_nothing_is_known(
    server: StandIn, account: Account, monkeypatch: pytest.MonkeyPatch, size: int, then: str
) -> None:
    """On a line that breaks each time before all of it is there, it would never arrive. Not what is soon sent again."""
    monkeypatch.setattr("cloudfs.remote.onego._PIECES_BYTES", 2 * PIECE)
    site = await discover(server.url, "alice", account.password)
    remote = WebdavRemote(site, account.app_password())
    remote.note_pieces(Begun())
    server.faults.add(CutUpload(3 * MIB), method="PUT", path="/new$", times=1)
    with pytest.raises(Unreachable):
        await send(remote, data=DATA[:size])
    server.requests.reset()
    await send(remote, data=DATA[:size])
    assert server.requests.methods[0] == then
    assert account.read("/new") == DATA[:size]
    await remote.aclose()


async def test_what_another_network_showed_is_not_known_of_this_one(
    remote: WebdavRemote, server: StandIn, account: Account
) -> None:
    await quick(remote)
    remote.distrust_connections()
    server.requests.reset()
    await send(remote)
    assert server.requests.methods[0] == "MKCOL"
    assert account.read("/new") == DATA


# What cannot go in one request


async def overwrite(remote: WebdavRemote, name: str = "old") -> None:
    """Send `DATA` over a file that is there."""
    path = RemotePath(f"/{name}")
    await remote.put(path, body_of(b"old"), 3, ABSENT)
    version = (await remote.stat(path)).version
    await remote.put(path, body_of(DATA), len(DATA), Condition(version), name=f"name of {path}")


def pieces_sent(server: StandIn) -> list[str]:
    return [name for name in sent_to(server) if name.isdecimal()]


async def test_on_a_quick_line_the_first_piece_over_a_file_is_all_of_it(
    remote: WebdavRemote, server: StandIn, account: Account
) -> None:
    await overwrite(remote)
    assert pieces_sent(server) == ["00001", "00002"], "of 5 and 10 MiB: nothing was known"
    server.requests.reset()
    await overwrite(remote, "older")
    assert pieces_sent(server) == ["00001"]
    assert account.read("/older") == account.read("/old") == DATA


@pytest.mark.parametrize("fault", [CutUpload(MIB), Answer(413)])
async def test_once_that_broke_or_was_not_taken_the_first_piece_is_as_short_as_ever(
    remote: WebdavRemote, server: StandIn, account: Account, fault: CutUpload | Answer
) -> None:
    await quick(remote)
    server.faults.add(fault, method="PUT", path="00001$")
    try:
        await overwrite(remote)
    except Unreachable:
        version = (await remote.stat(RemotePath("/old"))).version
        await remote.put(
            RemotePath("/old"), body_of(DATA), len(DATA), Condition(version), name="name of /old"
        )
    assert account.read("/old") == DATA
    server.requests.reset()
    await overwrite(remote, "older")
    assert server.requests.matching("PUT", "00001$")[0].request_bytes == PIECE
    assert account.read("/older") == DATA


# Requests that a proxy, or a connection that does not last, ends: the next try sends less in one


@pytest.mark.parametrize("status", [400, 408, 499, 500, 502, 504, 520, 524])
async def test_a_long_first_piece_that_a_proxy_ended_is_short_at_the_next_try(
    remote: WebdavRemote,
    server: StandIn,
    account: Account,
    status: int,
) -> None:
    """As where a proxy gives a request so many seconds (Traefik: 60), and the line has become slower since."""
    await quick(remote)
    server.faults.add(Answer(status), method="PUT", path="00001$")
    with pytest.raises(RemoteError):
        await overwrite(remote)
    assert server.requests.matching("PUT", "00001$")[0].request_bytes == len(DATA)
    server.requests.reset()
    version = (await remote.stat(RemotePath("/old"))).version
    await remote.put(RemotePath("/old"), body_of(DATA), len(DATA), Condition(version), name="name of /old")
    assert account.read("/old") == DATA
    assert server.requests.matching("PUT", "00001$")[0].request_bytes == PIECE


@pytest.mark.parametrize("status", [400, 408, 502, 504, 520, 524])
async def test_what_a_proxy_ended_in_one_request_goes_in_pieces_next(
    server: StandIn,
    account: Account,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
) -> None:
    """As where a proxy gives a request 60 seconds: else it would never arrive, though nothing else is sent."""
    monkeypatch.setattr("cloudfs.remote.onego._PIECES_BYTES", 2 * PIECE)
    site = await discover(server.url, "alice", account.password)
    remote = WebdavRemote(site, account.app_password())
    remote.note_pieces(Begun())
    server.faults.add(Answer(status), method="PUT", path="/new$", times=None)
    for _ in range(3):
        try:
            await remote.put(NEW, body_of(DATA), len(DATA), ABSENT, name="name of /new")
        except RemoteError:
            continue
        break
    sent = server.requests.methods
    await remote.aclose()
    assert "MKCOL" in sent, sent
    assert account.read("/new") == DATA


async def test_what_breaks_with_each_piece_gets_shorter_ones(server: StandIn, account: Account) -> None:
    """A connection that lasts for 6 MiB: pieces of 10 MiB never arrive, those of 5 do."""
    site = await discover(server.url, "alice", account.password)
    limits = Limits(whole_bytes=PIECE, piece_bytes=2 * PIECE, one_go_bytes=PIECE)
    remote = WebdavRemote(site, account.app_password(), limits=limits)
    remote.note_pieces(Begun())
    await remote.put(NEW, body_of(b"old"), 3, ABSENT)
    version = (await remote.stat(NEW)).version
    server.faults.add(CutUpload(6 * MIB), method="PUT", path="00001$", times=None)
    for _ in range(6):
        try:
            await remote.put(NEW, body_of(DATA), len(DATA), Condition(version), name="name of /new")
        except Unreachable:
            continue
        break
    sent = [it.request_bytes for it in server.requests.matching("PUT", "0000.$")]
    await remote.aclose()
    assert account.read("/new") == DATA, sent
