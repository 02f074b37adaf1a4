"""A large upload ends at once where its file is removed, replaced or changed meanwhile, unless it then never would."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

from cloudfs.errors import QuotaExceeded
from cloudfs.remote.protocol import Body, Condition, Features, PiecesNoted
from cloudfs.sync.breaking import FROM_BYTES
from cloudfs.types import RemotePath, Stored
from tests.model.fake_remote import NEXTCLOUD, FakeRemote
from tests.sync.mount import World, opened, tell
from tests.sync.plain_remote import PlainRemote

LARGE = bytes(FROM_BYTES)
AN_HOUR_S = 3600.0


@dataclass
class Piecewise(FakeRemote):
    """Tells of each large upload that it goes in pieces, unless it does not."""

    in_pieces: bool = True
    noted: PiecesNoted | None = None

    def note_pieces(self, noted: PiecesNoted) -> None:
        self.noted = noted

    async def drop_pieces(self, folder: str) -> None:
        pass

    @contextmanager
    def pieces(self, size: int, name: str) -> Iterator[None]:
        if not self.in_pieces or size < FROM_BYTES or self.noted is None:
            yield
            return
        folder = f"pieces of {name}"
        self.noted.began(folder, name)
        try:
            yield
            self.noted.ended(folder)
        finally:
            self.noted.left(folder)


def slowed(body: Body, pause: Callable[[bytes], Awaitable[None]]) -> Body:
    """Return a body with a pause after each chunk."""

    async def slowly(start: int = 0) -> AsyncIterator[bytes]:
        async with aclosing(body(start)) as chunks:  # type: ignore[type-var]  # all have that, but no type says so
            async for chunk in chunks:
                yield chunk
                await pause(chunk)

    return slowly


@dataclass
class Slow(Piecewise):
    """The first upload takes an hour: after its first megabyte, or after the server has stored it."""

    answers_late: bool = False
    waits_s: float = 0.0
    """So long it takes until the first piece is on its way."""
    asked: trio.Event = field(default_factory=trio.Event)
    begun: trio.Event = field(default_factory=trio.Event)
    ended: bool = False

    async def put(self, path: RemotePath, body: Body, size: int, condition: Condition, **more: Any) -> Stored:
        if self.begun.is_set():
            return await super().put(path, body, size, condition, **more)
        self.asked.set()
        await trio.sleep(self.waits_s)
        with self.pieces(size, more["name"]):
            return await self._put_slowly(path, body, size, condition, **more)

    async def _put_slowly(
        self, path: RemotePath, body: Body, size: int, condition: Condition, **more: Any
    ) -> Stored:

        async def pause(_chunk: bytes) -> None:
            if not (self.answers_late or self.begun.is_set()):
                self.begun.set()
                await trio.sleep(AN_HOUR_S)

        stored = await super().put(path, slowed(body, pause), size, condition, **more)
        if self.answers_late:
            self.begun.set()
            await trio.sleep(AN_HOUR_S)
        self.ended = True
        return stored


async def saved(world: World, content: bytes = LARGE, *, known: bool = True) -> None:
    """Save a large file, over another version where that is `known`."""
    if known:
        world.remote.other.write("/a", b"before")
    await world.walk()
    await world.save("a", content)


async def under_way(world: World, content: bytes = LARGE, *, known: bool = True) -> None:
    """Have a large upload begin, over another version where that is `known`."""
    await saved(world, content, known=known)
    assert isinstance(world.remote, Slow)
    await world.remote.begun.wait()


def test_a_removed_file_is_sent_no_further(tmp_path: Path) -> None:
    remote = Slow()

    async def story(world: World) -> None:
        await under_way(world)
        began = trio.current_time()
        await world.unlink("a")
        assert not await world.drain()
        assert trio.current_time() - began < 10, "nothing of it is looked for either"
        assert not remote.ended
        assert remote.other.tree() == {}
        await world.check_nothing_left()

    tell(tmp_path, story, remote)


@pytest.mark.parametrize("known", [True, False], ids=["in a share that takes no pieces", "new"])
@pytest.mark.parametrize("change", ["removed", "changed"])
def test_what_goes_in_one_request_is_sent_to_its_end(tmp_path: Path, change: str, *, known: bool) -> None:
    """Cut, it leaves a part of an existing file, and on an object store one of a new file."""
    remote = Slow(in_pieces=False)

    async def story(world: World) -> None:
        await under_way(world, known=known)
        await (world.unlink("a") if change == "removed" else write(world, b"changed"))
        await world.drain()
        assert remote.ended
        assert remote.other.tree() == ({} if change == "removed" else {"/a": b"changed" + LARGE[7:]})

    tell(tmp_path, story, remote)


def test_a_new_file_in_pieces_is_sent_no_further(tmp_path: Path) -> None:
    remote = Slow()

    async def story(world: World) -> None:
        await under_way(world, known=False)
        began = trio.current_time()
        await world.unlink("a")
        assert not await world.drain()
        assert trio.current_time() - began < 10
        assert remote.other.tree() == {}
        await world.check_nothing_left()

    tell(tmp_path, story, remote)


def test_a_file_that_another_one_replaces_is_sent_no_further(tmp_path: Path) -> None:
    remote = Slow()

    async def story(world: World) -> None:
        await under_way(world)
        began = trio.current_time()
        await world.save("new", b"another")
        await world.rename("new", "a")
        assert not await world.drain()
        assert trio.current_time() - began < 10
        assert remote.other.tree() == {"/a": b"another"}
        await world.check_nothing_left()

    tell(tmp_path, story, remote)


def test_what_may_have_arrived_by_then_is_found_and_removed(tmp_path: Path) -> None:
    remote = Slow(answers_late=True)

    async def story(world: World) -> None:
        await under_way(world)
        assert remote.other.tree() == {"/a": LARGE}
        began = trio.current_time()
        await world.unlink("a")
        assert not await world.drain()
        assert trio.current_time() - began < AN_HOUR_S
        assert remote.other.tree() == {}
        await world.check_nothing_left()

    tell(tmp_path, story, remote)


async def write(world: World, data: bytes) -> None:
    async with opened(world, "a") as handle:
        await world.write(handle, 0, data)


def test_what_is_changed_before_half_of_it_is_sent_is_sent_anew(tmp_path: Path) -> None:
    remote = Slow()

    async def story(world: World) -> None:
        await under_way(world)
        began = trio.current_time()
        await write(world, b"changed")
        assert not await world.drain()
        assert trio.current_time() - began < 60
        assert not remote.ended
        assert remote.other.tree() == {"/a": b"changed" + LARGE[7:]}
        await world.check_nothing_left()

    tell(tmp_path, story, remote)


@dataclass
class AlwaysSlow(Slow):
    """Each upload takes ten minutes."""

    async def put(self, path: RemotePath, body: Body, size: int, condition: Condition, **more: Any) -> Stored:
        with self.pieces(size, more["name"]):
            return await self._put_slowly(path, body, size, condition, **more)

    async def _put_slowly(
        self, path: RemotePath, body: Body, size: int, condition: Condition, **more: Any
    ) -> Stored:
        async def pause(chunk: bytes) -> None:
            self.begun.set()
            await trio.sleep(600 * len(chunk) / size)

        return await FakeRemote.put(self, path, slowed(body, pause), size, condition, **more)


def test_what_is_changed_all_the_time_goes_up(tmp_path: Path) -> None:
    remote = AlwaysSlow()

    async def story(world: World) -> None:
        await under_way(world)
        for number in range(40):
            await write(world, b"change %02d" % number)
            await trio.sleep(60)
        assert "/a" in remote.other.tree(), "it went up meanwhile, as it was at one moment"
        assert not await world.drain()
        assert remote.other.tree() == {"/a": b"change 39" + LARGE[9:]}

    tell(tmp_path, story, remote)


def test_what_is_changed_near_the_end_is_sent_to_it(tmp_path: Path) -> None:
    remote = Slow(answers_late=True)

    async def story(world: World) -> None:
        await under_way(world)
        await write(world, b"changed")
        assert not await world.drain()
        assert remote.ended
        assert remote.other.tree() == {"/a": b"changed" + LARGE[7:]}

    tell(tmp_path, story, remote)


def test_what_is_only_renamed_is_sent_to_its_end(tmp_path: Path) -> None:
    remote = Slow()

    async def story(world: World) -> None:
        await under_way(world)
        await world.rename("a", "b")
        await world.drain()
        assert remote.ended
        assert remote.other.tree() == {"/b": LARGE}

    tell(tmp_path, story, remote)


@pytest.mark.parametrize("small", [False, True], ids=["no Nextcloud", "small"])
def test_what_would_take_longer_to_find_out_about_is_sent_to_its_end(tmp_path: Path, small: bool) -> None:
    """Elsewhere a part of it would become the file."""

    class Plain(Slow, PlainRemote):
        pass

    features: Features = NEXTCLOUD if small else PlainRemote.features
    remote = Slow(features=features) if small else Plain(features=features, in_pieces=False)

    async def story(world: World) -> None:
        await under_way(world, LARGE[1:] if small else LARGE)
        await world.unlink("a")
        await world.drain()
        assert remote.ended
        assert remote.other.tree() == {}

    tell(tmp_path, story, remote)


@dataclass
class AllThere(Piecewise):
    """The first try of a large file ends when all pieces are there; the next one sends none, and is carried out."""

    takes_s: float = AN_HOUR_S
    tries: int = 0
    data: bytes = b""
    begun: trio.Event = field(default_factory=trio.Event)

    async def put(self, path: RemotePath, body: Body, size: int, condition: Condition, **more: Any) -> Stored:
        if size < FROM_BYTES:
            return await super().put(path, body, size, condition, **more)
        self.tries += 1
        if self.tries == 1:
            async with aclosing(body()) as chunks:  # type: ignore[type-var]  # all have that, but no type says so
                self.data = b"".join([chunk async for chunk in chunks])
            raise QuotaExceeded("full", subject=path, status=507)
        if self.tries > 2:
            return await super().put(path, body, size, condition, **more)
        with self.pieces(size, more["name"]):
            self.begun.set()
            try:
                await trio.sleep(self.takes_s)
            finally:
                self.other.write(path, self.data)
        if self.takes_s == AN_HOUR_S:
            raise AssertionError
        made = await self.stat(path)
        return Stored(made.version.etag, made.file_id)


async def all_there(world: World, remote: AllThere) -> None:
    """Have a large upload be tried again, with all of it on the server."""
    await saved(world)
    while not remote.tries:
        await trio.sleep(1)
    world.engine.worker.try_all_now()
    await remote.begun.wait()


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
def test_what_the_server_has_all_of_may_yet_arrive(tmp_path: Path, replaced: bool) -> None:
    remote = AllThere()

    async def story(world: World) -> None:
        await all_there(world, remote)
        if replaced:
            await world.save("new", b"another")
            await world.rename("new", "a")
        else:
            await world.unlink("a")
        assert not await world.drain()
        await trio.sleep(120)
        await world.drain()
        assert await world.tree() == remote.other.tree() == ({"/a": b"another"} if replaced else {})

    tell(tmp_path, story, remote)


def test_what_the_server_has_all_of_is_not_broken_off_when_it_is_changed(tmp_path: Path) -> None:
    """It has but to put it together: nothing is left to be sent that would be for nothing."""
    remote = AllThere(takes_s=60)

    async def story(world: World) -> None:
        await all_there(world, remote)
        await write(world, b"changed")
        await trio.sleep(30)
        assert remote.other.tree() == {"/a": b"before"}, "it is still at it"
        await world.drain()
        assert remote.tries == 3
        assert remote.other.tree() == {"/a": b"changed" + LARGE[7:]}

    tell(tmp_path, story, remote)


@pytest.mark.parametrize("why", ["paused", "removed"])
def test_what_is_not_in_pieces_yet_is_broken_off_once_it_is(tmp_path: Path, why: str) -> None:
    """As while it waits for a connection, or for its turn under a limit."""
    remote = Slow(waits_s=30)

    async def story(world: World) -> None:
        await saved(world)
        await remote.asked.wait()
        began = trio.current_time()
        if why == "paused":
            world.engine.pause.begin()
        else:
            await world.unlink("a")
        await trio.sleep(5)
        assert world.engine.worker.in_flight()
        while world.engine.worker.in_flight():
            await trio.sleep(1)
        assert trio.current_time() - began < 35
        assert not remote.ended

    tell(tmp_path, story, remote)
