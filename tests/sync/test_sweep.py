"""Sweeps over a backlog: what each finds, and when the next one is worth it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from cloudfs.store.store import Store
from cloudfs.sync import sweep as sweeping
from cloudfs.sync.admission import Admission
from cloudfs.sync.dueness import Dueness
from cloudfs.sync.obstacles import Obstacles
from cloudfs.sync.patience import Patience
from cloudfs.sync.restraint import Restraint
from cloudfs.sync.steps import Move, MoveAside, Step
from cloudfs.sync.sweep import IDLE_S, Judges, Sweep
from cloudfs.sync.underway import Underway
from tests.sync.trees import Pair

PART, REPLAN_S = 4, 0.05


@dataclass
class Judging:
    """Holds some steps up, by name: stands in for `Dueness`, `Obstacles` and `Admission`."""

    due: dict[str, float] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)

    def of(self, step: Step) -> float:
        return self.due.get(step.node.name, 0.0)

    def is_held(self, step: Step) -> bool:
        return step.node.name in self.held

    def fits(self, step: Step) -> bool:
        return not self.is_held(step)

    def may_begin(self, step: Step, now: float) -> bool:
        return self.of(step) <= now and self.fits(step)


class Bed:
    """A tree with changes, and the sweeps over them."""

    def __init__(self, store: Store) -> None:
        self.pair, self.judging = Pair(store), Judging()
        self.underway = Underway(store.nodes, lambda node: node.ino)
        judges = Judges(
            cast("Admission", self.judging),
            cast("Dueness", self.judging),
            cast("Obstacles", self.judging),
            Restraint(store, limit=0),
            Patience(),
            lambda step: all(store.nodes.get(node.ino) == node for node in step.involved),
        )
        self.sweep = Sweep(store.nodes, self.underway, judges, replan_s=lambda: REPLAN_S)

    def make(self, count: int) -> list[str]:
        names = [f"{number:02}" for number in range(count)]
        for name in names:
            self.pair.make(f"/{name}")
        return names

    def plan(self) -> tuple[list[str], float]:
        found, later = self.sweep.plan()
        return [step.node.name for step in found], later


@pytest.fixture
def bed(store: Store, monkeypatch: pytest.MonkeyPatch) -> Bed:
    monkeypatch.setattr(sweeping, "_PART", PART)
    return Bed(store)


async def test_where_nothing_is_to_be_done_nothing_is_looked_for(bed: Bed, autojump_clock: MockClock) -> None:
    assert bed.plan() == ([], IDLE_S)


async def test_a_small_backlog_is_found_at_once(bed: Bed, autojump_clock: MockClock) -> None:
    names = bed.make(PART - 1)
    assert bed.plan() == (names, IDLE_S)


async def test_it_is_looked_at_again_when_the_first_of_what_waits_is_due(
    bed: Bed, autojump_clock: MockClock
) -> None:
    names, now = bed.make(3), trio.current_time()
    bed.judging.due = {names[1]: now + 20, names[2]: now + 10}
    assert bed.plan() == (names[:1], 10)


async def test_what_is_held_is_not_found_and_wakes_nobody(bed: Bed, autojump_clock: MockClock) -> None:
    names = bed.make(2)
    bed.judging.held = {names[0]}
    assert bed.plan() == (names[1:], IDLE_S)


async def test_a_large_one_is_found_in_parts_and_planning_rests_between_them(
    bed: Bed, autojump_clock: MockClock
) -> None:
    names, found = bed.make(2 * PART + 1), list[str]()
    for _ in range(2):
        part, later = bed.plan()
        assert len(part) == PART
        assert later == REPLAN_S
        assert bed.sweep.not_before == trio.current_time() + REPLAN_S
        found += part
    part, later = bed.plan()
    assert found + part == names
    assert later == REPLAN_S, "all of it may be over by now, and its end was heard by nobody"


async def test_what_waits_in_an_earlier_part_is_remembered_to_the_end(
    bed: Bed, autojump_clock: MockClock
) -> None:
    names = bed.make(PART + 1)
    bed.judging.due = {name: trio.current_time() + 30 for name in names}
    bed.judging.due[names[0]] = trio.current_time() + 7
    assert bed.plan() == ([], REPLAN_S)
    assert bed.plan() == ([], 7)


async def test_a_bell_between_two_parts_has_another_sweep_follow(bed: Bed, autojump_clock: MockClock) -> None:
    names = bed.make(PART + 1)
    bed.judging.due = {name: trio.current_time() + 30 for name in names}
    bed.sweep.heard(bell=True)
    assert bed.plan() == ([], REPLAN_S), "what rang before a sweep is in it"
    bed.sweep.heard(bell=True)
    bed.sweep.heard(bell=False)
    assert bed.plan() == ([], REPLAN_S)
    bed.plan()
    assert bed.plan() == ([], 30)


async def test_what_waits_for_each_other_across_parts_is_looked_for_at_the_end(
    bed: Bed, autojump_clock: MockClock
) -> None:
    """Names that change places: in no part is anything to be begun."""
    pairs = [(f"/{number}a", f"/{number}b") for number in range(PART)]
    for one in [name for name, _ in pairs] + [name for _, name in pairs]:
        bed.pair.synced(one)
    for one, other in pairs:
        bed.pair.exchange(one, other)
    for _ in range(2 * len(pairs) // PART + 1):
        assert bed.plan()[0] == []
        await bed.sweep.look_for_rings()
    found, _ = bed.sweep.plan()
    assert {type(step) for step in found} == {MoveAside}
    assert len(found) == len(pairs)
    for step in found:
        bed.pair.nodes.update(step.node.ino, s_name=f"aside {step.node.ino}")
    again, _ = bed.sweep.plan()
    assert {type(step) for step in again} == {Move}
