"""Changes of other clients are found out by the root's ETag, and nothing is asked for that did not change."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from cloudfs.errors import AlreadyExists, NotFound, PosixError, QuotaExceeded, RemoteError, Throttled
from cloudfs.sync.watching import Channel, Pace, Watcher
from cloudfs.types import ROOT, RemotePath, Stored
from tests.metadata.world import Sink
from tests.model.fake_remote import FakeRemote, FaultKind
from tests.model.faults import Span
from tests.sync.mount import World, tell
from tests.sync.plain_remote import PlainRemote

POLL_S = 30.0
SECOND = 1.0


def stocked(remote: FakeRemote | None = None) -> FakeRemote:
    remote = remote or FakeRemote()
    for folder in ("/a", "/a/b", "/a/b/c", "/x", "/x/y"):
        remote.other.mkdir(folder)
        remote.other.write(f"{folder}/file", b"content of " + folder.encode())
    return remote


def watched(
    tmp_path: Path,
    story: Callable[[World], Awaitable[None]],
    remote: FakeRemote | None = None,
    **more: Any,
) -> None:
    """Play a story on a mount whose folders are all known, and whose log of requests begins here."""

    async def play(world: World) -> None:
        await world.walk()
        await trio.sleep(POLL_S + SECOND)
        world.remote.log.clear()
        await story(world)

    tell(tmp_path, play, remote or stocked(), **more)


def shown(world: World) -> dict[str, int]:
    """Return sizes by path, as the mount has them in memory: nothing is asked for by looking."""
    nodes = world.engine.store.nodes
    return {str(nodes.local_path(node.ino)): node.size for node in nodes.descendants(ROOT)}


def channel(world: World) -> Channel:
    return world.engine.watcher.channel


# How often


@pytest.mark.parametrize(
    ("idle_s", "pushed", "expected_s"),
    [
        (0, False, 30),
        (600, False, 30),
        (1200, False, 60),
        (math.inf, False, 300),
        (0, True, 300),
        (math.inf, True, 300),
    ],
)
def test_the_pace(idle_s: float, pushed: bool, expected_s: float) -> None:
    assert Pace().pause_s(idle_s, pushed=pushed) == expected_s


def test_a_pace_that_somebody_chose_is_never_exceeded() -> None:
    assert Pace(poll_s=3600).pause_s(math.inf, pushed=False) == 3600
    assert Pace(poll_s=3600).pause_s(0, pushed=True) == 3600


def test_nothing_but_the_root_is_asked_for_while_nothing_changes(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await trio.sleep(10 * POLL_S)
        assert set(world.remote.methods()) == {"stat /"}
        assert len(world.remote.log) in {10, 11}
        assert channel(world) is Channel.POLLING

    watched(tmp_path, story)


def test_an_idle_account_is_asked_less_and_less(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await trio.sleep(8 * 3600)
        world.remote.log.clear()
        await trio.sleep(3600)
        assert 12 <= len(world.remote.log) <= 14
        world.remote.other.write("/a/new", b"new")
        await world.walk()
        await trio.sleep(SECOND)
        assert "/a/new" in shown(world), "whoever comes back does not wait for the next look"

    watched(tmp_path, story)


def test_after_a_change_of_ours_the_root_is_listed_at_once(tmp_path: Path) -> None:
    """Its ETag is another one for sure: to ask for that first would be a request more for each look."""

    async def story(world: World) -> None:
        await world.save("a/new", b"new")
        await world.drain()
        world.remote.log.clear()
        await trio.sleep(POLL_S + SECOND)
        assert world.remote.methods() == ["list_folder /", "list_folder /a"]
        world.remote.log.clear()
        await trio.sleep(POLL_S + SECOND)
        assert world.remote.methods() == ["stat /"]

    watched(tmp_path, story)


def test_what_fills_a_new_folder_asks_for_no_looks_besides(tmp_path: Path) -> None:
    """`cp -r` asks for each name before it makes it. What others put in there is seen in time all the same."""

    async def story(world: World) -> None:
        await world.mkdir("new")
        await world.drain()
        await world.save("new/first", b"content")  # it does not go up for a while
        new = (await world.lookup("new")).ino
        while "list_folder /" not in world.remote.methods():
            await trio.sleep(0.1)
        world.remote.log.clear()
        world.remote.other.write("/new/theirs", b"theirs")
        began = trio.current_time()
        for number in range(26):
            with pytest.raises(PosixError):
                await world.fs.lookup(new, f"{number}".encode())
            await trio.sleep(SECOND)
        assert world.remote.methods() == []
        await trio.sleep(began + POLL_S + SECOND - trio.current_time())
        assert "/new/theirs" in shown(world)

    watched(tmp_path, story, quiet_s=60.0)


def test_who_is_in_a_folder_with_a_file_that_does_not_go_up_is_at_work(tmp_path: Path) -> None:
    """A blocked file, or one that takes hours: the account does not count as idle for that."""

    class Full(FakeRemote):
        async def put(self, path: RemotePath, *_: Any, **__: Any) -> Stored:
            raise QuotaExceeded("full", subject=path)

    async def story(world: World) -> None:
        await world.mkdir("new")
        await world.drain()
        await world.save("new/first", b"content")
        new = (await world.lookup("new")).ino
        await trio.sleep(2 * 3600)
        world.remote.other.write("/a/night", b"theirs")
        for number in range(200):
            with pytest.raises(PosixError):
                await world.fs.lookup(new, f"{number}".encode())
            await trio.sleep(SECOND)
            assert number or "/a/night" in shown(world), "whoever comes back does not wait for the next look"
        world.remote.other.write("/a/late", b"theirs")
        await trio.sleep(POLL_S + SECOND)
        assert "/a/late" in shown(world)
        assert world.engine.store.nodes.has_work_in(new)

    watched(tmp_path, story, stocked(Full()))


@pytest.mark.parametrize(("ago_s", "more"), [(0.5, 0), (1.5, 1)])
def test_a_look_leaves_out_what_was_looked_at_for_files_of_ours(
    tmp_path: Path, ago_s: float, more: int
) -> None:
    """What others did there in that moment is seen at the next look: that is within 30 s and one."""

    async def story(world: World) -> None:
        await world.mkdir("new")
        await world.drain()
        await world.save("new/first", b"content")  # it does not go up for a while
        new = (await world.lookup("new")).ino
        await world.engine.lister.refresh(new)
        world.remote.other.write("/new/theirs", b"theirs")  # so that there is something new to see
        world.remote.log.clear()
        await trio.sleep(ago_s)
        world.engine.watcher.wake()
        await trio.sleep(0.5)
        assert world.remote.methods() == ["list_folder /", *["list_folder /new"] * more]

    watched(tmp_path, story, quiet_s=60.0)


# What is seen


def test_a_change_deep_down_is_seen_in_time_and_only_its_folders_are_listed(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.remote.other.write("/a/b/c/file", b"longer than it was before")
        world.remote.other.write("/a/b/c/new", b"new")
        await trio.sleep(POLL_S + SECOND)
        assert shown(world)["/a/b/c/file"] == 25
        assert shown(world)["/a/b/c/new"] == 3
        listed = [line for line in world.remote.methods() if line.startswith("list_folder")]
        assert listed == [f"list_folder {path}" for path in ("/", "/a", "/a/b", "/a/b/c")]

    watched(tmp_path, story)


def test_removals_and_renames_are_seen_in_time_and_announced(tmp_path: Path) -> None:
    sink = Sink()

    async def story(world: World) -> None:
        await world.walk()
        await trio.sleep(POLL_S + SECOND)
        inos = {path: (await world.lookup(path)).ino for path in ("a/b", "x/y/file", "a/b/c/file")}
        sink.take()
        world.remote.other.delete("/a/b/c/file")
        world.remote.other.move("/x/y/file", "/x/y/renamed")
        world.remote.other.move("/a/b", "/a/bb")
        await trio.sleep(POLL_S + SECOND)
        there = {path: content and len(content) for path, content in world.remote.other.tree().items()}
        assert shown(world).keys() == there.keys()
        names = [told[::2] for told in sink.take() if told[0] != "node"]
        assert {("removed", "file"), ("removed", "b"), ("changed", "bb"), ("changed", "renamed")} <= set(
            names
        )
        assert (await world.lookup("a/bb")).ino == inos["a/b"]
        assert (await world.lookup("x/y/renamed")).ino == inos["x/y/file"]

    tell(tmp_path, story, stocked(), sink=sink)


def test_what_is_in_a_folder_that_was_there_already_is_announced_at_once(tmp_path: Path) -> None:
    """The kernel may keep for long that there is no such name in a folder that was made here."""
    sink = Sink()

    async def story(world: World) -> None:
        await world.walk()
        await trio.sleep(POLL_S + SECOND)
        world.remote.other.mkdir("/a/both")
        world.remote.other.write("/a/both/theirs", b"theirs")
        await world.mkdir("a/both")
        made = await world.lookup("a/both")
        with pytest.raises(PosixError):
            await world.lookup("a/both/theirs")
        sink.take()
        await world.drain()
        await trio.sleep(SECOND)
        assert ("changed", made.ino, "theirs") in sink.take()

    tell(tmp_path, story, stocked(), sink=sink)


def test_a_content_of_the_same_etag_is_told_by_its_checksum(tmp_path: Path) -> None:
    """Same size, same second: the file's ETag is what it was, its folders' are not (protocol.md §3.2)."""
    remote = stocked()
    one, two = (f"SHA1:{hashlib.sha1(it, usedforsecurity=False).hexdigest()}" for it in (b"one", b"two"))
    remote.other.write("/a/b/same", b"one", mtime_s=1_650_000_000, checksum=one)

    async def story(world: World) -> None:
        node = world.engine.store.nodes.get((await world.lookup("a/b/same")).ino)
        assert node is not None
        world.remote.other.write("/a/b/same", b"two", mtime_s=1_650_000_000, checksum=two)
        await trio.sleep(POLL_S + SECOND)
        now = world.engine.store.nodes.get(node.ino)
        assert now is not None
        assert (now.s_etag, now.s_checksum) == (node.s_etag, two)
        assert now.version != node.version

    watched(tmp_path, story, remote)


def test_folders_that_nobody_has_seen_are_not_listed(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.lookup("x")
        await trio.sleep(POLL_S + SECOND)
        world.remote.log.clear()
        world.remote.other.write("/a/b/new", b"new")
        await trio.sleep(2 * POLL_S)
        assert set(world.remote.methods()) == {"stat /", "list_folder /"}

    tell(tmp_path, story, stocked())


# Who asks


def test_a_folder_that_is_used_is_not_asked_for_by_itself(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for _ in range(20):
            await world.walk()
            await trio.sleep(SECOND)
        assert set(world.remote.methods()) == {"stat /"}
        assert len(world.remote.log) <= 2, "one look in fifteen seconds is enough for whoever asks"

    watched(tmp_path, story)


@asynccontextmanager
async def looking() -> AsyncIterator[tuple[Watcher, list[float]]]:
    """Have somebody watch, and note when (trio) he looks, in vain."""
    looked_s: list[float] = []

    async def look() -> bool:
        looked_s.append(trio.current_time())
        return False

    watcher = Watcher(look, Pace(), possible=lambda: True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watcher.run)
        yield watcher, looked_s
        nursery.cancel_scope.cancel()


async def test_what_is_used_is_looked_for_after_a_while_and_what_is_denied_sooner(
    autojump_clock: MockClock,
) -> None:
    """So that a walk through what was seen ten seconds ago asks for nothing."""
    del autojump_clock
    async with looking() as (watcher, looked_s):
        await trio.sleep(POLL_S + SECOND)
        began_s, looked_s[:] = looked_s[-1], []
        await trio.sleep_until(began_s + 10)
        watcher.used()
        await trio.sleep(SECOND)
        assert looked_s == []
        await watcher.look()
        assert looked_s == [trio.current_time()]
        await trio.sleep(15.5)
        watcher.used()
        await trio.sleep(SECOND)
        assert len(looked_s) == 2


def test_a_name_is_looked_for_before_it_is_denied(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await trio.sleep(10)
        world.remote.other.write("/a/b/new", b"new")
        assert (await world.lookup("a/b/new")).size == 3
        with pytest.raises(PosixError):
            await world.lookup("a/b/none")

    watched(tmp_path, story)


def test_a_look_that_hangs_makes_only_the_first_denial_wait(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await trio.sleep(10)
        world.remote.faults.next("stat", [FaultKind.HANG])
        begun_s = trio.current_time()
        for number in range(5):
            with pytest.raises(PosixError):
                await world.lookup(f"a/none-{number}")
        assert trio.current_time() - begun_s == pytest.approx(2.0, abs=0.1)

    watched(tmp_path, story)


def test_our_own_changes_cost_a_listing_of_their_folders_at_most(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for number in range(5):
            await world.save(f"a/b/mine-{number}", b"mine")
        await world.drain()
        world.remote.log.clear()
        await trio.sleep(2 * POLL_S + SECOND)
        listed = [line for line in world.remote.methods() if line.startswith("list_folder")]
        assert sorted(listed) == ["list_folder /", "list_folder /a", "list_folder /a/b"]

    watched(tmp_path, story)


# When it does not work


def test_a_plain_server_is_asked_for_each_folder_in_use(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.walk()
        await trio.sleep(10 * POLL_S)
        world.remote.log.clear()
        world.remote.other.write("/a/b/new", b"new")
        await world.lookup("a/b")
        await trio.sleep(10 * POLL_S)
        assert channel(world) is Channel.ON_USE
        assert "stat /" not in world.remote.methods()
        await world.walk()
        await trio.sleep(SECOND)
        assert "/a/b/new" in shown(world)

    remote = PlainRemote()
    for folder in ("/a", "/a/b"):
        remote.other.mkdir(folder)
    tell(tmp_path, story, remote)


def test_when_the_root_cannot_be_asked_folders_in_use_are(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.remote.faults.next("stat", [FaultKind.FAULT] * 5)
        await trio.sleep(POLL_S + SECOND)
        assert channel(world) is Channel.ON_USE
        world.remote.other.write("/a/b/new", b"new")
        await world.walk()
        await trio.sleep(SECOND)
        assert "/a/b/new" in shown(world)
        await trio.sleep(6 * POLL_S)
        assert channel(world) is Channel.POLLING

    watched(tmp_path, story)


def test_after_an_outage_what_changed_is_seen_as_soon_as_anything_is_answered(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.remote.faults.unreachable_for(3600)
        await trio.sleep(1800)
        world.remote.other.write("/a/b/new", b"new")
        assert channel(world) is Channel.ON_USE
        await trio.sleep(1800)
        assert await world.read_file("a/file") == b"content of /a"
        await trio.sleep(SECOND)
        assert "/a/b/new" in shown(world)

    watched(tmp_path, story)


async def test_who_comes_after_an_idle_night_is_shown_what_changed_as_soon_as_ever(
    autojump_clock: MockClock,
) -> None:
    del autojump_clock
    async with looking() as (watcher, looked_s):
        await trio.sleep(7200)
        before = len(looked_s)
        while len(looked_s) == before:
            await trio.sleep(0.5)
        await trio.sleep(3)
        watcher.used()
        await trio.sleep(POLL_S + SECOND)
        assert len(looked_s) == before + 2


async def test_nobody_relies_on_being_told_while_the_server_is_left_alone(autojump_clock: MockClock) -> None:
    """During maintenance nothing is asked at all, so no look fails by which it would be noticed."""
    del autojump_clock
    heard: list[tuple[float, bool]] = []
    alone_until = 0.0

    async def look() -> bool:
        return False

    watcher = Watcher(
        look,
        Pace(),
        possible=lambda: True,
        not_before=lambda: alone_until,
        told=lambda trusted: heard.append((trio.current_time(), trusted)),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watcher.run)
        await trio.sleep(POLL_S + SECOND)
        assert heard.pop()[1]
        began_s, alone_until = trio.current_time(), math.inf
        await trio.sleep(3600)
        ((noticed_s, trusted),) = heard
        assert not trusted
        assert noticed_s - began_s <= POLL_S
        alone_until = 0.0
        watcher.wake()
        await trio.sleep(SECOND)
        assert heard[-1][1]
        nursery.cancel_scope.cancel()


def test_a_server_that_wants_to_be_left_alone_is_relied_on_no_more_at_once(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        assert channel(world) is Channel.POLLING
        world.engine.connectivity.failed(Throttled("too many requests", status=429, retry_after_s=3600))
        await trio.sleep(SECOND)
        assert channel(world) is Channel.ON_USE
        assert world.remote.methods() == []
        await trio.sleep(3600)
        assert channel(world) is Channel.POLLING

    watched(tmp_path, story)


def test_what_changed_during_an_outage_is_announced_by_name_after_it(tmp_path: Path) -> None:
    """The kernel may have kept all of it meanwhile, also that a name does not exist."""
    sink = Sink()

    async def story(world: World) -> None:
        await world.walk()
        await trio.sleep(POLL_S + SECOND)
        folder, file = (await world.lookup("a/b")).ino, (await world.lookup("x/y/file")).ino
        gone = (await world.lookup("x")).ino
        world.remote.faults.during(Span.MAINTENANCE, 3600)
        await trio.sleep(1800)
        world.remote.other.write("/a/b/new", b"new")
        world.remote.other.write("/x/y/file", b"longer than it was before")
        world.remote.other.delete("/x/file")
        sink.take()
        await trio.sleep(1800 + Pace().longest_s + POLL_S)
        told = sink.take()
        assert {("changed", folder, "new"), ("node", file, True), ("removed", gone, "file")} <= set(told)

    tell(tmp_path, story, stocked(), sink=sink)


def test_a_folder_that_cannot_be_listed_keeps_nothing_else_from_being_seen(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.remote.other.write("/a/new", b"new")
        world.remote.other.write("/x/new", b"new")
        world.remote.faults.next("list_folder", [None, FaultKind.FAULT])
        await trio.sleep(POLL_S + SECOND)
        seen = {path for path in ("/a/new", "/x/new") if path in shown(world)}
        assert len(seen) == 1
        assert channel(world) is Channel.POLLING
        await trio.sleep(POLL_S + SECOND)
        assert {"/a/new", "/x/new"} <= shown(world).keys()

    watched(tmp_path, story)


def test_a_folder_that_was_not_seen_is_asked_for_when_it_is_used(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.remote.other.write("/a/new", b"new")
        world.remote.faults.next("list_folder", [None, FaultKind.FAULT])
        await trio.sleep(POLL_S + SECOND)
        assert "/a/new" not in shown(world)
        await world.walk()
        await trio.sleep(0.5)
        assert "/a/new" in shown(world)

    watched(tmp_path, story)


def test_a_death_in_the_midst_of_a_look_hides_nothing(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.remote.other.write("/a/b/c/new", b"new")
        world.remote.faults.next("list_folder", [None, FaultKind.HANG])  # the root, and then /a
        await trio.sleep(POLL_S + SECOND)
        await world.kill()
        await trio.sleep(POLL_S + SECOND)
        assert "/a/b/c/new" in shown(world)

    watched(tmp_path, story)


def test_a_refused_login_is_asked_for_no_more(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.remote.faults.during(Span.REFUSES_LOGIN, math.inf)
        await trio.sleep(3600)
        assert world.remote.methods() == ["stat /"]
        assert channel(world) is Channel.ON_USE

    watched(tmp_path, story)


# Everything together


def _change_something(remote: FakeRemote, chance: random.Random, number: int) -> None:
    """Another client's next step, whatever is there."""
    other = remote.other
    paths = sorted(other.tree()) or ["/none"]
    folders = ["/", *(path for path, content in other.tree().items() if content is None)]
    place = f"{chance.choice(folders).rstrip('/')}/n{number}"
    steps: list[Callable[[], None]] = [
        lambda: other.write(place, b"x" * number),
        lambda: other.write(chance.choice(paths), b"y" * number),
        lambda: other.mkdir(place),
        lambda: other.move(chance.choice(paths), place),
        lambda: other.delete(chance.choice(paths)),
    ]
    try:
        chance.choice(steps)()
    except (AlreadyExists, NotFound, RemoteError):
        other.mkdir(f"/made-{number}")


