"""Counting what is to be sent: the right nodes, and never many of them without a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from cloudfs.paths import is_below
from cloudfs.store.nodes import Nodes
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.sync import backlog
from cloudfs.sync.backlog import count_below
from cloudfs.types import ROOT, Ino


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    store = Store(tmp_path / "state.sqlite")
    yield store.nodes
    store.close()


def add(
    nodes: Nodes, name: str, *, shown: Ino | None, synced: Ino | None = None, folder: bool = False
) -> Ino:
    """Add a node that the mount shows in one folder, and that the server has in another; None: in none."""
    known = {} if synced is None else {"s_parent": synced, "s_name": name, "s_version": 1, "s_mtime_ns": 1}
    return nodes.insert(
        parent=shown, name=name, folder=int(folder), version=1, mtime_ns=1, ctime_ns=1, **known
    )


def nobody(_node: Node) -> bool:
    return False


def fill(nodes: Nodes) -> list[Ino]:
    """Make new, moved, removed and clean nodes in folders of all kinds; return the files."""
    old = add(nodes, "old", shown=ROOT, synced=ROOT, folder=True)
    inner = add(nodes, "inner", shown=old, synced=old, folder=True)
    new = add(nodes, "new", shown=ROOT, folder=True)
    gone = add(nodes, "gone", shown=None, synced=ROOT, folder=True)
    older = add(nodes, "older", shown=ROOT, synced=ROOT, folder=True)  # no part of /old
    places = [
        (None if shown is None else shown, synced)
        for shown in (ROOT, old, inner, new, older, None)
        for synced in (ROOT, old, inner, gone, None)
        if (shown, synced) != (None, None)
    ]
    return [add(nodes, f"file {i}", shown=at, synced=there) for i, (at, there) in enumerate(places)]


@pytest.mark.parametrize(
    "path", ["/", "/old", "/old/inner", "/new", "/gone", "/older", "/nowhere", "/old/file 5"]
)
def test_what_lies_below_a_path_here_or_on_the_server_is_counted(nodes: Nodes, path: str) -> None:
    fill(nodes)

    def inside(node: Node) -> bool:
        places = (nodes.local_path(node.ino), nodes.synced_path(node.ino))
        return path == "/" or any(place is not None and is_below(place, path) for place in places)

    expected = sum(map(inside, nodes.dirty()))
    assert (expected > 0) == (path != "/nowhere")
    assert trio.run(count_below, nodes, path, nobody) == expected


def test_what_is_held_back_is_left_out(nodes: Nodes) -> None:
    files = fill(nodes)
    held = next(node.ino for node in nodes.dirty() if node.ino in files)
    everything = trio.run(count_below, nodes, "/", nobody)
    assert trio.run(count_below, nodes, "/", lambda node: node.ino == held) == everything - 1


def test_others_run_while_a_large_backlog_is_counted(nodes: Nodes) -> None:
    """All of 100,000 at once took seconds, once a second, in which no program got an answer."""
    folder = add(nodes, "d", shown=ROOT, folder=True)
    for number in range(20 * backlog._PART):
        add(nodes, f"{number}", shown=folder)

    async def count() -> int:
        turns = 0

        async def take_turns() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_turns)
            assert await count_below(nodes, "/d", nobody) == 20 * backlog._PART + 1
            nursery.cancel_scope.cancel()
        return turns

    assert trio.run(count) >= 19
