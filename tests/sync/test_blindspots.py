"""Which versions a condition cannot be relied on for, and that nothing is done to those without a look."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from cloudfs.remote.etags import may_have_a_double
from cloudfs.types import ROOT, RemotePath
from cloudfs.vfs.records import RenameMode
from tests.model.account import Account
from tests.model.fake_remote import FakeRemote, now_s
from tests.sync.mount import World, tell


@pytest.mark.parametrize(
    ("seen_there_s", "blind"),
    [
        pytest.param(None, True, id="never listed"),
        pytest.param(1000.2, True, id="within its second"),
        pytest.param(1002.0, True, id="hardly after it, by a clock that is right to a second"),
        pytest.param(1010.0, False, id="long after it"),
        pytest.param(900.0, True, id="sent by ourselves since the listing"),
    ],
)
def test_a_version_is_safe_once_its_second_is_over(seen_there_s: float | None, blind: bool) -> None:
    assert may_have_a_double(1000, seen_there_s) is blind


def server(content: bytes = b"base") -> FakeRemote:
    """A Nextcloud as it is: what is written within one second has one ETag, whatever its size."""
    remote = FakeRemote(account=Account(now_s, sticky=True))
    remote.other.write("/a", content)
    return remote


async def another_writes(world: World) -> None:
    """Another client writes in the second of the version that is known here."""
    known = world.remote.account.get(RemotePath("/a")).version
    world.remote.other.write("/a", b"theirs, and longer", mtime_s=known.modified_s)
    assert world.remote.account.get(RemotePath("/a")).version.etag == known.etag


def test_an_overwrite_meets_what_was_written_in_the_same_second(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.refresh_all()
        await another_writes(world)
        await world.save("a", b"ours")
        await world.drain()
        await world.refresh_all()
        tree = await world.tree()
        assert tree == world.remote.other.tree()
        assert tree["/a"] == b"theirs, and longer"
        assert sorted(content or b"" for content in tree.values()) == [b"ours", b"theirs, and longer"]

    tell(tmp_path, story, server())


def test_a_removal_meets_what_was_written_in_the_same_second(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.refresh_all()
        await another_writes(world)
        await world.unlink("a")
        await world.drain()
        await world.refresh_all()
        assert await world.tree() == world.remote.other.tree() == {"/a": b"theirs, and longer"}

    tell(tmp_path, story, server())


def test_a_version_that_was_seen_later_costs_no_look(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await trio.sleep(10)
        await world.refresh_all()
        world.remote.log.clear()
        await world.save("a", b"ours")
        await world.drain()
        assert [line for line in world.remote.methods() if "/a" in line] == ["put /a"]

    tell(tmp_path, story, server())


async def seen_in_its_second(world: World) -> None:
    """Another client writes twice within a second; here only the first version was seen, and nothing lists again."""
    await trio.sleep(10)  # the listings of the start are over
    world.remote.other.write("/a", b"base")
    await world.refresh_all()
    await another_writes(world)
    world.remote.log.clear()


def test_an_overwrite_looks_first_where_no_listing_tells(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await seen_in_its_second(world)
        await world.save("a", b"ours")
        await world.drain()
        assert world.remote.methods()[0] == "stat /a"
        await world.refresh_all()
        tree = await world.tree()
        assert tree == world.remote.other.tree()
        assert tree["/a"] == b"theirs, and longer"
        assert sorted(content or b"" for content in tree.values()) == [b"ours", b"theirs, and longer"]

    tell(tmp_path, story, FakeRemote(account=Account(now_s, sticky=True)))


def test_a_removal_looks_first_where_no_listing_tells(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await seen_in_its_second(world)
        await world.unlink("a")
        await world.drain()
        assert world.remote.methods()[0] == "stat /a"
        await world.refresh_all()
        assert await world.tree() == world.remote.other.tree() == {"/a": b"theirs, and longer"}

    tell(tmp_path, story, FakeRemote(account=Account(now_s, sticky=True)))


def test_an_overwrite_looks_first_though_our_clock_was_set_back_since_the_listing(tmp_path: Path) -> None:
    """The listing then seems to be of a later moment than it is."""

    async def story(world: World) -> None:
        await seen_in_its_second(world)
        nodes = world.engine.store.nodes
        root = nodes.get(ROOT)
        assert root is not None
        assert root.listed_at is not None
        nodes.update(ROOT, listed_at=root.listed_at + 4.5)
        await trio.sleep(2)
        await world.save("a", b"ours")
        await world.drain()
        assert world.remote.methods()[0] == "stat /a"
        assert world.remote.other.tree()["/a"] == b"theirs, and longer"

    tell(tmp_path, story, FakeRemote(account=Account(now_s, sticky=True)), poll_s=0)


def test_a_version_costs_no_look_once_the_account_was_seen_to_be_as_it_was(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await trio.sleep(10)
        world.remote.other.write("/a", b"base")
        await world.refresh_all()
        await trio.sleep(10)
        await world.engine.watcher.look()
        world.remote.log.clear()
        await world.save("a", b"ours")
        await world.drain()
        assert [line for line in world.remote.methods() if "/a" in line] == ["put /a"]

    tell(tmp_path, story, FakeRemote(account=Account(now_s, sticky=True)))


def test_what_is_listed_is_seen_by_the_server_s_clock(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.remote.clock_skew_s = -7200.0
        await world.refresh_all()
        root = world.engine.store.nodes.get(ROOT)
        assert root is not None
        assert root.listed_at is not None
        assert root.listed_there == pytest.approx(root.listed_at - 7200, abs=1)

    tell(tmp_path, story, server(), poll_s=0)


def test_a_listing_that_leaves_a_name_out_says_nothing_of_its_version(tmp_path: Path) -> None:
    """It was asked for after the version's second, but what it showed of the file was not looked at."""

    async def story(world: World) -> None:
        await seen_in_its_second(world)
        await trio.sleep(10)
        executor = world.engine.worker._executor
        with executor._touches.step([(ROOT, "a")]):
            await world.engine.lister.refresh(ROOT)
        world.remote.log.clear()
        await world.save("a", b"ours")
        await world.drain()
        assert next(line for line in world.remote.methods() if line.endswith(" /a")) == "stat /a"
        assert b"theirs, and longer" in world.remote.other.tree().values()

    tell(tmp_path, story, FakeRemote(account=Account(now_s, sticky=True)), poll_s=0, ttl_s=1e6)


