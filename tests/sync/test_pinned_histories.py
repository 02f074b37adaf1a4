"""Random histories with pins among them: at the end exactly what is pinned is readable with nobody there.

What is to be kept is found out here in another way than in cloudfs: from every pin's path, the longest that fits.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from cloudfs.errors import PosixError, RemoteError
from cloudfs.metadata.pinning import Defaults
from cloudfs.types import Kind, Pin
from tests.model.fake_remote import FakeRemote
from tests.sync.mount import World, tell

FOLDERS = ("a", "b", "a/c", "b/d", "a/c/e")
NAMES = ("1", "2", "3")
STEPS = 30
SETTLE_S = 1500.0
DEFAULTS = Defaults(("/b",), 3000)


class History:
    """One random history of two clients, of people's words, and of bad days."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self.world = world
        self.chance = chance
        self.number = 0

    def data(self) -> bytes:
        self.number += 1
        text = f"content {self.number} ".encode()
        return text * self.chance.choice((1, 10, 100, 100_000))

    def path(self) -> str:
        return f"{self.chance.choice(FOLDERS)}/{self.chance.choice(NAMES)}"

    async def step(self) -> None:
        name = self.chance.choices(
            (
                "save",
                "rename",
                "unlink",
                "theirs",
                "their_move",
                "their_removal",
                "say",
                "wait",
                "death",
                "outage",
            ),
            (4, 3, 1, 4, 2, 1, 6, 4, 1, 1),
        )[0]
        with suppress(PosixError, RemoteError):
            await getattr(self, name)()

    async def save(self) -> None:
        await self.world.save(self.path(), self.data())

    async def rename(self) -> None:
        pick = self.path if self.chance.random() < 0.6 else lambda: self.chance.choice(FOLDERS)
        await self.world.rename(pick(), pick() + self.chance.choice(("", "", " new")))

    async def unlink(self) -> None:
        await self.world.unlink(self.path())

    async def theirs(self) -> None:
        self.world.remote.other.write("/" + self.path(), self.data())

    async def their_move(self) -> None:
        pick = self.path if self.chance.random() < 0.6 else lambda: self.chance.choice(FOLDERS)
        self.world.remote.other.move("/" + pick(), "/" + pick())

    async def their_removal(self) -> None:
        self.world.remote.other.delete("/" + self.path())

    async def say(self) -> None:
        path = self.chance.choice((self.path(), *FOLDERS))
        ino = (await self.world.lookup(path)).ino
        pin = self.chance.choice((Pin.ALWAYS_LOCAL, Pin.ALWAYS_LOCAL, Pin.ONLINE_ONLY, None))
        self.world.engine.keeper.say(ino, pin)
        if pin is Pin.ONLINE_ONLY:
            await self.world.engine.hydrator.free(ino)
        self.world.engine.hydrator.wake()

    async def wait(self) -> None:
        await trio.sleep(self.chance.choice((0.1, 3.0, 40.0, 200.0)))

    async def death(self) -> None:
        await (self.world.kill() if self.chance.random() < 0.5 else self.world.restart())

    async def outage(self) -> None:
        self.world.remote.faults.unreachable_for(self.chance.choice((1.0, 100.0)))


def expected(pins: Mapping[str, Pin], path: str, size: int) -> bool:
    """Tell by the pins' paths alone whether a file is to be here."""
    fitting = [at for at in pins if at in {"", path} or path.startswith(at + "/")]
    if fitting:
        return pins[max(fitting, key=len)] is Pin.ALWAYS_LOCAL
    return path.startswith("b/") and size <= 3000


def stocked(chance: random.Random) -> FakeRemote:
    remote = FakeRemote(chance=chance, latency_s=chance.choice((0.0, 0.05, 2.0)))
    for folder in FOLDERS:
        remote.other.mkdir("/" + folder)
        for name in NAMES[:2]:
            remote.other.write(
                f"/{folder}/{name}", f"{folder}/{name} ".encode() * chance.choice((1, 100_000))
            )
    return remote


async def check(world: World) -> None:
    """All that is to be here is readable without a server; then, with it, both sides have the same."""
    pins = {
        path: pin
        for ino, pin in world.engine.store.pins.all().items()
        if (path := world.path_of(ino)) is not None
    }
    files = {path: it.size for path, it in (await world.walk()).attributes.items() if it.kind is Kind.FILE}
    kept = {path for path, size in files.items() if expected(pins, path, size)}
    world.remote.faults.unreachable_for(10 * 86400)
    here = {path: await world.read_file(path) for path in sorted(kept)}
    world.remote.faults.unreachable_for(0)
    hydrator = world.engine.hydrator
    assert (hydrator.kept.files, hydrator.kept.missing_files) == (len(kept), 0), sorted(kept)
    there = world.remote.other.tree()
    assert here == {path: there["/" + path] for path in kept}
    assert await world.tree() == there


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.expect_log(".*", optional=True)
def test_at_the_end_what_is_pinned_is_here(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)

    async def story(world: World) -> None:
        history = History(world, chance)
        await world.walk()
        for _ in range(STEPS):
            await history.step()
            await trio.sleep(chance.choice((0.0, 0.5)))
        world.remote.faults.unreachable_for(0)
        await world.drain()
        await trio.sleep(SETTLE_S)
        await world.refresh_all()
        await world.drain()
        await trio.sleep(SETTLE_S)
        await check(world)

    tell(tmp_path, story, stocked(chance), seed=seed, keep=DEFAULTS)
