"""Has logind wait a moment with sleep and shutdown while changes are on their way to the server.

Locks of the kind `delay`: logind tells of what it is about to do, what waits for its quiet time is sent at once, and
they are given back as soon as nothing is left that can go; logind waits no longer than its InhibitDelayMaxSec (5 s
unless set). What is not sent by then is safe on the disk and goes up later, so nothing justifies `block`, which would
keep a laptop awake in its bag, and which people who are not at the machine may not ask for. Neither may they ask for
one lock against both: logind (systemd 252, measured) then asks whether they may keep the lid's switch from working.
SOURCE: https://systemd.io/INHIBITOR_LOCKS/, org.freedesktop.login1(5).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import ExitStack

import trio
from jeepney import DBusAddress, new_method_call
from jeepney.bus_messages import message_bus
from jeepney.fds import FileDescriptor
from jeepney.io.trio import DBusConnection
from jeepney.low_level import HeaderFields, Message, MessageFlag, MessageType

from cloudfs.desktop.systembus import CONNECT_S, connect

__all__ = ["hold_up_sleep"]

_log = logging.getLogger(__name__)

_NAME, _PATH = "org.freedesktop.login1", "/org/freedesktop/login1"
_MANAGER = DBusAddress(_PATH, bus_name=_NAME, interface="org.freedesktop.login1.Manager")
_AGAINST = ("sleep", "shutdown")
_ABOUT_TO = ("PrepareForSleep", "PrepareForShutdown")
_LOOK_S = 1.0
_AGAIN_S = 60.0
_MOST_S = 60.0
"""Longer than any sensible InhibitDelayMaxSec."""


async def hold_up_sleep(sends: Callable[[], bool], send_now: Callable[[], Awaitable[object]]) -> None:
    """Hold locks while `sends` says that something is on its way; for ever. Without logind there are none.

    `send_now` returns when nothing is left that can be sent; it may be cancelled.
    """
    while True:
        while not sends():  # noqa: ASYNC110  # answered from the database, of which nobody tells
            await trio.sleep(_LOOK_S)
        try:
            await _hold(sends, send_now)
        except Exception as error:  # noqa: BLE001  # whatever becomes of the bus, it ends nothing here
            _log.debug("no lock from logind: %s: %s", type(error).__name__, error)
            await trio.sleep(_AGAIN_S)


async def _hold(sends: Callable[[], bool], send_now: Callable[[], Awaitable[object]]) -> None:
    """Hold the locks until nothing is on its way, or the machine woke up again."""
    async with await connect(with_descriptors=True) as connection:
        for member in _ABOUT_TO:
            rule = f"type='signal',sender='{_NAME}',path='{_PATH}',member='{member}'"
            await connection.send(message_bus.AddMatch(rule))
        with ExitStack() as locks:
            locks.callback(_close_begun, connection)
            said: deque[Message] = deque()
            with trio.fail_after(CONNECT_S):
                for what in _AGAINST:
                    locks.callback((await _inhibit(connection, what, said)).close)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_heed, connection, said, locks, send_now, nursery.cancel_scope)
                while sends():  # noqa: ASYNC110  # as above
                    await trio.sleep(_LOOK_S)
                nursery.cancel_scope.cancel()


async def _heed(
    connection: DBusConnection,
    said: deque[Message],
    locks: ExitStack,
    send_now: Callable[[], Awaitable[object]],
    scope: trio.CancelScope,
) -> None:
    """Give the locks back once what can go is sent, when the machine is about to sleep; return after it woke up.

    `said`: what was said before, since the first lock was held.
    """
    while True:
        message = said.popleft() if said else await connection.receive()
        fields = message.header.fields
        if (
            message.header.message_type is not MessageType.signal
            or fields.get(HeaderFields.member) not in _ABOUT_TO
        ):
            continue
        if message.body != (True,):
            scope.cancel()
            return
        _log.info("the machine is about to sleep or shut down: sending what is to be sent")
        with trio.move_on_after(_MOST_S):
            await send_now()
        locks.close()


async def _inhibit(connection: DBusConnection, what: str, said: deque[Message]) -> FileDescriptor:
    """Ask for a lock; `said` gets what is no answer to that."""
    body = (what, "cloudfs", "Changes are on their way to the server", "delay")
    question = new_method_call(_MANAGER, "Inhibit", "ssss", body)
    question.header.flags |= MessageFlag.no_auto_start
    serial = int(next(connection.outgoing_serial))
    await connection.send(question, serial=serial)
    while True:
        message = await connection.receive()
        if message.header.fields.get(HeaderFields.reply_serial) == serial:
            return _lock_in(message)
        said.append(message)


def _close_begun(connection: DBusConnection) -> None:
    """Close what came with the beginning of a message whose end nobody waits for any more: jeepney leaves it open."""
    for descriptor in connection.parser.fds:
        descriptor.close()


def _lock_in(reply: Message) -> FileDescriptor:
    if reply.header.message_type is not MessageType.method_return:
        raise OSError(str(reply.body))
    (lock,) = reply.body
    if not isinstance(lock, FileDescriptor):
        raise TypeError("the answer has no descriptor")
    return lock
