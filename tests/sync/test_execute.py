"""Carrying steps out: names, folders, times and removals, with other clients and lost replies in between."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import trio

from cloudfs.errors import Changed
from cloudfs.sync.steps import Remove
from cloudfs.types import ROOT
from cloudfs.vfs.records import RenameMode
from tests.model.fake_remote import FakeRemote, FaultKind
from tests.sync.mount import World, opened, tell


def stocked() -> FakeRemote:
    """Return a server with /a, /b, /d/x, /d/y and /d/e/z."""
    remote = FakeRemote()
    remote.other.mkdir("/d")
    remote.other.mkdir("/d/e")
    for path in ("/a", "/b", "/d/x", "/d/y", "/d/e/z"):
        remote.other.write(path, f"stock of {path}".encode())
    return remote


def changes(remote: FakeRemote) -> list[str]:
    """Return the log without what only looks."""
    looks = ("stat", "list_folder", "list_tree", "stream", "get_range", "connect")
    return [line for line in remote.methods() if not line.startswith(looks)]


async def agree(world: World) -> dict[str, bytes | None]:
    """Wait for all work and look anew; mount and server must show the same."""
    await world.drain()
    await world.refresh_all()
    await world.drain()
    tree = await world.tree()
    assert tree == world.remote.other.tree()
    return tree


async def remove_tree(world: World, path: str) -> None:
    """rm -r."""
    shown = (await world.walk()).attributes
    for below in sorted((one for one in shown if one.startswith(path + "/")), reverse=True):
        await (world.rmdir if shown[below].links == 2 else world.unlink)(below)
    await world.rmdir(path)


# One step each


def test_a_removed_tree_is_looked_through_and_deleted_in_one_request(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.tree()
        await remove_tree(world, "d")
        assert set(await agree(world)) == {"/a", "/b"}
        await world.check_nothing_left()

    assert changes(tell(tmp_path, story, stocked())) == ["delete /d"]


def test_an_exchange_costs_three_moves_and_keeps_both_file_ids(tmp_path: Path) -> None:
    remote = stocked()
    ids = remote.other.file_id("/a"), remote.other.file_id("/b")

    async def story(world: World) -> None:
        await world.rename("a", "b", RenameMode.EXCHANGE)
        tree = await agree(world)
        assert (tree["/a"], tree["/b"]) == (b"stock of /b", b"stock of /a")

    tell(tmp_path, story, remote)
    assert (remote.other.file_id("/b"), remote.other.file_id("/a")) == ids
    assert len(changes(remote)) == 3


def test_an_exchange_of_files_with_the_longest_names_goes_up(tmp_path: Path) -> None:
    """The name in between must be no longer than a name may be."""
    remote = FakeRemote()
    one, other = "a" * 255, "b" * 255
    remote.other.write(f"/{one}", b"one")
    remote.other.write(f"/{other}", b"other")

    async def story(world: World) -> None:
        await world.rename(one, other, RenameMode.EXCHANGE)
        await agree(world)

    tell(tmp_path, story, remote)
    paths = [path for line in changes(remote) for path in line.split(" ")[1:]]
    assert len(paths) == 6
    assert all(len(path) <= 1 + 255 for path in paths)


def test_a_moved_folder_takes_along_what_was_never_listed(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.rename("d", "moved")
        tree = await agree(world)
        assert tree["/moved/e/z"] == b"stock of /d/e/z"

    assert changes(tell(tmp_path, story, stocked())) == ["move /d /moved"]


def test_a_time_is_sent_alone_and_kept(tmp_path: Path) -> None:
    remote = stocked()

    async def story(world: World) -> None:
        await world.fs.setattr((await world.lookup("a")).ino, mtime_ns=1_500_000_000 * 10**9 + 7)
        await agree(world)
        assert (await world.lookup("a")).mtime_ns == 1_500_000_000 * 10**9 + 7

    tell(tmp_path, story, remote)
    assert changes(remote) == ["set_mtime /a"]
    assert remote.other.mtime_s("/a") == 1_500_000_000


def test_what_becomes_local_only_keeps_its_bytes_here_and_leaves_the_server(tmp_path: Path) -> None:
    remote = stocked()

    async def story(world: World) -> None:
        await world.rename("d", ".Trash-1000")
        await world.drain()
        tree = await world.tree()
        assert tree["/.Trash-1000/x"] == b"stock of /d/x"
        assert tree["/.Trash-1000/e/z"] == b"stock of /d/e/z"

    tell(tmp_path, story, remote)
    assert set(remote.other.tree()) == {"/a", "/b"}


# Lost replies: what was done is found out and not done again


@pytest.mark.parametrize("method", ["make_folder", "move", "delete", "set_mtime", "put"])
def test_a_lost_reply_changes_nothing_in_the_end(tmp_path: Path, method: str) -> None:
    remote = stocked()
    remote.faults.next(method, [FaultKind.LOSE_REPLY] * 2)

    async def story(world: World) -> None:
        await world.tree()
        await world.mkdir("new")
        await world.save("new/file", b"new")
        await world.rename("a", "d/a")
        await world.rename("d/e", "e")
        await world.unlink("b")
        await world.fs.setattr((await world.lookup("d/x")).ino, mtime_ns=1_500_000_000 * 10**9)
        tree = await agree(world)
        assert set(tree) == {"/new", "/new/file", "/d", "/d/a", "/d/x", "/d/y", "/e", "/e/z"}
        await world.check_nothing_left()

    tell(tmp_path, story, remote)
    assert remote.faults.happened


def test_a_lost_reply_of_an_exchange_changes_nothing_in_the_end(tmp_path: Path) -> None:
    remote = stocked()
    remote.faults.next("move", [FaultKind.LOSE_REPLY] * 3)

    async def story(world: World) -> None:
        await world.tree()
        await world.rename("a", "b", RenameMode.EXCHANGE)
        tree = await agree(world)
        assert (tree["/a"], tree["/b"]) == (b"stock of /b", b"stock of /a")

    tell(tmp_path, story, remote)


# Other clients


def test_a_file_removed_here_and_changed_there_comes_back(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.read_file("a")
        await world.unlink("a")
        world.remote.other.write("/a", b"theirs")
        assert (await agree(world))["/a"] == b"theirs"

    tell(tmp_path, story, stocked())


def test_a_file_removed_here_and_changed_there_in_the_second_of_the_old_one_comes_back(
    tmp_path: Path,
) -> None:
    """Its ETag is the old one's still: only the listing, with the checksum, shows that it is another content."""
    remote = FakeRemote()
    remote.other.write("/a", b"ours", mtime_s=1_600_000_000, checksum="SHA1:" + "0" * 40)

    async def story(world: World) -> None:
        await world.walk()
        await world.unlink("a")
        digest = hashlib.sha1(b"them", usedforsecurity=False).hexdigest()
        remote.other.write("/a", b"them", mtime_s=1_600_000_000, checksum=f"SHA1:{digest}")
        await world.refresh_all()
        assert await agree(world) == {"/a": b"them"}

    tell(tmp_path, story, remote)
    assert changes(remote) == []


