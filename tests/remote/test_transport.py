"""The transport: where credentials go, what is followed, what is bounded, who waits for whom."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from email.utils import formatdate
from functools import partial

import httpx
import msgspec
import pytest
import trio
import trio.testing

from cloudfs.errors import (
    Changed,
    LocalDamage,
    NotAuthenticated,
    ProtocolViolation,
    RemoteError,
    ServerFault,
    Unavailable,
    Unreachable,
)
from cloudfs.remote import retries
from cloudfs.remote.bodies import Upload
from cloudfs.remote.exchange import Lane, Request
from cloudfs.remote.protocol import Body
from cloudfs.remote.transport import Limits, Transport

URL = "https://cloud.example.org/dav/"
SECRET = "app-password-123"  # of nobody

Handler = (
    Callable[[httpx.Request], httpx.Response]
    | Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]
)


class Chunks(httpx.AsyncByteStream):
    """A body that comes over the wire, as bodies do (one given as bytes counts as read already)."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._body:
            yield self._body


class Closing(Chunks):
    """Knows whether it was closed."""

    closed = False

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self.closed = True


def answer(status: int, headers: dict[str, str] | None = None, content: bytes = b"") -> httpx.Response:
    return httpx.Response(status, headers=headers, stream=Chunks(content))


async def sent(request: httpx.Request) -> bytes:
    """Read the body as the wire does."""
    assert isinstance(request.stream, httpx.AsyncByteStream)
    return b"".join([chunk async for chunk in request.stream])


def transport(handler: Handler, limits: Limits | None = None) -> Transport:
    return Transport(
        URL,
        httpx.BasicAuth("alice", SECRET),
        tls=ssl.create_default_context(),
        limits=limits,
        wire=lambda lane: httpx.MockTransport(handler),  # noqa: ARG005  # one for all lanes
    )


def request(method: str = "PROPFIND", path: str = "a", **more: object) -> Request:
    return Request(method, URL + path, "/a", **more)  # type: ignore[arg-type]  # keywords of a test


@pytest.mark.parametrize("ahead_s", [-7200, 0, 7200])
async def test_the_server_s_clock_is_known_by_its_replies(ahead_s: int) -> None:
    def handler(_request: httpx.Request) -> httpx.Response:
        return answer(200, {"Date": formatdate(time.time() + ahead_s, usegmt=True)})

    client = transport(handler)
    assert client.clock_skew_s == 0
    await client.fetch(request("GET"), 200)
    assert abs(client.clock_skew_s - ahead_s) <= 2
    await client.aclose()


async def test_what_every_request_carries() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return answer(207, headers={"Set-Cookie": "session=1; path=/"})

    client = transport(handler)
    await client.fetch(request(), 207)
    await client.fetch(request(lane=Lane.UPLOADS), 207)
    assert seen[0].headers["User-Agent"].startswith("cloudfs/")
    assert seen[0].headers["OCS-APIRequest"] == "true"
    assert seen[0].headers["Accept-Encoding"] == "identity"
    assert seen[0].headers["Authorization"].startswith("Basic ")
    assert "Cookie" not in seen[0].headers
    assert seen[1].headers["Cookie"] == "session=1"  # one jar for all lanes
    await client.aclose()


async def test_secrets_are_in_no_text() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError(f"connecting with {request.headers['Authorization']}", request=request)

    client = transport(handler)
    with pytest.raises(Unreachable) as caught:
        await client.fetch(request())
    texts = [repr(client), str(client), str(caught.value), repr(caught.value), repr(request())]
    assert not [text for text in texts if SECRET in text or "Basic" in text]
    await client.aclose()


@pytest.mark.parametrize(
    "location",
    [
        "http://cloud.example.org/dav/a",
        "https://cloud.example.org:8443/dav/a",
        "https://evil.example.org/dav/a",
        "//evil.example.org/dav/a",
        "https://cloud.example.org@evil.example.org/",
        "ftp://cloud.example.org/",
        "https://",
        "javascript:alert(1)",
    ],
)
async def test_no_redirect_takes_credentials_elsewhere(location: str) -> None:
    hosts: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        hosts.append(f"{request.url.scheme}://{request.url.netloc.decode()}")
        return answer(302, headers={"Location": location})

    client = transport(handler)
    with pytest.raises(ProtocolViolation) as caught:
        await client.fetch(request(), 207)
    assert set(hosts) == {"https://cloud.example.org"}
    assert not isinstance(caught.value, Unreachable)
    await client.aclose()


async def test_redirects_of_reads_are_followed_on_the_same_origin() -> None:
    async def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/"):
            return answer(207, content=await sent(request))
        return answer(301, headers={"Location": request.url.path + "/"})

    client = transport(handler)
    assert (await client.fetch(request(content=b"question"), 207)).body == b"question"
    with pytest.raises(ProtocolViolation):
        await client.fetch(request("DELETE"), 204)
    await client.aclose()


