"""Whole trees at once, for programs that walk: `find` over 50 folders is one request instead of 50.

A walk is a program that reads one folder after the other: it read a folder, and within a moment begins to read one
below it, or one beside another that nobody had seen either. Then everything below their common parent is asked for in
one request, and merged folder by folder as if each had been listed. Looking up a path reads no folders, so neither `ls`
of one folder nor opening a file is taken for a walk.

Whatever goes wrong with such a request concludes nothing: each folder is then listed by itself, as always.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import trio

from cloudfs.concurrency.times import Times
from cloudfs.errors import CloudfsError, RemoteError, Unavailable, Unreachable, Unsupported
from cloudfs.metadata.renewing import folders_in
from cloudfs.metadata.touched import TouchLog
from cloudfs.remote.protocol import Remote
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.types import ROOT, Ino, RemoteEntry, RemotePath

__all__ = ["Trees"]

_log = logging.getLogger(__name__)

_DOWN_S = 0.25
"""A walking program goes down into a folder so soon after it read the one above; people take longer, even where their
shell reads the one above to complete a path."""
_ON_S = 1.0
"""It goes on to the next folder beside one that it has read within so long."""
_PATIENCE_S = 1.5
"""After so long a reader asks for its own folder, and after as long once an answer has begun to come."""
_AT_ONCE = 2
_MOST_NODES = 50_000
"""35 MB here until they are merged, 200 MB and 10 s at the server (protocol.md §4.1)."""
_KNOWN_NODES = 2_000
"""Where more nodes are known in a folder's folders, they are not asked for again because of what is new beside them."""
_REFUSALS = frozenset({400, 405, 412, 501})
"""By these a server refuses all trees; 403 may be one folder's (protocol.md §4.1)."""
_REFUSED_S = 3600.0
_UNREACHABLE_S = _AGAIN_S = 60.0
"""How long a folder's tree is not asked for again."""
_SOON_S = 10.0
_MOST_REMEMBERED = 1000

Folder = tuple[RemoteEntry, Sequence[RemoteEntry]]


class _Lister(Protocol):
    def wants(self, node: Node, asked_at: float) -> bool: ...

    async def take_over(
        self,
        ino: Ino,
        path: RemotePath,
        folder: Folder,
        touched: Mapping[Ino, set[str]],
        asked_at: float,
    ) -> None: ...


class _Request:
    """One tree on its way. Whoever waits for one of its folders is served before the others."""

    def __init__(self, top: Ino) -> None:
        self.top = top
        self.asked_at = trio.current_time()
        self.left: dict[RemotePath, Folder] | None = None
        """What came and is not merged yet; None until the answer is here."""
        self._begun_at = -math.inf
        """When the answer began to come."""
        self._slow = False
        """Somebody waited for the answer in vain: nobody else does."""
        self.waiting: dict[Ino, trio.Event] = {}

    async def wait_for(self, ino: Ino, path: RemotePath) -> None:
        """Wait until a folder is merged or is known not to come, for a moment at most."""
        if self._slow if self.left is None else path not in self.left:
            return
        served = self.waiting.setdefault(ino, trio.Event())
        since = trio.current_time()
        while not served.is_set():
            until = max(since, self._begun_at) + _PATIENCE_S
            if until <= trio.current_time():
                self._slow = True
                return
            with trio.move_on_at(until):
                await served.wait()

    def begun(self) -> None:
        """The answer begins to come: what is left to be done for it is ours, and worth a wait."""
        self._begun_at = trio.current_time()

    def serve(self, ino: Ino) -> None:
        """A folder was merged, or does not come."""
        served = self.waiting.pop(ino, None)
        if served is not None:
            served.set()

    def end(self) -> None:
        """Nothing more comes."""
        self.left = {}
        for ino in list(self.waiting):
            self.serve(ino)


