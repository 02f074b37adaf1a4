"""Takes over what the server answered about one folder: compares, finds what moved, applies, notes what was seen."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

import msgspec
import trio

from cloudfs.concurrency.slices import let_go, slices, turns
from cloudfs.errors import PosixError
from cloudfs.metadata.comparison import Comparison, compare
from cloudfs.metadata.following import Follower, movable
from cloudfs.metadata.merge import Adopt, Change
from cloudfs.metadata.takeover import Takeover
from cloudfs.metadata.touched import other_names
from cloudfs.metadata.vanished import KEEP_S
from cloudfs.remote.protocol import Remote
from cloudfs.store.nodes import Nodes
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.types import Ino, RemoteEntry, RemotePath

__all__ = ["Acceptance", "Answer"]

_log = logging.getLogger(__name__)

_MOST_ORIGINS = 8
"""So many other folders are listed for one listing; what came from further ones is recognised once they are listed."""
_AT_ONCE = 256
"""So many file ids are looked up between two checkpoints: 5 ms."""
_MANY = 10_000
"""Changes of which some are picked out between two checkpoints: 1 ms."""


class Answer(msgspec.Struct, frozen=True):
    """What the server told of one folder."""

    path: RemotePath
    asked: Node
    """The folder's row before it was asked for."""
    asked_at: float
    """Trio time: the answer tells of no later moment."""
    own: RemoteEntry
    members: Sequence[RemoteEntry]
    touched: Mapping[Ino, set[str]]
    """What the touch log collects, from before the request on."""
    coming: Collection[str] | None = None
    """File ids that the listing of another folder shows, which waits for this one; None: nobody does."""


class _Lister(Protocol):
    undisturbed_since: Callable[[], float]

    def is_ours_alone(self, ino: Ino) -> bool: ...

    def meets_others(self, ino: Ino) -> None: ...

    def refresh_later(self, ino: Ino) -> None: ...

    async def list_alone(self, ino: Ino, coming: frozenset[str]) -> bool: ...