async def test_redirects_in_circles_end() -> None:
    client = transport(lambda _: answer(302, headers={"Location": URL + "a"}))
    with pytest.raises(ProtocolViolation, match="circles"):
        await client.fetch(request(), 207)
    await client.aclose()


async def test_requests_stay_on_the_origin() -> None:
    client = transport(lambda _: answer(200))
    with pytest.raises(ProtocolViolation):
        await client.fetch(Request("GET", "https://evil.example.org/", "/a"))
    await client.aclose()


async def test_a_dead_session_is_dropped_once() -> None:
    """A session may end with 401 although the credentials are good, as with a proxy that makes sessions of its own."""
    cookies: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        cookies.append(request.headers.get("Cookie"))
        if request.url.path.endswith("/login"):
            return answer(200, headers={"Set-Cookie": "session=1; path=/"})
        return answer(401 if cookies[-1] else 207)

    client = transport(handler)
    await client.fetch(request(path="login"), 200)
    await client.fetch(request(), 207)
    assert cookies == [None, "session=1", None]
    await client.aclose()


async def test_who_gives_up_while_another_tries_the_login_again_leaves_no_reply_open(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Both got 401 with the session; one asks again without, the other waits for what becomes of that."""
    del autojump_clock
    bodies: list[Closing] = []
    together = trio.Event()

    async def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/login"):
            return answer(200, headers={"Set-Cookie": "session=1; path=/"})
        if "Cookie" not in request.headers:
            await trio.sleep_forever()
        bodies.append(Closing(b"refused"))
        if len(bodies) == 2:
            together.set()
        await together.wait()
        return httpx.Response(401, stream=bodies[-1 if request.url.path.endswith("b") else 0])

    client = transport(handler)
    await client.fetch(request(path="login"), 200)
    with trio.move_on_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.fetch, request(path="a"), 207)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(client.fetch, request(path="b"), 207)
    assert [body.closed for body in bodies] == [True, True]
    await client.aclose()


async def test_where_sessions_do_not_die_a_refusal_is_believed() -> None:
    cookies: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        cookies.append(request.headers.get("Cookie"))
        return answer(401 if len(cookies) > 1 else 200, headers={"Set-Cookie": "session=1; path=/"})

    client = transport(handler)
    client.identity.sessions_die = False
    refused: list[int] = []
    client.refused = lambda: refused.append(len(cookies))
    await client.fetch(request(path="login"), 200)
    for _ in range(2):
        with pytest.raises(NotAuthenticated):
            await client.fetch(request(), 207)
    assert cookies == [None, "session=1", None], "the next try is without the session"
    assert refused == [2, 3]
    await client.aclose()


async def test_a_refused_login_cuts_what_comes_to_nothing(autojump_clock: trio.testing.MockClock) -> None:
    """New files and pieces end on their way; what would leave a file cut goes on, and so does what was sent whole."""
    del autojump_clock
    taken: dict[str, int] = {}

    async def handler(request: httpx.Request) -> httpx.Response:
        if request.method != "PUT":
            return answer(401)
        name = request.url.path.rpartition("/")[2]
        assert isinstance(request.stream, httpx.AsyncByteStream)
        async for piece in request.stream:
            taken[name] = taken.get(name, 0) + len(piece)
            await trio.sleep(1)
        await trio.sleep(3600)
        return answer(401)

    client = transport(handler)
    cut: list[str] = []

    async def put(name: str, size: int, *, severable: bool) -> None:
        async def pieces(start: int = 0) -> AsyncIterator[bytes]:
            for _ in range(start, size):
                yield b"x"

        sending = request("PUT", name, content=lambda: Upload(pieces, size), severable=severable)
        with pytest.raises(Unreachable, match="cut off"):
            await client.fetch(msgspec.structs.replace(sending, lane=Lane.UPLOADS), 201)
        cut.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(put, "new", 100, severable=True))
        nursery.start_soon(partial(put, "over", 100, severable=False))
        nursery.start_soon(partial(put, "whole", 5, severable=True))
        await trio.sleep(10.5)
        with pytest.raises(NotAuthenticated):
            await client.fetch(request(), 207)
        await trio.sleep(50)
        assert cut == ["new"]
        assert taken == {"new": 11, "over": 61, "whole": 5}
        nursery.cancel_scope.cancel()
    await client.aclose()


async def test_wrong_credentials_are_asked_for_once() -> None:
    tries: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        tries.append(request.method)
        return answer(401)

    client = transport(handler)
    with pytest.raises(NotAuthenticated):
        await client.fetch(request(), 207)
    assert len(tries) == 1
    await client.aclose()


async def test_whole_replies_are_bounded() -> None:
    client = transport(lambda _: answer(200, content=b"x" * 1001), Limits(reply_bytes=1000))
    with pytest.raises(ProtocolViolation, match="larger"):
        await client.fetch(request(), 200)
    await client.aclose()


async def test_an_error_page_of_any_size_is_an_error() -> None:
    client = transport(lambda _: answer(500, content=b"x" * 10_000_000))
    with pytest.raises(ServerFault):
        await client.fetch(request(), 207)
    await client.aclose()


async def test_lanes_do_not_wait_for_each_other() -> None:
    async def handler(request: httpx.Request) -> httpx.Response:
        if request.method == "PUT":
            await trio.sleep_forever()
        return answer(207)

    client = transport(handler, Limits(uploads_lane=2))

    async def upload() -> None:
        await client.fetch(request("PUT", lane=Lane.UPLOADS))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(upload)
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(5):
            await client.fetch(request(), 207)
        nursery.cancel_scope.cancel()
    await client.aclose()


async def test_a_cancelled_request_gives_its_slot_back() -> None:
    async def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("hang"):
            await trio.sleep_forever()
        return answer(207)

    client = transport(handler, Limits(metadata_lane=1))
    for _ in range(3):
        with trio.move_on_after(0.01):
            await client.fetch(request(path="hang"))
    with trio.fail_after(5):
        await client.fetch(request(), 207)
    await client.aclose()


def body_of(*chunks: bytes) -> Body:
    async def generate(start: int = 0) -> AsyncIterator[bytes]:
        assert start == 0
        for chunk in chunks:
            yield chunk

    return generate


@pytest.mark.parametrize(
    ("chunks", "size"), [((b"abc",), 2), ((b"abc",), 4), ((), 1), ((b"a", b"b", b"c"), 2)]
)
async def test_an_upload_has_its_promised_size(chunks: tuple[bytes, ...], size: int) -> None:
    upload = Upload(body_of(*chunks), size)
    with pytest.raises(LocalDamage):
        async for _ in upload:
            pass
    await upload.aclose()


async def test_a_disk_that_fails_is_no_network_trouble() -> None:
    async def broken(start: int = 0) -> AsyncIterator[bytes]:
        assert start == 0
        yield b"a"
        raise OSError(5, "Input/output error")

    async def handler(request: httpx.Request) -> httpx.Response:
        await sent(request)
        return answer(201)

    client = transport(handler)
    with pytest.raises(LocalDamage):
        await client.fetch(request("PUT", content=lambda: Upload(broken, 2), lane=Lane.UPLOADS), 201)
    await client.aclose()


async def test_an_upload_can_start_again() -> None:
    upload = Upload(body_of(b"ab", b"c"), 3)
    for _ in range(2):
        assert b"".join([chunk async for chunk in upload]) == b"abc"
        await upload.aclose()


class TestRetries:
    async def outcome(self, *errors: RemoteError) -> tuple[int, RemoteError | None]:
        tries = 0

        async def attempt() -> int:
            nonlocal tries
            tries += 1
            if tries <= len(errors):
                raise errors[tries - 1]
            return tries

        try:
            await retries.read(attempt, "/a", 60)
        except RemoteError as error:
            return tries, error
        return tries, None

    async def test_temporary_errors_are_tried_three_times(
        self, autojump_clock: trio.testing.MockClock
    ) -> None:
        del autojump_clock
        lost = Unreachable("x")
        assert await self.outcome(lost, ServerFault("x", status=502)) == (3, None)
        assert await self.outcome(lost, lost, lost, lost) == (3, lost)

    @pytest.mark.parametrize(
        "error",
        [NotAuthenticated("x"), Changed("x"), Unavailable("x", status=503), ServerFault("x", status=400)],
    )
    async def test_others_are_not(self, error: RemoteError) -> None:
        assert await self.outcome(error) == (1, error)

    async def test_all_tries_together_are_bounded(self, autojump_clock: trio.testing.MockClock) -> None:
        del autojump_clock

        async def attempt() -> None:
            await trio.sleep(7)
            raise Unreachable("x")

        start = trio.current_time()
        with pytest.raises(Unreachable, match="within 12 seconds"):
            await retries.read(attempt, "/a", 12)
        assert trio.current_time() - start == 12

    async def test_the_server_may_ask_for_patience(self, autojump_clock: trio.testing.MockClock) -> None:
        del autojump_clock
        start = trio.current_time()
        await self.outcome(ServerFault("x", status=500, retry_after_s=5))
        assert 5 <= trio.current_time() - start <= 6
