"""The planner against a reference: whatever the two trees are, its steps make the server agree with the mount.

`tests.sync.reference` holds the promises that are checked at every step; here are the trees.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from hypothesis import given, note
from hypothesis import strategies as st

from cloudfs.metadata.placing import stays_local
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.sync.planner import plan, runnable
from cloudfs.sync.steps import MoveAside, Step
from cloudfs.types import ROOT, Ino
from tests.sync.profiles import thorough
from tests.sync.reference import Interpreter, converge
from tests.sync.trees import Pair

NAMES = ("a", "b", "c", "d~")
"""Few, so that they meet; the last one is local only."""


class RollBack(Exception):
    """Ends an example's transaction."""


def in_one_transaction(store: Store, example: Callable[[], None]) -> None:
    """Run an example and undo it: the next one finds an empty tree, and no file is made."""
    try:
        with store.transaction():
            example()
            raise RollBack
    except RollBack:
        pass


@st.composite
def shapes(draw: st.DrawFn) -> random.Random:
    """Return a source of chance. One number shrinks badly, but draws of a whole tree are 50 times slower."""
    return random.Random(draw(st.integers(0, 2**32)))


def shuffled(chance: random.Random) -> Callable[[list[Step]], list[Step]]:
    """Carry out some of what may be carried out, in any order, and plan again."""
    return lambda due: chance.sample(due, chance.randint(min(1, len(due)), len(due)))


# Any tree becomes any other


def grow_synced(pair: Pair, chance: random.Random, count: int) -> None:
    """Make a random synced tree of so many nodes."""
    folders = [""]
    for _ in range(count):
        path = f"{chance.choice(folders)}/{chance.choice(NAMES)}"
        if pair.nodes.child(pair.at(path.rpartition("/")[0]).ino, path.rpartition("/")[2]) is None:
            is_folder = chance.random() < 0.6
            pair.synced(path, folder=is_folder)
            folders += [path] if is_folder else []


def rearrange(pair: Pair, chance: random.Random) -> None:
    """Show the same nodes, and some new ones, as another random tree that has nothing to do with the first."""
    old = pair.nodes.descendants(ROOT)
    for node in old:
        pair.nodes.update(node.ino, parent=None)
    chance.shuffle(old)
    folders: list[Ino] = [ROOT]
    for node in old:
        fate = chance.random()
        if fate < 0.2:
            continue
        stay = (node.s_parent, node.s_name)
        place: tuple[Ino, str] = (chance.choice(folders), chance.choice(NAMES))
        if fate < 0.55 and node.s_parent in folders and node.s_name is not None:
            place = node.s_parent, node.s_name
        folder = pair.nodes.get(place[0])
        assert folder is not None
        if pair.nodes.child(*place) is not None:
            continue
        pair.place(node, folder, place[1])
        if place == stay and not folder.local_only:
            # Another client made such a name: it is shown, and stays the server's.
            pair.nodes.update(node.ino, local_only=0)
        change(pair, chance, node)
        folders += [node.ino] if node.folder else []
    for _ in range(chance.randint(0, 3)):
        place = (chance.choice(folders), chance.choice(NAMES))
        folder = pair.nodes.get(place[0])
        if pair.nodes.child(*place) is None and folder is not None:
            is_folder = chance.random() < 0.4
            folders += [insert(pair, folder, place[1], is_folder=is_folder)] if is_folder else []
            if not is_folder:
                insert(pair, folder, place[1], is_folder=False)


def insert(pair: Pair, folder: Node, name: str, *, is_folder: bool) -> Ino:
    now = pair._tick()
    return pair.nodes.insert(
        parent=folder.ino,
        name=name,
        folder=int(is_folder),
        version=0 if is_folder else pair.nodes.next_version(),
        mtime_ns=now,
        ctime_ns=now,
        local_only=int(stays_local(name, folder)),
    )


def change(pair: Pair, chance: random.Random, node: Node) -> None:
    what = chance.random()
    if what < 0.3 and not node.folder:
        pair.nodes.update(node.ino, version=pair.nodes.next_version(), mtime_ns=pair._tick())
    elif what < 0.4:
        pair.nodes.update(node.ino, mtime_ns=pair._tick())


def show(pair: Pair) -> None:
    note(f"server: {sorted(pair.server.tree())}")
    for node in pair.nodes.dirty():
        note(
            f"{node.ino} {'folder' if node.folder else 'file'} {pair.nodes.local_path(node.ino)}"
            f" <- {pair.nodes.synced_path(node.ino)}{' local only' if node.local_only else ''}"
        )


@thorough(1500)
@given(shapes(), st.integers(1, 9))
def test_any_tree_becomes_any_other_tree_of_the_same_nodes(
    store: Store, chance: random.Random, size: int
) -> None:
    def example() -> None:
        pair = Pair(store)
        grow_synced(pair, chance, size)
        rearrange(pair, chance)
        show(pair)
        kept = identities_to_keep(pair)
        converge(store, pair.server, pick=shuffled(chance), at_most=6 * size + 30)
        for ino, file_id in kept.items():
            node = pair.nodes.get(ino)
            assert node is not None
            assert node.s_file_id == file_id, f"{node.name} lost its identity"

    in_one_transaction(store, example)