class Trees:
    """Notices walks and lists ahead of them. Two requests at a time; readers never wait for it for long."""

    def __init__(
        self, store: Store, remote: Remote, touches: TouchLog, lister: _Lister, nursery: trio.Nursery
    ) -> None:
        self._store = store
        self._nodes = store.nodes
        self._remote = remote
        self._touches = touches
        self._lister = lister
        self._nursery = nursery
        self._requests: list[_Request] = []
        self._read = Times[Ino](_MOST_REMEMBERED)
        """When folders were read last."""
        self._entered = Times[Ino](_MOST_REMEMBERED)
        """When a folder that nobody had seen was read last in a folder."""
        self._resting = Times[Ino](_MOST_REMEMBERED)
        """Until when the tree below a folder is not asked for: it failed."""
        self._rests_until = 0.0
        """Until when no tree is asked for at all."""

    def was_read(self, ino: Ino, *, first: bool) -> None:
        """A program reads a folder, and has got its members, which nobody had seen before where it is the `first`."""
        self._read.note(ino)
        if first:
            # Again: what it waited for the server is no pause of the program.
            self._was_entered(ino)

    async def bring(self, ino: Ino, *, reading: bool) -> None:
        """Have the members of a folder never seen come along with a whole tree, if a walk needs them.

        Returns after a moment at the latest, whether they came or not.
        """
        request = self._covering(ino)
        if reading:
            request = request or self._follow(ino)
            self._was_entered(ino)
        path = self._nodes.synced_path(ino)
        if request is not None and path is not None:
            await request.wait_for(ino, path)

    def _was_entered(self, ino: Ino) -> None:
        node = self._nodes.get(ino)
        if node is not None and node.s_parent:
            self._entered.note(node.s_parent)

    def _covering(self, ino: Ino) -> _Request | None:
        if not self._requests:
            return None
        above = {ino, *self._nodes.synced_ancestors(ino)}
        return next((it for it in self._requests if it.top in above), None)

    def _follow(self, ino: Ino) -> _Request | None:
        """Begin the request that serves the walk which has come to a folder, if it is one."""
        node = self._nodes.get(ino)
        if node is None or not node.s_parent or len(self._requests) >= _AT_ONCE:
            return None
        beside = self._entered.age_s(node.s_parent) <= _ON_S
        if not beside and self._read.age_s(node.s_parent) > _DOWN_S:
            return None
        # The account's root is everything: only where more than one of its folders is walked through.
        tops = (ino,) if node.s_parent == ROOT and not beside else (node.s_parent, ino)
        top = next((it for it in tops if self._may_ask(it)), None)
        if top is None:
            return None
        request = _Request(top)
        self._requests.append(request)
        self._nursery.start_soon(self._fetch, request)
        return request

    def _may_ask(self, top: Ino) -> bool:
        """Tell whether a tree is worth asking for.

        Not where another storage is mounted: the server would look through all of it (protocol.md §4.1).
        """
        rests_until = max(self._rests_until, self._resting.of(top))
        if not self._remote.features.depth_infinity or trio.current_time() < rests_until:
            return False
        node = self._nodes.get(top)
        if node is None or _is_mounted(node) or self._nodes.knows_in_folders(top, more_than=_KNOWN_NODES):
            return False
        return not any(map(_is_mounted, self._nodes.mount_roots(top)))

    async def _fetch(self, request: _Request) -> None:
        """Ask, and merge what comes. INVARIANT: the touch log is open from before the request until the last merge."""
        try:
            path = self._nodes.synced_path(request.top)
            if path is not None:
                with self._touches.listing() as touched:
                    folders = await self._remote.list_tree(path, most=_MOST_NODES, begun=request.begun)
                    # What it leaves out, it would leave out again.
                    self._resting.note(request.top, trio.current_time() + _AGAIN_S)
                    await self._merge(request, path, folders, touched)
        except RemoteError as error:
            self._rest(request, error)
        except CloudfsError as error:  # a full disk
            _log.warning("a whole tree could not be taken over: %s", error)
            self._rest(request, None)
        except Exception:  # noqa: BLE001  # logged
            # In the background nobody else is there to meet it, and it must not end the mount.
            _log.exception("a whole tree could not be taken over")
            self._rest(request, None)
        finally:
            self._requests.remove(request)
            request.end()

    def _rest(self, request: _Request, error: RemoteError | None) -> None:
        """Leave a tree that failed alone for a while. One that took too long would take as long again."""
        _log.debug("folders are listed one by one for now: %s", error)
        now = trio.current_time()
        passing = isinstance(error, Unreachable | Unavailable) and now - request.asked_at < _SOON_S
        self._resting.note(request.top, now + (_UNREACHABLE_S if passing else _REFUSED_S))
        if isinstance(error, Unsupported) and error.status in _REFUSALS:
            self._rests_until = now + _REFUSED_S

    async def _merge(
        self,
        request: _Request,
        top: RemotePath,
        folders: Sequence[Folder],
        touched: Mapping[Ino, set[str]],
    ) -> None:
        left = request.left = {own.path: (own, members) for own, members in folders}
        inos = {top: request.top}
        for waited in list(request.waiting):
            if self._nodes.synced_path(waited) not in left:
                request.serve(waited)
        while left:
            path = self._next(request, left, inos)
            ino, folder = inos.get(path), left.pop(path)
            if ino is None:
                continue
            await self._take_over(request, ino, path, folder, touched)
            inos |= folders_in(self._nodes, ino, folder[1], touched.get(ino, set()))
            request.serve(ino)

    def _next(
        self, request: _Request, left: Mapping[RemotePath, Folder], inos: Mapping[RemotePath, Ino]
    ) -> RemotePath:
        """Choose what somebody waits for, if the folder above it is done; else the next one as it came."""
        for ino in request.waiting:
            path = self._nodes.synced_path(ino)
            if path is not None and path in left and inos.get(path) == ino:
                return path
        return next(iter(left))

    async def _take_over(
        self,
        request: _Request,
        ino: Ino,
        path: RemotePath,
        folder: Folder,
        touched: Mapping[Ino, set[str]],
    ) -> None:
        node = self._nodes.get(ino)
        if node is not None and self._lister.wants(node, request.asked_at):
            try:
                await self._lister.take_over(ino, path, folder, touched, request.asked_at)
            except RemoteError as error:
                _log.debug("a folder of a tree could not be taken over: %s", error)
        else:
            await trio.lowlevel.checkpoint()


def _is_mounted(node: Node) -> bool:
    """Tell whether a node lies in another storage, by the letter of oc:permissions (protocol.md §2.2)."""
    return "M" in (node.permissions or "")
