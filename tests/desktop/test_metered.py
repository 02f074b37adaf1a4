"""Metered connections, as a NetworkManager of the test's own tells of them on a bus of its own."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from cloudfs.desktop import metered, systembus
from cloudfs.desktop.metered import watch_metered
from tests.desktop.networkmanager import NetworkManager, private_bus


class Heard:
    """What the account was told, and a way to wait for it."""

    def __init__(self) -> None:
        self.words: list[bool] = []
        self._came = trio.Event()

    def __call__(self, word: bool) -> None:
        self.words.append(word)
        self._came.set()
        self._came = trio.Event()

    async def until(self, true: Callable[[list[bool]], bool]) -> None:
        with trio.fail_after(30):
            while not true(self.words):
                await self._came.wait()


@asynccontextmanager
async def watching() -> AsyncIterator[Heard]:
    heard = Heard()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_metered, heard)
        yield heard
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("said", "meant"), [(0, False), (1, True), (2, False), (3, True), (4, False), (9, False)]
)
async def test_what_networkmanager_says(bus: str, said: int, meant: bool) -> None:
    async with NetworkManager(bus, said).running(), watching() as heard:
        await heard.until(bool)
        assert heard.words == [meant]


async def test_each_change_is_heard_of(bus: str) -> None:
    async with NetworkManager(bus, 4).running() as manager, watching() as heard:
        await heard.until(lambda words: words == [False])
        await manager.say(3)
        await heard.until(lambda words: words[1:] == [True])
        await manager.say(2)
        await heard.until(lambda words: words[2:] == [False])


async def test_it_comes_and_goes(bus: str) -> None:
    async with watching() as heard:
        await heard.until(lambda words: words == [False])
        async with NetworkManager(bus, 1).running():
            await heard.until(lambda words: words[-1])
        await heard.until(lambda words: not words[-1])
        async with NetworkManager(bus, 1).running():
            await heard.until(lambda words: words[-1])


async def test_without_a_bus_nothing_is_metered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for address in (f"unix:path={tmp_path}/none", "tcp:host=localhost", "nonsense"):
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
        async with watching() as heard:
            await heard.until(lambda words: words == [False])


async def test_a_bus_that_ends_is_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metered, "_AGAIN_S", 0.05)
    with tempfile.TemporaryDirectory(prefix="cloudfs-bus-") as folder:
        async with trio.open_nursery() as nursery:
            heard = Heard()
            with private_bus(Path(folder)) as address:
                monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
                nursery.start_soon(watch_metered, heard)
                async with NetworkManager(address, 1).running():
                    await heard.until(lambda words: bool(words) and words[-1])
            await heard.until(lambda words: not words[-1])
            with private_bus(Path(folder)) as address:
                async with NetworkManager(address, 1).running():
                    await heard.until(lambda words: words[-1])
            nursery.cancel_scope.cancel()


async def test_a_bus_that_says_nothing_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systembus, "CONNECT_S", 0.1)
    with tempfile.TemporaryDirectory(prefix="cloudfs-bus-") as folder:
        listener = trio.socket.socket(trio.socket.AF_UNIX)
        await listener.bind(f"{folder}/bus")
        listener.listen()
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={folder}/bus")
        async with watching() as heard:
            await heard.until(lambda words: words == [False])
        listener.close()
