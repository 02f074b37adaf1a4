"""Asks the server for a folder's members and has them merged. One request per folder at a time.

What is known is shown at once: only a folder whose members were never seen makes its first reader wait. A
known folder is asked for again in the background when it is used and its time to live has passed, unless somebody
watches the whole account (`freshness`) and this folder was seen as the server has it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Protocol

import msgspec
import trio

from cloudfs.concurrency.singleflight import SingleFlight
from cloudfs.concurrency.slices import let_go
from cloudfs.errors import Changed, CloudfsError, NotFound, RemoteError, Unreachable, Unsupported
from cloudfs.metadata.accepting import Acceptance, Answer
from cloudfs.metadata.dotnames import DotNames
from cloudfs.metadata.freshness import Unwatched, Watch
from cloudfs.metadata.permissions import is_mounted
from cloudfs.metadata.takeover import Takeover
from cloudfs.metadata.touched import TouchLog
from cloudfs.remote.protocol import Remote
from cloudfs.remote.silence import Silence
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.types import ROOT, Ino, RemoteEntry, RemotePath

__all__ = ["Ahead", "Lister", "SoleUse"]

_log = logging.getLogger(__name__)

_MOVED_TRIES = 3
_MANY = 10_000
"""Entries that are let go of between two checkpoints: 2 ms."""
_CONFIRM_S = 2.0
_DOUBT_S, _DOUBT_LOOK_S = 10.0, 0.1
_LETTERS_S = 300.0
"""What may be done in a share can change without a trace but in the letters of what is in it (protocol.md §3.1)."""


class Ahead(Protocol):
    """Whoever lists folders before they are asked for."""

    async def bring(self, ino: Ino, *, reading: bool) -> None:
        """A folder never listed is needed, `reading`: by a program that reads it. Wait for it if it is on its way."""
        ...

    def was_read(self, ino: Ino, *, first: bool) -> None:
        """A program reads a folder, and has got its members."""
        ...


class SoleUse(Protocol):
    """Whoever takes some folders to hold nothing of others."""

    def covers(self, ino: Ino) -> bool:
        """Tell whether it takes a folder to be such a one."""
        ...

    def forget(self, ino: Ino) -> None:
        """Others use the folder, too."""
        ...


class Lister:
    """Keeps folders' members current. `ttl_s`: age in seconds from which a used folder is asked for again."""

    def __init__(  # noqa: PLR0913  # the last three are the account's, each with a default
        self,
        store: Store,
        remote: Remote,
        takeover: Takeover,
        touches: TouchLog,
        nursery: trio.Nursery,
        *,
        ttl_s: float,
        told_fingerprint: Callable[[str | None], None] = lambda _: None,
        undisturbed_since: Callable[[], float] = lambda: -math.inf,
        silence: Silence | None = None,
    ) -> None:
        """`undisturbed_since`: since when (trio) the machine has neither slept nor had its clock set."""
        self._store = store
        self._remote = remote
        self._touches = touches
        self._nursery = nursery
        self._ttl_s = ttl_s
        self._told_fingerprint = told_fingerprint
        self.undisturbed_since = undisturbed_since
        self._silence = silence or Silence()
        self.watch: Watch = Unwatched()
        """Whoever watches the account needs us first, and comes here afterwards."""
        self.ahead: Ahead | None = None
        """It needs us first, and comes here afterwards."""
        self.sole_use: SoleUse | None = None
        """Nobody, until it comes here."""
        self._flight: SingleFlight[Ino, None] = SingleFlight(nursery)
        self._acceptance = Acceptance(store, remote, takeover, self, nursery)
        self._dot_names = DotNames(store, remote)
        self._asked_at: dict[Ino, float] = {}
        self._taken_from: dict[Ino, float] = {}
        """When (trio) that was asked whose answer was taken over last."""
        self._made_before = store.nodes.last_ino()
        """Later folders are of this life: what earlier ones noted was perhaps by a clock that was set since."""
        self._all_old = False
        """Nothing counts as fresh that was not asked for since: time went on without us, or was set."""
        self._slow: set[Ino] = set()
        """Folders whose listing under way was waited for in vain."""
        self._outdated: dict[Ino, trio.Event] = {}
        """Folders in which a file was found to be another version, until they are listed."""

    async def ensure_listed(self, ino: Ino, *, reading: bool = False) -> None:
        """Return once the folder's members are known; ask for them anew in the background if they are old.

        Waits for the network only for a folder never listed before, and raises RemoteError if that fails. `reading`: a
        program wants to see all of them, as one does that walks through folders.
        """
        node = self._store.nodes.get(ino)
        if node is None or not node.synced or not node.folder:
            return
        if node.listed_at is None:
            async with self._silence.borne(partial(self._path, ino), self._flight.since(ino)):
                await self._bring(ino, reading=reading)
        elif not node.listed_at:
            # Made here and met there: what is in it here is shown, whether or not the server tells what else there is.
            await self.confirm_absence(ino)
        elif self._is_old(node) and not self._flight.running(ino):
            if self._is_watched(ino) and not self._may_allow_otherwise(node):
                (self.watch.at_work if self.is_being_filled(ino) else self.watch.used)()
            else:
                self.refresh_later(ino)
        if reading and self.ahead is not None:
            self.ahead.was_read(ino, first=node.listed_at is None)

    def _path(self, ino: Ino) -> str:
        return self._store.nodes.synced_path(ino) or ""

    async def _bring(self, ino: Ino, *, reading: bool) -> None:
        if self.ahead is not None:
            await self.ahead.bring(ino, reading=reading)
            node = self._store.nodes.get(ino)
            if node is None or not node.synced or node.listed_at is not None:
                return
        await self._list_first(ino)

    def _is_watched(self, ino: Ino) -> bool:
        """Tell whether nothing can have changed in a folder that will not be found out without asking for it.

        Of one that was made here everything is known but what others have put there since, as every look finds out:
        while files go up into it, none may ever see it as a whole.
        """
        return self.watch.covers() and (self._store.nodes.is_seen_whole(ino) or self.is_ours_alone(ino))

    def is_ours_alone(self, ino: Ino) -> bool:
        """Tell whether a folder was made here not long ago, and nobody else was seen to use it."""
        return self.sole_use is not None and self.sole_use.covers(ino)

    def is_being_filled(self, ino: Ino) -> bool:
        """Tell whether files of ours are on their way into a folder that is ours alone.

        A look on the way would mostly find them, at the price of a listing each time (`cp -r` asks for each name before
        it makes it): the watch looks in its own time, and who sends many small files looks before each request.
        """
        return self.is_ours_alone(ino) and self._store.nodes.has_work_in(ino)

    def _may_allow_otherwise(self, node: Node) -> bool:
        """Tell whether what may be done in a folder may be something else by now, with no ETag that would tell."""
        return is_mounted(node) and self._age_s(node) >= _LETTERS_S

    def meets_others(self, ino: Ino) -> None:
        """Somebody else's things are in a folder that was made here."""
        if self.sole_use is not None:
            self.sole_use.forget(ino)

    def is_under_way(self, ino: Ino) -> bool:
        """Tell whether a listing was asked for, and its answer is not taken over yet."""
        return self._flight.running(ino)

    async def _list_first(self, ino: Ino) -> None:
        """List a folder that nobody has seen into.

        "Not found" at its old place says nothing while a move of ours may have been carried out whose answer was lost:
        then what became of it is waited for, which the worker finds out first of all.
        """
        until = trio.current_time() + _DOUBT_S
        while True:
            path = self._store.nodes.synced_path(ino)
            try:
                await self.refresh(ino)
            except NotFound as error:
                moved = self._store.nodes.synced_path(ino) not in {path, None}
                if not moved and not self._store.nodes.is_in_doubt(ino):
                    raise
                if trio.current_time() >= until:
                    message = "what became of its move is not known yet"
                    raise Unreachable(message, subject=error.subject) from error
            else:
                return
            await trio.sleep(_DOUBT_LOOK_S)

    async def confirm_absence(self, ino: Ino) -> None:
        """Before a name is said not to exist: have an old listing of its folder renewed, for a moment at most.

        Without network, or when the server is slow, what is known has to do.
        """
        node = self._store.nodes.get(ino)
        if node is None or not node.synced or node.listed_at is None:
            return
        if not self._flight.running(ino):
            self._slow.discard(ino)
            if not self._is_old(node):
                return
            if self._is_watched(ino):
                if self.is_being_filled(ino):
                    self.watch.at_work()
                else:
                    await self.watch.look()
                return
        elif ino in self._slow:
            return  # somebody has waited for this listing already: one wait for each is enough
        self._asked_at[ino] = trio.current_time()
        with trio.move_on_after(_CONFIRM_S) as patience:
            await self._refresh_quietly(ino)
        if patience.cancelled_caught:
            self._slow.add(ino)

    def _is_old(self, node: Node) -> bool:
        return self._age_s(node) >= self._ttl_s

    def _age_s(self, node: Node) -> float:
        """Return how long ago a folder was asked for; what cannot be true counts as for ever."""
        asked_at = self._asked_at.get(node.ino)
        if asked_at is not None:
            return trio.current_time() - asked_at if asked_at >= self.undisturbed_since() else math.inf
        # Not asked since the start: only a folder that was made just now is known to be current.
        age_s = time.time() - (node.listed_at or 0)
        return math.inf if self._all_old or age_s < 0 or node.ino <= self._made_before else age_s

    def was_asked_since(self, ino: Ino, then: float) -> bool:
        """Tell whether a folder was seen by a question that was asked after `then` (trio), with no sleep since."""
        return self._taken_from.get(ino, -math.inf) >= max(then, self.undisturbed_since())

    def wants(self, node: Node, asked_at: float, *, stale: bool = False) -> bool:
        """Tell whether a folder's members as they were at some time (trio) later than `asked_at` are news.

        `stale`: something new is known to be among them, however lately it was listed.
        """
        if node.listed_at is None:
            return True
        return self._asked_at.get(node.ino, -math.inf) < asked_at and (stale or self._is_old(node))

    async def take_over(
        self,
        ino: Ino,
        path: RemotePath,
        folder: tuple[RemoteEntry, Sequence[RemoteEntry]],
        touched: Mapping[Ino, set[str]],
        asked_at: float,
    ) -> None:
        """Merge a listing that somebody else has asked for, unless the folder is being listed anyway.

        `touched`: what the touch log collects, from before the request on, which was made at `asked_at` (trio).
        """
        if not self._flight.running(ino):
            await self._flight.run(ino, partial(self._take_over, ino, path, folder, touched, asked_at))

    async def _take_over(
        self,
        ino: Ino,
        path: RemotePath,
        folder: tuple[RemoteEntry, Sequence[RemoteEntry]],
        touched: Mapping[Ino, set[str]],
        asked_at: float,
    ) -> None:
        own, members = folder
        node = self._store.nodes.get(ino)
        if node is not None:
            # Nobody knows its row from before the request. An ETag that is not the listing's may be newer: it stays.
            asked = msgspec.structs.replace(node, s_etag=own.version.etag)
            if await self._accept(Answer(path, asked, asked_at, own, members, touched)):
                self._asked_at[ino] = asked_at

    def distrust_ages(self) -> None:
        """Have every folder asked for anew at its next use, however lately it was."""
        self._asked_at.clear()
        self._all_old = True

    def refresh_later(self, ino: Ino) -> None:
        """Ask for the folder's members in the background."""
        self._asked_at[ino] = trio.current_time()
        self._nursery.start_soon(self._refresh_quietly, ino)

    def outdated(self, ino: Ino) -> None:
        """A read found another version of a file on the server: have its folder listed at once."""
        node = self._store.nodes.get(ino)
        folder = None if node is None else node.s_parent
        if folder is not None and folder not in self._outdated:
            self._outdated[folder] = trio.Event()
            self._nursery.start_soon(self._renew, folder)

    async def _renew(self, folder: Ino) -> None:
        try:
            if self._flight.running(folder):
                # Asked for before the read, and maybe older than what that met.
                await self._refresh_quietly(folder)
            await self._refresh_quietly(folder)
        finally:
            self._outdated.pop(folder).set()

    async def renewed(self, folder: Ino) -> None:
        """Wait, for a moment at most, for the listing of a folder that is known to be outdated."""
        listed = self._outdated.get(folder)
        if listed is not None:
            with trio.move_on_after(_CONFIRM_S):
                await listed.wait()

    async def refresh(self, ino: Ino) -> None:
        """Ask the server for the folder's members now and merge them.

        Raises RemoteError. A folder that the server no longer has is dropped by listing its parent. A caller that
        stops waiting does not end it: a listing may take longer than a request waits, and the next request joins
        it or finds it done. It ends by the remote's own time-outs.
        """
        if not self._flight.running(ino):
            self._nursery.start_soon(self._see_through, ino)
        await self._flight.run(ino, lambda: self._refresh(ino))

    async def refresh_above(self, ino: Ino) -> None:
        """List the folders above a node from the root down until all are listed or one turns out to be gone."""
        for folder in reversed(self._store.nodes.synced_ancestors(ino)):
            node = self._store.nodes.get(folder)
            if node is None or not node.synced:
                return
            await self.refresh(folder)

    async def _see_through(self, ino: Ino) -> None:
        """Be the one waiter of a listing under way that never gives up."""
        if self._flight.running(ino):
            await self._refresh_quietly(ino)

    async def _refresh_quietly(self, ino: Ino) -> None:
        try:
            await self.refresh(ino)
        except RemoteError as error:
            _log.debug("the folder could not be listed again: %s", error)
        except CloudfsError as error:  # a full disk
            _log.warning("the folder could not be listed again: %s", error)
        except Exception:  # noqa: BLE001  # logged
            # In the background nobody else is there to meet it, and it must not end the mount.
            _log.exception("the folder could not be listed again")

    async def _refresh(self, ino: Ino, coming: Collection[str] | None = None) -> None:
        for _ in range(_MOVED_TRIES):
            if await self._try_refresh(ino, coming):
                return
        _log.warning("a folder kept moving while it was listed; it will be listed at its next use")

    async def _try_refresh(self, ino: Ino, coming: Collection[str] | None) -> bool:
        """List once; False when the folder had another path on the server by the time the answer came.

        `coming`: file ids that the listing of another folder shows, which waits for this one. Then no other folder is
        listed for it: one that waits for such a listing is never waited for in turn.
        """
        alone = coming is not None
        path, asked = self._store.nodes.synced_path(ino), self._store.nodes.get(ino)
        asked_at = trio.current_time()
        if path is None:
            return True
        with self._touches.listing() as touched:
            try:
                own, members = await self._remote.list_folder(path)
                members = await self._dot_names.completed(ino, path, members)
            except (NotFound, Unsupported) as error:
                if self._store.nodes.synced_path(ino) != path:
                    return False
                await self._vanished(ino, alone=alone)
                if isinstance(error, Unsupported):
                    raise Changed("another client put a file in its place", subject=path) from error
                raise
            if asked is None or not await self._accept(
                Answer(path, asked, asked_at, own, members, touched, coming)
            ):
                return False
        self._asked_at[ino] = trio.current_time()
        if isinstance(members, list):
            await let_go(members, _MANY)
        return True

    async def _accept(self, answer: Answer) -> bool:
        """Take over what was listed; False when the folder has another path by now."""
        ino, own = answer.asked.ino, answer.own
        self._told_fingerprint(own.fingerprint)
        folder = self._store.nodes.get(ino)
        if folder is None or self._store.nodes.synced_path(ino) != answer.path:
            return False
        if ino != ROOT and None not in {folder.s_file_id, own.file_id} and folder.s_file_id != own.file_id:
            # Another folder stands there now.
            await self._vanished(ino, alone=answer.coming is not None)
            return True
        await self._acceptance.accept(answer)
        self._taken_from[ino] = answer.asked_at
        return True

    async def list_alone(self, ino: Ino, coming: frozenset[str]) -> bool:
        """List another folder for one whose listing shows these file ids; False where somebody is at it already.

        Or where it cannot be listed.
        """
        if self._flight.running(ino):
            return False
        try:
            await self._flight.run(ino, partial(self._refresh, ino, coming))
        except RemoteError:
            return False
        return True

    async def _vanished(self, ino: Ino, *, alone: bool) -> None:
        node = self._store.nodes.get(ino)
        if not alone and node is not None and node.s_parent and ino != ROOT:
            await self.refresh(node.s_parent)
