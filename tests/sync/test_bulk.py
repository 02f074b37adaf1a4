"""Small new files in one request: only where nobody else can be in their way, and never at the price of a promise."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from cloudfs.remote.protocol import Body, NewFile
from cloudfs.types import RemotePath, Stored
from tests.model.fake_remote import FakeRemote, FaultKind
from tests.sync.bulk import ONE_BY_ONE, QUIET_S, WITH_BULK, Watched, fill_older_folders, kinds
from tests.sync.mount import World, tell

CONTENTS = {f"/new/file {n}": f"content {n}".encode() * (n % 7) for n in range(120)}


def server() -> FakeRemote:
    return FakeRemote(features=WITH_BULK, latency_s=0.05)


async def save_all(world: World) -> None:
    await world.mkdir("new")
    for path, content in CONTENTS.items():
        await world.save(path[1:], content)


async def check_all(world: World, contents: dict[str, bytes] = CONTENTS) -> None:
    await world.drain()
    await world.refresh_all()
    for tree in (world.remote.other.tree(), await world.tree()):
        assert tree == {"/new": None} | contents
    assert not world.unfinished()


def test_a_new_folder_full_of_small_files_takes_few_requests(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await save_all(world)
        await world.drain()
        assert len(world.remote.log) <= 12
        await check_all(world)

    assert kinds(tell(tmp_path, story, server())) == {"make_folder": 1, "put": 0, "put_bulk": 3}


@pytest.mark.parametrize("latency_s", [1.5, 6.0])
def test_looks_cost_less_than_what_they_are_for(tmp_path: Path, latency_s: float) -> None:
    """The proof that the server stores what it is sent serves as one, and those that begin together share one."""

    async def story(world: World) -> None:
        world.remote.latency_s = latency_s
        await world.mkdir("new")
        for number in range(300):
            await world.save(f"new/{number}", b"content")
        world.remote.log.clear()
        await world.drain()

    remote = tell(tmp_path, story, server(), poll_s=0)
    assert kinds(remote)["put"] == 0
    assert len(remote.log) <= 12, remote.methods()


def test_requests_are_filled_while_a_folder_is_copied(tmp_path: Path) -> None:
    """Its files become due one after the other: the first request would have a few of them, and so would the last."""

    async def story(world: World) -> None:
        await world.mkdir("new")
        for number in range(60):
            await world.save(f"new/{number}", b"content")
            await trio.sleep(0.02)
        await trio.sleep(10)
        assert not world.unfinished()

    assert kinds(tell(tmp_path, story, server(), poll_s=0)) == {"make_folder": 1, "put": 0, "put_bulk": 2}


def test_requests_are_filled_while_a_slow_machine_copies_a_folder(tmp_path: Path) -> None:
    """More of them are always due in a moment: as long as more come, those that are there wait a little longer."""

    async def story(world: World) -> None:
        await world.mkdir("new")
        for number in range(300):
            await world.save(f"new/{number}", b"content")
            await trio.sleep(0.11)
        await world.drain()

    made = kinds(tell(tmp_path, story, server(), poll_s=0))
    assert made == {"make_folder": 1, "put": 0, "put_bulk": made["put_bulk"]}
    assert made["put_bulk"] <= 7


def test_files_that_come_one_by_one_wait_for_some_seconds_only(tmp_path: Path) -> None:
    """A program that makes one each half a second, for ever, has them on the server soon all the same."""

    async def story(world: World) -> None:
        await world.mkdir("new")
        saved: dict[str, float] = {}
        for number in range(60):
            saved[f"/new/{number}"] = trio.current_time()
            await world.save(f"new/{number}", b"content")
            await trio.sleep(0.5)
            there = world.remote.other.tree()
            late = [
                path for path, at in saved.items() if trio.current_time() - at > 8.5 and path not in there
            ]
            assert not late

    tell(tmp_path, story, server(), poll_s=0)


def test_small_files_wait_for_others_for_a_moment_only(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.mkdir("new")
        await save_into(world, 10)
        await trio.sleep(0.9)  # it is due after one
        began = trio.current_time()
        for number in range(100):  # there is always something that is due in a moment
            await world.save("other", f"{number}".encode())
            await trio.sleep(0.2)
            if "put_bulk" in "".join(world.remote.methods()):
                break
        assert trio.current_time() - began < 2.5

    tell(tmp_path, story, server(), poll_s=0)


async def save_into(world: World, number: int) -> None:
    for name in range(number):
        await world.save(f"new/{name}", b"content")


def test_times_and_ids_are_those_that_a_listing_shows(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await save_all(world)
        await world.drain()
        before = (await world.walk()).attributes
        for path in CONTENTS:
            assert world.remote.other.mtime_s(path) == before[path[1:]].mtime_ns // 10**9
        await world.refresh_all()
        assert (await world.walk()).attributes == before  # no new version is found where there is none

    tell(tmp_path, story, server())


def test_a_folder_that_was_there_gets_single_uploads(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.remote.other.mkdir("/new")
        await world.refresh_all()
        for path, content in CONTENTS.items():
            await world.save(path[1:], content)
        await check_all(world)

    assert kinds(tell(tmp_path, story, server())) == {"make_folder": 0, "put": len(CONTENTS), "put_bulk": 0}


def test_what_another_client_put_into_the_new_folder_is_not_overwritten(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.mkdir("new")
        await world.drain()
        await trio.sleep(60)
        for path, content in CONTENTS.items():
            await world.save(path[1:], content)
        world.remote.other.write("/new/file 5", b"theirs")
        await world.drain()
        await world.refresh_all()
        tree = await world.tree()
        assert tree == world.remote.other.tree()
        assert tree["/new/file 5"] == b"theirs"
        copies = [content for path, content in tree.items() if "conflicted copy" in path]
        assert copies == [CONTENTS["/new/file 5"]]

    assert kinds(tell(tmp_path, story, server()))["put_bulk"] == 0


def test_a_slow_server_gets_no_more_requests(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.remote.latency_s = 20.0
        await save_all(world)
        await check_all(world)

    assert kinds(tell(tmp_path, story, server()))["put"] == 0


def test_an_older_folder_of_ours_is_looked_at_first(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.mkdir("new")
        await world.drain()
        await trio.sleep(60)
        for path, content in CONTENTS.items():
            await world.save(path[1:], content)
        await check_all(world)

    remote = tell(tmp_path, story, server())
    assert kinds(remote)["put"] == 0
    first = next(n for n, line in enumerate(remote.methods()) if line.startswith("put_bulk"))
    assert remote.methods()[first - 1] == "list_folder /new"


def test_many_older_folders_with_a_file_each_are_looked_at_together(tmp_path: Path) -> None:
    """As those of `git`, which has hundreds. Somebody else's file in one of them is kept, and the other files go on."""

    async def story(world: World) -> None:
        await world.mkdir("new")
        for number in range(30):
            await world.mkdir(f"new/{number}")
        await world.drain()
        await trio.sleep(60)
        for number in range(30):
            await world.save(f"new/{number}/file", b"ours")
        world.remote.other.write("/new/7/file", b"theirs")
        await world.drain()
        await world.refresh_all()
        tree = await world.tree()
        assert tree == world.remote.other.tree()
        assert tree["/new/7/file"] == b"theirs"
        assert list(tree.values()).count(b"ours") == 30

    remote = tell(tmp_path, story, server())
    assert kinds(remote)["put"] <= 2
    assert remote.methods().count("list_tree /new") <= 2