def identities_to_keep(pair: Pair) -> dict[Ino, str | None]:
    """Say which node must have which file id in the end.

    A node that the server has keeps its own, wherever it goes; a content that took the place of a removed file
    (by "write new, rename over") takes over that file's.
    """
    kept: dict[Ino, str | None] = {}
    for node in pair.nodes.descendants(ROOT):
        if node.local_only:
            continue
        occupant = pair.nodes.synced_child(node.parent or ROOT, node.name)
        if occupant is not None and takes_over(node, occupant):
            kept[node.ino] = occupant.s_file_id
            continue
        # (A changed content may also come to stand where another one goes away later: "b over a, then c over b".)
        if node.synced and (occupant is None or not node.content_dirty):
            kept[node.ino] = node.s_file_id
    return kept


def takes_over(node: Node, occupant: Node) -> bool:
    leaves = not occupant.linked or bool(occupant.local_only)
    return leaves and not occupant.folder and not node.folder and (not node.synced or node.content_dirty)


@thorough(700)
@given(shapes(), st.integers(1, 9))
def test_parts_planned_by_themselves_never_do_too_early_what_the_whole_plan_lets_wait(
    store: Store, chance: random.Random, size: int
) -> None:
    """As the worker does with a backlog: a part at a time, everything at once where no part has anything to do."""

    def example() -> None:
        pair = Pair(store)
        grow_synced(pair, chance, size)
        rearrange(pair, chance)
        show(pair)
        interpreter = Interpreter(store, pair.server)
        while dirty := store.nodes.dirty():
            part = chance.sample(dirty, chance.randint(1, len(dirty)))
            whole = plan(dirty, store.nodes)
            due = runnable(plan(part, store.nodes, whole=False))
            due_of_all = {step.node.ino for step in runnable(whole)}
            for step in due:
                assert isinstance(step, MoveAside) or step.node.ino in due_of_all, f"{step} is too early"
            for step in (due if chance.random() < 0.7 else []) or runnable(whole)[:1]:
                if interpreter.is_current(step):
                    interpreter.run(step)
        converge(store, pair.server)

    in_one_transaction(store, example)


# What programs do, with the server catching up now and then


def act(pair: Pair, chance: random.Random) -> str:
    """Do one thing that a program may do; return it in words."""
    shown = pair.nodes.descendants(ROOT)
    folders = [ROOT, *(node.ino for node in shown if node.folder)]
    folder = pair.nodes.get(chance.choice(folders))
    assert folder is not None
    name = chance.choice(NAMES)
    there = pair.nodes.child(folder.ino, name)
    what = chance.choice(
        ["make", "make", "write", "touch", "remove", "rename", "rename", "rename", "exchange"]
    )
    if what == "make":
        if there is None:
            insert(pair, folder, name, is_folder=chance.random() < 0.5)
    elif shown:
        node = chance.choice(shown)
        if what == "rename":
            rename(pair, node, folder, name, there)
        elif what == "exchange":
            other = chance.choice(shown)
            if not related(pair, node, other):
                exchange(pair, node, other)
        elif what == "remove":
            for gone in (*reversed(pair.nodes.descendants(node.ino)), node):
                pair.unlink(gone)
        elif what == "write" and not node.folder:
            pair.nodes.update(node.ino, version=pair.nodes.next_version(), mtime_ns=pair._tick())
        elif what == "touch":
            pair.nodes.update(node.ino, mtime_ns=pair._tick())
    return what


def rename(pair: Pair, node: Node, folder: Node, name: str, there: Node | None) -> None:
    if node.ino in (folder.ino, *pair.nodes.ancestors(folder.ino)):
        return
    if there is not None:
        if there.ino == node.ino or there.folder != node.folder or pair.nodes.has_children(there.ino):
            return
        pair.unlink(there)
    pair.place(node, folder, name)


def related(pair: Pair, one: Node, other: Node) -> bool:
    return one.ino in (other.ino, *pair.nodes.ancestors(other.ino)) or other.ino in pair.nodes.ancestors(
        one.ino
    )


def exchange(pair: Pair, one: Node, other: Node) -> None:
    here, there = pair.nodes.get(one.parent or ROOT), pair.nodes.get(other.parent or ROOT)
    assert here is not None
    assert there is not None
    pair.nodes.update(other.ino, parent=None)
    pair.place(one, there, other.name)
    pair.place(other, here, one.name)


@thorough(700)
@given(shapes(), st.integers(0, 6), st.integers(1, 25))
def test_the_server_catches_up_with_programs_that_go_on(
    store: Store, chance: random.Random, size: int, actions: int
) -> None:
    def example() -> None:
        pair = Pair(store)
        grow_synced(pair, chance, size)
        interpreter = Interpreter(store, pair.server)
        for _ in range(actions):
            act(pair, chance)
            if chance.random() < 0.3:
                for step in shuffled(chance)(runnable(plan(store.nodes.dirty(), store.nodes)) or [])[:2]:
                    if interpreter.is_current(step):
                        interpreter.run(step)
        show(pair)
        converge(store, pair.server, pick=shuffled(chance), at_most=6 * (size + actions) + 30)

    in_one_transaction(store, example)
