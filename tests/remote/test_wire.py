"""The byte stream below HTTP: early answers, large reads, TLS, left bodies."""

from __future__ import annotations

import gc
import os
import random
import resource
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import msgspec
import pytest
import trio
import trio.testing

from cloudfs.errors import (
    NotAuthenticated,
    ProtocolViolation,
    QuotaExceeded,
    RemoteError,
    TlsRejected,
    TooLarge,
    Unreachable,
    UserError,
)
from cloudfs.remote.bodies import Upload
from cloudfs.remote.exchange import Lane, Request
from cloudfs.remote.protocol import Body
from cloudfs.remote.tls import make_context
from cloudfs.remote.transport import Limits, Transport
from cloudfs.types import BLOCK_SIZE
from tests.servers.standin.tls import self_signed

Script = Callable[[trio.abc.Stream], Awaitable[None]]
SMALL = 128 * 1024
BIG = 64 * 1024 * 1024


async def read_head(stream: trio.abc.Stream) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = await stream.receive_some()
        if not chunk:
            return b""
        data += chunk
    return data


@asynccontextmanager
async def served(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Run a server that handles every connection by `script`; yields its URL."""

    async def handle(stream: trio.SocketStream) -> None:
        outer: trio.abc.Stream = stream
        if tls is not None:
            outer = trio.SSLStream(stream, tls, server_side=True, https_compatible=True)
        try:
            await script(outer)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await trio.aclose_forcefully(outer)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}/"
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected(
    url: str, ca_file: Path | None = None, limits: Limits | None = None
) -> AsyncIterator[Transport]:
    transport = Transport(url, httpx.BasicAuth("u", "p"), tls=make_context(ca_file), limits=limits)
    yield transport
    await transport.aclose()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    made = self_signed(tmp_path_factory.mktemp("certificate"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    return context, made.certificate


def endless(size: int) -> Body:
    async def chunks(start: int = 0) -> AsyncIterator[bytes]:
        for _ in range((size - start) // 65536):
            yield bytes(65536)

    return chunks


def upload(url: str, size: int = BIG) -> Request:
    return Request(
        "PUT",
        url + "a",
        "/a",
        {"Content-Length": str(size)},
        lambda: Upload(endless(size), size),
        Lane.UPLOADS,
    )


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("close", [False, True])
@pytest.mark.parametrize(
    ("status", "kind"), [(401, NotAuthenticated), (413, TooLarge), (507, QuotaExceeded), (412, RemoteError)]
)
async def test_an_early_answer_ends_the_upload(
    status: int,
    kind: type[RemoteError],
    close: bool,
    encrypted: bool,
    certificate: tuple[ssl.SSLContext, Path],
) -> None:
    """The server answers after the head and reads no more: its answer counts, not a broken pipe."""

    async def script(stream: trio.abc.Stream) -> None:
        await read_head(stream)
        await stream.send_all(b"HTTP/1.1 %d No\r\nContent-Length: 2\r\n\r\nno" % status)
        await trio.sleep(0.05 if close else 60)

    context, ca_file = certificate
    async with served(script, context if encrypted else None) as url, connected(url, ca_file) as transport:
        with trio.fail_after(5), pytest.raises(kind) as caught:
            await transport.fetch(upload(url), 201)
        assert caught.value.status == status


@pytest.mark.parametrize("encrypted", [False, True])
async def test_an_answer_in_time_is_an_ordinary_one(
    encrypted: bool, certificate: tuple[ssl.SSLContext, Path]
) -> None:
    """Also when it comes together with the last bytes, and on the same connection again."""
    size = 4 * 1024 * 1024
    connections = 0

    async def script(stream: trio.abc.Stream) -> None:
        nonlocal connections
        connections += 1
        while head := await read_head(stream):
            left = size - len(head.partition(b"\r\n\r\n")[2])
            while left:
                left -= len(await stream.receive_some(left))
            await stream.send_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    context, ca_file = certificate
    async with served(script, context if encrypted else None) as url, connected(url, ca_file) as transport:
        for _ in range(5):
            await transport.fetch(upload(url, size), 201)
        assert connections == 1


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize(
    "said",
    [
        [b"HTTP/1.1 100 Continue\r\n\r\n"],
        [b"HTTP/1.1 102 Processing\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"],
        [b"HTTP/1.1 1", b"00 Continue\r\n", b"\r\n"],
    ],
)
async def test_what_a_server_says_before_its_answer_ends_no_upload(
    said: list[bytes], encrypted: bool, certificate: tuple[ssl.SSLContext, Path]
) -> None:
    size = 4 * 1024 * 1024

    async def script(stream: trio.abc.Stream) -> None:
        while head := await read_head(stream):
            left = size - len(head.partition(b"\r\n\r\n")[2])
            for piece in said:
                await stream.send_all(piece)
                await trio.sleep(0.02)
            while left:
                left -= len(await stream.receive_some(left))
            await stream.send_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    context, ca_file = certificate
    async with served(script, context if encrypted else None) as url, connected(url, ca_file) as transport:
        with trio.fail_after(10):
            for _ in range(2):
                await transport.fetch(upload(url, size), 201)


@pytest.mark.parametrize("method", ["PUT", "MOVE"])
async def test_what_a_server_says_before_its_answer_has_an_end(method: str) -> None:
    """None of it may be believed to be the last word, and all of an upload's is kept until its answer is there."""
    said = 0

    async def script(stream: trio.abc.Stream) -> None:
        nonlocal said
        await read_head(stream)
        while True:
            hints = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 1000
            await stream.send_all(hints)
            said += len(hints)
            if said > BIG / 4:
                return

    async with served(script) as url, connected(url) as transport:
        asked = upload(url) if method == "PUT" else Request(method, url + "a", "/a")
        with pytest.raises(Unreachable, match="without an answer"):
            await transport.fetch(asked, 201)
    assert said < BIG / 4


@pytest.mark.parametrize(
    "piece", [b"X-More: \r\n", b"HTTP/1.1 102 Processing\r\n\r\n"], ids=["a line", "an interim answer"]
)
async def test_an_answer_that_only_begins_is_not_waited_for_without_end(
    piece: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line each minute took days until the head was too long."""
    monkeypatch.setattr("cloudfs.remote.wire._LONGEST_HEAD_S", 0.2)
    gone = trio.Event()

    async def script(stream: trio.abc.Stream) -> None:
        head = await read_head(stream)
        left = SMALL - len(head.partition(b"\r\n\r\n")[2])
        while left:
            left -= len(await stream.receive_some(left))
        if piece.startswith(b"X"):
            await stream.send_all(b"HTTP/1.1 201 Created\r\n")
        try:
            while True:
                await stream.send_all(piece)
                await trio.sleep(0.02)
        except trio.BrokenResourceError:
            gone.set()

    async with served(script) as url, connected(url) as transport:
        with trio.fail_after(30):
            with pytest.raises(Unreachable):
                await transport.fetch(upload(url, SMALL), 201)
            await gone.wait()


async def test_an_upload_over_a_slow_line_takes_its_time() -> None:
    """The limit is for silence: the one piece of the body needs longer than it, and goes through."""
    size = 16 * 1024 * 1024

    async def one_piece(start: int = 0) -> AsyncIterator[bytes]:
        yield bytes(size - start)

    async def script(stream: trio.abc.Stream) -> None:
        head = await read_head(stream)
        left = size - len(head.partition(b"\r\n\r\n")[2])
        while left:
            left -= len(await stream.receive_some(min(left, 256 * 1024)))
            await trio.sleep(0.02)
        await stream.send_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    async with served(script) as url, connected(url, limits=Limits(read_s=0.25, change_s=5)) as transport:
        patient = msgspec.structs.replace(
            upload(url, size), content=lambda: Upload(one_piece, size), silence_s=5.0
        )
        await transport.fetch(patient, 201)


async def test_an_upload_that_nobody_takes_ends_in_time() -> None:
    async def script(stream: trio.abc.Stream) -> None:
        await read_head(stream)
        await trio.sleep_forever()

    async with served(script) as url, connected(url, limits=Limits(read_s=0.25)) as transport:
        with trio.fail_after(10), pytest.raises(Unreachable):
            await transport.fetch(upload(url), 201)


async def test_a_server_that_hangs_up_is_unreachable() -> None:
    async def script(stream: trio.abc.Stream) -> None:
        await read_head(stream)

    async with served(script) as url, connected(url) as transport:
        with trio.fail_after(5), pytest.raises(Unreachable):
            await transport.fetch(upload(url), 201)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", ProtocolViolation),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n", ProtocolViolation),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n", ProtocolViolation),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx", ProtocolViolation),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Unreachable),
        (b"", Unreachable),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000, Unreachable),
    ],
)
async def test_replies_that_are_cut_or_no_http(reply: bytes, kind: type[RemoteError]) -> None:
    async def script(stream: trio.abc.Stream) -> None:
        await read_head(stream)
        await stream.send_all(reply)

    async with served(script) as url, connected(url) as transport:
        with pytest.raises(kind):
            await transport.fetch(Request("GET", url, "/a"), 200)


async def test_silence_ends_in_time() -> None:
    async def script(stream: trio.abc.Stream) -> None:
        await read_head(stream)
        await trio.sleep(60)

    async with served(script) as url, connected(url, limits=Limits(read_s=0.2)) as transport:
        with trio.fail_after(5), pytest.raises(Unreachable, match="time limit"):
            await transport.fetch(Request("GET", url, "/a"), 200)


async def test_a_refused_connection() -> None:
    async def script(stream: trio.abc.Stream) -> None:
        del stream

    async with served(script) as url:
        pass
    async with connected(url) as transport:
        with pytest.raises(Unreachable, match="refuses"):
            await transport.fetch(Request("GET", url, "/a"), 200)


async def test_an_untrusted_certificate(certificate: tuple[ssl.SSLContext, Path]) -> None:
    async def script(stream: trio.abc.Stream) -> None:
        await read_head(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    context, ca_file = certificate
    async with served(script, context) as url:
        async with connected(url) as transport:
            with pytest.raises(TlsRejected):
                await transport.fetch(Request("GET", url, "/a"), 200)
        async with connected(url, ca_file) as transport:
            await transport.fetch(Request("GET", url, "/a"), 200)


async def test_no_tls_on_the_other_side() -> None:
    async def script(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with served(script) as url:
        secure = url.replace("http:", "https:")
        async with connected(secure) as transport:
            with pytest.raises(Unreachable, match="encrypted"):
                await transport.fetch(Request("GET", secure, "/a"), 200)


def test_a_file_that_holds_no_certificate(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for name in ("ca.pem", "missing.pem"):
        with pytest.raises(UserError, match=name):
            make_context(tmp_path / name)


async def send_body(stream: trio.abc.Stream) -> None:
    while await read_head(stream):
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG)
        piece = os.urandom(1024 * 1024)
        for _ in range(BIG // len(piece)):
            await stream.send_all(piece)


@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_body_left_early_leaves_nothing_behind(
    encrypted: bool, certificate: tuple[ssl.SSLContext, Path]
) -> None:
    """No generator of the HTTP libraries waits for the garbage collector: it would complain here."""
    context, ca_file = certificate
    async with served(send_body, context if encrypted else None) as url, connected(url, ca_file) as transport:
        for _ in range(8):
            async with transport.open(Request("GET", url, "/a", lane=Lane.STREAMS)) as reply:
                assert await reply.read_raw()
        with trio.move_on_after(0.05):
            async with transport.open(Request("GET", url, "/a", lane=Lane.STREAMS)) as reply:
                while await reply.read_raw():
                    await trio.sleep(0.001)
        gc.collect()
        await trio.testing.wait_all_tasks_blocked(0.01)


@pytest.mark.parametrize("encrypted", [False, True])
async def test_chunks_are_large_but_bounded(
    encrypted: bool, certificate: tuple[ssl.SSLContext, Path]
) -> None:
    """Fewer turns of the loop and of the parser: this is what the CPU of a large download consists of."""
    context, ca_file = certificate
    async with served(send_body, context if encrypted else None) as url, connected(url, ca_file) as transport:
        for lane, most in [(Lane.METADATA, 64 * 1024), (Lane.STREAMS, 1024 * 1024)]:
            sizes = []
            started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
            async with transport.open(Request("GET", url, "/a", lane=lane)) as reply:
                while chunk := await reply.read_raw():
                    sizes.append(len(chunk))
            after = resource.getrusage(resource.RUSAGE_SELF)
            assert sum(sizes) == BIG
            assert max(sizes) <= most
            cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            print(
                f"{lane.value}: {len(sizes)} chunks, {cpu_s:.2f} s of CPU, {time.perf_counter() - started:.2f} s"
            )  # the measurement


LONG = random.Random(5).randbytes(9 * 1024 * 1024 + 77)
"""Long enough to be read straight from the connection; with blank lines in it, as a head ends with."""
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LONG)
BLANK_LINES = b"\r\n\r\n\n\n" + LONG[6:]


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([HEAD + LONG], id="at once"),
        pytest.param([HEAD, LONG], id="head alone"),
        pytest.param([HEAD[:-1], HEAD[-1:] + BLANK_LINES], id="head in two pieces"),
        pytest.param([HEAD[:9], HEAD[9:] + BLANK_LINES], id="head in two pieces, the end in the second"),
        pytest.param([HEAD.replace(b"\r\n", b"\n") + BLANK_LINES], id="bare line feeds"),
        pytest.param(
            [b"HTTP/1.1 103 Early Hints\r\n\r\n" + HEAD + BLANK_LINES], id="an answer before the answer"
        ),
        pytest.param([b"HTTP/1.1 103 Early Hints\r\n\r\n", HEAD + BLANK_LINES], id="the same in two pieces"),
    ],
)
@pytest.mark.parametrize("encrypted", [False, True])
async def test_long_bodies_come_whole_whatever_the_pieces(
    pieces: list[bytes], encrypted: bool, certificate: tuple[ssl.SSLContext, Path]
) -> None:
    context, ca_file = certificate if encrypted else (None, None)

    async def send(stream: trio.abc.Stream) -> None:
        while await read_head(stream):
            for piece in pieces:
                await stream.send_all(piece)
                await trio.sleep(0.05)  # so that the pieces arrive one by one; correct in any case

    async with served(send, context) as url, connected(url, ca_file) as transport:
        for _ in range(2):  # the second on whatever connection the first has left
            async with transport.open(Request("GET", url, "/a", lane=Lane.STREAMS)) as reply:
                body = b""
                while chunk := await reply.read_raw(300_000):
                    body += chunk
            expected = LONG if b"".join(pieces).endswith(HEAD + LONG) else BLANK_LINES
            assert len(body) == len(expected)
            assert body == expected


@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_connection_is_used_again_after_a_long_body(
    encrypted: bool, certificate: tuple[ssl.SSLContext, Path]
) -> None:
    context, ca_file = certificate if encrypted else (None, None)
    made = 0

    async def send(stream: trio.abc.Stream) -> None:
        nonlocal made
        made += 1
        while await read_head(stream):
            await stream.send_all(HEAD + LONG)

    async with served(send, context) as url, connected(url, ca_file) as transport:
        for _ in range(3):
            assert await _whole_body(transport, url) == LONG
        assert made == 1
        async with (
            transport.open(Request("GET", url, "/a", lane=Lane.STREAMS)) as reply,
            transport.open(Request("GET", url, "/a", lane=Lane.STREAMS)) as other,
        ):
            first, second = await reply.read_raw(1000), await other.read_raw(500)
            assert (bytes(first), bytes(second)) == (LONG[:1000], LONG[:500])
        assert made == 2
        # Both were left early: neither is where an answer begins.
        assert await _whole_body(transport, url) == LONG
        assert made == 3
        transport.distrust_connections()
        assert await _whole_body(transport, url) == LONG
        assert made == 4


async def _whole_body(transport: Transport, url: str) -> bytes:
    async with transport.open(Request("GET", url, "/a", lane=Lane.STREAMS)) as reply:
        body = b""
        while chunk := await reply.read_raw(BLOCK_SIZE - len(body) % BLOCK_SIZE):
            body += chunk
        return body


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize(
    "head",
    [
        pytest.param(HEAD, id="closes without a word"),
        pytest.param(HEAD.replace(b"\r\n\r\n", b"\r\nConnection: x, Close\r\n\r\n"), id="says so"),
        pytest.param(HEAD.replace(b"HTTP/1.1", b"HTTP/1.0"), id="HTTP/1.0"),
    ],
)
async def test_a_connection_that_ends_with_a_long_body_is_not_used_again(
    head: bytes, encrypted: bool, certificate: tuple[ssl.SSLContext, Path]
) -> None:
    context, ca_file = certificate if encrypted else (None, None)
    closed = trio.Event()

    async def send(stream: trio.abc.Stream) -> None:
        await read_head(stream)
        await stream.send_all(head + LONG)
        if head == HEAD:
            await stream.aclose()
            closed.set()
            return
        closed.set()
        assert await read_head(stream) == b""  # nothing more comes

    async with served(send, context) as url, connected(url, ca_file) as transport:
        for _ in range(2):
            assert await _whole_body(transport, url) == LONG
            await closed.wait()


async def test_what_comes_between_two_answers_is_not_taken_for_one() -> None:
    said = trio.Event()

    async def send(stream: trio.abc.Stream) -> None:
        while await read_head(stream):
            await stream.send_all(HEAD + LONG)
            await stream.send_all(
                b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad"
            )  # nobody has asked for it
            said.set()

    async with served(send) as url, connected(url) as transport:
        for _ in range(2):
            assert await _whole_body(transport, url) == LONG
            await said.wait()
            said = trio.Event()


async def test_a_long_body_that_is_read_straight_and_cut() -> None:
    async def send(stream: trio.abc.Stream) -> None:
        await read_head(stream)
        await stream.send_all(HEAD + LONG[:-1])
        await stream.aclose()

    async with (
        served(send) as url,
        connected(url) as transport,
        transport.open(Request("GET", url, "/a", lane=Lane.STREAMS)) as reply,
    ):
        received = 0
        with pytest.raises(ProtocolViolation, match="cut"):
            while chunk := await reply.read_raw(300_000):
                assert len(chunk) <= 300_000
                received += len(chunk)
        assert received == len(LONG) - 1
        assert await reply.read_raw() == b""


async def test_silence_within_a_long_body_ends_in_time() -> None:
    async def send(stream: trio.abc.Stream) -> None:
        await read_head(stream)
        await stream.send_all(HEAD + LONG[:1_000_000])
        await trio.sleep_forever()

    async with (
        served(send) as url,
        connected(url, limits=Limits(read_s=0.2)) as transport,
        transport.open(Request("GET", url, "/a", lane=Lane.STREAMS)) as reply,
    ):
        with pytest.raises(Unreachable):
            while await reply.read_raw():
                pass
