"""Folders that this process has made on the server, and whether anything of others is in them.

Files go in bulk, without a condition, only where nobody else can be in their way. That is known of a folder that was
made a moment ago, and otherwise from a look right before. One look serves all folders of a batch below the topmost one
that is ours, be there hundreds of them (`git`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import trio

from cloudfs.errors import RemoteError, Unsupported
from cloudfs.remote.protocol import Remote
from cloudfs.store.store import Store
from cloudfs.types import Ino, RemoteEntry

__all__ = ["FolderLooks", "NewFolders"]

_CERTAIN_S = 2.0
"""So long after a look nobody is taken to have found a new folder and put a file of the same name into it."""
_WORTH_A_LOOK = 4
"""Files for which a folder is looked at again, or those of one tree all together; fewer go by PUT."""
_MOST_BELOW = 5000
"""Objects in one look below a folder: 0.9 s of the server (protocol.md §4)."""
_NODES_EACH = 250
"""Objects in it for each folder that is to be looked at: more would cost the server more than looks into each."""
_MOST_REMEMBERED = 10_000


class NewFolders:
    """Folders made by this process on the server, and when they were last known to hold nothing of others.

    A `metadata.listing.SoleUse`: also a listing for another reason may show somebody else's things.
    """

    def __init__(self) -> None:
        self._known_at: dict[Ino, float] = {}

    def made(self, ino: Ino) -> None:
        """It was made just now."""
        self._note(ino, trio.current_time())

    def _note(self, ino: Ino, known_at: float) -> None:
        self._known_at.pop(ino, None)
        self._known_at[ino] = known_at
        if len(self._known_at) > _MOST_REMEMBERED:
            del self._known_at[next(iter(self._known_at))]

    def looked(self, ino: Ino, looked_at: float) -> None:
        """A look at a time (trio) found nothing of others; it may be older than what had the folder forgotten since."""
        if self.covers(ino):
            self._note(ino, looked_at)

    def covers(self, ino: Ino) -> bool:
        """Tell whether nobody else was seen to use it."""
        return ino in self._known_at

    def forget(self, ino: Ino) -> None:
        """Somebody else has put something into it."""
        self._known_at.pop(ino, None)

    def is_certain(self, ino: Ino) -> bool:
        """Tell whether it was known to hold nothing of others a moment ago."""
        return self._age_s(ino) < _CERTAIN_S

    def is_to_be_looked_at(self, ino: Ino) -> bool:
        """Tell whether that moment may be over by the time that looks into others are answered."""
        return self._age_s(ino) >= _CERTAIN_S / 2

    def _age_s(self, ino: Ino) -> float:
        return trio.current_time() - self._known_at.get(ino, -math.inf)


class FolderLooks:
    """Looks whether new folders still are ours alone."""

    def __init__(self, store: Store, remote: Remote, folders: NewFolders) -> None:
        self._store = store
        self._nodes = store.nodes
        self._remote = remote
        self.folders = folders

    async def look(self, waiting: Mapping[Ino, int]) -> set[Ino]:
        """Look again into folders that were not looked at for a while; `waiting`: how many files are to go into each.

        All at once: what the first look tells is still certain when the last one is answered. Returns those of which a
        look will tell once there is more in them, or beside them: they seem to be empty, or lie deeper than it went.
        """
        bare: set[Ino] = set()
        together: defaultdict[Ino, list[Ino]] = defaultdict(list)
        old = list(filter(self.folders.is_to_be_looked_at, waiting))
        most = min(_NODES_EACH * len(old), _MOST_BELOW)
        for folder in old:
            together[self._top(folder, most)].append(folder)
        async with trio.open_nursery() as nursery:
            for top, folders in together.items():
                if sum(waiting[folder] for folder in folders) >= _WORTH_A_LOOK:
                    nursery.start_soon(self._look_below, top, folders, waiting, bare)
        return bare

    def _top(self, folder: Ino, most: int) -> Ino:
        """Return the topmost folder of ours above one in which fewer than so many objects are known."""
        top = folder
        while self._remote.features.depth_infinity:
            node = self._nodes.get(top)
            above = None if node is None else node.s_parent
            if above is None or not self.folders.covers(above):
                break
            if self._nodes.count_synced_from(above, most) >= most:
                break
            top = above
        return top

    async def _look_below(
        self, top: Ino, folders: Sequence[Ino], waiting: Mapping[Ino, int], bare: set[Ino]
    ) -> None:
        """Look into folders in one request. What it does not show is not known to hold only ours."""
        if folders == [top]:
            await self._look_into(top)
            return
        path = self._nodes.synced_path(top)
        if path is None:
            return
        before = self._names_in_doubt()
        try:
            seen = await self._remote.list_tree(path, most=_MOST_BELOW)
        except RemoteError as error:
            if isinstance(error, Unsupported) and error.status is None:
                bare.update(folders)  # nothing further down is shown
                return
            async with trio.open_nursery() as nursery:
                for folder in (it for it in folders if waiting[it] >= _WORTH_A_LOOK):
                    nursery.start_soon(self._look_into, folder)
            return
        members_at = {entry.path: members for entry, members in seen}
        shown = {member.path for members in members_at.values() for member in members}
        places = {folder: self._nodes.synced_path(folder) for folder in folders}
        bare.update(it for it, place in places.items() if place in shown and place not in members_at)
        await self._compare(
            {
                it: members_at[place]
                for it, place in places.items()
                if place is not None and place in members_at
            },
            before,
        )

    async def _look_into(self, folder: Ino) -> None:
        path = self._nodes.synced_path(folder)
        if path is None:
            return
        before = self._names_in_doubt()
        try:
            _, members = await self._remote.list_folder(path)
        except RemoteError:
            self.folders.forget(folder)
        else:
            await self._compare({folder: members}, before)

    def _names_in_doubt(self) -> dict[Ino | None, set[str | None]]:
        """Return by folder what requests of ours are just bringing there, or may have brought."""
        names: defaultdict[Ino | None, set[str | None]] = defaultdict(set)
        for node in self._nodes.tried():
            names[node.s_parent].add(node.s_name)
            names[node.t_parent].add(node.t_name)
        return names

    async def _compare(
        self,
        seen: Mapping[Ino, Sequence[RemoteEntry]],
        before: Mapping[Ino | None, set[str | None]],
    ) -> None:
        """Compare what folders hold with what is ours; `before`: what was in doubt when they were looked at."""
        looked_at = trio.current_time()
        now = self._names_in_doubt()
        with self._store.db.snapshot() as rows:
            for folder, members in seen.items():
                others = {member.name for member in members}
                others -= before.get(folder, set()) | now.get(folder, set())
                for names in rows.synced_names(folder) if others else ():
                    others.difference_update(names)
                    await trio.lowlevel.checkpoint()
                if others:
                    self.folders.forget(folder)
                else:
                    self.folders.looked(folder, looked_at)
