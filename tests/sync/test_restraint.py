"""When deletions made here wait for a person's word."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
import trio

from cloudfs.store.store import Store
from cloudfs.sync.restraint import Restraint, removes_too_much
from cloudfs.types import ROOT
from tests.model import virtual
from tests.model.fake_remote import FakeRemote, FaultKind
from tests.model.faults import Span
from tests.sync.mount import World, tell


@pytest.mark.parametrize(
    ("count", "known", "waits"),
    [
        (0, 0, False),
        (1, 1, False),
        (100, 100, False),  # few, though all
        (101, 201, True),  # more than half
        (101, 202, False),
        (1000, 100_000, False),
        (1001, 100_000, True),
        (1001, 0, True),
        (150, None, False),  # nobody knows how much there is
        (1001, None, True),
    ],
)
def test_what_waits(count: int, known: int | None, *, waits: bool) -> None:
    assert removes_too_much(count, known, limit=1000) == waits


def test_zero_turns_it_off() -> None:
    assert not removes_too_much(10**6, 10**6, limit=0)


def test_a_small_limit_is_kept() -> None:
    assert removes_too_much(6, 1000, limit=5)
    assert not removes_too_much(5, 5, limit=5)


@pytest.mark.parametrize("limit", [0, 1000])
def test_from_a_server_that_was_set_back_nothing_is_deleted(limit: int) -> None:
    assert removes_too_much(1, 10_000, limit=limit, distrusted=True)
    assert not removes_too_much(0, 10_000, limit=limit, distrusted=True)


def test_a_removal_that_is_tried_again_counts_once(tmp_path: Path) -> None:
    """Sixty of eighty are few; counted again with each try they would be many, and most."""
    remote = FakeRemote()
    remote.other.mkdir("/big")
    for number in range(60):
        remote.other.write(f"/big/{number}", b"x")
    for number in range(20):
        remote.other.write(f"/{number}", b"x")
    remote.faults.next("delete", [FaultKind.LOCKED] * 3)

    async def story(world: World) -> None:
        await world.walk()
        await world.rename("big", "big~")
        await world.drain()
        assert len(remote.faults.happened) == 3
        assert not any(path.startswith("/big") for path in remote.other.tree())

    tell(tmp_path, story, remote)


class WallClock:
    """Set by hand, while the clock that times everything else goes on."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.ahead_s = 0
        told = virtual._Time.time_ns
        patch.setattr(virtual._Time, "time_ns", lambda time: told(time) + self.ahead_s * 10**9)


def server_of(files: int) -> FakeRemote:
    remote = FakeRemote()
    for number in range(files):
        remote.other.write(f"/f{number}", b"x")
    return remote


async def unlinked(world: World, numbers: range) -> None:
    for number in numbers:
        await world.unlink(f"f{number}")
    await trio.sleep(30)


def test_an_answer_is_none_for_what_is_removed_later_while_the_clock_is_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without network nothing looks at what is planned before the clock is right again."""
    clock, remote = WallClock(monkeypatch), server_of(20)

    async def story(world: World) -> None:
        deletions = world.engine.deletions
        await world.walk()
        await unlinked(world, range(6))
        assert deletions.accept_removed().done == 6
        await trio.sleep(1000)  # none of these is of the last minutes any more
        assert len(remote.other.tree()) == 14
        remote.faults.during(Span.AWAY, 1e9)
        clock.ahead_s = -5 * 3600
        await unlinked(world, range(6, 18))
        clock.ahead_s = 0
        remote.faults.end(Span.AWAY)
        await trio.sleep(200)
        held = deletions.removed()
        assert held is not None
        assert held.count == 12
        assert len(remote.other.tree()) == 14

    tell(tmp_path, story, remote, held_from=3)


def test_an_answer_is_one_for_what_was_removed_while_the_clock_was_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, remote = WallClock(monkeypatch), server_of(8)

    async def story(world: World) -> None:
        await world.walk()
        clock.ahead_s = 5 * 3600
        await unlinked(world, range(6))
        clock.ahead_s = 0
        assert world.engine.deletions.accept_removed().done == 6
        await trio.sleep(60)
        assert world.engine.deletions.removed() is None
        assert sorted(remote.other.tree()) == ["/f6", "/f7"]

    tell(tmp_path, story, remote, held_from=3)


def test_what_is_removed_again_is_asked_about_again(tmp_path: Path) -> None:
    """The answer was about a folder in the trash; it was taken out, and put there once more."""
    remote = FakeRemote()
    remote.other.mkdir("/d")
    for number in range(6):
        remote.other.write(f"/d/f{number}", b"x")

    async def story(world: World) -> None:
        deletions = world.engine.deletions
        await world.walk()
        await world.rename("d", "d~")
        await trio.sleep(30)
        remote.faults.during(Span.AWAY, 1e9)
        assert deletions.accept_removed().done == 7
        await world.rename("d~", "d")
        await world.rename("d", "d~")
        await trio.sleep(30)
        remote.faults.end(Span.AWAY)
        await trio.sleep(200)
        held = deletions.removed()
        assert held is not None
        assert held.count == 7
        assert len(remote.other.tree()) == 7

    tell(tmp_path, story, remote, held_from=3)


async def test_an_answer_that_went_by_the_clock_is_asked_for_again(tmp_path: Path) -> None:
    """A database of format 9 has such a one: nobody can tell any more what it was about."""
    with closing(Store(tmp_path / "db")) as store:
        for number in range(6):
            gone = {"s_parent": ROOT, "s_name": f"{number}", "s_version": 0, "s_mtime_ns": 0}
            store.nodes.insert(parent=None, name=f"{number}", folder=0, mtime_ns=0, ctime_ns=0, **gone)
        store.put_note("removals", '{"allowed_ns":9,"held_since":null}')
        restraint = Restraint(store, limit=3)
        restraint.review()
        assert restraint.held_since is not None
        assert restraint.count() == 6


def remove_in_two_lives(tmp_path: Path, pause_s: float, *, kill: bool) -> bool:
    """Remove four of twenty files in one life, three in the next; tell whether they wait."""
    remote, held = FakeRemote(), list[bool]()
    for number in range(20):
        remote.other.write(f"/{number}", b"x")

    async def story(world: World) -> None:
        await world.walk()
        for number in range(4):
            await world.unlink(str(number))
        await world.drain()
        assert len(remote.other.tree()) == 16
        await trio.sleep(pause_s)
        await (world.kill() if kill else world.restart())
        for number in range(4, 7):
            await world.unlink(str(number))
        await world.drain()
        held.append(world.engine.deletions.removed() is not None)
        assert len(world.remote.other.tree()) == (16 if held[0] else 13)

    tell(tmp_path, story, remote, delete_guard_server=5)
    return held[0]


@pytest.mark.parametrize("kill", [False, True], ids=["restart", "kill"])
def test_what_an_earlier_life_sent_a_moment_ago_counts(tmp_path: Path, kill: bool) -> None:
    """A large removal could go past the guard in parts, each in a life of its own."""
    assert remove_in_two_lives(tmp_path, 30, kill=kill)


def test_what_an_earlier_life_sent_long_before_its_end_does_not_count(tmp_path: Path) -> None:
    assert not remove_in_two_lives(tmp_path, 700, kill=True)
