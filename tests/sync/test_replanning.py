"""Steps that were found a while ago are carried out only where they would be planned again."""

from __future__ import annotations

import pytest

from cloudfs.store.store import Store
from cloudfs.sync.planner import plan, runnable
from cloudfs.sync.replanning import is_still_right, still_right
from cloudfs.sync.steps import MoveAside, Step
from tests.sync.trees import Pair


@pytest.fixture
def pair(store: Store) -> Pair:
    return Pair(store)


def planned(pair: Pair) -> list[Step]:
    return runnable(plan(pair.nodes.dirty(), pair.nodes))


def is_current(pair: Pair, step: Step) -> bool:
    return all(pair.nodes.get(node.ino) == node for node in step.involved)


def test_what_nobody_touched_is_still_right(pair: Pair) -> None:
    pair.make("/x")
    (step,) = planned(pair)
    pair.make("/y")
    assert is_still_right(pair.nodes, step)
    assert still_right(pair.nodes, [step], lambda _: False) == [step]


@pytest.mark.parametrize("change", ["written", "renamed", "removed", "sent"])
def test_what_changed_since_is_not(pair: Pair, change: str) -> None:
    pair.synced("/x")
    pair.write("/x")
    (step,) = planned(pair)
    match change:
        case "written":
            pair.write("/x")
        case "renamed":
            pair.rename("/x", "/y")
        case "removed":
            pair.remove("/x")
        case "sent":
            pair.nodes.update(step.node.ino, s_version=step.node.version, s_mtime_ns=step.node.mtime_ns)
    assert not is_still_right(pair.nodes, step)
    assert still_right(pair.nodes, [step], lambda _: False) == []


def test_what_has_to_wait_for_another_now_is_not(pair: Pair) -> None:
    """Its folder was made on the server, and was taken for one of others since."""
    folder = pair.synced("/d/")
    pair.make("/d/x")
    (step,) = planned(pair)
    pair.nodes.update(folder, s_parent=None, s_name=None, s_version=None, s_mtime_ns=None)
    assert not is_still_right(pair.nodes, step)
    assert still_right(pair.nodes, [step], lambda _: False) == []


def test_a_move_aside_is_right_while_its_node_is_as_it_was(pair: Pair) -> None:
    """Planned for without the others of its ring it would not be found."""
    pair.synced("/a/")
    pair.synced("/b/")
    pair.exchange("/a", "/b")
    (step,) = [MoveAside(node=pair.at("/a"))]
    assert [type(it) for it in planned(pair)] == [MoveAside], "names that change places need one"
    assert still_right(pair.nodes, [step], lambda it: is_current(pair, it)) == [step]
    pair.rename("/a", "/c")
    assert still_right(pair.nodes, [step], lambda it: is_current(pair, it)) == []
