"""Takes in what the server tells of changes as they happen.

A message names file ids. Those of folders that are known are listed, which mostly shows all the others, too. Where the
rest is now one question tells, and the folders concerned are listed; what cannot be told so is left to a look at the
whole account (`descent`), which goes on slowly beside this in any case, since the server does not tell of everything.

SOURCE: what Nextcloud 29.0.1 with notify_push 1.4.0 says of each kind of change (measured): the file or folder itself,
where it is still there, and the folder that it is in, before and after; of what was removed that folder alone, with all
that are above it. Nothing of favourites, tags and shares.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

import msgspec
import trio

from cloudfs.concurrency.backoff import Backoff
from cloudfs.errors import CloudfsError, NotAuthenticated, RemoteError, Unsupported
from cloudfs.paths import parent_of
from cloudfs.remote.protocol import Pushed, Remote
from cloudfs.remote.search import MOST_IDS
from cloudfs.store.nodes import Nodes
from cloudfs.store.records import Node
from cloudfs.sync.descent import Descent
from cloudfs.sync.echoes import Echoes
from cloudfs.sync.watching import Watcher
from cloudfs.types import ROOT, Ino, Kind, RemoteEntry, RemotePath

__all__ = ["Concerned", "Pusher", "concerned"]

_log = logging.getLogger(__name__)

_AGAIN = Backoff(first_s=10.0, cap_s=120.0)
"""All clients of a server that was restarted come back at once: they spread out (protocol.md §12)."""
_LEAST_S = 1.0
_STEADY_S = 60.0
"""A connection that lasted so long was good: the next failure counts as the first."""
_REFUSED_S = 3600.0
"""Each failed login slows down everybody behind our address; and who has no push server will not have one soon."""
_GATHER_S = 0.1
_COMING_S = 1.0
"""How often to see whether the answers have come to which our own requests' echoes belong."""
_LONGEST_S = 10.0
"""So long a folder in which we are at work ourselves is not listed, though something in it has changed."""
_MOST_TOLD = 1000
"""So many changes at once are looked for from the root down: that takes no more requests."""


class Concerned(msgspec.Struct, frozen=True):
    """Where something has changed."""

    folders: frozenset[Ino]
    elsewhere: bool
    """Something changed that cannot be told to be in one of these."""
    coming: Mapping[str, tuple[Ino, str]]
    """What nobody knows, by its id, in places to which a request of ours is just bringing something."""


def concerned(
    ids: Iterable[str],
    entries: Sequence[RemoteEntry],
    nodes: Nodes,
    is_ours: Callable[[str], bool],
    is_under_way: Callable[[Ino], bool],
) -> Concerned:
    """Return the known folders in which files with these ids, found as `entries`, have changed, and were.

    What a step of ours changed lately, and what is as we know it, is that step's echo. A folder that is just being
    listed for the first time is among the known: its listing may show what was there before. Changes nothing.

    What is new in a place that a request of ours has tried is most likely that request's echo, come before its answer:
    a listing would leave the name out until then.
    """
    folders: set[Ino] = set()
    coming: dict[str, tuple[Ino, str]] = {}
    for entry in entries:
        known = nodes.by_file_id(entry.file_id or "")
        here = next((node for node in known if nodes.synced_path(node.ino) == entry.path), None)
        if here is not None and here.folder and entry.kind is Kind.FOLDER:
            if here.listed_etag != entry.version.etag:
                folders.add(here.ino)
            continue
        if here is not None and is_ours(entry.file_id or "") and _is_as_known(here, entry):
            continue
        above = _by_synced_path(nodes, parent_of(entry.path))
        if not known and entry.file_id and above is not None and nodes.tried_child(above, entry.name):
            coming[entry.file_id] = above, entry.name
            continue
        folders |= {node.s_parent for node in known if node.s_parent and node is not here}
        if above is not None:
            folders.add(above)
    gone = set(ids) - {entry.file_id for entry in entries}
    elsewhere = False
    for file_id in gone:
        known = nodes.by_file_id(file_id)
        folders |= {node.s_parent for node in known if node.s_parent}
        elsewhere = elsewhere or not (known or is_ours(file_id))
    known_ones = (ino for ino in folders if _is_listed(nodes, ino) or is_under_way(ino))
    return Concerned(frozenset(known_ones), elsewhere, coming)


