"""Takes in what other clients changed: from the root down into those known folders alone in which something is new.

The ETag of a Nextcloud folder changes with everything below it, before the answer to the change is sent (protocol.md
§3.1). So one request for the root's tells whether there is anything to see, and each listing tells of the folders in
it. INVARIANT: what has yet to be looked at is never remembered as work, but follows from the ETags in the database
(`Nodes.stale_folders`); a look that breaks off is gone on with by the next one, also after a restart.

Our own changes give folders new ETags too. That is not told apart: it costs a listing of the folder at most, at each
look while files go up into it. An ETag does not say whose change it comes from, and the looks do not wait for the end
of the uploads: there may be no moment without one for minutes, and what others do beside them is to be seen.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from functools import partial
from itertools import repeat

import trio

from cloudfs.concurrency.together import together
from cloudfs.errors import CloudfsError, RemoteError, Unsupported
from cloudfs.metadata.listing import Lister
from cloudfs.metadata.renewing import Renewer
from cloudfs.paths import ROOT_PATH
from cloudfs.remote.protocol import Remote
from cloudfs.store.store import Store
from cloudfs.sync.connectivity import is_outage
from cloudfs.types import ROOT, Ino

__all__ = ["Descent"]

_log = logging.getLogger(__name__)

_FEW = 10
"""So many folders are listed one by one: what moved from one to another is then recognised (`Lister`)."""

_MOMENT_S = 1.0
"""So much later than the time between two looks others' changes are seen at the latest (SEMANTICS)."""

_AT_ONCE = 2
"""Of many folders that are listed one by one, listings under way together: programs' own requests share the lane."""


class Descent:
    """One account's. `run` is never called twice at once."""

    def __init__(
        self,
        store: Store,
        remote: Remote,
        lister: Lister,
        renewer: Renewer,
        ours: Callable[[], int] = lambda: 0,
    ) -> None:
        """`ours`: how many changes we have made there so far."""
        self.is_told: Callable[[], bool] = lambda: False
        """Whether the server tells of changes, so that the next look at the account is far."""
        self._store = store
        self._ours, self._ours_seen = ours, 0
        self._nodes = store.nodes
        self._remote = remote
        self._lister = lister
        self._renewer = renewer
        self._root_etag = ""
        self.is_behind = self._left_out = False
        """The last look failed, or a folder in which something has changed could not be listed since it began."""

    async def run(self) -> bool:
        """Look once; True when anything had changed since the last time. RemoteError when the server cannot be asked.

        PosixError when its answers cannot be noted, as on a full disk: the next look goes on from there.
        A single folder that cannot be listed is left for the next time, and counts as not seen until then.
        """
        self.is_behind, self._left_out = True, False
        ours = self._ours()
        # Where we have changed something its ETag is another one for sure, and the listing tells of it as well.
        etag = await (self._look_at_root() if ours == self._ours_seen else self._list_root())
        self._ours_seen = ours
        changed, self._root_etag = etag != self._root_etag, etag
        await self.list_stale()
        self.is_behind = self._left_out
        return changed

    async def _look_at_root(self) -> str:
        """Ask for its ETag, and list it where that is another one; return it."""
        asked_at = trio.current_time()
        etag = (await self._remote.stat(ROOT_PATH)).version.etag
        if not etag:
            raise Unsupported("the server gives folders no ETag", subject=ROOT_PATH)
        if self._is_new(ROOT, etag):
            await self._list(ROOT)
        elif self._remote.features.deep_etags:
            asked_s = time.time() - (trio.current_time() - asked_at)
            if asked_at >= self._lister.undisturbed_since():
                self._store.root_seen_there_s = asked_s + self._remote.clock_skew_s
        return etag

    async def _list_root(self) -> str:
        await self._list(ROOT)
        root = self._nodes.get(ROOT)
        return (root and root.s_etag) or ""

    async def look_into(self, folders: Collection[Ino]) -> None:
        """List folders in which something is said to have changed, and what turns out by that. Raises as `run`."""
        if folders:
            await self._list_all(folders)
            await self.list_stale()

    def is_under_way(self, folder: Ino) -> bool:
        """Tell whether a folder is just being listed."""
        return self._lister.is_under_way(folder)

    async def list_stale(self) -> None:
        """List the folders in which something is known to be new, until no others turn up. Raises as `run`.

        Those that we have made ourselves meanwhile are left for the next look: it might never come to an end.
        """
        asked: set[Ino] = set()
        while folders := self._stale(asked):
            asked |= folders
            await self._list_all(folders)

    def _stale(self, asked: Collection[Ino]) -> set[Ino]:
        folders = set(self._nodes.stale_folders()).difference(asked)
        if not asked:
            return folders
        nodes = {ino: self._nodes.get(ino) for ino in folders}
        return {ino for ino, node in nodes.items() if node is not None and node.s_etag}

    async def _list_all(self, folders: Collection[Ino]) -> None:
        began_at = trio.current_time()
        renewed = await self._renewer.renew(folders, few=_FEW)
        left = [ino for ino in sorted(folders) if ino not in renewed.taken | renewed.bare]
        left += sorted(renewed.bare)[: self._patience()]
        waiting = iter(left)
        await together(repeat(partial(self._work, waiting, began_at), 1 if len(left) <= _FEW else _AT_ONCE))

    def _patience(self) -> int | None:
        """Return how many folders are asked for that seem to be empty: all, unless files of ours may be to come.

        The next look at their tree then shows something further down, and by that how far the server goes.
        """
        return _FEW if self._nodes.dirty_after(Ino(0), 1) else None

    async def _work(self, waiting: Iterator[Ino], began_at: float) -> None:
        for ino in waiting:
            if self._nodes.get(ino) is None or self._lister.was_asked_since(ino, began_at - self._ago_s(ino)):
                continue
            try:
                await self._list(ino)
            except CloudfsError as error:
                if isinstance(error, RemoteError) and not is_outage(error):
                    _log.debug("a changed folder could not be listed: %s", error)
                    self.is_behind = self._left_out = True
                    continue
                deque(waiting, maxlen=0)  # the others of them would fare no better
                raise

    def _ago_s(self, ino: Ino) -> float:
        """Return how old, when a round begins, a listing of this folder may be that is not asked for again.

        Nothing, as a rule. One that files of ours go to was listed for these a moment ago; what others did in that
        moment waits for the next look then, which has to be near.
        """
        return _MOMENT_S if not self.is_told() and self._lister.is_being_filled(ino) else 0.0

    async def _list(self, ino: Ino) -> None:
        """List a folder by a question that is asked from now on."""
        if self._lister.is_under_way(ino):
            await self._lister.refresh(ino)
        await self._lister.refresh(ino)

    def _is_new(self, ino: Ino, etag: str) -> bool:
        node = self._nodes.get(ino)
        return node is not None and node.listed_etag != etag
