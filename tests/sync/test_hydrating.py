"""What is pinned comes by itself, stays, follows the server, and is readable with nobody there."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
import trio

from cloudfs.metadata.pinning import Defaults
from cloudfs.store.records import Node
from cloudfs.sync.bringing import NO_ROOM
from cloudfs.sync.freeing import Freed
from cloudfs.types import BLOCK_SIZE, ROOT, Ino, Pin
from cloudfs.vfs.records import RenameMode
from tests.model.fake_remote import FakeRemote, FaultKind
from tests.sync.mount import World, brought, opened, tell

KEEP, ONLINE = Pin.ALWAYS_LOCAL, Pin.ONLINE_ONLY
LONG_S = 5 * 86400.0


def content(path: str, size: int = 1000) -> bytes:
    return (path.encode() * (size // len(path) + 1))[:size]


def stocked(*large: str) -> FakeRemote:
    """Return a server with /p (to be pinned) and /q (not), each with a folder and some files in it."""
    remote = FakeRemote()
    for folder in ("/p", "/p/in", "/p/in/deep", "/q", "/q/in"):
        remote.other.mkdir(folder)
        for name in ("a", "b", "c"):
            remote.other.write(f"{folder}/{name}", content(f"{folder}/{name}"))
    for path in large:
        remote.other.write(path, content(path, 3 * BLOCK_SIZE + 7))
    return remote


async def say(world: World, path: str, pin: Pin | None) -> None:
    ino = (await world.lookup(path)).ino if path else ROOT
    world.engine.keeper.say(ino, pin)
    await brought(world)


async def offline_tree(world: World, *paths: str) -> dict[str, bytes]:
    """Read files with the server away, and have it back afterwards."""
    world.remote.faults.unreachable_for(LONG_S)
    try:
        return {path: await world.read_file(path.removeprefix("/")) for path in paths}
    finally:
        world.remote.faults.unreachable_for(0)


def below(remote: FakeRemote, folder: str) -> list[str]:
    return [
        path
        for path, data in remote.other.tree().items()
        if path.startswith(folder + "/") and data is not None
    ]


async def check_here(world: World, *folders: str) -> None:
    """All files of some folders are readable without the server, with what it has; nothing is missing."""
    paths = [path for folder in folders for path in below(world.remote, folder)]
    assert paths
    expected = {path: world.remote.other.read(path) for path in paths}
    found = await offline_tree(world, *paths)
    assert found == expected


def streamed(remote: FakeRemote) -> set[str]:
    """Return what was asked for; of archives their folders."""
    return {it.path for it in remote.log if it.method in {"stream", "read_archive", "get_range"}}


def shown(world: World, path: str) -> Node:
    node = world.engine.tree.resolve(path)
    assert node is not None, path
    return node


def cached(world: World, path: str) -> int:
    """Return how many bytes of what the mount shows are in the block cache."""
    source = world.engine.hydrator._walker.source(shown(world, path))
    assert source is not None
    return source.size - world.engine.fetcher.missing_bytes(source)


def test_a_pinned_folder_comes_with_all_that_is_in_it_and_nothing_else(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await say(world, "p", KEEP)
        await check_here(world, "/p")
        kept = world.engine.hydrator.kept
        assert (kept.files, kept.bytes, kept.missing_files, kept.missing_bytes) == (
            10,
            3 * BLOCK_SIZE + 9007,
            0,
            0,
        )
        assert not any(path.startswith("/q") for path in streamed(world.remote))

    tell(tmp_path, story, stocked("/p/in/large"))


def test_a_pinned_file_comes_alone(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await say(world, "p/in/large", KEEP)
        assert streamed(world.remote) == {"/p/in/large"}
        assert await offline_tree(world, "/p/in/large") == {
            "/p/in/large": world.remote.other.read("/p/in/large")
        }

    tell(tmp_path, story, stocked("/p/in/large"))


def test_what_is_online_only_below_is_left_out_and_pinned_again_further_below(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.walk()
        await say(world, "p", KEEP)
        await say(world, "p/in", ONLINE)
        await say(world, "p/in/deep", KEEP)
        assert world.engine.hydrator.kept.files == 6
        world.remote.faults.unreachable_for(LONG_S)
        assert world.engine.hydrator.kept.missing_files == 0

    tell(tmp_path, story, stocked())


def test_what_is_not_to_be_kept_any_more_is_walked_no_further(tmp_path: Path) -> None:
    """A server may list folders in folders without end: a walk that began would never."""

    async def story(world: World) -> None:
        await world.walk()
        keeper, walked = world.engine.keeper, list[str]()
        ino = (await world.lookup("p")).ino
        keeper.say(ino, KEEP)

        async def know(node: Node) -> None:
            await trio.lowlevel.checkpoint()
            walked.append(node.name)
            if node.name == "in":
                keeper.say(ino, None)

        await world.engine.hydrator._walker.count(keeper.roots(), know=know)
        assert walked == ["p", "in"]

    tell(tmp_path, story, stocked())


def test_a_folder_below_that_is_not_to_be_kept_any_more_is_walked_no_further(tmp_path: Path) -> None:
    remote = stocked()
    remote.other.mkdir("/p/in/further")

    async def story(world: World) -> None:
        await world.walk()
        keeper, walked = world.engine.keeper, list[str]()
        below = (await world.lookup("p/in")).ino
        keeper.say((await world.lookup("p")).ino, KEEP)

        async def know(node: Node) -> None:
            await trio.lowlevel.checkpoint()
            walked.append(node.name)
            if node.name == "in":
                keeper.say(below, ONLINE)

        await world.engine.hydrator._walker.count(keeper.roots(), know=know)
        assert "further" not in walked

    tell(tmp_path, story, remote)


def test_what_is_said_about_a_folder_holds_for_what_was_said_in_it_before(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await say(world, "p/in", ONLINE)
        await say(world, "p", KEEP)
        await check_here(world, "/p")
        await say(world, "p", None)
        assert world.engine.store.pins.all() == {}

    tell(tmp_path, story, stocked())


def test_the_whole_account_can_be_pinned(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await say(world, "", KEEP)
        await check_here(world, "/p", "/q")

    tell(tmp_path, story, stocked())


def test_many_small_files_come_in_few_requests(tmp_path: Path) -> None:
    remote = FakeRemote()
    remote.other.mkdir("/p")
    for number in range(250):
        remote.other.write(f"/p/{number}", content(str(number), 100))

    async def story(world: World) -> None:
        await say(world, "p", KEEP)
        assert [it.method for it in remote.log].count("read_archive") == 3
        assert "stream" not in {it.method for it in remote.log}
        await check_here(world, "/p")

    tell(tmp_path, story, remote)


@pytest.mark.parametrize("poll_s", [30.0, 0.0], ids=["watched", "not watched"])
def test_what_appears_later_and_what_changes_on_the_server_comes_too(tmp_path: Path, poll_s: float) -> None:
    async def story(world: World) -> None:
        await say(world, "p", KEEP)
        world.remote.other.write("/p/in/new", content("new", 2 * BLOCK_SIZE))
        world.remote.other.mkdir("/p/more")
        world.remote.other.write("/p/more/file", content("more"))
        world.remote.other.write("/p/in/deep/a", content("another a", 5000))
        await trio.sleep(1300)
        await check_here(world, "/p")

    tell(tmp_path, story, stocked(), poll_s=poll_s)


def test_what_moves_into_a_pinned_folder_comes_too(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await say(world, "p", KEEP)
        await world.rename("q/in", "p/moved here")
        world.remote.other.move("/q/a", "/p/moved there")
        await world.drain()
        await trio.sleep(120)
        await check_here(world, "/p")

    tell(tmp_path, story, stocked())


def test_a_pin_follows_its_folder_wherever_it_goes_and_through_restarts(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.walk()
        await say(world, "p", KEEP)
        await world.rename("p", "q/here")
        await world.drain()
        await world.restart()
        world.remote.other.move("/q/here", "/there")
        world.remote.other.write("/there/in/late", content("late", 3000))
        await trio.sleep(120)
        await check_here(world, "/there")
        await world.kill()
        world.remote.other.write("/there/later", content("later", 3000))
        await trio.sleep(120)
        await check_here(world, "/there")

    tell(tmp_path, story, stocked())


def test_a_file_that_moves_out_of_a_pinned_folder_may_go(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await say(world, "p", KEEP)
        node = shown(world, "/p/a")
        assert world.engine.keeper.is_exempt(node.ino, node.version)
        await world.rename("p/a", "q/out")
        assert not world.engine.keeper.is_exempt(node.ino, node.version)

    tell(tmp_path, story, stocked())


# Single files whose node becomes another one


async def pinned_file(world: World) -> None:
    await say(world, "q/a", KEEP)
    assert world.engine.hydrator.kept.files == 1


async def check_still_pinned(world: World, path: str = "q/a") -> None:
    await trio.sleep(120)
    assert world.engine.keeper.keeps(shown(world, path))
    await check_content_here(world, path)


async def check_content_here(world: World, path: str) -> None:
    assert await offline_tree(world, f"/{path}") == {f"/{path}": world.remote.other.read(f"/{path}")}


def test_a_pinned_file_stays_pinned_where_it_is_saved_by_rename(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await pinned_file(world)
        await world.save("q/.a.tmp", content("saved", 5000))
        await world.rename("q/.a.tmp", "q/a")
        await world.drain()
        await check_still_pinned(world)

    tell(tmp_path, story, stocked())


def test_a_pinned_file_stays_pinned_where_it_is_saved_beside_its_backup(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await pinned_file(world)
        await world.rename("q/a", "q/a~", RenameMode.NO_REPLACE)
        await world.save("q/a", content("saved", 5000))
        await world.unlink("q/a~")
        await world.drain()
        await check_still_pinned(world)

    tell(tmp_path, story, stocked())


def test_a_pinned_file_stays_pinned_where_another_client_writes_it_while_it_is_open(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await pinned_file(world)
        async with opened(world, "q/a", os.O_RDONLY):
            world.remote.other.write("/q/a", content("theirs", 5000))
            await check_still_pinned(world)

    tell(tmp_path, story, stocked())


def test_a_pinned_file_stays_pinned_in_a_conflict_and_so_does_the_copy(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await pinned_file(world)
        await world.save("q/a", b"ours")
        world.remote.other.write("/q/a", content("theirs", 5000))
        await world.drain()
        await check_still_pinned(world)
        (copy,) = [path for path in below(world.remote, "/q") if "conflicted" in path]
        await check_still_pinned(world, copy.removeprefix("/"))

    tell(tmp_path, story, stocked())


# The cache


def test_what_is_pinned_stays_under_pressure_and_leaves_the_others_their_room(tmp_path: Path) -> None:
    mib = BLOCK_SIZE
    remote = FakeRemote()
    for folder in ("/p", "/q"):
        remote.other.mkdir(folder)
    for number in range(12):
        remote.other.write(f"/p/{number}", content(f"p{number}", 2 * mib))
        remote.other.write(f"/q/{number}", content(f"q{number}", 2 * mib))

    async def story(world: World) -> None:
        await say(world, "p", KEEP)
        for _ in range(2):
            for number in range(12):
                assert await world.read_file(f"q/{number}") == content(f"q{number}", 2 * mib)
                await trio.sleep(40)  # upkeep runs in between
        await check_here(world, "/p")
        here = [cached(world, f"/q/{number}") for number in range(12)]
        assert 10 * mib <= sum(here) <= 16 * mib, "the others have their limit for themselves"
        await world.restart()
        await trio.sleep(100)
        assert sum(cached(world, f"/q/{number}") for number in range(12)) >= 10 * mib
        await check_here(world, "/p")
        await say(world, "p", None)
        await trio.sleep(100)
        assert world.engine.blocks.statistics().bytes <= 16 * mib

    tell(tmp_path, story, remote, cache_bytes=16 * mib)


def test_earlier_versions_of_a_pinned_file_may_go(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await say(world, "q/a", KEEP)
        versions = set()
        for number in range(4):
            node = shown(world, "/q/a")
            versions.add(node.version)
            assert [it for it in versions if world.engine.keeper.is_exempt(node.ino, it)] == [node.version]
            world.remote.other.write("/q/a", content(f"version {number}", 3000))
            await trio.sleep(100)

    tell(tmp_path, story, stocked())


def test_what_an_edit_of_a_pinned_file_stands_on_stays(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await say(world, "p/large", KEEP)
        base = shown(world, "/p/large").version
        world.remote.faults.unreachable_for(LONG_S)
        handle = await world.open("p/large", os.O_RDWR)
        await world.write(handle, 5, b"edit")
        await world.fs.flush(handle)
        await world.fs.release(handle)
        node = shown(world, "/p/large")
        assert node.version != base
        assert world.engine.keeper.is_exempt(node.ino, base)
        expected = bytearray(world.remote.other.read("/p/large"))
        expected[5:9] = b"edit"
        assert await world.read_file("p/large") == expected

    tell(tmp_path, story, stocked("/p/large"))


def test_what_an_edit_stands_on_stays_where_another_client_removes_the_file(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await say(world, "p", KEEP)
        base = shown(world, "/p/large").version
        expected = bytearray(world.remote.other.read("/p/large"))
        expected[5:9] = b"edit"
        async with opened(world, "p/large") as handle:
            await world.write(handle, 5, b"edit")
            await world.fs.flush(handle)
            world.remote.other.delete("/p/large")
            await world.refresh_all()
            node = shown(world, "/p/large")
            assert not node.synced
            assert world.engine.keeper.is_exempt(node.ino, base), "it is nowhere else"
        await world.drain()
        assert world.remote.other.read("/p/large") == expected

    tell(tmp_path, story, stocked("/p/large"))


def test_a_large_pinned_file_that_was_written_here_is_not_downloaded_again(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await say(world, "p", KEEP)
        world.remote.log.clear()
        await world.save("p/large", content("large", 6 * BLOCK_SIZE))
        await world.drain()
        await trio.sleep(120)
        await check_here(world, "/p")
        assert streamed(world.remote) == set()

    tell(tmp_path, story, stocked(), cache_bytes=16 * BLOCK_SIZE)


@pytest.mark.expect_log("/p/large is to be kept here and cannot be brought: no room on the disk")
def test_what_does_not_fit_is_told_and_not_begun_and_comes_once_it_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free_bytes = 1000 * BLOCK_SIZE + 2 * BLOCK_SIZE
    monkeypatch.setattr("cloudfs.blocks.volume.Volume.free_bytes", lambda _: free_bytes)

    async def story(world: World) -> None:
        nonlocal free_bytes
        await say(world, "p", KEEP)
        hydrator = world.engine.hydrator
        (told,) = hydrator.obstructions()
        assert (told.reason, told.missing_bytes) == (NO_ROOM, 3 * BLOCK_SIZE + 7)
        assert "/p/large" not in streamed(world.remote)
        assert (hydrator.kept.missing_files, hydrator.kept.missing_bytes) == (1, 3 * BLOCK_SIZE + 7)
        assert len(await offline_tree(world, "/p/a", "/p/in/deep/c")) == 2, "what fits is here"
        free_bytes *= 2
        await trio.sleep(700)
        assert hydrator.obstructions() == []
        await check_here(world, "/p")

    tell(tmp_path, story, stocked("/p/large"), cache_keep_free_bytes=1000 * BLOCK_SIZE)


# Bad days


def test_an_outage_is_waited_for(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.walk()
        world.remote.faults.unreachable_for(3600)
        await say(world, "p", KEEP)
        assert world.engine.hydrator.kept.missing_files == 10
        await trio.sleep(3600 + 120)
        await check_here(world, "/p")

    tell(tmp_path, story, stocked("/p/in/large"))


def test_an_outage_in_the_midst_of_a_file_costs_nothing_of_what_came(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.walk()

        async def away() -> None:
            world.remote.faults.unreachable_for(600)

        world.remote.before["stream"] = away
        await say(world, "p", KEEP)
        await trio.sleep(1200)
        await check_here(world, "/p")

    tell(tmp_path, story, stocked("/p/in/large", "/p/large"))


@pytest.mark.parametrize("fault", [FaultKind.CUT, FaultKind.FAULT, FaultKind.LOCKED, FaultKind.SHORT])
@pytest.mark.expect_log("is to be kept here and cannot be brought", optional=True)
def test_requests_that_fail_are_made_again(tmp_path: Path, fault: FaultKind) -> None:
    async def story(world: World) -> None:
        await world.walk()
        world.remote.faults.next("stream", [fault] * 12)
        world.remote.faults.next("read_archive", [fault] * 2)
        await say(world, "p", KEEP)
        await trio.sleep(4000)
        await check_here(world, "/p")

    tell(tmp_path, story, stocked("/p/in/large", "/p/large"))


def test_a_server_without_archives_gives_its_files_one_by_one(tmp_path: Path) -> None:
    remote = stocked()
    for number in range(20):
        remote.other.write(f"/p/{number}", content(str(number), 100))
    remote.features = type(remote.features)(name="plain", sets_mtime=True)

    async def story(world: World) -> None:
        await say(world, "p", KEEP)
        await check_here(world, "/p")

    tell(tmp_path, story, remote)


@pytest.mark.parametrize("seed", range(6))
def test_a_kill_in_the_midst_leaves_what_came_and_goes_on(tmp_path: Path, seed: int) -> None:
    remote = stocked(*(f"/p/large{number}" for number in range(4)))

    async def story(world: World) -> None:
        await world.walk()
        seen = trio.Event()
        asked = 0

        async def die() -> None:
            nonlocal asked
            asked += 1
            if asked <= seed:
                world.remote.before["stream"] = die
            else:
                world.die()
                seen.set()

        world.remote.before["stream"] = die
        world.engine.keeper.say((await world.lookup("p")).ino, KEEP)
        world.engine.hydrator.wake()
        with trio.fail_after(600):
            await seen.wait()
        await world.revive()
        await trio.sleep(300)
        await check_here(world, "/p")

    tell(tmp_path, story, remote, seed=seed)


def test_a_lost_database_does_not_lose_what_was_pinned(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.walk()
        await say(world, "p", KEEP)
        await say(world, "p/in/deep", ONLINE)
        await world.rename("p", "q/renamed")
        await world.drain()
        await brought(world)
        await world._stop()
        for path in (world.folder / "state").glob("state.sqlite*"):
            path.unlink()
        await world.start()
        await trio.sleep(120)
        pins = {world.path_of(ino): pin for ino, pin in world.engine.store.pins.all().items()}
        assert pins == {"q/renamed": KEEP, "q/renamed/in/deep": ONLINE}
        assert world.engine.hydrator.kept.files == 6
        assert world.engine.hydrator.kept.missing_files == 0
        assert world.engine.keeper.lost() == {}

    tell(tmp_path, story, stocked())


@pytest.mark.expect_log("/p was pinned, and is not there any more")
def test_what_a_lost_database_knew_and_is_gone_is_told_once(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await say(world, "p", KEEP)
        await world._stop()
        for path in (world.folder / "state").glob("state.sqlite*"):
            path.unlink()
        world.remote.other.delete("/p")
        await world.start()
        await trio.sleep(120)
        assert world.engine.store.pins.all() == {}
        assert world.engine.keeper.lost() == {}

    tell(tmp_path, story, stocked())


def test_programs_go_first_but_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(world: World) -> None:
        await world.walk()
        monkeypatch.setattr(world.engine.fetcher, "idle_s", lambda: 0.0)
        began = trio.current_time()
        await say(world, "p", KEEP)
        asked = [it.at_s - began for it in world.remote.log if it.method in {"stream", "read_archive"}]
        assert len(asked) == 12
        assert asked[0] >= 60, "two at a time, after a minute each"
        assert [round(at) for at in asked[::2]] == sorted(60 * number + 1 for number in range(1, 7))

    tell(tmp_path, story, stocked("/p/1", "/p/2", "/p/3"))


# The account's defaults


def test_the_defaults_keep_what_nobody_said_anything_else_about(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await trio.sleep(60)
        assert world.engine.hydrator.kept.files == 9
        assert cached(world, "/p/large") == 0, "it is larger than that"
        await check_here(world, "/p/in")
        await say(world, "p/in/deep", ONLINE)
        await say(world, "p/large", KEEP)
        assert world.engine.hydrator.kept.files == 7
        assert await offline_tree(world, "/p/large") == {"/p/large": world.remote.other.read("/p/large")}

    tell(tmp_path, story, stocked("/p/large"), keep=Defaults(("/p", "/p/in", "/nowhere"), 5000))


def test_a_default_folder_that_appears_later_is_kept_from_then_on(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await trio.sleep(60)
        world.remote.other.mkdir("/Documents")
        world.remote.other.write("/Documents/a", content("a"))
        await trio.sleep(120)
        await check_here(world, "/Documents")

    tell(tmp_path, story, stocked(), keep=Defaults(("/Documents",)))


# Giving it back


def free(world: World, path: str) -> Ino:
    node = shown(world, path)
    world.engine.keeper.say(node.ino, ONLINE)
    return node.ino


def test_freeing_drops_what_is_cached_and_no_change(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await say(world, "p", KEEP)
        world.remote.faults.unreachable_for(LONG_S)
        await world.save("p/in/a", b"ours alone")
        handle = await world.open("p/in/b", os.O_RDWR)
        await world.write(handle, 2, b"part")
        told: list[Freed] = []
        freed = await world.engine.hydrator.free(free(world, "/p"), told.append)
        assert [it.files for it in told] == list(range(1, 9))
        assert (told[-1].files, told[-1].bytes) == (freed.files, freed.bytes)
        assert (freed.files, freed.bytes, freed.changed) == (8, 7000 + 3 * BLOCK_SIZE + 7, 2)
        assert await world.read_file("p/in/a") == b"ours alone"
        expected = content("/p/in/b")
        assert await world.read(handle) == expected[:2] + b"part" + expected[6:]
        await world.fs.flush(handle)
        await world.fs.release(handle)
        world.remote.faults.unreachable_for(0)
        await world.drain()
        await trio.sleep(100)
        assert world.remote.other.read("/p/in/a") == b"ours alone"
        assert await world.tree() == world.remote.other.tree()

    tell(tmp_path, story, stocked("/p/in/large"))


def test_freeing_what_is_on_its_way_ends_that(tmp_path: Path) -> None:
    remote = stocked("/p/large")
    remote.latency_s = 3.0

    async def story(world: World) -> None:
        await world.walk()
        world.engine.keeper.say((await world.lookup("p/large")).ino, KEEP)
        hydrator = world.engine.hydrator
        hydrator.wake()
        while not hydrator.under_way():
            await trio.sleep(0.01)
        await hydrator.free(free(world, "/p/large"))
        assert hydrator.under_way() == []
        await trio.sleep(600)
        assert cached(world, "/p/large") == 0

    tell(tmp_path, story, remote)


def test_nothing_is_asked_for_where_nothing_is_pinned(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.walk()
        await trio.sleep(4000)
        assert not {it.method for it in world.remote.log} & {"stream", "read_archive", "find"}
        assert not (world.folder / "state" / "pins.json").exists()

    tell(tmp_path, story, stocked())


def test_a_file_that_takes_long_keeps_no_change_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = stocked()
    remote.other.write("/p/large", content("large", 40 * BLOCK_SIZE))

    async def story(world: World) -> None:
        await world.walk()
        fetcher, hydrator = world.engine.fetcher, world.engine.hydrator
        await say(world, "p/in", KEEP)
        # One block with each request, and each waits for programs for a minute.
        short = msgspec.structs.replace(fetcher._line._config, longest_s=-1.0)
        monkeypatch.setattr(fetcher._line, "_config", short)
        monkeypatch.setattr(fetcher, "idle_s", lambda: 0.0)
        world.engine.keeper.say((await world.lookup("p/large")).ino, KEEP)
        hydrator.wake()
        await trio.sleep(600)
        came = cached(world, "/p/large")
        assert 0 < came < 12 * BLOCK_SIZE
        world.remote.other.write("/p/in/new", content("new", 3 * BLOCK_SIZE))
        await trio.sleep(600)
        assert cached(world, "/p/in/new") == 3 * BLOCK_SIZE
        assert came < cached(world, "/p/large") < 24 * BLOCK_SIZE
        await trio.sleep(3600)
        await check_here(world, "/p/in")
        assert cached(world, "/p/large") == 40 * BLOCK_SIZE
        blocks = [it for it in world.remote.log if it.path == "/p/large"]
        assert len(blocks) == 40, "nothing came twice"

    tell(tmp_path, story, remote)


def test_while_paused_nothing_is_brought_also_after_a_new_mount(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.walk()
        world.engine.pause.begin()
        await say(world, "p", KEEP)
        await trio.sleep(4000)
        assert not streamed(world.remote)
        assert world.engine.hydrator.kept.missing_files == 10, "it is counted all the same"
        await world.restart()
        await trio.sleep(4000)
        assert not streamed(world.remote)
        assert await world.read_file("p/a") == content("/p/a"), "programs go on"
        world.engine.pause.end()
        await trio.sleep(30)
        assert not world.engine.hydrator.kept.missing_files
        await check_here(world, "/p")

    tell(tmp_path, story, stocked("/p/in/large"))


def test_a_pause_breaks_off_what_is_coming_and_costs_nothing_of_what_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = stocked()
    remote.other.write("/p/large", content("large", 20 * BLOCK_SIZE))

    async def story(world: World) -> None:
        await world.walk()
        line = world.engine.fetcher._line
        # One block with each request.
        monkeypatch.setattr(line, "_config", msgspec.structs.replace(line._config, longest_s=-1.0))
        asked = 0

        async def pause_at_the_fifth() -> None:
            nonlocal asked
            asked += 1
            if asked < 5:
                world.remote.before["stream"] = pause_at_the_fifth
            else:
                world.engine.pause.begin()

        world.remote.before["stream"] = pause_at_the_fifth
        await say(world, "p/large", KEEP)
        await trio.sleep(4000)
        assert cached(world, "/p/large") in {4 * BLOCK_SIZE, 5 * BLOCK_SIZE}
        assert asked == 5
        assert not world.engine.hydrator.under_way()
        assert world.engine.connectivity.online, "the server was not taken to be away"
        world.engine.pause.end()
        await trio.sleep(60)
        assert cached(world, "/p/large") == 20 * BLOCK_SIZE
        assert len([it for it in world.remote.log if it.path == "/p/large"]) <= 21

    tell(tmp_path, story, remote)