def test_a_file_that_was_moved_is_not_taken_for_seen_with_the_folder_that_it_came_into(
    tmp_path: Path,
) -> None:
    """That was listed after the version's second was over, but without the file."""

    async def story(world: World) -> None:
        world.remote.other.mkdir("/d")
        await seen_in_its_second(world)
        await trio.sleep(10)
        folder = world.engine.store.nodes.child(ROOT, "d")
        assert folder is not None
        await world.engine.lister.refresh(folder.ino)
        await world.rename("a", "d/a")
        await world.drain()
        assert "/d/a" in world.remote.other.tree()
        world.remote.log.clear()
        await world.save("d/a", b"ours")
        await world.drain()
        assert next(line for line in world.remote.methods() if line.endswith(" /d/a")) == "stat /d/a"
        assert b"theirs, and longer" in world.remote.other.tree().values()

    tell(tmp_path, story, FakeRemote(account=Account(now_s, sticky=True)), poll_s=0, ttl_s=1e6)


def test_what_was_seen_of_a_file_that_another_one_replaces_is_forgotten_with_its_place(
    tmp_path: Path,
) -> None:
    """It got a name of this machine alone in exchange, and is nothing to the server any more."""

    async def story(world: World) -> None:
        world.remote.other.write("/a", b"before")
        await world.refresh_all()
        await world.save("a", b"ours")
        await world.save("a~", b"here")
        world.remote.other.write("/a", b"theirs, and longer")
        await world.engine.lister.refresh(ROOT)
        await world.rename("a", "a~", RenameMode.EXCHANGE)
        await world.drain()
        await world.refresh_all()
        contents = sorted(content or b"" for content in (await world.tree()).values())
        assert contents == [b"here", b"ours", b"theirs, and longer"]
        await world.check_nothing_left()

    tell(tmp_path, story)


