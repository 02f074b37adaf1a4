"""How many steps are started at once, and which of them together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from cloudfs.store.store import Store
from cloudfs.sync.admission import Admission
from cloudfs.sync.bulk import MOST_FILES
from cloudfs.sync.carrying import Carrier
from cloudfs.sync.eagerness import WorkerConfig
from cloudfs.sync.queue import Queue
from cloudfs.sync.restraint import Restraint
from cloudfs.sync.starting import Starter
from cloudfs.sync.steps import Step, Upload
from cloudfs.types import Ino
from tests.sync.trees import Pair

NEVER_S = 1e6
"""As a time when more may be found: later than anybody waits."""


@dataclass
class Carriers:
    """Begin what they are given, and end nothing by themselves: stand in for `Carrier`."""

    alone: list[str] = field(default_factory=list)
    batches: list[list[str]] = field(default_factory=list)
    makes_folders: bool = False

    @property
    def requests(self) -> int:
        return len(self.alone) + len(self.batches)

    @property
    def together(self) -> int:
        return len(self.batches)

    def is_making_folders(self) -> bool:
        return self.makes_folders

    def begin(self, _nursery: object, step: Step) -> None:
        self.alone.append(step.node.name)

    def begin_together(self, _nursery: object, steps: Sequence[Step]) -> None:
        self.batches.append([step.node.name for step in steps])


@dataclass
class Admitting:
    """Lets all begin but some: stands in for `Admission`."""

    held: set[Ino] = field(default_factory=set)

    def may_begin(self, step: Step, _now: float) -> bool:
        return step.node.ino not in self.held


class Line:
    """A queue of new files, and a starter that takes from it."""

    def __init__(self, store: Store, *, together: bool = False, most: int = 4) -> None:
        self.pair, self.queue = Pair(store), Queue()
        self.carriers, self.admitting = Carriers(), Admitting()
        self.starter = Starter(
            store.nodes,
            self.queue,
            cast("Admission", self.admitting),
            cast("Carrier", self.carriers),
            Restraint(store, limit=0),
            takes_together=lambda step: together and step.node.size < 1000,
            most=lambda: most,
            config=WorkerConfig,
        )

    def file(self, name: str, size: int = 1) -> Step:
        ino = self.pair.make(f"/{name}")
        self.pair.nodes.update(ino, size=size)
        return Upload(node=self.pair.at(f"/{name}"))

    def files(self, count: int) -> list[Step]:
        return [self.file(f"{number:03}") for number in range(count)]

    def start(self, *steps: Step, again_at: float = NEVER_S) -> None:
        """As after a plan that found these."""
        self.queue.begin_anew(steps)
        self.starter.start_planned(cast("trio.Nursery", None), again_at, in_part=False)

    def go_on(self) -> None:
        """As in the next round, without a plan."""
        self.starter.bring_back()
        self.starter.start_queued(cast("trio.Nursery", None))

    def queued(self) -> list[str]:
        return [step.node.name for step in self.queue]

    def aside(self) -> list[str]:
        return [step.node.name for step in self.queue.aside]


@pytest.fixture
def line(store: Store) -> Line:
    return Line(store)


@pytest.fixture
def bulk(store: Store) -> Line:
    return Line(store, together=True)


async def test_no_more_begin_than_may_be_under_way(line: Line, autojump_clock: MockClock) -> None:
    line.start(*line.files(6))
    assert line.carriers.alone == ["000", "001", "002", "003"]
    assert line.queued() == ["004", "005"]
    assert line.starter.free() == 0
    line.carriers.alone.clear()
    line.go_on()
    assert line.carriers.alone == ["004", "005"]


async def test_what_may_not_begin_makes_way_for_others(line: Line, autojump_clock: MockClock) -> None:
    first, second = line.files(2)
    line.admitting.held.add(first.node.ino)
    line.start(first, second)
    assert line.carriers.alone == ["001"]
    assert not line.queue, "a later plan finds it again"


async def test_what_changed_while_it_was_queued_is_dropped(line: Line, autojump_clock: MockClock) -> None:
    line.start(*line.files(6))
    line.pair.rename("/004", "/elsewhere")
    line.carriers.alone.clear()
    line.go_on()
    assert line.carriers.alone == ["005"]


async def test_a_few_small_files_wait_for_more_and_then_go_one_by_one(
    bulk: Line, autojump_clock: MockClock
) -> None:
    again_at = trio.current_time() + 0.1
    bulk.start(*bulk.files(3), again_at=again_at)
    assert bulk.aside() == ["000", "001", "002"]
    assert not bulk.carriers.requests
    await trio.sleep(10)
    bulk.go_on()
    assert bulk.carriers.alone == ["000", "001", "002"]


async def test_enough_small_files_go_together(bulk: Line, autojump_clock: MockClock) -> None:
    bulk.start(*bulk.files(WorkerConfig().together))
    assert bulk.carriers.batches == [["000", "001", "002", "003"]]


async def test_a_full_request_waits_for_nobody(bulk: Line, autojump_clock: MockClock) -> None:
    bulk.start(*bulk.files(MOST_FILES + 1), again_at=trio.current_time())
    (batch,) = bulk.carriers.batches
    assert len(batch) == MOST_FILES
    assert len(bulk.aside()) == 1, "the one beyond it waits for others"


async def test_two_go_together_at_once_and_others_wait_beside_the_queue(
    bulk: Line, autojump_clock: MockClock
) -> None:
    bulk.start(*bulk.files(3 * MOST_FILES))
    assert [len(batch) for batch in bulk.carriers.batches] == [MOST_FILES, MOST_FILES]
    assert len(bulk.aside()) == MOST_FILES
    bulk.carriers.batches.pop()
    bulk.go_on()
    assert [len(batch) for batch in bulk.carriers.batches] == [MOST_FILES, MOST_FILES]
    assert not bulk.aside()


async def test_while_small_files_gather_one_place_is_kept_for_them(
    bulk: Line, autojump_clock: MockClock
) -> None:
    small, large = bulk.files(2), [bulk.file(f"large {number}", 5000 + number) for number in range(5)]
    bulk.start(*small, *large, again_at=trio.current_time())
    assert bulk.carriers.alone == ["large 0", "large 1", "large 2"]
    assert bulk.starter.free() == 1
    await trio.sleep(10)
    bulk.go_on()
    assert bulk.carriers.alone[3:] == ["000"]


async def test_a_few_wait_for_folders_that_are_being_made(bulk: Line, autojump_clock: MockClock) -> None:
    bulk.carriers.makes_folders = True
    bulk.start(*bulk.files(2))
    assert bulk.aside() == ["000", "001"]
    bulk.carriers.makes_folders = False
    bulk.go_on()
    assert bulk.carriers.alone == ["000", "001"]
