"""Noticing another network: what changes nothing is not told, and one change is told once."""

from __future__ import annotations

import socket

import trio
from trio.testing import MockClock

from cloudfs.concurrency import links


class Machine:
    """What the kernel tells, and what the addresses are."""

    def __init__(self) -> None:
        self.addresses = ("10.0.0.7", "")
        self.told = 0
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.kernel, self.listening = ours, trio.socket.from_stdlib_socket(theirs)

    def changed(self) -> None:
        self.told += 1

    async def watch(self) -> None:
        with self.kernel:
            await links.watch_addresses(self.changed, addresses=lambda: self.addresses, source=self.listening)

    async def says(self, count: int = 1) -> None:
        for _ in range(count):
            self.kernel.send(b"a message")
            await trio.sleep(0.1)


async def test_a_change_is_told_once_however_many_messages_it_is(autojump_clock: MockClock) -> None:
    del autojump_clock
    machine = Machine()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(machine.watch)
        await trio.sleep(1)
        machine.addresses = ("", "")
        await machine.says(5)
        machine.addresses = ("192.168.1.5", "")
        await machine.says(5)
        await trio.sleep(5)
        assert machine.told == 1
        nursery.cancel_scope.cancel()


async def test_messages_that_change_nothing_are_not_told(autojump_clock: MockClock) -> None:
    del autojump_clock
    machine = Machine()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(machine.watch)
        await trio.sleep(1)
        await machine.says(30)
        await trio.sleep(5)
        assert machine.told == 0
        nursery.cancel_scope.cancel()


async def test_a_kernel_that_never_stops_talking_is_looked_at_all_the_same(autojump_clock: MockClock) -> None:
    del autojump_clock
    machine = Machine()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(machine.watch)
        await trio.sleep(1)
        machine.addresses = ("192.168.1.5", "")
        await machine.says(150)
        assert machine.told == 1
        nursery.cancel_scope.cancel()


def test_the_machine_has_an_address_of_each_kind_or_none() -> None:
    ours = links.own_addresses()
    assert len(ours) == 2
    assert all("." in it or ":" in it for it in ours if it)


async def test_the_kernel_lets_us_listen() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(links.watch_addresses, lambda: None)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
