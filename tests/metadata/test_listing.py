"""Asking for folders: who waits, who does not, and what an answer that comes too late may do."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from cloudfs.errors import NotFound, PosixError, Unreachable
from cloudfs.store import nodes, snapshot
from cloudfs.store.records import Node
from cloudfs.types import ROOT, Ino
from tests.metadata.world import file, folder, open_metadata


async def test_a_folder_never_seen_makes_its_first_reader_wait(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    del autojump_clock
    async with open_metadata(tmp_path) as room:
        room.remote.set("/", file("/a"))
        begun_s = trio.current_time()
        assert (await room.tree.lookup(ROOT, b"a")).name == "a"
        assert trio.current_time() - begun_s == pytest.approx(room.remote.latency_s)


async def test_a_known_folder_never_makes_anybody_wait(tmp_path: Path, autojump_clock: MockClock) -> None:
    del autojump_clock
    async with open_metadata(tmp_path, ttl_s=5) as room:
        room.remote.set("/", file("/a"))
        await room.lister.ensure_listed(ROOT)
        await trio.sleep(60)
        room.remote.set("/", file("/b"))
        room.remote.latency_s = 1000
        begun_s = trio.current_time()
        assert (await room.tree.lookup(ROOT, b"a")).name == "a"
        assert trio.current_time() == begun_s
        await trio.sleep(1001)
        assert set(room.shown()) == {"b"}


async def test_a_fresh_folder_is_not_asked_for_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    del autojump_clock
    async with open_metadata(tmp_path, ttl_s=5) as room:
        room.remote.set("/")
        for _ in range(10):
            await room.lister.ensure_listed(ROOT)
            await trio.sleep(0.4)
        assert room.remote.asked == ["/"]
        await trio.sleep(5)
        await room.lister.ensure_listed(ROOT)
        await trio.sleep(1)
        assert room.remote.asked == ["/", "/"]


async def test_what_an_earlier_life_has_seen_is_not_fresh(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Nobody knows by which clock it noted when."""
    del autojump_clock
    async with open_metadata(tmp_path, ttl_s=3600) as room:
        room.remote.set("/", file("/a"))
        await room.lister.ensure_listed(ROOT)
    async with open_metadata(tmp_path, ttl_s=3600) as room:
        room.remote.set("/", file("/b"))
        await room.lister.ensure_listed(ROOT)
        await trio.sleep(1)
        assert set(room.shown()) == {"b"}


async def test_many_readers_share_one_request(tmp_path: Path, autojump_clock: MockClock) -> None:
    del autojump_clock
    async with open_metadata(tmp_path) as room:
        room.remote.set("/", file("/a"))
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(room.tree.lookup, ROOT, b"a")
        assert room.remote.asked == ["/"]


