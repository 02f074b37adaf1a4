"""Folders that this process has made on the server, and whether anything of others is in them.

Files go in bulk, without a condition, only where nobody else can be in their way. That is known of a folder that was
made a moment ago, and otherwise from a listing that was asked for right before, by whomever. What that shows of others
is taken over as from any listing (`metadata/listing`), which also tells here that others use the folder. One answer
serves all folders of a batch, be there hundreds of them (`git`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import trio

from cloudfs.concurrency.together import together
from cloudfs.errors import RemoteError
from cloudfs.metadata.listing import Lister
from cloudfs.metadata.renewing import Renewer
from cloudfs.metadata.touched import TouchLog
from cloudfs.remote.protocol import Remote
from cloudfs.sync.connectivity import is_outage
from cloudfs.types import Ino, RemoteEntry, RemotePath

__all__ = ["FolderLooks", "Looked", "NewFolders"]

_CERTAIN_S = 2.0
"""So long after it was asked about nobody is taken to have found a new folder and put a file of the same name there."""
_WORTH_A_LOOK = 4
"""Files for which a folder is looked at again, or those of one tree all together; fewer go by PUT."""
_NODES_EACH = 250
"""Objects in one look for each folder that is to be looked at: more would cost the server more than looks into each."""
_MOST_REMEMBERED = 10_000


class NewFolders:
    """Folders made by this process on the server, in which nobody else was seen: a `metadata.listing.SoleUse`."""

    def __init__(self) -> None:
        self._made_at: dict[Ino, float] = {}

    def made(self, ino: Ino, asked_at: float) -> None:
        """It was made by a request of that time (trio): its answer may have come before a sleep, and be read after."""
        self._made_at.pop(ino, None)
        self._made_at[ino] = asked_at
        if len(self._made_at) > _MOST_REMEMBERED:
            del self._made_at[next(iter(self._made_at))]

    def was_made_since(self, ino: Ino, then: float) -> bool:
        """Tell whether it is so new, and ours alone."""
        return self._made_at.get(ino, -math.inf) >= then

    def covers(self, ino: Ino) -> bool:
        """Tell whether nobody else was seen to use it."""
        return ino in self._made_at

    def forget(self, ino: Ino) -> None:
        """Somebody else has put something into it."""
        self._made_at.pop(ino, None)


class Looked(NamedTuple):
    """What a look found."""

    ours: set[Ino]
    """They held nothing of others."""
    bare: set[Ino]
    """They seem to be empty, or lie deeper than it went: the next one tells, once there is more in or beside them."""
    began_at: float
    """Trio time."""


class FolderLooks:
    """Looks whether new folders still are ours alone."""

    def __init__(
        self, folders: NewFolders, remote: Remote, lister: Lister, touches: TouchLog, renewer: Renewer
    ) -> None:
        self.folders = folders
        self._remote = remote
        self._lister = lister
        self._touches = touches
        self._renewer = renewer

    async def look(self, waiting: Mapping[Ino, int]) -> Looked:
        """Find out which folders hold only ours; `waiting`: how many files are to go into each.

        Asks about those of which that was not known a moment ago, all at once. What is found out later may be that
        others do use one of them (`NewFolders.covers`). Raises RemoteError while the server cannot be asked, PosixError
        where its answer cannot be noted.
        """
        began_at = trio.current_time()
        then = began_at - _CERTAIN_S
        old = {ino for ino in waiting if not self._is_known(ino, then)}
        bare: set[Ino] = set()
        if sum(waiting[ino] for ino in old) >= _WORTH_A_LOOK:
            bare = (await self._renewer.renew(old, few=1, nodes_each=_NODES_EACH)).bare
        left = [ino for ino in old if waiting[ino] >= _WORTH_A_LOOK and not self._is_known(ino, then)]
        await together(partial(self._look_into, ino, then) for ino in left)
        ours = {ino for ino in waiting if self._is_known(ino, then)}
        return Looked(ours, bare - ours, began_at)

    def still_holds(self, looked: Looked, folders: Collection[Ino]) -> bool:
        """Tell whether nobody can have come to use these folders since a look, as far as is known. NO CHECKPOINT.

        trio's clock stands still while the machine sleeps: two seconds may have been a night.
        """
        awake = looked.began_at >= self._lister.undisturbed_since()
        return awake and all(map(self.folders.covers, folders))

    def _is_known(self, ino: Ino, then: float) -> bool:
        made = self.folders.was_made_since(ino, max(then, self._lister.undisturbed_since()))
        return made or self._lister.was_asked_since(ino, then)

    async def _look_into(self, ino: Ino, then: float) -> None:
        try:
            await self._lister.refresh(ino)
            if not self._lister.was_asked_since(ino, then):
                await self._lister.refresh(ino)  # what was under way had been asked for before
        except RemoteError as error:
            if is_outage(error):
                raise
            self.folders.forget(ino)

    async def members(self, ino: Ino, path: RemotePath) -> Sequence[RemoteEntry]:
        """List a folder by a request of its own, which serves as a look, too. Raises RemoteError."""
        with self._touches.listing() as touched:
            asked_at = trio.current_time()
            seen = await self._remote.list_folder(path)
            await self._lister.take_over(ino, path, seen, touched, asked_at)
        return seen[1]