@pytest.mark.parametrize(
    "kind",
    [
        FaultKind.REFUSE,
        FaultKind.LOSE_REPLY,
        FaultKind.CUT,
        FaultKind.FAULT,
        FaultKind.UNAVAILABLE,
        FaultKind.STRANGE,
        FaultKind.HANG_DONE,
        FaultKind.LATE,
    ],
)
def test_a_request_that_fails_loses_and_doubles_nothing(tmp_path: Path, kind: FaultKind) -> None:
    async def story(world: World) -> None:
        world.remote.faults.next("put_bulk", [None, kind])
        await save_all(world)
        await check_all(world)

    tell(tmp_path, story, server())


def test_a_firewall_that_refuses_them_all_is_gone_round(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.remote.faults.next("put_bulk", [FaultKind.FAULT] * 100)
        await save_all(world)
        await check_all(world)

    remote = tell(tmp_path, story, server())
    assert kinds(remote)["put_bulk"] == 3
    assert kinds(remote)["put"] == len(CONTENTS)


def test_a_file_that_is_refused_goes_by_itself(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        store = world.remote._store_new

        def refuse(file: object) -> Stored | None:
            return None if "file 7" in str(file) else store(file)  # type: ignore[arg-type]

        world.remote._store_new = refuse  # type: ignore[method-assign]
        await save_all(world)
        await check_all(world)

    # 7 and 70 to 79
    assert kinds(tell(tmp_path, story, server()))["put"] == 11


def test_a_server_that_stores_something_else_is_found_out_at_the_first_request(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        store = world.remote._store_new

        def spoil(file: object) -> Stored | None:
            made = store(msgspec.structs.replace(file, content=b"spoilt"))  # type: ignore[type-var,arg-type]
            return made if made is None else msgspec.structs.replace(made, etag="of what was sent")

        world.remote._store_new = spoil  # type: ignore[method-assign]
        await save_all(world)
        await world.drain()
        await world.refresh_all()
        tree = await world.tree()
        assert tree == world.remote.other.tree()
        # What we have is there under some name, whatever the server made of the first request.
        assert set(CONTENTS.values()) <= set(tree.values())

    assert kinds(tell(tmp_path, story, server()))["put_bulk"] <= 2


def test_an_edit_right_after_the_first_request_is_no_lie_of_the_server(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        store = world.remote._store_new

        def overwritten(file: NewFile) -> Stored | None:
            made = store(file)
            if file.path == "/new/file 5":
                world.remote.other.write(file.path, b"theirs")
            return made

        world.remote._store_new = overwritten  # type: ignore[method-assign]
        await save_all(world)
        await check_all(world, CONTENTS | {"/new/file 5": b"theirs"})

    assert kinds(tell(tmp_path, story, server())) == {"make_folder": 1, "put": 0, "put_bulk": 3}


def test_what_is_renamed_and_written_meanwhile_is_neither_torn_nor_doubled(tmp_path: Path) -> None:
    contents = dict(CONTENTS)

    async def story(world: World) -> None:
        world.remote.latency_s = 3.0
        await save_all(world)
        await trio.sleep(8)
        for n in range(0, 120, 10):
            await world.rename(f"new/file {n}", f"new/renamed {n}")
            contents[f"/new/renamed {n}"] = contents.pop(f"/new/file {n}")
            await world.save(f"new/file {n + 1}", b"written again")
            contents[f"/new/file {n + 1}"] = b"written again"
            await world.unlink(f"new/file {n + 2}")
            del contents[f"/new/file {n + 2}"]
        await check_all(world, contents)

    tell(tmp_path, story, server())


@pytest.mark.parametrize("steps", range(0, 400, 40))
def test_a_death_at_any_time_loses_nothing(tmp_path: Path, steps: int) -> None:
    async def story(world: World) -> None:
        await save_all(world)
        await trio.sleep(2.0 + steps / 1000)
        await world.kill()
        await check_all(world)

    tell(tmp_path, story, server(), seed=steps)


def test_what_was_recognised_after_a_lost_reply_can_be_written_again(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.remote.faults.next("put_bulk", [FaultKind.LOSE_REPLY] * 3)
        await save_all(world)
        await world.drain()
        await world.save("new/file 1", b"again")
        await check_all(world, CONTENTS | {"/new/file 1": b"again"})

    tell(tmp_path, story, server())


def test_what_was_not_sent_tells_nothing_about_its_storage(tmp_path: Path) -> None:
    """Of one that is down one batch finds out whether it is back: not one whose files all went on meanwhile."""
    remote = Watched(features=ONE_BY_ONE)

    async def story(world: World) -> None:
        async def go_on() -> None:
            for number in range(10):
                await world.rename(f"a/{number}", f"a/renamed {number}")
                await world.rename(f"b/{number}", f"b/renamed {number}")

        await fill_older_folders(world)
        storages, nodes = world.engine.worker._storages, world.engine.store.nodes
        inside = [node for ino in ("a", "b") for node in nodes.children((await world.lookup(ino)).ino)]
        for node in inside:
            storages.failed(node)
        for down in storages._down.values():
            down.due = trio.current_time() + 3.0  # both are tried in one batch
        remote.after_look["/b"] = go_on
        while remote.after_look or world.engine.worker.in_flight():
            await trio.sleep(0.01)
        assert kinds(remote)["put_bulk"] == 0
        assert all(storages.due(node) > 0 for node in inside)
        await world.drain()
        assert not any(storages.due(node) for node in inside)
        assert len(remote.other.tree()) == 22

    tell(tmp_path, story, remote, poll_s=0, quiet_s=QUIET_S)


def test_a_third_request_begins_as_soon_as_one_of_two_is_over(tmp_path: Path) -> None:
    """What two leave waits for them, and not for another plan."""
    remote = Watched(features=WITH_BULK)

    async def story(world: World) -> None:
        worker = world.engine.worker

        async def plan_no_more() -> None:
            worker._sweep.not_before = math.inf
            assert len(worker._queue.aside) == 20
            # As after a plan that found them again, and no free slot.
            worker._queue.begin_anew([*worker._queue, *worker._queue.aside])

        remote.between = plan_no_more
        await save_all(world)
        with trio.move_on_after(60):
            while remote.bulks < 3:
                await trio.sleep(0.01)
        assert remote.bulks == 3
        worker._sweep.not_before = 0.0
        await check_all(world)

    tell(tmp_path, story, remote)


def test_moves_of_many_folders_that_files_go_to_are_weighed_without_walking_for_each_pair(
    tmp_path: Path,
) -> None:
    """Each waits for the files on their way into it; finding that out takes the loop."""
    remote = Watched(features=WITH_BULK)
    most = walks = 0

    async def story(world: World) -> None:
        def count() -> None:
            nonlocal walks
            walks += 1

        def measure() -> None:
            nonlocal most, walks
            most, walks = max(most, walks), 0

        async def move_all() -> None:
            assert len(worker.in_flight()) == 100
            for number in range(50):
                await world.rename(f"d{number}", f"e{number}")
            _before(worker, "_round", measure)
            _before(world.engine.store.nodes, "_ancestors", count)
            await trio.sleep(3)
            measure()

        worker = world.engine.worker
        for number in range(50):
            await world.mkdir(f"d{number}")
        await world.drain()
        for number in range(50):
            await world.save(f"d{number}/a", b"a")
            await world.save(f"d{number}/b", b"b")
        remote.between = move_all
        await world.drain()
        assert len(remote.other.tree()) == 150
        assert remote.other.read("/e49/b") == b"b"

    tell(tmp_path, story, remote, poll_s=0)
    assert 0 < most < 1000


def _before(owner: object, method: str, call: Callable[[], None]) -> None:
    """Have something called before each call of a method."""
    original = getattr(owner, method)

    def called(*arguments: object) -> object:
        call()
        return original(*arguments)

    setattr(owner, method, called)


class SlowForLarge(Watched):
    """A large upload takes ten minutes."""

    async def put(self, path: RemotePath, body: Body, size: int, *args: Any, **more: Any) -> Stored:
        if size > 1_000_000:
            await trio.sleep(600)
        return await super().put(path, body, size, *args, **more)


@pytest.mark.parametrize("gap_s", [0.1, 0.3])
def test_small_files_that_wait_for_others_do_not_wait_for_large_ones(tmp_path: Path, gap_s: float) -> None:
    async def story(world: World) -> None:
        await world.mkdir("new")
        await trio.sleep(6)
        small = {f"new/small {number}": b"small" for number in range(3)}
        for name, data in small.items():
            await world.save(name, data)
            await trio.sleep(gap_s)
        for number in range(5):
            await world.save(f"new/large {number}", bytes(2_000_000))
            await trio.sleep(gap_s)
        await trio.sleep(10)
        assert {f"/{name}" for name in small} <= set(world.remote.other.tree())
        await world.drain()

    tell(tmp_path, story, SlowForLarge(features=WITH_BULK), quiet_s=2.0)