@pytest.mark.parametrize("seed", range(20))
def test_whatever_another_client_does_is_seen_in_time(tmp_path: Path, seed: int) -> None:
    """Changes come at any moment of a look, while requests take their time, and we change things too."""
    remote, chance = stocked(), random.Random(seed)
    remote.latency_s = 0.4

    async def story(world: World) -> None:
        for number in range(1, 60):
            _change_something(world.remote, chance, number)
            if number % 10 == 0:
                await world.save(f"mine-{number}", b"mine")
                await world.mkdir(f"folder-{number}")
            await trio.sleep(chance.choice([0.0, 0.1, 0.3, 5.0, 40.0]))
            with suppress(PosixError, NotFound):  # what is walked over may vanish meanwhile
                await world.walk()
        await world.drain()
        await trio.sleep(2 * POLL_S + 10)
        there = {
            path: 0 if content is None else len(content)
            for path, content in world.remote.other.tree().items()
        }
        here = shown(world)
        assert {path: size for path, size in here.items() if there.get(path) != size} == {}
        hidden = there.keys() - here.keys()
        unknown = {path for path in hidden if not await _is_known(world, path)}
        assert hidden == unknown, "nothing is missing from a folder that was ever looked into"

    tell(tmp_path, story, remote, seed=seed)


async def _is_known(world: World, path: str) -> bool:
    above = world.engine.tree.resolve(path.rpartition("/")[0])
    return above is not None and above.listed_at is not None