def _is_as_known(node: Node, entry: RemoteEntry) -> bool:
    return not node.folder and (node.s_etag, node.s_size) == (entry.version.etag, entry.version.size)


def _is_listed(nodes: Nodes, ino: Ino) -> bool:
    node = nodes.get(ino)
    return node is not None and bool(node.folder) and node.listed_at is not None


def _by_synced_path(nodes: Nodes, path: RemotePath) -> Ino | None:
    """Return the folder that the server has at a path, as far as we know."""
    ino = ROOT
    for name in filter(None, path.split("/")):
        node = nodes.synced_child(ino, name)
        if node is None:
            return None
        ino = node.ino
    return ino


class Pusher:
    """One account's. Runs for ever, with or without a push server."""

    def __init__(
        self,
        nodes: Nodes,
        remote: Remote,
        watcher: Watcher,
        descent: Descent,
        echoes: Echoes,
        *,
        chance: random.Random | None = None,
    ) -> None:
        self._nodes = nodes
        self._remote = remote
        self._watcher = watcher
        self._descent = descent
        self._echoes = echoes
        self._chance = chance or random.Random()  # noqa: S311  # spreads clients, guards nothing
        self._connection = trio.CancelScope()
        self._connected_at: float | None = None
        self._told: set[str] = set()
        self._coming: dict[str, tuple[Ino, str]] = {}
        """Told, too, but not worth a look before the answer of the request that has tried this place."""
        self._shared: dict[Ino, float] = {}
        """Folders in which we are at work ourselves, and the trio time since when they are to be listed."""
        self._untold = False
        """Something changed, and the server did not say what."""
        self._bell = trio.Event()

    def reconnect(self) -> None:
        """The machine slept, or changed its network: the connection there is leads nowhere."""
        self._connection.cancel()

    async def run(self) -> None:
        """For ever: be connected where that is possible, and take in what is told."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._take_in_all)
            nursery.start_soon(self._stay_connected)

    # The connection

    async def _stay_connected(self) -> None:
        failures = 0
        while True:
            # A look at the account comes first: with a refused login nothing else is tried.
            await self._watcher.until(covered=True)
            error = await self._connect_once()
            steady = self._connected_at is not None and trio.current_time() - self._connected_at >= _STEADY_S
            failures = 0 if steady or error is None else failures + 1
            if isinstance(error, NotAuthenticated):
                self._watcher.wake()  # by its answer it is known whether the login itself is at fault
            if isinstance(error, (NotAuthenticated, Unsupported)):
                with trio.move_on_after(_REFUSED_S):
                    await self._watcher.until(covered=False)  # perhaps there is another login afterwards
            elif error is not None:
                await trio.sleep(_LEAST_S + _AGAIN.delay_s(failures - 1 if failures else 0, self._chance))

    async def _connect_once(self) -> RemoteError | None:
        """Be connected as long as it lasts; return why it ended, None where we gave it up ourselves."""
        self._connected_at = None
        try:
            with trio.CancelScope() as self._connection:
                await self._remote.follow_changes(self._connected, self._heard)
        except RemoteError as error:
            _log.debug("no messages from the server: %s", error)
            return error
        finally:
            self._watcher.pushed(connected=False)
        return None

    def _connected(self) -> None:
        self._connected_at = trio.current_time()
        self._watcher.pushed(connected=True)

    # What is told

    def _heard(self, pushed: Pushed) -> None:
        self._watcher.active()
        if pushed.ids is None:
            self._untold = True
        else:
            self._told.update(pushed.ids)
            if len(self._told) > _MOST_TOLD:
                self._told.clear()  # at once: they may come without end while the server answers slowly
                self._untold = True
        self._bell.set()

    async def _take_in_all(self) -> None:
        while True:
            with trio.move_on_after(_COMING_S if self._coming or self._shared else math.inf):
                await self._bell.wait()
            await trio.sleep(_GATHER_S)
            self._told |= self._answered()
            told, untold = sorted(self._told), self._untold
            self._told, self._untold, self._bell = set(), False, trio.Event()
            if len(told) > _MOST_TOLD:  # with those whose answers have come
                told, untold = [], True
            try:
                untold = await self._take_in(told) or untold
            except RemoteError as error:
                _log.debug("what the server told of could not be looked at: %s", error)
                untold = True
            except CloudfsError as error:  # a full disk
                _log.warning("what the server told of could not be noted: %s", error)
                untold = True
            if untold:
                self._watcher.wake()

    def _answered(self) -> set[str]:
        """Take from what waits for a request's answer that of which the outcome is known."""
        answered = {file_id for file_id, place in self._coming.items() if not self._nodes.tried_child(*place)}
        for file_id in answered:
            del self._coming[file_id]
        return answered

    async def _take_in(self, ids: Sequence[str]) -> bool:
        """List the folders in which these have changed; True when others may have, too, or one could not be listed."""
        looked = await self._look_into(self._told_folders(ids) | self._rested())
        folders: set[Ino] = set()
        elsewhere = False
        rest = [file_id for file_id in ids if not self._is_seen(file_id, looked)]
        for start in range(0, len(rest), MOST_IDS):
            some = rest[start : start + MOST_IDS]
            entries = await self._remote.identify(some)
            found = concerned(some, entries, self._nodes, self._echoes.is_ours, self._descent.is_under_way)
            folders |= found.folders
            self._coming |= found.coming
            elsewhere = elsewhere or found.elsewhere
        await self._look_into(folders - looked)
        return elsewhere or self._descent.is_behind

    def _told_folders(self, ids: Sequence[str]) -> set[Ino]:
        """Return the known folders among these; those in which we are at work ourselves are noted for later."""
        folders = {node.ino for file_id in ids for node in self._nodes.by_file_id(file_id)}
        folders = {ino for ino in folders if _is_listed(self._nodes, ino)}
        for folder in filter(self._echoes.are_at_work, folders):
            self._shared.setdefault(folder, trio.current_time())
        return folders - self._shared.keys()

    async def _look_into(self, folders: set[Ino]) -> set[Ino]:
        """List folders; return those of which that succeeded."""
        for folder in folders:
            self._shared.pop(folder, None)
        began_s = time.time()
        # Of a removal all folders above are told, too, and have nothing else that is new: they come last.
        above = {ino for folder in folders for ino in self._nodes.synced_ancestors(folder)}
        await self._descent.look_into(folders - above)
        await self._descent.look_into(folders & above)
        listed = {ino: node.listed_at for ino in folders if (node := self._nodes.get(ino)) is not None}
        return {ino for ino, listed_at in listed.items() if listed_at is not None and listed_at >= began_s}

    def _is_seen(self, file_id: str, looked: AbstractSet[Ino]) -> bool:
        """Tell whether a listing has shown what has changed there, or one that is due will."""
        nodes = self._nodes.by_file_id(file_id)
        return any(
            node.ino in looked or node.s_parent in looked or node.ino in self._shared for node in nodes
        )

    def _rested(self) -> set[Ino]:
        """Return the folders that we have left by now, or that have waited for that long enough."""
        now = trio.current_time()
        return {
            folder
            for folder, since in self._shared.items()
            if now - since >= _LONGEST_S or not self._echoes.are_at_work(folder)
        }
