"""What waits for each other across the parts of a backlog, and never much of it without a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from cloudfs.store.nodes import Nodes
from cloudfs.store.store import Store
from cloudfs.sync import rings
from cloudfs.sync.steps import Move, MoveAside, Step
from cloudfs.types import ROOT, Ino
from tests.sync.test_backlog import add

MANY = 5 * rings._PART


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    store = Store(tmp_path / "state.sqlite")
    yield store.nodes
    store.close()


def found_among(nodes: Nodes, *, turns: int = 0) -> list[Step]:
    """Look; others have at least so many turns meanwhile."""
    steps: list[Step] = []

    async def look() -> None:
        taken = 0

        async def take_turns() -> None:
            nonlocal taken
            while True:
                await trio.lowlevel.checkpoint()
                taken += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_turns)
            steps.extend(await rings.part_rings(nodes, lambda _: True))
            nursery.cancel_scope.cancel()
        assert taken >= turns

    trio.run(look)
    return steps


def files(nodes: Nodes, shown: Ino, synced: Ino) -> list[Ino]:
    return [add(nodes, f"{number}", shown=shown, synced=synced) for number in range(MANY)]


def test_names_that_change_places_are_parted_while_others_run(nodes: Nodes) -> None:
    folder = add(nodes, "d", shown=ROOT, synced=ROOT, folder=True)
    some = files(nodes, folder, folder)
    for left, right in zip(some[::2], some[1::2], strict=True):
        names = [node.name for node in (nodes.get(left), nodes.get(right)) if node is not None]
        nodes.update(left, name="in between")
        nodes.update(right, name=names[0])
        nodes.update(left, name=names[1])
    steps = found_among(nodes, turns=3 * MANY // rings._PART)
    assert [type(step) for step in steps] == [MoveAside] * rings.MOST_STEPS
    assert len({step.node.ino for step in steps}) == rings.MOST_STEPS


def test_one_ring_of_all_names_is_found(nodes: Nodes) -> None:
    folder = add(nodes, "d", shown=ROOT, synced=ROOT, folder=True)
    some = files(nodes, folder, folder)
    for number, ino in enumerate(some):
        nodes.update(ino, name=f"new {number}")
    for number, ino in enumerate(some):
        nodes.update(ino, name=f"{(number + 1) % MANY}")
    (step,) = found_among(nodes)
    assert isinstance(step, MoveAside)


def test_what_leaves_a_folder_goes_before_its_removal(nodes: Nodes) -> None:
    folder = add(nodes, "d", shown=None, synced=ROOT, folder=True)
    files(nodes, ROOT, folder)
    steps = found_among(nodes, turns=3 * MANY // rings._PART)
    assert [type(step) for step in steps] == [Move] * rings.MOST_STEPS


def test_a_new_folder_in_the_place_of_one_whose_files_go_into_it(nodes: Nodes) -> None:
    """The new one waits for the name, the old one for what leaves it, and that for the new one."""
    old = add(nodes, "d", shown=None, synced=ROOT, folder=True)
    new = add(nodes, "d", shown=ROOT, folder=True)
    files(nodes, new, old)
    steps = found_among(nodes)
    assert {(type(step), step.node.ino) for step in steps} == {(MoveAside, old)}
