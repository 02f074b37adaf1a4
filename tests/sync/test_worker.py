"""The worker: what it waits for, and that a backlog of any size leaves the loop to others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec
import pytest
import trio

from cloudfs.errors import Forbidden, NotAuthenticated, QuotaExceeded
from cloudfs.store.records import Node
from cloudfs.sync import hurrying, replanning, sweep
from cloudfs.sync.connectivity import State
from cloudfs.sync.planner import View, plan
from cloudfs.sync.steps import Step
from cloudfs.types import RemotePath, Stored
from tests.model.fake_remote import FakeRemote
from tests.model.virtual import run_virtually
from tests.sync.mount import World, opened, tell


class Revoked(FakeRemote):
    """A server that lets nobody in any more."""

    async def put(self, *args: object, **named: object) -> object:  # type: ignore[override]  # never returns
        raise NotAuthenticated("the password was revoked", subject="/", status=401)


def test_waiting_for_the_server_ends_when_it_needs_a_new_login(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.save("x", b"1")
        await world.save("y", b"2")
        for _ in range(2):
            with trio.fail_after(600):
                left = await world.engine.worker.wait_synced(lambda _: True)
            assert world.engine.connectivity.state is State.NEEDS_LOGIN
            assert {trouble.name for trouble in left} >= {"x", "y"}
            assert all(trouble.blocked and "cloudfs login" in trouble.next_step for trouble in left)
            assert all(trouble.reason == world.engine.connectivity.reason for trouble in left)

    tell(tmp_path, story, Revoked())


def puts(world: World) -> int:
    return sum(line.startswith("put") for line in world.remote.methods())


def test_a_file_is_not_sent_while_a_program_goes_on_writing_it(tmp_path: Path) -> None:
    """Not even half a minute after the first write: what is copied over a slow line would go up in part, and again."""

    async def story(world: World) -> None:
        await world.save("file", b"")
        await world.drain()
        async with opened(world, "file", os.O_WRONLY) as handle:
            for second in range(100):
                await world.write(handle, second, b"x")
                await trio.sleep(1)
            assert puts(world) == 1, "the empty file"
            await trio.sleep(60)
            assert world.remote.other.tree() == {"/file": bytes(100).replace(b"\0", b"x")}, (
                "it was left alone"
            )
        await world.drain()
        assert puts(world) == 2

    tell(tmp_path, story)


def test_waiting_for_the_server_does_not_wait_for_a_program_that_holds_a_removed_file(tmp_path: Path) -> None:
    """It may do so for days; all else is on the server by then, also what lies beside it."""
    remote = FakeRemote()
    remote.other.mkdir("/d")
    for path in ("/a", "/d/x", "/d/y"):
        remote.other.write(path, path.encode())

    async def story(world: World) -> None:
        await world.tree()
        async with opened(world, "a", os.O_RDONLY) as one, opened(world, "d/x", os.O_RDONLY) as other:
            await world.unlink("a")
            for path in ("d/x", "d/y"):
                await world.unlink(path)
            await world.rmdir("d")
            await world.save("b", b"new")
            with trio.fail_after(100):
                assert await world.drain() == []
            assert remote.other.tree() == {
                "/a": b"/a",
                "/b": b"new",
                "/d": None,
                "/d/x": b"/d/x",
                "/d/y": b"/d/y",
            }
            assert (await world.read(one), await world.read(other)) == (b"/a", b"/d/x")
        await world.drain()
        assert remote.other.tree() == {"/b": b"new"}
        await world.check_nothing_left()

    tell(tmp_path, story, remote)


def test_a_folder_s_time_that_waits_for_a_removed_file_is_not_waited_for(tmp_path: Path) -> None:
    remote = FakeRemote()
    remote.other.mkdir("/d")
    remote.other.write("/d/x", b"x")

    async def story(world: World) -> None:
        await world.tree()
        async with opened(world, "d/x", os.O_RDONLY):
            await world.unlink("d/x")
            await world.fs.setattr((await world.lookup("d")).ino, mtime_ns=1_600_000_000 * 10**9)
            with trio.fail_after(100):
                assert await world.drain() == []
        await world.drain()
        assert remote.other.mtime_s("/d") == 1_600_000_000

    tell(tmp_path, story, remote)


def test_somebody_who_waits_while_a_backlog_is_gone_through_is_not_left_for_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was due in the parts that had been planned before."""
    monkeypatch.setattr(sweep, "_PART", 2)

    async def waited_s(delay_s: float) -> float:
        async with World(tmp_path / f"{delay_s}" / "0", FakeRemote(), quiet_s=3600) as world:
            for name in "abcdef":
                await world.save(name, b"1")
            await trio.sleep(delay_s)
            began = trio.current_time()
            await world.drain()
            return trio.current_time() - began

    for hundredths in range(0, 60, 3):
        assert run_virtually(partial(waited_s, hundredths / 100), 1) < 35


