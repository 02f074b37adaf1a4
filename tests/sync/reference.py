"""A reference for the planner: a strict server as plain data, and an interpreter that carries steps out on it.

The interpreter commits to a real store exactly as `execute.py` and `upload.py` do after a request, but asks
nobody. It refuses what a real server refuses (a MOVE onto something, a missing parent), and besides what would
lose something: deleting or overwriting an object that the mount still shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.sync.planner import plan, runnable
from cloudfs.sync.steps import MakeFolder, Move, MoveAside, Remove, SetTime, Step, Upload
from cloudfs.types import ROOT, Ino

__all__ = ["Interpreter", "Object", "Server", "converge"]

ServerTree = dict[str, tuple[int, int | None]]
"""Path -> (object's id, content version; None for a folder)."""


class Object(msgspec.Struct):
    """One object on the server."""

    parent: int
    name: str
    folder: bool
    content: int = 0


class Server:
    """Objects by id; 0 is the root. Every refusal is an AssertionError: the planner must not run into one."""

    def __init__(self) -> None:
        self.objects: dict[int, Object] = {0: Object(-1, "", folder=True)}
        self._next_id = 0

    def add(self, parent: int, name: str, *, folder: bool, content: int = 0) -> int:
        assert self.objects[parent].folder, "its parent is no folder"
        assert self.child(parent, name) is None, f"{name} exists"
        self._next_id += 1
        self.objects[self._next_id] = Object(parent, name, folder, content)
        return self._next_id

    def child(self, parent: int, name: str) -> int | None:
        found = [i for i, one in self.objects.items() if one.parent == parent and one.name == name]
        assert len(found) <= 1
        return found[0] if found else None

    def resolve(self, path: str) -> int:
        ident = 0
        for name in filter(None, path.split("/")):
            below = self.child(ident, name)
            assert below is not None, f"404: {path}"
            ident = below
        return ident

    def move(self, source: str, folder: str, name: str) -> int:
        ident, parent = self.resolve(source), self.resolve(folder)
        assert self.child(parent, name) is None, f"412: {folder}/{name} exists"
        above: int = parent
        while above > 0:
            assert above != ident, f"409: {source} into itself"
            above = self.objects[above].parent
        self.objects[ident].parent, self.objects[ident].name = parent, name
        return ident

    def below(self, ident: int) -> list[int]:
        found = [ident]
        for one in found:
            found += [i for i, other in self.objects.items() if other.parent == one]
        return found

    def tree(self) -> ServerTree:
        return dict(self._tree(0, ""))

    def _tree(self, ident: int, path: str) -> Iterator[tuple[str, tuple[int, int | None]]]:
        for i, one in self.objects.items():
            if one.parent == ident:
                yield f"{path}/{one.name}", (i, None if one.folder else one.content)
                yield from self._tree(i, f"{path}/{one.name}")


class Interpreter:
    """Carries out steps on `server` and commits them to `store`; `log` has the names of the requests."""

    def __init__(self, store: Store, server: Server) -> None:
        self.nodes = store.nodes
        self.server = server
        self.log: list[str] = []

    def is_current(self, step: Step) -> bool:
        return all(self.nodes.get(node.ino) == node for node in step.involved)

    def run(self, step: Step) -> None:
        node = step.node
        assert not self._only_here(node) or isinstance(step, Remove | MoveAside), (
            f"{step} of a local-only node"
        )
        match step:
            case MakeFolder():
                self._make_folder(node)
            case Upload(onto=onto):
                self._upload(node, onto)
            case Move():
                assert node.parent is not None
                self._move(node, node.parent, node.name, "MOVE")
            case MoveAside():
                assert node.s_parent is not None
                self._move(node, node.s_parent, f".{node.s_name}.cloudfs-{node.ino}", "MOVE aside")
            case Remove():
                self._remove(node)
            case SetTime():
                assert node.synced
                self.log.append("TIME")
                self.nodes.update(node.ino, s_mtime_ns=node.mtime_ns)

    @staticmethod
    def _only_here(node: Node) -> bool:
        return bool(node.local_only) and node.linked

    def _path(self, ino: Ino) -> str:
        path = self.nodes.synced_path(ino)
        assert path is not None, "the server does not have it"
        return path

    def _make_folder(self, node: Node) -> None:
        assert node.parent is not None
        assert not node.synced
        ident = self.server.add(self.server.resolve(self._path(node.parent)), node.name, folder=True)
        self.log.append("MKCOL")
        self.nodes.update(
            node.ino,
            s_parent=node.parent,
            s_name=node.name,
            s_version=0,
            s_mtime_ns=node.mtime_ns,
            s_file_id=str(ident),
        )

    def _upload(self, node: Node, onto: Node | None) -> None:
        assert not node.folder
        owner = onto or node
        if owner.synced:
            place: tuple[Ino | None, str | None] = owner.s_parent, owner.s_name
            ident = self.server.resolve(self._path(owner.ino))
            assert str(ident) == owner.s_file_id, "412: another object stands there"
            self._assert_may_go([ident], [owner.ino])
            self.server.objects[ident].content = node.version
        else:
            assert node.parent is not None
            place = node.parent, node.name
            parent = self.server.resolve(self._path(node.parent))
            ident = self.server.add(parent, node.name, folder=False, content=node.version)
        self.log.append("PUT")
        if onto is not None:
            assert onto.parent is None or onto.local_only, (
                "the mount still shows the file that was overwritten"
            )
            self._forget(onto)
            if node.synced:
                self._leave_behind(node)
        self.nodes.update(
            node.ino,
            s_parent=place[0],
            s_name=place[1],
            s_version=node.version,
            s_mtime_ns=node.mtime_ns,
            s_file_id=str(ident),
        )

    def _forget(self, node: Node) -> None:
        self.nodes.forget_synced(node.ino)
        if not node.linked:
            self.nodes.delete(node.ino)

    def _leave_behind(self, node: Node) -> None:
        self.nodes.forget_synced(node.ino)
        self.nodes.insert(
            parent=None,
            name=node.name,
            folder=0,
            mtime_ns=node.mtime_ns,
            ctime_ns=node.ctime_ns,
            s_parent=node.s_parent,
            s_name=node.s_name,
            s_version=node.s_version,
            s_mtime_ns=node.s_mtime_ns,
            s_file_id=node.s_file_id,
        )

    def _move(self, node: Node, parent: Ino, name: str, what: str) -> None:
        ident = self.server.move(self._path(node.ino), self._path(parent), name)
        assert str(ident) == node.s_file_id
        self.log.append(what)
        self.nodes.update(node.ino, s_parent=parent, s_name=name)

    def _remove(self, node: Node) -> None:
        ident = self.server.resolve(self._path(node.ino))
        assert str(ident) == node.s_file_id
        doomed = self.server.below(ident)
        kept = [node, *(self.nodes.descendants(node.ino) if node.folder else [])] if node.linked else []
        self._assert_may_go(doomed, [one.ino for one in kept if one.local_only])
        self.log.append("DELETE")
        for one in doomed:
            del self.server.objects[one]
        below = self.nodes.synced_descendants(node.ino) if node.folder else []
        for gone in (*reversed(below), node):
            current = self.nodes.get(gone.ino)
            if current is not None:
                self._forget(current)

    def _assert_may_go(self, idents: list[int], owners: list[Ino]) -> None:
        """Nothing that the mount shows may be deleted or overwritten, except what the step keeps here (`owners`)."""
        for ident in idents:
            for node in self.nodes.by_file_id(str(ident)):
                assert node.parent is None or node.ino in owners, f"{node.name} would be lost"


def local_tree(store: Store) -> ServerTree:
    """Return what the server is to have in the end: path -> (file id, content version)."""
    found: ServerTree = {}
    for node in store.nodes.descendants(ROOT):
        if node.local_only:
            continue
        path = store.nodes.local_path(node.ino)
        assert path is not None
        found[path] = int(node.s_file_id or 0), None if node.folder else int(node.version)
    return found


def converge(
    store: Store, server: Server, *, pick: Callable[[list[Step]], list[Step]] = list, at_most: int = 200
) -> list[str]:
    """Plan and carry out until nothing is left; return the requests. `pick`: which of the runnable, in which order."""
    interpreter = Interpreter(store, server)
    for _ in range(at_most):
        steps = plan(store.nodes.dirty(), store.nodes)
        assert len({step.node.ino for step in steps}) == len(steps), "two steps for one node"
        if not steps:
            break
        due = runnable(steps)
        assert due, f"they wait for each other: {[(type(s).__name__, s.node.ino, s.after) for s in steps]}"
        for step in pick(due) or due[:1]:
            if interpreter.is_current(step):
                interpreter.run(step)
    else:
        raise AssertionError("it never ends")
    assert server.tree() == local_tree(store)
    assert store.nodes.dirty() == []
    return interpreter.log
