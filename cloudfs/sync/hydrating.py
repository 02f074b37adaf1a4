"""Keeps here what is always to be here, up to date; in the background.

    something changed -> a moment's rest -> count what is missing (`kept`) -> bring it (`bringing`) -> rest

Nothing is remembered as work: what is missing follows from the words, the tree and the block cache, so a crash leaves
nothing to repair. A pass over everything costs 20 µs a file, and rests ten times as long as it took. A change that
comes while much is brought is looked at after a moment.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

import trio

from cloudfs.blocks.blockstore import BlockStore
from cloudfs.content.fetch import Fetcher
from cloudfs.errors import (
    CloudfsError,
    PosixError,
    RemoteError,
)
from cloudfs.metadata.pinning import standing
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.sync.bringing import MOST_MISSING, OUTAGES, Bringer, Obstruction
from cloudfs.sync.freeing import Freed, Freer
from cloudfs.sync.kept import Kept, KeptWalker
from cloudfs.sync.pausing import Rest
from cloudfs.sync.pinned import PinKeeper, Root
from cloudfs.types import ROOT, Ino

__all__ = ["Hydrator", "Members"]

_log = logging.getLogger(__name__)

_GATHER_S = 1.0
"""Changes come in company."""
_REST_FACTOR = 10
"""So many times as long as a pass took to count, nothing is counted again."""
_LEAST_S = 5.0
"""So long at least what was found missing is brought, before it is counted anew because of a change."""
_RENEW_FACTOR = 20
"""So many times as long as listing all folders took, it is not done again where only that shows what others change."""
_SOON_S, _WAITING_S, _OUTAGE_S, _CALM_S = 5.0, 30.0, 60.0, 600.0
"""The next pass, where nothing calls for one before: after something that passes soon, while files wait for an upload,
while the server is away, and otherwise."""


class Members(NamedTuple):
    """What the hydrator needs of the tree."""

    lookup: Callable[[Ino, bytes], Awaitable[Node]]
    """Finds a name in a folder; PosixError where there is none, RemoteError where that cannot be known now."""
    first: Callable[[Ino], Awaitable[None]]
    """Has the members of a folder be known that nobody has seen; RemoteError."""
    refresh: Callable[[Ino], Awaitable[None]]
    """Lists any folder; RemoteError."""
    outdated: Callable[[Ino], None]
    """A file turned out to be another version on the server."""


class Hydrator:
    """One account's. `run` belongs in the owner's nursery; nothing here raises where it runs in the background.

    `watched`: changes of others are found out by themselves; else folders that are kept are listed now and then.
    """

    def __init__(
        self,
        store: Store,
        keeper: PinKeeper,
        walker: KeptWalker,
        fetcher: Fetcher,
        blocks: BlockStore,
        members: Members,
        rest: Rest,
        *,
        watched: Callable[[], bool],
    ) -> None:
        self._store = store
        self._keeper = keeper
        self._walker = walker
        self._members = members
        self._watched = watched
        self.bringer = Bringer(store, keeper, walker, fetcher, blocks, rest, members.outdated)
        self._freer = Freer(store, keeper, walker, fetcher, blocks)
        self._bell = trio.Event()
        self._recount_at = 0.0
        """From when on something new ends a pass."""
        self._renew_at = -math.inf
        """From when on folders are listed again because nobody else does."""

    # What others ask. NO CHECKPOINT

    def wake(self) -> None:
        """Something may be missing, or no longer be wanted."""
        self._bell.set()

    @property
    def kept(self) -> Kept:
        """What is to be here, as the last walk found it, and less what came since."""
        return self.bringer.kept

    def missing_bytes(self) -> int:
        """Return how much is still to come, to the block."""
        return self.bringer.missing_bytes()

    def under_way(self) -> list[Ino]:
        """Return the files that are being brought at this moment."""
        return self.bringer.under_way()

    def obstructions(self) -> list[Obstruction]:
        """Return what cannot be brought, as far as it is known."""
        return self.bringer.obstructions()

    # What people ask

    async def count(self, ino: Ino) -> Kept:
        """Count what is to be kept at and below a node, with what is missing; asks nobody."""
        stand = self._keeper.stand(ino)
        return Kept() if stand is None else await self._walker.count([Root(ino, stand)])

    async def free(self, ino: Ino, told: Callable[[Freed], None] = lambda _: None) -> Freed:
        """Drop the cached blocks of all at or below a node that is not to be kept; no byte that the server lacks.

        `told` hears what was freed so far.
        """
        await self.bringer.stop_unkept()
        freed = await self._freer.free(ino, told)
        self.wake()
        return freed

    # The work

    async def run(self) -> None:
        """For ever: look at what is to be here when something changed, or it is time, and bring it."""
        self.wake()
        while True:
            with trio.move_on_after(self._pause_s()):
                await self._bell.wait()
            await trio.sleep(_GATHER_S)
            self._bell = trio.Event()
            if self._keeper.active():
                await self._pass()
                await trio.sleep_until(max(trio.current_time(), self._recount_at))
            else:
                self.bringer.found(Kept())

    def _pause_s(self) -> float:
        if self.bringer.outage:
            return _OUTAGE_S
        if self.bringer.again or self.bringer.more:
            return _SOON_S
        return _WAITING_S if self.kept.waiting else _CALM_S

    async def _pass(self) -> None:
        """Count, and bring what is missing, until all was tried or something new is to be counted."""
        self.bringer.begin_pass()
        try:
            took_s = await self._count()
            now = trio.current_time()
            self._recount_at = now + _REST_FACTOR * took_s
            await self.bringer.bring(partial(self._is_interrupted, max(self._recount_at, now + _LEAST_S)))
        except CloudfsError as error:
            # In the background nobody else is there to meet it; the next pass begins anew.
            _log.warning("what is to be kept here could not be looked at: %s", error)
            self.bringer.again = True

    def _is_interrupted(self, from_at: float) -> bool:
        return self._bell.is_set() and trio.current_time() >= from_at

    async def _count(self) -> float:
        """Count; return how many seconds that took, without the server's part."""
        waited_s = 0.0
        renew = not self._watched() and trio.current_time() >= self._renew_at

        async def know(node: Node) -> None:
            nonlocal waited_s
            began = trio.current_time()
            await self._know(node, renew=renew)
            waited_s += trio.current_time() - began

        began = trio.current_time()
        await self._find_lost()
        roots = self._keeper.roots() + await self._default_roots()
        waited_s += trio.current_time() - began
        kept = await self._walker.count(roots, most_missing=MOST_MISSING, know=know)
        took_s = trio.current_time() - began - waited_s
        if renew and not self.bringer.outage:
            self._renew_at = trio.current_time() + max(_CALM_S, _RENEW_FACTOR * waited_s)
        self.bringer.found(kept)
        await self._keeper.save()
        return took_s

    async def _know(self, node: Node, *, renew: bool) -> None:
        """Have the members of a folder be known, where that is possible now."""
        if self.bringer.outage or not node.synced or not (renew or not node.listed_at):
            return
        try:
            await (self._members.first if node.listed_at is None else self._members.refresh)(node.ino)
        except OUTAGES:
            self.bringer.outage = True
        except RemoteError as error:
            _log.debug("a folder that is kept here could not be listed: %s", error)

    async def _find(self, path: str) -> Node | None:
        """Return what a path means, None where there is no such thing. Raises RemoteError where that is not known."""
        node = self._store.nodes.get(ROOT)
        for name in filter(None, path.split("/")):
            if node is None or not node.folder:
                return None
            try:
                node = await self._members.lookup(node.ino, name.encode())
            except PosixError:
                return None
        return node

    async def _find_lost(self) -> None:
        for path in self._keeper.lost():
            try:
                node = await self._find(path)
            except RemoteError:
                self.bringer.outage = True
                return
            if node is None:
                _log.warning("%s was pinned, and is not there any more", path)
            self._keeper.found(path, None if node is None else node.ino)

    async def _default_roots(self) -> list[Root]:
        """Return the folders of the account's settings of which nobody said anything else."""
        folders = self._keeper.defaults.folders
        roots: dict[Ino, Root] = {}
        for path in folders:
            try:
                node = await self._find(path)
            except RemoteError:
                self.bringer.outage = True
                continue
            stand = None if node is None else standing(self._store.pins.links(node.ino))
            nested = any(path != other and path.startswith(other.rstrip("/") + "/") for other in folders)
            if node is not None and stand is not None and stand.said is None and not nested:
                roots[node.ino] = Root(node.ino, stand)
        return list(roots.values())
