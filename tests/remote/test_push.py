"""Being told of changes by notify_push: what is understood, whom the password is sent to, and how it ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

import msgspec
import pytest
import trio

from cloudfs.errors import NotAuthenticated, RemoteError, ServerFault, Unreachable, Unsupported
from cloudfs.remote import push
from cloudfs.remote.connect import Site, discover
from cloudfs.remote.files import WebdavRemote
from cloudfs.remote.protocol import Features, Pushed
from cloudfs.remote.tls import make_context
from tests.servers import Answer, StandIn

USER, PASSWORD = "alice", "alice-Pass-123"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("notify_file", Pushed(None)),
        ("notify_file_id [1,22,333]", Pushed(("1", "22", "333"))),
        (b"notify_file_id [7]", Pushed(("7",))),
        ("notify_file_id []", Pushed(())),
        ("notify_file_id nonsense", Pushed(None)),
        ('notify_file_id ["a"]', Pushed(None)),
        ("notify_activity", None),
        ("notify_notification", None),
        ("custom {}", None),
        ("", None),
        (b"\xff\xfe", None),
    ],
)
def test_what_messages_mean(message: str | bytes, expected: Pushed | None) -> None:
    assert push.heard_in(message) == expected


@pytest.mark.parametrize(
    ("announced", "base_url", "expected"),
    [
        ("wss://c.example/push/ws", "https://c.example/", "wss://c.example/push/ws"),
        ("ws://internal:8080/push/ws", "https://c.example/", "wss://c.example/push/ws"),
        ("wss://evil.example/push/ws", "https://c.example/", "wss://c.example/push/ws"),
        ("wss://c.example/push/ws", "http://127.0.0.1:8480/cloud/", "ws://127.0.0.1:8480/push/ws"),
        ("wss://c.example/n/push/ws?x=1", "https://c.example:444/n/", "wss://c.example:444/n/push/ws?x=1"),
    ],
)
def test_the_websocket_is_on_the_host_that_was_typed(announced: str, base_url: str, expected: str) -> None:
    assert push.based_on(announced, base_url) == expected


@pytest.mark.parametrize("announced", ["", "None", "https://c.example/push/ws", "wss:///x", "javascript:1"])
def test_what_is_no_websocket_is_none(announced: str) -> None:
    with pytest.raises(ValueError, match="websocket"):
        push.based_on(announced, "https://c.example/")


async def test_an_address_on_another_host_is_never_asked() -> None:
    site = Site(
        "http://127.0.0.1:1/remote.php/dav/files/alice/",
        USER,
        Features(name="x", nextcloud=True, push_url="ws://127.0.0.2:1/push/ws"),
    )
    remote = WebdavRemote(site, PASSWORD)
    with pytest.raises(Unsupported):
        await remote.follow_changes(lambda: None, lambda _: None)
    await remote.aclose()


# With a server


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn(push=True) as standin:
        yield standin


class Listener:
    """Follows changes until the connection ends."""

    def __init__(self, server: StandIn, password: str = PASSWORD) -> None:
        self._server, self._password = server, password
        self.connected = trio.Event()
        self.heard: list[Pushed] = []
        self.error: RemoteError | None = None
        self._changed = trio.Event()

    async def run(self) -> None:
        site = await discover(self._server.url, USER, PASSWORD)
        remote = WebdavRemote(site, self._password)
        try:
            await remote.follow_changes(self.connected.set, self._hear)
        except RemoteError as error:
            self.error = error
        finally:
            self._changed.set()
            with trio.CancelScope(shield=True):
                await remote.aclose()

    def _hear(self, pushed: Pushed) -> None:
        self.heard.append(pushed)
        self._changed.set()

    async def hears(self, count: int) -> list[Pushed]:
        while len(self.heard) < count and self.error is None:
            self._changed = trio.Event()
            await self._changed.wait()
        return self.heard


async def listening(server: StandIn, story: Callable[[Listener], Awaitable[None]]) -> Listener:
    listener = Listener(server)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listener.run)
            await listener.connected.wait()
            while not server.push.listening():
                await trio.sleep(0.01)
            await story(listener)
            nursery.cancel_scope.cancel()
    return listener


async def test_changes_are_told_by_their_ids(server: StandIn) -> None:
    async def story(listener: Listener) -> None:
        server.account(USER).write("/file", b"new")
        server.push.tell(USER, "notify_activity")
        server.push.tell(USER, "notify_file")
        heard = await listener.hears(2)
        root = server.site.users.get(USER).tree.root  # type: ignore[union-attr]  # it is there
        (node,) = root.members()
        assert heard == [Pushed((str(node.file_id), str(root.file_id))), Pushed(None)]

    await listening(server, story)


async def test_the_server_announces_another_host_and_the_typed_one_is_asked(server: StandIn) -> None:
    site = await discover(server.url, USER, PASSWORD)
    assert site.features.push_url == f"ws://127.0.0.1:{server.port}/push/ws"
    assert "internal" in msgspec.json.encode(server.push.announced).decode()


async def test_without_the_app_there_is_nothing_to_ask() -> None:
    with StandIn() as plain:
        listener = Listener(plain)
        await listener.run()
    assert isinstance(listener.error, Unsupported)


async def test_a_token_logs_in_and_no_password_goes_over_the_websocket(server: StandIn) -> None:
    async def story(listener: Listener) -> None:
        server.push.tell(USER, "notify_file")
        assert await listener.hears(1) == [Pushed(None)]
        (connection,) = server.push.connections
        name, token, *_ = connection.words
        assert name == ""
        assert PASSWORD not in connection.words
        assert len(token) == 32

    await listening(server, story)
    (asked,) = server.requests.matching("POST", "pre_auth")
    assert asked.path == "/index.php/apps/notify_push/pre_auth"


@pytest.mark.parametrize(
    "answer", [Answer(404, b"<html>"), Answer(500), Answer(200, b""), Answer(200, b"<a page>")]
)
async def test_without_a_token_name_and_password_log_in(server: StandIn, answer: Answer) -> None:
    server.faults.add(answer, method="POST")

    async def story(listener: Listener) -> None:
        (connection,) = server.push.connections
        assert connection.words[:2] == [USER, PASSWORD]

    await listening(server, story)


async def test_a_guard_before_the_token_is_not_about_the_login(server: StandIn) -> None:
    """What the account is worth the next look at it tells: nobody else may be told that the login is refused."""
    server.faults.add(Answer(401, b"<html>who are you?"), path="pre_auth")
    remote = WebdavRemote(await discover(server.url, USER, PASSWORD), PASSWORD)
    refusals: list[str] = []
    remote.admit_by(lambda: None, lambda: refusals.append("refused"))
    with pytest.raises(NotAuthenticated):
        await remote.follow_changes(lambda: None, lambda _: None)
    assert not refusals
    await remote.aclose()


async def test_a_token_that_is_not_known_is_tried_once(server: StandIn) -> None:
    server.push.forgetful = True

    async def story(listener: Listener) -> None:
        (connection,) = server.push.connections
        assert connection.words[:2] == [USER, PASSWORD]

    await listening(server, story)
    assert (server.push.opened, server.push.refused) == (2, 1)


async def test_a_login_that_the_account_refuses_never_goes_to_the_push_server(server: StandIn) -> None:
    listener = Listener(server, "wrong")
    await listener.run()
    assert isinstance(listener.error, NotAuthenticated)
    assert server.push.opened == 0


async def test_a_refused_login_is_told_apart_and_tried_once(server: StandIn) -> None:
    server.faults.add(Answer(404), method="POST")
    listener = Listener(server, "wrong")
    await listener.run()
    assert isinstance(listener.error, NotAuthenticated)
    assert server.push.refused == 1
    assert not listener.connected.is_set()


async def test_a_push_server_that_cannot_ask_about_a_login_has_not_refused_it(server: StandIn) -> None:
    """While its Nextcloud is in maintenance, say. A refused login is left alone for an hour."""
    server.faults.add(Answer(404), method="POST")
    server.push.cut_off = True
    listener = Listener(server)
    await listener.run()
    assert isinstance(listener.error, ServerFault)


async def test_a_connection_that_breaks_ends_it(server: StandIn) -> None:
    async def story(listener: Listener) -> None:
        server.push.drop()
        await listener.hears(1)
        assert isinstance(listener.error, Unreachable)

    await listening(server, story)


async def test_a_server_that_is_gone_or_has_no_websocket_ends_it(server: StandIn) -> None:
    site = await discover(server.url, USER, PASSWORD)
    server.push.enabled = False
    ear = push.Ear(lambda: None, lambda _: None)
    with pytest.raises(Unsupported):
        await push.follow(site.features.push_url, USER, PASSWORD, ear, tls=make_context(), user_agent="x")
    server.stop()
    with pytest.raises(Unreachable):
        await push.follow(site.features.push_url, USER, PASSWORD, ear, tls=make_context(), user_agent="x")


async def test_a_server_that_does_not_answer_the_login_is_given_up(
    server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "_LOGIN_S", 0.1)
    server.push.silent = True
    await _given_up(server, lambda: None)


async def test_a_server_that_falls_silent_is_given_up(
    server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "_SILENCE_S", 0.1)
    monkeypatch.setattr(push, "_PONG_S", 0.1)

    def connected() -> None:
        server.push.silent = True

    await _given_up(server, connected)
    assert server.push.opened == 1


async def _given_up(server: StandIn, connected: Callable[[], None]) -> None:
    ear = push.Ear(connected, lambda _: None)
    url = f"ws://127.0.0.1:{server.port}/push/ws"
    with trio.fail_after(20), pytest.raises(Unreachable):
        await push.follow(url, USER, PASSWORD, ear, tls=make_context(), user_agent="x")


async def test_a_server_that_is_quiet_but_there_is_listened_to_further(
    server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "_SILENCE_S", 0.05)

    async def story(listener: Listener) -> None:
        while not any(connection.pings > 2 for connection in server.push.connections):
            await trio.sleep(0.01)
        server.push.tell(USER, "notify_file")
        assert await listener.hears(1) == [Pushed(None)]

    await listening(server, story)


async def test_over_tls_only_a_trusted_server_gets_the_password() -> None:
    with StandIn(push=True, tls=True) as server:
        assert server.certificate
        trusted = make_context(server.certificate.certificate)
        site = await discover(server.url, USER, PASSWORD, tls=trusted)
        assert site.features.push_url.startswith("wss://127.0.0.1:")
        heard: list[Pushed] = []
        with trio.fail_after(20), trio.CancelScope() as enough:

            def connected() -> None:
                server.push.tell(USER, "notify_file")

            def hear(pushed: Pushed) -> None:
                heard.append(pushed)
                enough.cancel()

            ear = push.Ear(connected, hear)
            await push.follow(site.features.push_url, USER, PASSWORD, ear, tls=trusted, user_agent="x")
        assert heard == [Pushed(None)]
        said = server.push.opened
        with trio.fail_after(20), pytest.raises(Unreachable):
            await push.follow(site.features.push_url, USER, PASSWORD, ear, tls=make_context(), user_agent="x")
        assert server.push.opened == said
        server.failures.clear()  # the handshake that was broken off
