"""A network that fails between a mount and its server, in plain HTTP/1.1, as it has been told to or by a seed.

It passes bytes on and looks at no more of them than the first line of a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import threading
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

__all__ = ["Network"]

Mode = Literal["fine", "reset", "hole", "slow", "lost reply", "cut request", "cut reply", "503", "refused"]

_REQUEST = re.compile(rb"^[A-Z]+ \S+ HTTP/1\.1\r\n")
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_COURSE: dict[Mode, tuple[float, float, float]] = {
    "fine": (38, 2, 10),
    "reset": (6, 0.1, 0.1),
    "hole": (12, 5, 20),
    "slow": (10, 1, 6),
    "lost reply": (10, 1, 6),
    "cut request": (8, 1, 6),
    "cut reply": (8, 1, 6),
    "503": (4, 0.5, 3),
    "refused": (4, 1, 6),
}
"""How often each is chosen, and for how long at least and at most, in s."""
_PIECE = 65536


class _Cut(Exception):
    """A connection ends here."""


class Network:
    """Listens on a free port of the loopback and leads to a server. `haste`: so many times shorter is each failure."""

    def __init__(self, url: str, seed: str, *, haste: float = 1.0) -> None:
        self._server = urlsplit(url)
        self._choose = random.Random(f"network-{seed}")
        self._haste = haste
        self._mode: Mode = "fine"
        self._open: set[asyncio.StreamWriter] = set()
        self._course: asyncio.Task[None] | None = None
        self.hits: Counter[str] = Counter()
        """How often each failure hit something."""

    def __enter__(self) -> Self:
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    @property
    def url(self) -> str:
        """The server's URL by way of this network."""
        return self._server._replace(netloc=f"127.0.0.1:{self._port}").geturl()

    def fail(self) -> None:
        """Be good and bad by turns from now on."""
        self._on_loop(self._begin)

    def calm(self) -> None:
        """Be good from now on."""
        self._on_loop(self._end)

    def _on_loop(self, call: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(call)

    def _begin(self) -> None:
        self._course = asyncio.create_task(self._run_course())

    def _end(self) -> None:
        if self._course is not None:
            self._course.cancel()
        self._become("fine")

    async def _main(self) -> None:
        self._loop, self._ended, self._changed = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._port = listener.sockets[0].getsockname()[1]
        self._ready.set()
        await self._ended.wait()
        self._end()
        listener.close()
        # Not cancelled: asyncio would complain of each task that it made itself for a connection.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            self._abort(*self._open)
            await asyncio.wait(others, timeout=0.1)

    async def _run_course(self) -> None:
        while True:
            mode = self._choose.choices(list(_COURSE), [weight for weight, *_ in _COURSE.values()])[0]
            self._become(mode)
            await asyncio.sleep(self._choose.uniform(*_COURSE[mode][1:]) / self._haste)

    def _become(self, mode: Mode) -> None:
        self._mode = mode
        self._changed.set()
        self._changed = asyncio.Event()
        if mode == "reset":
            self._abort(*self._open)

    def _is(self, mode: Mode) -> bool:
        """Tell whether that is what is wrong at the moment, and count it as a hit."""
        if self._mode != mode:
            return False
        self.hits[mode] += 1
        return True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is("refused"):
            self._abort(writer)
            return
        both = {writer}
        try:
            await self._hole()
            there, to_server = await asyncio.open_connection(self._server.hostname, self._server.port or 80)
            both.add(to_server)
            self._open |= both
            await asyncio.gather(self._up(reader, to_server, writer), self._down(there, writer))
        except (_Cut, OSError):
            pass
        finally:
            self._open -= both
            self._abort(*both)

    async def _up(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(_PIECE):
            await self._delay()
            if self._is("503") and _REQUEST.match(data):
                back.write(_BUSY)
                await back.drain()
                back.close()
                raise _Cut
            if self._is("cut request") and self._choose.random() < 0.5:
                writer.write(data[: self._choose.randint(0, len(data))])
                await writer.drain()
                writer.close()
                raise _Cut
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4 * _PIECE):
            await self._delay()
            if self._is("lost reply"):
                raise _Cut
            if self._is("cut reply"):
                writer.write(data[: self._choose.randint(0, len(data) - 1)])
                await writer.drain()
                writer.close()
                raise _Cut
            writer.write(data)
            await writer.drain()
        raise _Cut  # the server has ended it

    async def _delay(self) -> None:
        await self._hole()
        if self._is("slow"):
            await asyncio.sleep(self._choose.uniform(0.05, 0.8) / self._haste)

    async def _hole(self) -> None:
        """Nothing comes through; what was on its way is gone afterwards, or is not."""
        if not self._is("hole"):
            return
        while self._mode == "hole":
            await self._changed.wait()
        if self._choose.random() < 0.5:
            raise _Cut

    @staticmethod
    def _abort(*writers: asyncio.StreamWriter) -> None:
        for writer in writers:
            with contextlib.suppress(OSError, RuntimeError):
                if not writer.is_closing():
                    writer.transport.abort()
