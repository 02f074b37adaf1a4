"""When deletions made here wait for a person's word."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloudfs.sync.restraint import removes_too_much
from tests.model.fake_remote import FakeRemote, FaultKind
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
