"""Where figures are published: in a file that node_exporter's textfile collector reads, or on a port of this machine.

Neither ever ends anything: what cannot be written, or listened to, is complained about and tried again.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

import trio

from cloudfs.prometheus import CONTENT_TYPE

__all__ = ["publish"]

_log = logging.getLogger(__name__)

_EVERY_S = 15.0
_AGAIN_S = 60.0
_WRITE_S = 5.0
_FRESH_S = 1.0
"""A text as old as this is given out again: whoever asks without a pause costs nothing."""
_MOST_CLIENTS = 4
_MOST_HEAD_BYTES = 8 * 1024
_CLIENT_S = 5.0
_OURS = frozenset({"127.0.0.1", "localhost", "[::1]"})


async def publish(where: Path | int, figures: Callable[[], str]) -> None:
    """Publish, for ever: the file is written four times a minute and removed at the end, the port is answered."""
    if isinstance(where, int):
        await _on_port(where, figures)
    else:
        await _in_file(where, figures)


# --- the file


async def _in_file(path: Path, figures: Callable[[], str]) -> None:
    try:
        while True:
            try:
                # To its end also when everything ends, or it would come after the removal; but not for ever.
                with trio.move_on_after(_WRITE_S, shield=True):
                    await trio.to_thread.run_sync(_write, path, figures(), abandon_on_cancel=True)
            except OSError as error:
                _log.warning("%s cannot be written: %s", path, error.strerror)
                await trio.sleep(_AGAIN_S - _EVERY_S)
            await trio.sleep(_EVERY_S)
    finally:
        _remove(path)


def _remove(path: Path) -> None:
    """What is over must not go on being told as if it were so."""
    with contextlib.suppress(OSError):
        path.unlink()


def _write(path: Path, text: str) -> None:
    """Replace the file in one step; others may read it: it is read by another user. No fsync: it is old at once."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644
    )
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, 0o644)
            file.write(text)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


# --- the port


async def _on_port(port: int, figures: Callable[[], str]) -> None:
    server = _Server(figures)
    while True:
        try:
            listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
        except OSError as error:
            _log.warning("the port %d of this machine cannot be had for figures: %s", port, error.strerror)
            await trio.sleep(_AGAIN_S)
        else:
            await trio.serve_listeners(server.serve, listeners)


class _Server:
    """Answers GET, a few clients at a time, each once."""

    def __init__(self, figures: Callable[[], str]) -> None:
        self._figures = figures
        self._places = trio.CapacityLimiter(_MOST_CLIENTS)
        self._text = ""
        self._text_at = float("-inf")

    async def serve(self, stream: trio.SocketStream) -> None:
        with trio.move_on_after(_CLIENT_S):
            try:
                async with stream, self._places:
                    await stream.send_all(self._answer(await _head_of(stream)))
                    await stream.send_eof()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    def _answer(self, head: bytes) -> bytes:
        lines = head.decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _reply("400 Bad Request", "This is no request.\n")
        # A page in a browser may send requests here, under a name of its own that leads here.
        if _host_of(lines) not in _OURS:
            return _reply("403 Forbidden", "Ask 127.0.0.1 or localhost.\n")
        if words[1].partition("?")[0] not in {"/metrics", "/"}:
            return _reply("404 Not Found", "There is only /metrics.\n")
        if words[0] not in {"GET", "HEAD"}:
            return _reply("405 Method Not Allowed", "Only GET is answered.\n")
        return _reply("200 OK", self._current(), CONTENT_TYPE, headless=words[0] == "HEAD")

    def _current(self) -> str:
        now = trio.current_time()
        if now - self._text_at >= _FRESH_S:
            self._text, self._text_at = self._figures(), now
        return self._text


async def _head_of(stream: trio.SocketStream) -> bytes:
    """Return what comes before the empty line, or before the end."""
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _MOST_HEAD_BYTES:
        data = await stream.receive_some(_MOST_HEAD_BYTES)
        if not data:
            break
        head += data
    return head.partition(b"\r\n\r\n")[0]


def _host_of(lines: list[str]) -> str:
    for line in lines[1:]:
        name, _, value = line.partition(":")
        if name.strip().lower() == "host":
            host = value.strip().lower()
            return host if host.endswith("]") else host.rpartition(":")[0] or host
    return ""


def _reply(
    status: str, body: str, kind: str = "text/plain; charset=utf-8", *, headless: bool = False
) -> bytes:
    data = body.encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
    return head.encode() + (b"" if headless else data)
