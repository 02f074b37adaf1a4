"""A private system bus, and a NetworkManager on it that says what it is told."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import trio
from jeepney import DBusAddress, new_error, new_method_return, new_signal
from jeepney.bus_messages import message_bus
from jeepney.io.trio import DBusConnection, open_dbus_connection
from jeepney.low_level import HeaderFields, MessageType

from tests.tooling.needs import find_program, missing

NAME, PATH = "org.freedesktop.NetworkManager", "/org/freedesktop/NetworkManager"
CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path={socket}</listen>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""


@contextlib.contextmanager
def private_bus(folder: Path) -> Iterator[str]:
    """Give the address of a bus that nobody else is on."""
    program = find_program("dbus-daemon")
    if program is None:
        missing("the program dbus-daemon (scripts/setup --tests installs it)")
    socket, config = folder / "bus", folder / "bus.conf"
    config.write_text(CONFIG.format(socket=socket))
    command = [program, f"--config-file={config}", "--nofork", "--nopidfile", "--print-address=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("unix:path=")
        try:
            yield f"unix:path={socket}"
        finally:
            process.terminate()


class NetworkManager:
    """Owns the name while it is entered, and answers about the one property."""

    def __init__(self, address: str, metered: int) -> None:
        self._address = address
        self._metered = metered
        self._connection: DBusConnection | None = None
        self.asked = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        async with await open_dbus_connection(self._address) as connection, trio.open_nursery() as nursery:
            await connection.send(message_bus.RequestName(NAME))
            self._connection = connection
            nursery.start_soon(self._serve)
            yield self
            nursery.cancel_scope.cancel()

    async def say(self, metered: int) -> None:
        """Change the property, and tell everybody so."""
        assert self._connection
        self._metered = metered
        properties = DBusAddress(PATH, interface="org.freedesktop.DBus.Properties")
        body: tuple[object, ...] = (NAME, {"Metered": ("u", metered)}, [])
        await self._connection.send(new_signal(properties, "PropertiesChanged", "sa{sv}as", body))

    async def _serve(self) -> None:
        assert self._connection
        while True:
            message = await self._connection.receive()
            if message.header.message_type is not MessageType.method_call:
                continue
            self.asked += 1
            if message.header.fields[HeaderFields.member] == "Get" and message.body == (NAME, "Metered"):
                reply = new_method_return(message, "v", (("u", self._metered),))
            else:
                reply = new_error(message, "org.freedesktop.DBus.Error.UnknownMethod")
            await self._connection.send(reply)


class ManagerThread:
    """The same in a thread of its own, for tests without a loop."""

    def __init__(self, address: str, metered: int) -> None:
        self._manager = NetworkManager(address, metered)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._main,))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        trio.from_thread.run_sync(self._end.set, trio_token=self._token)
        self._thread.join(30)

    def say(self, metered: int) -> None:
        trio.from_thread.run(self._manager.say, metered, trio_token=self._token)

    async def _main(self) -> None:
        self._token, self._end = trio.lowlevel.current_trio_token(), trio.Event()
        async with self._manager.running():
            self._ready.set()
            await self._end.wait()
