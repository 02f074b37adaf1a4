"""The worker's queue: what goes first, what waits beside it, and what must not stay."""

from __future__ import annotations

import pytest

from cloudfs.store.store import Store
from cloudfs.sync.planner import plan
from cloudfs.sync.queue import MOST_ASIDE, Queue
from cloudfs.sync.steps import MakeFolder, MoveAside, SetTime, Step, Upload
from tests.sync.trees import Pair


@pytest.fixture
def pair(store: Store) -> Pair:
    return Pair(store)


def uploads(pair: Pair, *sizes: int) -> list[Step]:
    """Return a step for a new file of each size."""
    found: list[Step] = []
    for number, size in enumerate(sizes):
        ino = pair.make(f"/{number}")
        pair.nodes.update(ino, size=size)
        node = pair.nodes.get(ino)
        assert node is not None
        found.append(Upload(node=node))
    return found


def names(queue: Queue) -> list[str]:
    return [step.node.name for step in queue]


def test_a_plan_takes_the_place_of_all_before_small_ones_first(pair: Pair) -> None:
    queue, steps = Queue(), uploads(pair, 30, 10, 20)
    queue.begin_anew(steps[:1])
    queue.begin_anew(steps)
    assert names(queue) == ["1", "2", "0"]
    assert queue.next is steps[1]
    assert queue.take() is steps[1]
    assert names(queue) == ["2", "0"]


def test_what_is_given_back_is_first_again_in_its_order(pair: Pair) -> None:
    queue = Queue()
    queue.begin_anew(uploads(pair, 1, 2, 3))
    queue.give_back([queue.take(), queue.take()])
    assert names(queue) == ["0", "1", "2"]


def test_what_somebody_waits_for_goes_before_smaller_ones_and_stands_there_once(pair: Pair) -> None:
    queue, steps = Queue(), uploads(pair, 1, 2, 3, 4)
    queue.begin_anew(steps)
    queue.put_first([steps[3], steps[2]])
    assert names(queue) == ["2", "3", "0", "1"]


def test_what_was_put_aside_comes_back_first_and_only_once(pair: Pair) -> None:
    queue, steps = Queue(), uploads(pair, 1, 2, 3)
    queue.put_aside(steps[1:])
    queue.begin_anew(steps)  # a plan has found the same again
    queue.bring_back()
    assert names(queue) == ["1", "2", "0"]
    assert not queue.aside
    queue.take()
    queue.bring_back()
    assert names(queue) == ["2", "0"], "nothing is left to come back"


def test_no_more_is_put_aside_than_there_is_room_for(pair: Pair) -> None:
    queue = Queue()
    queue.put_aside(uploads(pair, *range(MOST_ASIDE + 5)))
    assert len(queue.aside) == MOST_ASIDE


def test_what_only_a_plan_of_its_surroundings_shows_to_be_right_does_not_stay(pair: Pair) -> None:
    pair.synced("/moved/")
    pair.synced("/timed/")
    pair.synced("/file")
    pair.rename("/moved", "/there")
    pair.touch("/timed")
    pair.touch("/file")
    pair.make("/new/")
    queue = Queue()
    queue.begin_anew([*plan(pair.nodes.dirty(), pair.nodes), MoveAside(node=pair.at("/file"))])
    queue.drop_what_needs_a_plan()
    assert {(type(step), step.node.name) for step in queue} == {(SetTime, "file"), (MakeFolder, "new")}