async def test_absence_is_only_told_of_a_folder_whose_members_are_known(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    del autojump_clock
    async with open_metadata(tmp_path) as room:
        room.remote.error = Unreachable("no route")
        with pytest.raises(Unreachable):
            await room.tree.lookup(ROOT, b"a")
        room.remote.error = None
        room.remote.set("/")
        with pytest.raises(PosixError):
            await room.tree.lookup(ROOT, b"a")


async def test_a_known_folder_is_shown_while_the_server_is_away(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    del autojump_clock
    async with open_metadata(tmp_path) as room:
        room.remote.set("/", file("/a"))
        await room.lister.ensure_listed(ROOT)
        room.remote.error = Unreachable("no route")
        await trio.sleep(1000)
        assert (await room.tree.lookup(ROOT, b"a")).name == "a"
        await trio.sleep(10)
        assert set(room.shown()) == {"a"}


async def test_a_folder_made_here_is_complete_without_asking(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    del autojump_clock
    async with open_metadata(tmp_path) as room:
        made = room.create("new", is_folder=True)
        with pytest.raises(PosixError):
            await room.tree.lookup(made, b"x")
        assert room.remote.asked == []


async def test_what_is_in_a_folder_made_on_both_sides_is_announced_at_once(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Names were denied while the folder was ours alone, and the kernel may keep that for long."""
    del autojump_clock
    async with open_metadata(tmp_path) as room:
        made = room.create("both", is_folder=True)
        inside = room.create("deep", parent=made, is_folder=True)
        with pytest.raises(PosixError):
            await room.tree.lookup(made, b"x")
        room.remote.set("/", folder("/both", file_id="1"))
        room.remote.set("/both", file("/both/x"), folder("/both/deep", file_id="2"), file_id="1")
        room.remote.set("/both/deep", file("/both/deep/y"), file_id="2")
        await room.lister.refresh(ROOT)
        await trio.sleep(1)
        assert {("changed", made, "x"), ("changed", inside, "y")} <= set(room.sink.told)


async def test_a_folder_that_is_gone_disappears_from_its_parent(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    del autojump_clock
    async with open_metadata(tmp_path) as room:
        room.remote.set("/", folder("/d"))
        room.remote.set("/d", file("/d/x"))
        await room.lister.refresh(ROOT)
        d = room.shown()["d"].ino
        room.remote.folders.pop("/d")
        room.remote.set("/")
        with pytest.raises(NotFound):
            await room.lister.refresh(d)
        assert room.shown() == {}


async def test_the_root_never_disappears(tmp_path: Path, autojump_clock: MockClock) -> None:
    del autojump_clock
    async with open_metadata(tmp_path) as room:
        room.remote.set("/", file("/a"))
        await room.lister.refresh(ROOT)
        room.remote.folders.clear()
        with pytest.raises(NotFound):
            await room.lister.refresh(ROOT)
        assert set(room.shown()) == {"a"}


async def test_another_folder_at_the_same_path_is_another_folder(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    del autojump_clock
    async with open_metadata(tmp_path) as room:
        room.remote.set("/", folder("/d", file_id="1"))
        room.remote.set("/d", file("/d/x"), file_id="1")
        await room.lister.refresh(ROOT)
        d = room.shown()["d"].ino
        await room.lister.refresh(d)
        room.remote.set("/", folder("/d", file_id="2"))
        room.remote.set("/d", file("/d/y"), file_id="2")
        await room.lister.refresh(d)
        now = room.shown()["d"].ino
        await room.lister.refresh(now)
        assert set(room.shown(now)) == {"y"}


async def test_an_answer_for_the_path_before_a_move_is_not_believed(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """The folder moved on the server while it was listed: nothing in it may be dropped for that."""
    del autojump_clock
    async with open_metadata(tmp_path) as room:
        room.remote.set("/", folder("/d"))
        room.remote.set("/d", file("/d/x"))
        room.remote.set("/e", file("/e/x"), file("/e/y"))
        await room.lister.refresh(ROOT)
        d = room.shown()["d"].ino
        await room.lister.refresh(d)

        def move() -> None:
            room.nodes.update(d, name="e", s_name="e")
            room.remote.folders.pop("/d", None)
            room.remote.gate = None

        room.remote.gate = move
        await room.lister.refresh(d)
        assert set(room.shown(d)) == {"x", "y"}


def test_a_listing_that_a_step_met_while_it_was_taken_over_was_not_seen_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it was compared with is what the step gives up, or replaces."""

    async def story() -> None:
        async with open_metadata(tmp_path) as room:
            room.remote.set("/", file("/a"))
            apply = room.takeover.apply

            async def beside_a_step(*args: Any, **more: Any) -> bool:
                with room.touches.step([(ROOT, "b")]):
                    return await apply(*args, **more)

            with monkeypatch.context() as patch:
                patch.setattr(room.takeover, "apply", beside_a_step)
                await room.lister.refresh(ROOT)
            assert room.node(ROOT).listed_etag is None
            await room.lister.refresh(ROOT)
            assert room.node(ROOT).listed_etag == "f"

    trio.run(story, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("when", ["under way", "over"])
def test_an_own_step_is_newer_than_a_listing_that_it_met(tmp_path: Path, when: str) -> None:
    async def story() -> None:
        async with open_metadata(tmp_path) as room:
            room.remote.set("/", file("/a"))
            await room.lister.refresh(ROOT)
            step = room.touches.step([(ROOT, "b")])

            def upload() -> None:
                """Our upload ends while the listing, which does not have it yet, is on its way back."""
                if when == "over":
                    with step:
                        pass
                else:
                    step.__enter__()
                room.nodes.insert(
                    parent=ROOT,
                    name="b",
                    folder=0,
                    mtime_ns=0,
                    ctime_ns=0,
                    s_parent=ROOT,
                    s_name="b",
                    s_version=0,
                    s_mtime_ns=0,
                )

            room.remote.gate = upload
            await room.lister.refresh(ROOT)
            assert set(room.shown()) == {"a", "b"}
            if when == "under way":
                step.__exit__(None, None, None)
            room.remote.gate = None
            await room.lister.refresh(ROOT)
            assert set(room.shown()) == {"a"}, "a later listing is believed again"

    trio.run(story, clock=MockClock(autojump_threshold=0))


async def test_refresh_above_lists_from_the_root_down(tmp_path: Path, autojump_clock: MockClock) -> None:
    del autojump_clock
    async with open_metadata(tmp_path) as room:
        room.remote.set("/", folder("/d"))
        room.remote.set("/d", folder("/d/e"))
        room.remote.set("/d/e", file("/d/e/x"))
        await room.lister.refresh(ROOT)
        d = room.shown()["d"].ino
        await room.lister.refresh(d)
        e = room.shown(d)["e"].ino
        await room.lister.refresh(e)
        x = room.shown(e)["x"].ino
        room.remote.asked.clear()
        await room.lister.refresh_above(x)
        assert room.remote.asked == ["/", "/d", "/d/e"]


async def test_nobody_asks_for_what_the_server_does_not_have(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    del autojump_clock
    async with open_metadata(tmp_path) as room:
        await room.lister.ensure_listed(Ino(999))
        await room.lister.refresh(room.create("new", is_folder=True))
        assert room.remote.asked == []


async def test_a_listing_that_outlasts_every_request_ends_all_the_same(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Else a folder that takes longer to list than any request may wait could never be opened."""
    del autojump_clock
    async with open_metadata(tmp_path) as room:
        room.remote.set("/", file("/a"))
        room.remote.latency_s = 40
        for _ in range(2):
            with trio.move_on_after(15) as request:
                await room.lister.ensure_listed(ROOT)
            assert request.cancelled_caught
        with trio.fail_after(15):
            await room.lister.ensure_listed(ROOT)
        assert set(room.shown()) == {"a"}
        assert room.remote.asked == ["/"]


async def test_a_request_that_comes_after_a_slow_listing_finds_it_done(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    del autojump_clock
    async with open_metadata(tmp_path) as room:
        room.remote.set("/", file("/a"))
        room.remote.latency_s = 20
        with trio.move_on_after(15):
            await room.lister.ensure_listed(ROOT)
        await trio.sleep(10)
        begun_s = trio.current_time()
        assert (await room.tree.lookup(ROOT, b"a")).name == "a"
        assert (trio.current_time(), room.remote.asked) == (begun_s, ["/"])


async def test_an_error_that_nobody_waits_for_any_more_harms_nothing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    del autojump_clock
    async with open_metadata(tmp_path) as room:
        room.remote.latency_s = 20
        room.remote.error = Unreachable("no route")
        with trio.move_on_after(15):
            await room.lister.ensure_listed(ROOT)
        await trio.sleep(10)
        room.remote.error, room.remote.latency_s = None, 0.1
        room.remote.set("/", file("/a"))
        assert (await room.tree.lookup(ROOT, b"a")).name == "a"


async def test_polling_for_a_name_sees_it_though_listings_are_slow(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """The first look waits 2 s at most; a listing that takes 3 must not begin anew with every look."""
    del autojump_clock
    async with open_metadata(tmp_path, ttl_s=5) as room:
        room.remote.set("/")
        await room.lister.ensure_listed(ROOT)
        await trio.sleep(6)
        room.remote.latency_s = 3
        room.remote.set("/", file("/a"))
        with pytest.raises(PosixError):
            await room.tree.lookup(ROOT, b"a")
        await trio.sleep(1.5)
        assert (await room.tree.lookup(ROOT, b"a")).name == "a"


async def test_a_name_that_an_old_listing_lacks_is_asked_for_before_it_is_denied(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    del autojump_clock
    async with open_metadata(tmp_path, ttl_s=5) as room:
        room.remote.set("/")
        await room.lister.ensure_listed(ROOT)
        await trio.sleep(60)
        room.remote.set("/", file("/new"))
        assert (await room.tree.lookup(ROOT, b"new")).name == "new"


async def test_a_hanging_listing_makes_only_the_first_denial_wait(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    del autojump_clock
    async with open_metadata(tmp_path, ttl_s=5) as room:
        room.remote.set("/")
        await room.lister.ensure_listed(ROOT)
        await trio.sleep(60)
        room.remote.latency_s = 100
        begun_s = trio.current_time()
        for number in range(10):
            with pytest.raises(PosixError):
                await room.tree.lookup(ROOT, b"none %d" % number)
        assert trio.current_time() - begun_s == pytest.approx(2.0)


async def test_a_listing_again_reads_each_row_of_its_folder_once(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the loop: read five times over, 100,000 files held up every program for seconds."""
    del autojump_clock
    read = 0

    def counted(*row: object) -> Node:
        nonlocal read
        read += 1
        return Node(*row)  # type: ignore[arg-type]  # a row as it comes from the database

    async with open_metadata(tmp_path) as room:
        members = [file(f"/{number}", file_id=f"{number}") for number in range(1000)]
        room.remote.set("/", *members)
        await room.lister.refresh(ROOT)
        members[7] = file("/7", "other", size=11, file_id="7")
        room.remote.set("/", *members)
        monkeypatch.setattr(nodes, "Node", counted)
        monkeypatch.setattr(snapshot, "Node", counted)
        await room.lister.refresh(ROOT)
        monkeypatch.undo()
        assert room.shown()["7"].size == 11
        assert 1000 <= read < 1100


async def test_others_run_while_it_is_looked_up_where_many_new_members_came_from(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    del autojump_clock
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with open_metadata(tmp_path) as room, trio.open_nursery() as nursery:
        room.remote.set("/", *(file(f"/{number}", file_id=f"{number}") for number in range(2000)))
        room.remote.latency_s = 0
        look_up = room.nodes.folders_of
        looked_up_at: list[int] = []

        def folders_of(file_ids: list[str]) -> dict[str, set[Ino]]:
            looked_up_at.extend([turns] * len(file_ids))
            return look_up(file_ids)

        monkeypatch.setattr(room.nodes, "folders_of", folders_of)
        nursery.start_soon(take_turns)
        await room.lister.refresh(ROOT)
        nursery.cancel_scope.cancel()
        assert looked_up_at[1999] - looked_up_at[0] >= 5


async def test_programs_that_the_kernel_lets_in_one_by_one_do_not_all_wait_for_a_silent_server(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    del autojump_clock
    async with open_metadata(tmp_path) as room:
        room.remote.set("/", file("/a"))
        room.remote.latency_s, room.remote.error = 12.0, Unreachable("no answer")
        for _ in range(200):
            with trio.move_on_after(15), suppress(Unreachable):
                await room.lister.ensure_listed(ROOT)
        # One after the other would take 40 minutes.
        assert trio.current_time() <= 180
        await trio.sleep(12)
        room.remote.latency_s, room.remote.error = 0.1, None
        await room.lister.ensure_listed(ROOT)
        assert set(room.shown()) == {"a"}


async def test_a_folder_that_is_never_answered_keeps_nobody_from_the_others(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    del autojump_clock
    async with open_metadata(tmp_path) as room:
        room.remote.set("/", folder("/dead"), folder("/well"))
        room.remote.set("/well", file("/well/a"))
        await room.lister.ensure_listed(ROOT)
        dead, well = (room.shown()[name].ino for name in ("dead", "well"))
        room.remote.latency_s, room.remote.error = 20.0, Unreachable("no answer")
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                with trio.move_on_after(15), suppress(Unreachable):
                    await room.lister.ensure_listed(dead)
            nursery.start_soon(room.lister.refresh, dead)  # as for a pinned folder: without a deadline
            await trio.sleep(1)
            room.remote.latency_s, room.remote.error = 0.1, None
            await room.lister.ensure_listed(well)
            nursery.cancel_scope.cancel()
        assert set(room.shown(well)) == {"a"}
