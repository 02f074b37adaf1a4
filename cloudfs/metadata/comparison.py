"""A large listing beside what is known of its folder, compared in slices: what agrees is left out of the merge.

The rows are those of one moment (`Database.snapshot`), as if there had been no checkpoint. What becomes of them before
the changes are made is found out then, as always (`takeover`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

import trio

from cloudfs.concurrency.slices import slices
from cloudfs.metadata.merge import Add, Adopt, Change, merge_folder, update
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.types import Ino, RemoteEntry

__all__ = ["Comparison", "compare"]

_AT_ONCE = 500
"""Names between two checkpoints: up to 5 ms."""


async def compare(store: Store, folder: Ino, members: Sequence[RemoteEntry]) -> Comparison:
    """Find out what a listing has that the rows of this moment do not say, and the other way round."""
    with store.db.snapshot() as rows:
        found = Comparison()
        for part in slices(members, _AT_ONCE):
            found.entries.update({entry.name: entry for entry in part})
            await trio.lowlevel.checkpoint()
        moved = set[str | None]()
        for page in rows.moved_members(folder):
            for node in page:
                found.meet(node)
                moved.add(node.s_name)
            await trio.lowlevel.checkpoint()
        # What the server has under a name is what was moved away from it, whatever is there now.
        for page in rows.members(folder):
            for node in page:
                if not node.placed:
                    found.show(node)
                elif node.name not in moved:
                    found.meet(node)
            await trio.lowlevel.checkpoint()
    return found


class Comparison:
    """What differs. `entries`: of the listing; `synced`: what the server had before, by name; `local`: as `merge`.

    Those without a row are in the first alone, those that are gone in the second.
    """

    def __init__(self) -> None:
        self.entries: dict[str, RemoteEntry] = {}
        self.synced: dict[str, Node] = {}
        self.local: dict[str, Node] = {}

    def meet(self, node: Node) -> None:
        """Take a row of what the server had."""
        name = node.s_name or ""
        entry = self.entries.get(name)
        if entry is not None and entry.kind is node.kind and not update(node, entry):
            del self.entries[name]
        else:
            self.synced[name] = node

    def show(self, node: Node) -> None:
        """Take a row of what the mount shows under a name that the server does not have it under."""
        if node.name in self.entries:
            self.local[node.name] = node

    async def changes(self, left_out: Callable[[], Collection[str]]) -> list[Change]:
        """Return what `merge_folder` makes of all of it; `left_out` is asked again in each slice."""
        gone, there = await self._renamed()
        renamed = {node.ino for node in gone.values()}
        changes: list[Change] = []
        appeared: list[Change] = []

        def merge(entries: Iterable[RemoteEntry], nodes: Sequence[Node]) -> None:
            for change in merge_folder(entries, nodes, self.local, left_out()):
                (appeared if isinstance(change, Add | Adopt) else changes).append(change)

        for known in slices(self.synced.values(), _AT_ONCE):
            nodes = [node for node in known if node.ino not in renamed]
            merge([self.entries[name] for it in nodes if (name := it.s_name or "") in self.entries], nodes)
            await trio.lowlevel.checkpoint()
        for ids in slices(gone, _AT_ONCE):
            merge([entry for it in ids for entry in there[it]], [gone[it] for it in ids])
            await trio.lowlevel.checkpoint()
        for new in slices(self.entries.values(), _AT_ONCE):
            merge([it for it in new if it.name not in self.synced and it.file_id not in there], [])
            await trio.lowlevel.checkpoint()
        return changes + appeared

    async def _renamed(self) -> tuple[dict[str, Node], dict[str, list[RemoteEntry]]]:
        """Return what may have another name in the folder, by file id, and the entries with new names and these ids.

        Only these depend on each other.
        """
        gone: dict[str, Node] = {}
        for nodes in slices(self.synced.values(), _AT_ONCE):
            gone.update(
                {
                    it.s_file_id: it
                    for it in nodes
                    if it.s_file_id and it.placed and it.name not in self.entries
                }
            )
            await trio.lowlevel.checkpoint()
        there: dict[str, list[RemoteEntry]] = {}
        for entries in slices(self.entries.values(), _AT_ONCE):
            for entry in entries:
                if entry.file_id in gone and entry.name not in self.synced:
                    there.setdefault(entry.file_id, []).append(entry)
            await trio.lowlevel.checkpoint()
        return {file_id: gone[file_id] for file_id in there}, there