def test_what_was_seen_of_a_file_goes_along_with_the_place_that_it_left(tmp_path: Path) -> None:
    """It was edited and saved over another one: its old place is to be removed, where another client wrote since."""
    remote = server()
    remote.other.mkdir("/d")
    remote.other.write("/d/b", b"another")

    async def story(world: World) -> None:
        await world.refresh_all()
        await trio.sleep(10)
        await world.save("a", b"ours")
        await world.rename("a", "d/b")
        await another_writes(world)
        await world.engine.lister.refresh(ROOT)
        await world.drain()
        await world.refresh_all()
        assert await world.tree() == remote.other.tree()
        assert remote.other.tree() == {"/a": b"theirs, and longer", "/d": None, "/d/b": b"ours"}
        await world.check_nothing_left()

    tell(tmp_path, story, remote, poll_s=0, ttl_s=1e6)


def test_a_file_that_was_moved_was_not_seen_where_it_is_now_by_a_look_at_the_root(tmp_path: Path) -> None:
    remote = server()
    for name in ("/d", "/c"):
        remote.other.mkdir(name)

    async def story(world: World) -> None:
        remote.other.write("/c/a", b"base")
        await world.refresh_all()
        known = remote.account.get(RemotePath("/c/a")).version
        remote.other.write("/c/a", b"theirs, and longer", mtime_s=known.modified_s)
        await trio.sleep(10)
        folder = world.engine.store.nodes.child(ROOT, "c")
        assert folder is not None
        with world.engine.worker._executor._touches.step([(folder.ino, "a")]):
            for _ in range(2):
                await world.engine.watcher._take_in()
        await world.rename("c/a", "d/a")
        await world.drain()
        await world.save("d/a", b"ours")
        await world.drain()
        assert {b"theirs, and longer", b"ours"} <= set(remote.other.tree().values())

    tell(tmp_path, story, remote, poll_s=0, ttl_s=1e6)


@pytest.mark.parametrize("mover", ["ours", "another's"])
def test_what_a_folder_had_that_was_not_seen_before_it_was_moved_is_not_taken_for_seen_after(
    tmp_path: Path, mover: str
) -> None:
    """That something is new in it showed in the folder that it was in, and shows no more where it is now."""
    remote = server()
    for name in ("/c", "/c/f", "/d"):
        remote.other.mkdir(name)

    async def story(world: World) -> None:
        remote.other.write("/c/f/a", b"base")
        await world.refresh_all()
        known = remote.account.get(RemotePath("/c/f/a")).version
        remote.other.write("/c/f/a", b"theirs, and longer", mtime_s=known.modified_s)
        await trio.sleep(10)
        nodes = world.engine.store.nodes
        c, d = nodes.child(ROOT, "c"), nodes.child(ROOT, "d")
        assert c is not None
        assert d is not None
        with world.engine.worker._executor._touches.step([(c.ino, "f")]):
            for _ in range(2):
                await world.engine.watcher._take_in()
        if mover == "ours":
            await world.rename("c/f", "d/f")
            await world.drain()
        else:
            remote.other.move("/c/f", "/d/f")
            await world.engine.lister.refresh(d.ino)
        assert "/d/f/a" in remote.other.tree()
        await world.save("d/f/a", b"ours")
        await world.drain()
        assert {b"theirs, and longer", b"ours"} <= set(remote.other.tree().values())

    tell(tmp_path, story, remote, poll_s=0, ttl_s=1e6)
