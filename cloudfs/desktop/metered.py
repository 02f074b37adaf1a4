"""Whether the machine's connection is paid by what goes through it, as NetworkManager says on the system bus.

SOURCE: NetworkManager D-Bus API, org.freedesktop.NetworkManager, property Metered (NMMetered): 0 unknown, 1 yes, 2 no,
3 guessed yes (a phone's hotspot says so in its DHCP), 4 guessed no.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio
from jeepney import DBusAddress, Properties
from jeepney.bus_messages import message_bus
from jeepney.io.trio import DBusConnection
from jeepney.low_level import HeaderFields, Message, MessageFlag, MessageType

from cloudfs.desktop.systembus import connect

__all__ = ["watch_metered"]

_log = logging.getLogger(__name__)

_NAME, _PATH = "org.freedesktop.NetworkManager", "/org/freedesktop/NetworkManager"
_SIGNALS = (
    f"type='signal',sender='{_NAME}',path='{_PATH}',member='PropertiesChanged'",
    # It was started, or is gone.
    f"type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='{_NAME}'",
)
_METERED = frozenset({1, 3})
_AGAIN_S = 60.0


async def watch_metered(told: Callable[[bool], None]) -> None:
    """Tell whether the connection is metered, and whenever that is asked anew; for ever.

    Without a bus, or without NetworkManager on it, it is not; both are looked for again.
    """
    while True:
        try:
            await _follow(told)
        except Exception as error:  # noqa: BLE001  # whatever becomes of the bus, it ends nothing here
            _log.debug("no word about metered connections: %s: %s", type(error).__name__, error)
        told(False)  # noqa: FBT003  # the callback's only word
        await trio.sleep(_AGAIN_S)


async def _follow(told: Callable[[bool], None]) -> None:
    async with await connect() as connection:
        for rule in _SIGNALS:
            await connection.send(message_bus.AddMatch(rule))
        asked = await _ask(connection)
        while True:
            message = await connection.receive()
            fields = message.header.fields
            if message.header.message_type is MessageType.signal:
                if fields.get(HeaderFields.member) in {"PropertiesChanged", "NameOwnerChanged"}:
                    asked = await _ask(connection)
            elif fields.get(HeaderFields.reply_serial) == asked:
                told(_is_metered(message))


async def _ask(connection: DBusConnection) -> int:
    """Ask for the property; return the number that the answer will have."""
    question = Properties(DBusAddress(_PATH, bus_name=_NAME, interface=_NAME)).get("Metered")
    question.header.flags |= MessageFlag.no_auto_start
    serial = int(next(connection.outgoing_serial))
    await connection.send(question, serial=serial)
    return serial


def _is_metered(reply: Message) -> bool:
    """Read the answer; an error, as where nobody has the name, means no."""
    if reply.header.message_type is not MessageType.method_return:
        return False
    ((kind, value),) = reply.body
    return kind == "u" and value in _METERED