def test_a_folder_with_more_than_one_part_goes_up_once_it_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All waits for the folder, which was not due yet when the last part was planned; and nobody changes more."""
    monkeypatch.setattr(sweep, "_PART", 4)

    async def story(world: World) -> None:
        await world.mkdir("new")
        for name in range(12):
            await world.save(f"new/{name}", b"new")
        await trio.sleep(10)
        assert not world.unfinished()

    tell(tmp_path, story, poll_s=0)


@pytest.mark.parametrize("part", [2, 3, 7])
def test_a_backlog_planned_in_parts_goes_up_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    """With folders made, moved, exchanged, put away and removed across the parts' borders."""
    monkeypatch.setattr(sweep, "_PART", part)
    remote = FakeRemote()
    for folder in "abcd":
        remote.other.mkdir(f"/{folder}")
        for name in range(5):
            remote.other.write(f"/{folder}/{name}", f"{folder}{name}".encode())

    async def story(world: World) -> None:
        await world.tree()
        for number in range(4):
            await world.mkdir(f"n{number}")
            for name in range(5):
                await world.save(f"n{number}/{name}", b"new")
        await world.rename("a/0", "t")
        for number in range(4):
            await world.rename(f"a/{number + 1}", f"a/{number}")
        await world.rename("t", "a/4")
        await world.rename("b/0", "away~")
        await world.rename("b/1", "n0/b1")
        for name in (2, 3, 4):
            await world.unlink(f"b/{name}")
        await world.rmdir("b")
        await world.rename("c", "t")
        await world.rename("d", "c")
        await world.rename("t", "d")
        await world.drain()
        expected = await world.tree()
        assert await world.read_file("away~") == b"b0"
        expected.pop("/away~", None)
        assert expected == world.remote.other.tree()

    tell(tmp_path, story, remote)


def test_a_removed_folder_stays_on_the_server_while_a_file_in_it_is_read(tmp_path: Path) -> None:
    remote = FakeRemote()
    remote.other.mkdir("/d")
    remote.other.mkdir("/d/e")
    remote.other.write("/d/e/x", b"long" * 100)

    async def story(world: World) -> None:
        async with opened(world, "d/e/x", os.O_RDONLY) as handle:
            await world.unlink("d/e/x")
            await world.rmdir("d/e")
            await world.rmdir("d")
            await trio.sleep(300)
            assert "/d/e/x" in world.remote.other.tree()
            assert await world.read(handle) == b"long" * 100
        await world.drain()
        assert world.remote.other.tree() == {}

    tell(tmp_path, story, remote)


