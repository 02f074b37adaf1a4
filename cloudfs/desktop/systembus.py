"""The machine's message bus."""

from __future__ import annotations

import trio
from jeepney.auth import BEGIN, Authenticator
from jeepney.bus import get_bus
from jeepney.bus_messages import message_bus
from jeepney.io.trio import DBusConnection

__all__ = ["CONNECT_S", "connect"]

CONNECT_S = 10.0
"""A bus that does not answer by then is none."""


async def connect(*, with_descriptors: bool = False) -> DBusConnection:
    """Log in, within CONNECT_S; raises OSError, trio's errors and jeepney's.

    jeepney's own function leaves the socket open where that fails. `with_descriptors`: answers may bring some.
    """
    with trio.fail_after(CONNECT_S):
        stream = await trio.open_unix_socket(get_bus("SYSTEM"))
        try:
            await stream.send_all(b"\0")
            login = Authenticator(enable_fds=with_descriptors, inc_null_byte=False)
            for words in login:
                await stream.send_all(words)
                if not (heard := await stream.receive_some()):
                    raise trio.EndOfChannel("the bus hung up")
                login.feed(heard)
            await stream.send_all(BEGIN)
            connection = DBusConnection(stream.socket, enable_fds=with_descriptors)
            await connection.send(message_bus.Hello())
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
    return connection