class Acceptance:
    """Merges answers into one store; never two of one folder at once."""

    def __init__(
        self, store: Store, remote: Remote, takeover: Takeover, lister: _Lister, nursery: trio.Nursery
    ) -> None:
        self._store = store
        self._remote = remote
        self._takeover = takeover
        self._lister = lister
        self._nursery = nursery
        self._follower = Follower(store, remote, takeover.vanished, lister.list_alone)
        self._expiring = False

    async def accept(self, answer: Answer) -> None:
        """Take over an answer about a folder that is at this path."""
        ino, left_out = answer.asked.ino, _LeftOut(self._store.nodes, answer)
        compared = await self._compare(answer)
        self._tell_of_others(ino, compared, left_out.in_doubt)
        if await self._leave(answer, compared):
            compared = await self._compare(answer)
        changes, compared = await self._changes(answer, compared, left_out)
        kept: set[Ino] = set()
        if gone := await movable(changes, self._store, answer.coming or ()):
            kept = await self._follow(answer, gone)
            changes, compared = await self._changes(answer, await self._compare(answer), left_out)
        fitted = await self._takeover.apply(ino, changes, kept=kept)
        await self._list_adopted(changes)
        # What a step has begun to touch since may be as it was before, or after it, whatever the listing says.
        whole = fitted and not kept and await self._has_all(ino, compared) and not left_out()
        listed_at = time.time() - (trio.current_time() - answer.asked_at)
        self._takeover.refresh_folder(
            answer.asked,
            answer.own,
            whole=whole,
            listed_at=listed_at,
            # The answer has told how far apart the clocks are. After a sleep, or with ours set, nobody knows when.
            listed_there=listed_at + self._remote.clock_skew_s
            if answer.asked_at >= self._lister.undisturbed_since()
            else None,
        )
        self._takeover.arriving.twofold.seen(ino, answer.asked_at)
        if self._takeover.vanished and not self._expiring:
            self._expiring = True
            self._nursery.start_soon(self._expire)
        for items in (changes, compared.synced, compared.local, compared.entries):
            await let_go(items, _MANY)

    async def _compare(self, answer: Answer) -> Comparison:
        return await compare(self._store, answer.asked.ino, answer.members)

    async def _changes(
        self, answer: Answer, compared: Comparison, left_out: Callable[[], Collection[str]]
    ) -> tuple[list[Change], Comparison]:
        """Find out what is to be changed, once what another listing has shown elsewhere is one with that."""
        changes = await compared.changes(left_out)
        while await self._takeover.arriving.reunite(changes):
            compared = await self._compare(answer)
            changes = await compared.changes(left_out)
        return changes, compared

    async def _list_adopted(self, changes: Sequence[Change]) -> None:
        """Have folders listed that were ours alone: the kernel may keep what we told of names in them by then."""
        async for part in turns(changes, _MANY):
            for change in part:
                if isinstance(change, Adopt):
                    self._lister.refresh_later(change.node.ino)

    async def _has_all(self, ino: Ino, compared: Comparison) -> bool:
        """Tell whether everything listed has a node now: not so where a name is taken here, or was a moment ago."""
        missing = set[str]()
        async for names in turns(compared.entries, _MANY):
            missing.update(names)
        if missing:
            with self._store.db.snapshot() as rows:
                for there in rows.synced_names(ino):
                    missing.difference_update(there)
                    await trio.lowlevel.checkpoint()
        return not missing

    async def _follow(self, answer: Answer, gone: Sequence[Node]) -> set[Ino]:
        """Have what holds work for the server follow its moves; return what is not to be dropped now."""
        ino, coming = answer.asked.ino, answer.coming
        if coming is None:
            there = frozenset(entry.file_id for entry in answer.members if entry.file_id is not None)
            return await self._follower.follow(ino, gone, there)
        self._follower.expect(gone, coming)
        if any(node.s_file_id not in coming for node in gone):
            self._lister.refresh_later(ino)  # by itself it may look for them
        return {node.ino for node in gone}

    async def _leave(self, answer: Answer, compared: Comparison) -> bool:
        """List the folders first that members, by their file ids, seem to have come from: they vanish there.

        False where there are none. Where one is not listed now, because somebody is at it already, because there are
        too many, or because another listing waits for this one, what it has is noted as seen in two places.
        """
        new, origins = await self._new(answer.asked.ino, compared)
        folders = sorted({folder for places in origins.values() for folder in places})
        asked = set[Ino]()
        for origin in folders[:_MOST_ORIGINS] if answer.coming is None else ():
            if await self._lister.list_alone(origin, frozenset(new)):
                asked.add(origin)
        for file_id, places in origins.items():
            for folder in places - asked:
                self._takeover.arriving.twofold.note(file_id, folder)
        return bool(folders)

    def _tell_of_others(self, ino: Ino, compared: Comparison, in_doubt: Collection[str]) -> None:
        """Tell where a listing has a name that is neither known nor one that a request of ours may have put there.

        Not left out is what a step touches that has sent nothing yet: there it would be in the way.
        """
        if self._lister.is_ours_alone(ino) and any(
            name not in compared.synced and name not in in_doubt for name in compared.entries
        ):
            self._lister.meets_others(ino)

    async def _new(self, ino: Ino, compared: Comparison) -> tuple[list[str], dict[str, set[Ino]]]:
        """Return the file ids in a listing that its folder did not have, and in which folders they are known."""
        new: list[str] = []
        origins: dict[str, set[Ino]] = {}
        for part in slices(compared.entries.values(), _AT_ONCE):
            file_ids = [entry.file_id for entry in part if entry.file_id]
            known = self._store.nodes.folders_of(file_ids)
            new += [it for it in file_ids if ino not in known.get(it, ())]
            origins |= {it: places for it, places in known.items() if ino not in places}
            await trio.lowlevel.checkpoint()
        return new, origins

    async def _expire(self) -> None:
        try:
            while self._takeover.vanished:
                await trio.sleep(KEEP_S / 3)
                with suppress(PosixError):  # a full disk: the next start gives up what this one cannot
                    while self._takeover.vanished.expire():
                        await trio.lowlevel.checkpoint()
        except Exception:  # noqa: BLE001  # logged
            _log.exception("what vanished on the server is not forgotten yet")
        finally:
            self._expiring = False


class _LeftOut:
    """The names of which a listing that is under way says nothing, from now on; asked once more, there may be more."""

    def __init__(self, nodes: Nodes, answer: Answer) -> None:
        self._nodes = nodes
        self._answer = answer
        self._names = set[str](answer.own.unsized)
        self.in_doubt = nodes.names_in_doubt(answer.asked.ino)
        """As it was at the beginning."""
        self()

    def __call__(self) -> Collection[str]:
        # What was in doubt stays left out: its outcome is newer than the listing.
        ino = self._answer.asked.ino
        touched = self._answer.touched.get(ino, set())
        self._names |= touched | self._nodes.names_in_doubt(ino)
        self._names |= other_names(self._nodes, ino, touched, self._answer.members)
        return self._names