def counted_plans(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have the backlog planned in small parts; return what will hold how many nodes each plan was made of."""
    counts: list[int] = []

    def counting(dirty: Sequence[Node], view: View, *, whole: bool = True) -> list[Step]:
        counts.append(len(dirty))
        return plan(dirty, view, whole=whole)

    monkeypatch.setattr(sweep, "_PART", 16)
    for module in (sweep, replanning, hurrying):
        monkeypatch.setattr(module, "plan", counting)
    return counts


def test_a_large_backlog_is_never_planned_for_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One plan of 10,000 nodes would keep every program in the mount waiting."""
    counts = counted_plans(monkeypatch)

    async def story(world: World) -> None:
        await world.mkdir("d")
        for number in range(100):
            await world.save(f"d/{number}", b"new")
        await world.drain()
        assert len(world.remote.other.tree()) == 101

    tell(tmp_path, story)
    assert max(counts) == 16


@pytest.mark.parametrize("part", [4, 256], ids=["in another part", "in the same part"])
def test_what_somebody_waits_for_goes_before_a_backlog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    """However large it is, and with the folders that it needs; else the smallest go first."""
    monkeypatch.setattr(sweep, "_PART", part)
    remote = FakeRemote(latency_s=1.0)

    async def story(world: World) -> None:
        for number in range(100):
            await world.save(f"{number}", b"new")
        await world.mkdir("d")
        await world.mkdir("d/e")
        await world.save("d/e/large", b"x" * 100_000)
        await trio.sleep(3)
        wanted = (await world.lookup("d/e/large")).ino
        before = len(remote.other.tree())
        await world.engine.worker.wait_synced(lambda ino: ino == wanted)
        assert remote.other.read("/d/e/large") == b"x" * 100_000
        assert len(remote.other.tree()) - before < 25
        await world.drain()
        assert len(remote.other.tree()) == 103

    tell(tmp_path, story, remote)


def test_a_ring_of_renames_across_parts_is_parted_though_something_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "_PART", 2)
    remote = FakeRemote()
    for name in "abcde":
        remote.other.write(f"/{name}", name.encode())

    async def story(world: World) -> None:
        await world.tree()
        await world.save("f", b"too much")
        await world.rename("a", "t")
        for source, target in ("ba", "cb", "dc", "ed"):
            await world.rename(source, target)
        await world.rename("t", "e")
        await trio.sleep(60)
        shown = world.remote.other.tree()
        assert {name: shown[f"/{name}"] for name in "abcde"} == dict(
            zip("abcde", (b"b", b"c", b"d", b"e", b"a"), strict=True)
        )

    async def refuse(*_: object, **__: object) -> None:
        raise QuotaExceeded("full", subject="/f", status=507)

    monkeypatch.setattr(remote, "put", refuse)
    tell(tmp_path, story, remote)


class Full(FakeRemote):
    """A server that takes no more bytes."""

    async def put(self, *args: object, **named: object) -> object:  # type: ignore[override]  # never returns
        raise QuotaExceeded("the account has no room for it", subject="/", status=507)


def test_waiting_for_the_server_ends_where_what_takes_a_removed_file_s_place_is_blocked(
    tmp_path: Path,
) -> None:
    """The removed file has no step of its own then: nobody would ever have said that it cannot go up."""
    remote = Full()
    remote.other.write("/a", b"old")

    async def story(world: World) -> None:
        await world.tree()
        await world.save("new", b"new")
        await world.rename("new", "a")
        with trio.fail_after(600):
            left = await world.engine.worker.wait_synced(lambda _: True)
        assert [(trouble.name, trouble.blocked) for trouble in left] == [("a", True)]

    tell(tmp_path, story, remote)
    assert remote.other.tree() == {"/a": b"old"}


class NoFolders(FakeRemote):
    """A server that lets nobody make a folder."""

    async def make_folder(self, path: RemotePath, *, mtime_s: int | None = None) -> Stored:
        raise Forbidden("the server does not allow it", subject=path, status=403)


def test_waiting_for_the_server_ends_where_things_wait_for_a_folder_that_is_blocked(tmp_path: Path) -> None:
    remote = NoFolders()
    remote.other.write("/a", b"old")

    async def story(world: World) -> None:
        await world.tree()
        await world.mkdir("refused")
        await world.mkdir("refused/deep")
        await world.save("refused/deep/child", b"new")
        await world.rename("a", "refused/a")
        with trio.fail_after(100):
            left = await world.engine.worker.wait_synced(lambda _: True)
        assert [(trouble.name, trouble.blocked) for trouble in left] == [("refused", True)]

    tell(tmp_path, story, remote)
    assert remote.other.tree() == {"/a": b"old"}


