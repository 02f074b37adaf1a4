"""Locks against sleep and shutdown, as a logind of the test's own gives them on a bus of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from jeepney.io.trio import DBusConnection

from cloudfs.desktop import inhibiting
from cloudfs.desktop.inhibiting import hold_up_sleep
from tests.desktop.login1 import Login1

BOTH = 2
"""One lock against sleep, one against shutdown."""


class Account:
    """Has something to send, or not."""

    def __init__(self) -> None:
        self.sends = False
        self.hurried = 0
        self.sent = trio.Event()

    async def send_now(self) -> None:
        self.hurried += 1
        await self.sent.wait()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inhibiting, "_LOOK_S", 0.01)
    monkeypatch.setattr(inhibiting, "_AGAIN_S", 0.01)


@asynccontextmanager
async def holding() -> AsyncIterator[Account]:
    account = Account()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold_up_sleep, lambda: account.sends, account.send_now)
        yield account
        nursery.cancel_scope.cancel()


async def test_a_lock_is_held_while_something_is_to_be_sent(bus: str) -> None:
    async with Login1(bus).running() as logind, holding() as account:
        for _ in range(2):
            account.sends = True
            await logind.until_held(BOTH)
            account.sends = False
            await logind.until_held(0)
        words = ("cloudfs", "Changes are on their way to the server", "delay")
        assert logind.asked == [("sleep", *words), ("shutdown", *words)] * 2


@pytest.mark.parametrize("signal", ["PrepareForSleep", "PrepareForShutdown"])
async def test_before_the_machine_sleeps_what_can_go_is_sent_and_the_lock_given_back(
    bus: str, signal: str
) -> None:
    async with Login1(bus).running() as logind, holding() as account:
        account.sends = True
        await logind.until_held(BOTH)
        await logind.say(signal, about_to=True)
        account.sent.set()
        await logind.until_held(0)  # though something is left, which cannot go
        assert account.hurried == 1
        assert len(logind.asked) == BOTH
        await logind.say(signal, about_to=False)
        await logind.until_held(BOTH)


async def test_a_machine_that_is_about_to_sleep_between_the_two_locks_waits_for_what_can_go(bus: str) -> None:
    logind = Login1(bus)
    logind.sleeps_after = 1
    async with logind.running(), holding() as account:
        account.sends = True
        await logind.until_held(BOTH)
        account.sent.set()
        await logind.until_held(0)
        assert account.hurried == 1


async def test_what_cannot_be_sent_in_time_does_not_keep_the_lock_after_the_last_change_has_gone(
    bus: str,
) -> None:
    async with Login1(bus).running() as logind, holding() as account:
        account.sends = True
        await logind.until_held(BOTH)
        await logind.say("PrepareForSleep", about_to=True)
        account.sends = False
        await logind.until_held(0)


async def test_logind_comes_later_and_goes(bus: str) -> None:
    async with holding() as account:
        account.sends = True
        for _ in range(2):
            async with Login1(bus).running() as logind:
                if not account.sends:
                    account.sends = True
                await logind.until_held(BOTH)
                account.sends = False
                await logind.until_held(0)


async def test_the_end_gives_the_lock_back(bus: str) -> None:
    async with Login1(bus).running() as logind:
        async with holding() as account:
            account.sends = True
            await logind.until_held(BOTH)
        await logind.until_held(0)


async def test_the_end_gives_a_lock_back_of_which_the_answer_has_come_in_part(
    bus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A descriptor comes with the first bytes of a message."""
    read: Any = DBusConnection._read_data
    begun = trio.Event()

    async def read_the_first(connection: Any) -> Any:
        if connection.parser.fds:
            begun.set()
            await trio.sleep_forever()
        return await read(connection)

    monkeypatch.setattr(DBusConnection, "_read_data", read_the_first)
    async with Login1(bus).running() as logind:
        async with holding() as account:
            account.sends = True
            await begun.wait()
            await logind.until_held(1)
        await logind.until_held(0)
