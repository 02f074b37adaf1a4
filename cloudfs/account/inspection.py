"""What is known of single files, in the words of `control.records`: no request, no change."""

from __future__ import annotations

import trio

from cloudfs.control.records import FileInfo, FileState, Here, State
from cloudfs.engine import Engine
from cloudfs.fuse.readers import Reader, Readers
from cloudfs.ranges import RangeSet
from cloudfs.store.records import Node
from cloudfs.sync.troubles import Trouble
from cloudfs.types import Ino

__all__ = ["Inspection"]


class Inspection:
    """One look at an engine. NO CHECKPOINT between making it and asking it for what has to be of one moment."""

    def __init__(self, engine: Engine, readers: Readers | None = None) -> None:
        self._engine = engine
        self._readers = readers
        self._sending = {node.ino for node in engine.worker.in_flight()}
        self._others: dict[Ino, Ino] = {}
        for pair in engine.resolver.pairs():
            self._others |= {pair.ours.ino: pair.theirs.ino, pair.theirs.ino: pair.ours.ino}

    def state(self, node: Node) -> FileState:
        """Return what `cloudfs ls` shows of a node."""
        here_bytes = 0 if node.folder else self._here_bytes(node)
        return FileState(
            path=self._path(node),
            kind="folder" if node.folder else "file",
            size=0 if node.folder else node.size,
            modified=node.mtime_ns / 1e9,
            state=self._state(node),
            here=_how_much(node, here_bytes),
            here_bytes=here_bytes,
        )

    def info(self, node: Node) -> FileInfo:
        """Return everything."""
        file, nodes = self.state(node), self._engine.store.nodes
        trouble = self._trouble(node)
        other = nodes.get(self._others[node.ino]) if node.ino in self._others else None
        reader = self._reader(node)
        staged = sum(RangeSet.unpack(row.present).total for row in self._engine.store.staged_of(node.ino))
        return FileInfo(
            file=file,
            inode=node.ino,
            why=self._why(node, file),
            version=node.version,
            synced_version=node.s_version,
            server_path=nodes.synced_path(node.ino),
            file_id=node.s_file_id,
            etag=node.s_etag,
            checksum=node.s_checksum,
            server_size=None if node.folder else node.s_size,
            server_modified=node.s_modified_s,
            permissions=node.permissions,
            is_open=self._engine.residents.is_open(node.ino),
            reason="" if trouble is None else trouble.reason,
            next_step="" if trouble is None else trouble.next_step,
            tries=0 if trouble is None else trouble.tries,
            next_try_s=None if trouble is None else max(trouble.due - trio.current_time(), 0.0),
            staged_bytes=staged,
            other=None if other is None else self._path(other),
            members=nodes.count_children(node.ino) if node.folder else None,
            listed_at=node.listed_at or None,
            brought_by=None if reader is None else reader.program or None,
            brought_at=None if reader is None else reader.at,
        )

    def _reader(self, node: Node) -> Reader | None:
        return None if self._readers is None else self._readers.first(node.ino, node.version)

    def _path(self, node: Node) -> str:
        return self._engine.tree.path(node.ino) or node.name

    def _state(self, node: Node) -> State:
        if node.local_only:
            return "local"
        if node.ino in self._sending:
            return "sending"
        if node.dirty:
            return "pending" if self._engine.obstacles.blocked(node) is None else "blocked"
        return "conflict" if node.ino in self._others else "synced"

    def _trouble(self, node: Node) -> Trouble | None:
        if not node.dirty or node.local_only:
            return None
        return self._engine.obstacles.blocked(node) or self._engine.worker.troubles.of(node.ino)

    def _here_bytes(self, node: Node) -> int:
        """Return how much of the present content is on this machine: changed bytes, and cached ones below them."""
        blocks, row = self._engine.blocks, self._engine.store.staged(node.ino, node.version)
        if row is None:
            return min(blocks.held_bytes(node.ino, node.version), node.size)
        written = RangeSet.unpack(row.present).total
        below = min(blocks.held_bytes(node.ino, row.base), row.base_limit)
        filled = node.size - min(row.base_limit, node.size)  # reads as zeros where nothing is written
        return min(max(written, filled) + below, node.size)

    def _why(self, node: Node, file: FileState) -> list[str]:
        return [*self._why_state(node, file.state), *(() if node.folder else self._why_here(node, file))]

    def _why_state(self, node: Node, state: State) -> list[str]:
        if state == "local":
            return ["Its name, or that of a folder above it, is one that stays on this machine."]
        if state == "synced":
            return ["The server has it as it is here."]
        if state == "conflict":
            return ["Two versions of it lie side by side: `cloudfs conflicts` decides."]
        reasons = []
        if not node.synced:
            reasons.append("It is new, and the server has yet to get it.")
        elif not node.placed:
            reasons.append("It was moved or renamed here, and the server has yet to be told.")
        if node.synced and node.content_dirty:
            reasons.append("It was changed here, and the server has yet to get the change.")
        if not reasons:
            reasons.append("Its time was set here, and the server has yet to be told.")
        if self._engine.pause.sending.is_metered:
            reasons.append("Nothing is sent on a metered connection, as the account's file says.")
        elif self._engine.pause.sending.is_on:
            reasons.append("Sending is paused: `cloudfs resume` lets it go on.")
        return reasons

    def _why_here(self, node: Node, file: FileState) -> list[str]:
        if not node.size:
            return []
        if self._engine.store.staged(node.ino, node.version) is not None:
            return ["What was written here is kept until the server has it."]
        if file.here == "none":
            return ["Nothing of its content is here: no program has read it lately."]
        what = "Its content" if file.here == "all" else "A part of its content"
        return [f"{what} is here: {self._cause(node)}.", *self._why_kept(node)]

    def _cause(self, node: Node) -> str:
        if (reader := self._reader(node)) is not None:
            return f"{reader.program or 'a program that has ended'} was the first to read it"
        if self._engine.keeper.keeps(node):
            return "it was brought because it is always kept here"
        return "fetched ahead of a program, or for one that is not remembered, or sent from here"

    def _why_kept(self, node: Node) -> list[str]:
        if not self._engine.keeper.keeps(node):
            return []
        stand = self._engine.keeper.stand(node.ino)
        by = None if stand is None or stand.by is None else self._engine.tree.path(stand.by)
        return [f"It is always kept here: {f'{by} is pinned' if by else 'the settings say so (keep = ...)'}."]


def _how_much(node: Node, here_bytes: int) -> Here:
    if node.folder:
        return "none" if node.listed_at is None and node.synced else "all"
    if here_bytes >= node.size:
        return "all"
    return "part" if here_bytes else "none"
