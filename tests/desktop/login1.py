"""A logind of the tests' own, as far as inhibitor locks go."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

import trio
from jeepney import DBusAddress, new_error, new_method_return, new_signal
from jeepney.bus_messages import message_bus
from jeepney.io.trio import DBusConnection, open_dbus_connection
from jeepney.low_level import HeaderFields, MessageType

NAME, PATH, MANAGER = (
    "org.freedesktop.login1",
    "/org/freedesktop/login1",
    "org.freedesktop.login1.Manager",
)


class Login1:
    """Owns the name while it is entered. A lock is a pipe: it is given back when its last writer is closed."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._connection: DBusConnection | None = None
        self.asked: list[tuple[str, ...]] = []
        self.held = 0
        self.sleeps_after: int | None = None
        """So many locks, right after which the machine is about to sleep."""
        self._moved = trio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        connection = await open_dbus_connection(self._address, enable_fds=True)
        async with connection, trio.open_nursery() as nursery:
            await connection.send(message_bus.RequestName(NAME))
            self._connection = connection
            nursery.start_soon(self._serve, nursery)
            yield self
            nursery.cancel_scope.cancel()

    async def say(self, signal: str, about_to: bool) -> None:
        """Tell everybody that the machine is about to do something, or has done it."""
        assert self._connection
        manager = DBusAddress(PATH, interface=MANAGER)
        await self._connection.send(new_signal(manager, signal, "b", (about_to,)))

    async def until_held(self, count: int) -> None:
        """Return when so many locks are out."""
        with trio.fail_after(30):
            while self.held != count:
                await self._moved.wait()

    async def _serve(self, nursery: trio.Nursery) -> None:
        assert self._connection
        while True:
            message = await self._connection.receive()
            if message.header.message_type is not MessageType.method_call:
                continue
            if message.header.fields[HeaderFields.member] != "Inhibit":
                await self._connection.send(new_error(message, "org.freedesktop.DBus.Error.UnknownMethod"))
                continue
            if message.body[0] not in {"sleep", "shutdown"}:
                # Of both in one it is asked whether the user may do what only who sits at the machine may.
                # SOURCE: systemd 252, src/login/logind-dbus.c, method_inhibit; measured with polkit 122.
                await self._connection.send(
                    new_error(message, "org.freedesktop.DBus.Error.AccessDenied", "s", ("Access denied",))
                )
                continue
            self.asked.append(message.body)
            ours, theirs = os.pipe()
            await self._connection.send(new_method_return(message, "h", (theirs,)))
            os.close(theirs)
            self._count(1)
            nursery.start_soon(self._given_back, ours)
            if self.held == self.sleeps_after:
                await self.say("PrepareForSleep", about_to=True)

    async def _given_back(self, ours: int) -> None:
        async with trio.lowlevel.FdStream(ours) as pipe:
            await pipe.receive_some(1)
        self._count(-1)

    def _count(self, more: int) -> None:
        self.held += more
        self._moved.set()
        self._moved = trio.Event()
