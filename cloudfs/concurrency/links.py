"""Notices that the machine changed its network, lost it, or came back to one."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

import trio

__all__ = ["own_addresses", "watch_addresses"]

_log = logging.getLogger(__name__)

_GROUPS = 0x10 | 0x40 | 0x100 | 0x400
"""RTMGRP_IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR and _IPV6_ROUTE of rtnetlink(7)."""
_SETTLE_S = 1.0
"""One change of networks is several messages; a route comes a moment after its address."""
_LONGEST_S = 10.0
_FAR = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
"""Addresses for documentation, which nobody has: a datagram socket bound for them sends nothing."""


def own_addresses() -> tuple[str, ...]:
    """Return the addresses with which this machine would reach the world, "" where it could not."""
    return tuple(_own_address(family, far) for family, far in _FAR)


def _own_address(family: socket.AddressFamily, far: str) -> str:
    try:
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
            probe.connect((far, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return ""


async def watch_addresses(
    changed: Callable[[], None],
    *,
    addresses: Callable[[], tuple[str, ...]] = own_addresses,
    source: trio.socket.SocketType | None = None,
) -> None:
    """Tell of every change of `addresses`, once it has settled; for ever.

    The kernel also reports what changes nothing (an address whose lifetime is renewed, other programs' bridges).
    Does nothing where it does not let us listen. `source`: where its messages come from.
    """
    listening = source or _open()
    if listening is None:
        return
    with listening:
        before = addresses()
        while True:
            await _hear(listening)
            await _settle(listening)
            now = addresses()
            if now != before:
                before = now
                changed()


def _open() -> trio.socket.SocketType | None:
    raw = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    try:
        raw.bind((0, _GROUPS))
    except OSError as error:
        _log.info("changes of the network are not noticed: %s", error)
        raw.close()
        return None
    return trio.socket.from_stdlib_socket(raw)


async def _settle(listening: trio.socket.SocketType) -> None:
    with trio.move_on_after(_LONGEST_S):
        while True:
            with trio.move_on_after(_SETTLE_S) as quiet:
                await _hear(listening)
            if quiet.cancelled_caught:
                return


async def _hear(listening: trio.socket.SocketType) -> None:
    try:
        await listening.recv(65536)
    except OSError as error:  # ENOBUFS: there were more messages than fit, so something has changed
        _log.debug("%s", error)
        await trio.sleep(_SETTLE_S)