def test_what_waits_for_a_folder_that_is_blocked_is_never_planned_for_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = counted_plans(monkeypatch)
    remote = NoFolders()

    async def story(world: World) -> None:
        await world.mkdir("refused")
        for number in range(60):
            await world.save(f"refused/{number}", b"new")
        await trio.sleep(1000)
        assert remote.other.tree() == {}

    tell(tmp_path, story, remote)
    assert max(counts) == 16


@pytest.mark.expect_log("cannot be read in full any more")
@pytest.mark.parametrize("renamed", ["d", "d/a"])
def test_what_lost_its_base_does_not_keep_a_removal_from_ending(tmp_path: Path, renamed: str) -> None:
    """It went to a local name, with an edit of what another client replaced: nothing of it is there to be kept."""
    remote = FakeRemote()
    remote.other.mkdir("/d")
    remote.other.write("/d/a", b"x" * 1000)

    async def story(world: World) -> None:
        await world.walk()
        async with opened(world, "d/a", os.O_WRONLY) as handle:
            await world.write(handle, 1000, b" and more")
        remote.other.write("/d/a", b"theirs")
        await world.rename(renamed, "a~")
        await world.drain()
        asked = len(remote.log)
        await trio.sleep(20)
        assert len(remote.log) - asked < 5
        assert remote.other.tree() == {"/d": None, "/d/a": b"theirs"}
        assert await world.read_file("d/a") == b"theirs"

    tell(tmp_path, story, remote, poll_s=0)


class Sent(FakeRemote):
    """Notes in which order uploads begin."""

    def names(self) -> list[str]:
        return [line.rpartition("/")[2] for line in self.methods() if line.startswith("put ")]


async def send_after_a_pause(world: World, parallel: int, *saves: tuple[str, int]) -> None:
    """Have these files, of so many bytes, be saved one second after the other, and be due all at once."""
    world.engine.worker.config = msgspec.structs.replace(world.engine.worker.config, parallel=parallel)
    world.engine.pause.begin()
    for name, size in saves:
        await world.save(name, b"x" * size)
        await trio.sleep(1)
    await trio.sleep(60)
    world.engine.pause.end()
    await world.drain()


def test_what_is_small_and_old_goes_first(tmp_path: Path) -> None:
    remote = Sent(latency_s=0.5)

    async def story(world: World) -> None:
        saves = [("again", 10), ("huge", 9000), ("large", 500), ("first", 10), ("empty", 0), ("second", 10)]
        await send_after_a_pause(world, 1, *saves, ("again", 10), ("large", 700), ("middle", 600))
        # "again" is the first of its size by its inode, and the last by its change.
        assert remote.names() == ["empty", "first", "second", "again", "middle", "large", "huge"]

    tell(tmp_path, story, remote)


def test_a_large_file_takes_one_of_the_slots_only_once_small_ones_are_on_their_way(tmp_path: Path) -> None:
    remote = Sent(latency_s=0.5)

    async def story(world: World) -> None:
        await send_after_a_pause(world, 2, *((f"{size:04}", size) for size in range(800, 0, -100)))
        names = remote.names()
        # Of those that begin at one moment either may be the first on the wire.
        assert [sorted(names[at : at + 2]) for at in range(0, 8, 2)] == [
            ["0100", "0200"],
            ["0300", "0400"],
            ["0500", "0600"],
            ["0700", "0800"],
        ]

    tell(tmp_path, story, remote)


def test_of_a_large_backlog_each_part_is_in_order_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SEMANTICS.md says: a part of it has to be sent before the next one is looked at."""
    monkeypatch.setattr(sweep, "_PART", 3)
    remote = Sent(latency_s=0.5)

    async def story(world: World) -> None:
        saves = [("c", 30), ("b", 20), ("a", 10), ("f", 3), ("e", 2), ("d", 1)]
        await send_after_a_pause(world, 1, *saves)
        assert remote.names() == list("abcdef")

    tell(tmp_path, story, remote)