def test_a_file_removed_here_and_there_is_gone(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.unlink("a")
        world.remote.other.delete("/a")
        assert "/a" not in await agree(world)
        await world.check_nothing_left()

    tell(tmp_path, story, stocked())


def test_a_folder_removed_here_comes_back_for_what_another_client_put_into_it(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.tree()
        await remove_tree(world, "d")
        world.remote.other.write("/d/new", b"theirs")
        tree = await agree(world)
        assert tree["/d/new"] == b"theirs"
        assert "/d/x" not in tree
        await world.check_nothing_left()

    tell(tmp_path, story, stocked())


def test_a_folder_removed_here_comes_back_for_what_another_client_changed_in_it(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.tree()
        await remove_tree(world, "d")
        world.remote.other.write("/d/e/z", b"theirs")
        tree = await agree(world)
        assert tree["/d/e/z"] == b"theirs"
        assert "/d/x" not in tree
        await world.check_nothing_left()

    tell(tmp_path, story, stocked())


def test_a_folder_made_on_both_sides_is_one_folder_with_the_members_of_both(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.mkdir("n")
        await world.save("n/ours", b"ours")
        world.remote.other.mkdir("/n")
        world.remote.other.write("/n/theirs", b"theirs")
        tree = await agree(world)
        assert (tree["/n/ours"], tree["/n/theirs"]) == (b"ours", b"theirs")

    tell(tmp_path, story)


def test_a_new_folder_where_another_client_made_a_file_leaves_both(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.mkdir("n")
        await world.save("n/ours", b"ours")
        world.remote.other.write("/n", b"theirs")
        tree = await agree(world)
        assert tree["/n"] == b"theirs"
        assert sorted(content for content in tree.values() if content is not None) == [b"ours", b"theirs"]

    tell(tmp_path, story)


@pytest.mark.parametrize("name", ["a", "d"])
def test_a_move_onto_a_name_that_another_client_took_leaves_both(tmp_path: Path, name: str) -> None:
    async def story(world: World) -> None:
        await world.tree()
        await world.rename(name, "n")
        world.remote.other.write("/n", b"theirs")
        tree = await agree(world)
        assert tree["/n"] == b"theirs"
        assert any("conflicted copy" in path for path in tree)
        expected = b"stock of /a" if name == "a" else b"stock of /d/x"
        assert expected in tree.values()

    tell(tmp_path, story, stocked())


def test_a_move_of_what_another_client_deleted_ends(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.tree()
        await world.rename("a", "n")
        await world.rename("d", "m")
        world.remote.other.delete("/a")
        world.remote.other.delete("/d")
        assert set(await agree(world)) == {"/b"}

    tell(tmp_path, story, stocked())


def test_a_move_of_what_another_client_moved_ends(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.tree()
        await world.rename("a", "n")
        world.remote.other.move("/a", "/d/theirs")
        tree = await agree(world)
        assert list(tree.values()).count(b"stock of /a") == 1

    tell(tmp_path, story, stocked())


def test_a_move_into_a_folder_that_another_client_deleted_keeps_the_changed_file(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.tree()
        await world.save("a", b"ours")
        await world.rename("a", "d/a")
        world.remote.other.delete("/d")
        tree = await agree(world)
        assert tree["/d/a"] == b"ours"

    tell(tmp_path, story, stocked())


def test_a_moved_file_that_another_client_changed_arrives_with_their_content(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.read_file("a")
        await world.rename("a", "n")
        world.remote.other.write("/a", b"theirs")
        tree = await agree(world)
        assert tree["/n"] == b"theirs"
        assert "/a" not in tree

    tell(tmp_path, story, stocked())


# Open files


def test_an_open_file_is_read_to_its_end_after_it_was_removed(tmp_path: Path) -> None:
    remote = stocked()
    remote.other.write("/a", b"a" * 3_000_000)

    async def story(world: World) -> None:
        async with opened(world, "a", os.O_RDONLY) as handle:
            await world.unlink("a")
            await trio.sleep(60)
            assert await world.read(handle) == b"a" * 3_000_000
        assert "/a" not in await agree(world)

    tell(tmp_path, story, remote)


def test_an_open_file_is_read_to_its_end_after_its_folder_was_removed(tmp_path: Path) -> None:
    remote = stocked()
    remote.other.write("/d/x", b"x" * 3_000_000)

    async def story(world: World) -> None:
        await world.walk()
        async with opened(world, "d/x", os.O_RDONLY) as handle:
            await remove_tree(world, "d")
            await trio.sleep(60)
            assert await world.read(handle) == b"x" * 3_000_000
        assert "/d" not in await agree(world)

    tell(tmp_path, story, remote)


def test_a_time_set_here_does_not_hide_a_content_changed_there(tmp_path: Path) -> None:
    """Of one size: the new time must not be taken for all that is new."""
    remote = stocked()

    async def story(world: World) -> None:
        assert await world.read_file("a") == b"stock of /a"
        await trio.sleep(2)  # in the same second nobody could tell the two contents apart
        await world.fs.setattr((await world.lookup("a")).ino, mtime_ns=1_500_000_000 * 10**9)
        remote.other.write("/a", b"STOCK OF /A")
        tree = await agree(world)
        assert tree["/a"] == b"STOCK OF /A"

    tell(tmp_path, story, remote)


def test_a_new_file_in_a_folder_that_another_client_deleted_gets_its_folder_back(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.tree()
        await world.save("d/new", b"ours")
        world.remote.other.delete("/d")
        await world.drain()
        assert (await agree(world))["/d/new"] == b"ours"

    tell(tmp_path, story, stocked())


def test_what_won_over_a_removal_is_shown_at_once(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.read_file("a")
        await world.unlink("a")
        world.remote.other.write("/a", b"theirs")
        await world.drain()
        assert (await world.tree())["/a"] == b"theirs"

    tell(tmp_path, story, stocked())


def test_what_a_local_only_folder_holds_there_stays_local_only_here(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.rename("d", "d~")
        await world.engine.lister.refresh((await world.lookup("d~")).ino)
        await world.drain()
        assert (await world.tree())["/d~/x"] == b"stock of /d/x"
        assert set(world.remote.other.tree()) == {"/a", "/b"}

    tell(tmp_path, story, stocked())


# Put away under a name that stays here, out of a folder that goes


async def put_away(world: World, source: str, away: str) -> None:
    """`mv`, from a listing alone: not a byte of the file is here."""
    await world.lookup(source)
    if "/" in away:
        await world.mkdir(away.partition("/")[0])
    await world.rename(source, away)


@pytest.mark.parametrize("away", ["x~", "x.part", ".Trash-1000/x"])
@pytest.mark.parametrize("source", ["d/x", "d/e/z"])
def test_a_file_put_away_out_of_a_removed_folder_keeps_its_bytes(
    tmp_path: Path, source: str, away: str
) -> None:
    async def story(world: World) -> None:
        await world.tree()
        await put_away(world, source, away)
        await remove_tree(world, "d")
        await world.drain()
        assert set(world.remote.other.tree()) == {"/a", "/b"}
        assert await world.read_file(away) == f"stock of /{source}".encode()

    tell(tmp_path, story, stocked())


def test_a_file_put_away_out_of_a_folder_that_is_put_away_keeps_its_bytes(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await put_away(world, "d/x", "x~")
        await world.rename("d", "d~")
        await world.drain()
        assert set(world.remote.other.tree()) == {"/a", "/b"}
        assert await world.read_file("x~") == b"stock of /d/x"
        assert await world.read_file("d~/e/z") == b"stock of /d/e/z"

    tell(tmp_path, story, stocked())


def test_a_folder_is_not_removed_while_the_mount_shows_a_file_that_only_the_server_has_in_it(
    tmp_path: Path,
) -> None:
    """Whatever was planned: the removal itself looks before it asks for it."""

    async def story(world: World) -> None:
        await world.tree()
        await put_away(world, "d/x", "x~")
        await remove_tree(world, "d")
        nodes = world.engine.store.nodes
        folder = nodes.synced_child(ROOT, "d")
        assert folder is not None
        with pytest.raises(Changed):
            await world.engine.worker._executor.run(Remove(node=folder))
        assert "/d/x" in world.remote.other.tree()
        await world.drain()
        assert await world.read_file("x~") == b"stock of /d/x"

    tell(tmp_path, story, stocked())
