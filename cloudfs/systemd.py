"""What systemd hears of a daemon that it has started (sd_notify(3)): that it is ready, how it is, that it lives.

Everything here does nothing where nobody listens, and never fails.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Mapping

import trio

__all__ = ["extend_start", "notify", "report", "watchdog_s"]

_STATUS_S = 5.0


def notify(state: str, environ: Mapping[str, str] | None = None) -> None:
    """Send a message, as lines of NAME=VALUE."""
    address = (os.environ if environ is None else environ).get("NOTIFY_SOCKET", "")
    if address[:1] not in {"/", "@"}:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(1)
        manager.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)


def extend_start(sentence: str, longest_s: int) -> None:
    """Say why the start takes longer, and how much: to be said again within that time. SOURCE: sd_notify(3)."""
    notify(f"EXTEND_TIMEOUT_USEC={longest_s}000000\nSTATUS={sentence}")


def watchdog_s(environ: Mapping[str, str] | None = None) -> float | None:
    """Return after how many seconds of silence we are taken for dead; None: nobody watches us."""
    environ = os.environ if environ is None else environ
    told, whom = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not told.isdecimal() or not int(told) or (whom and whom != str(os.getpid())):
        return None
    return int(told) / 1e6


async def report(status: Callable[[], str], answers: Callable[[], Awaitable[bool]]) -> None:
    """For ever: say how it is whenever that changes, and that we live while `answers` says so."""
    if not os.environ.get("NOTIFY_SOCKET"):
        return
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_tell_status, status)
        limit_s = watchdog_s()
        if limit_s is not None:
            nursery.start_soon(_tell_life, answers, limit_s / 4)


async def _tell_status(status: Callable[[], str]) -> None:
    last = ""
    while True:
        text = " ".join(status().split())
        if text != last:
            notify(f"STATUS={text}")
            last = text
        await trio.sleep(_STATUS_S)


async def _tell_life(answers: Callable[[], Awaitable[bool]], every_s: float) -> None:
    # A quarter: one answer that does not come in time is no reason yet to end everything.
    while True:
        if await answers():
            notify("WATCHDOG=1")
        await trio.sleep(every_s)
