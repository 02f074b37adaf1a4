"""Sends many small new files in one request, where nobody else can be in their way.

The request knows no preconditions (protocol.md §8), so it is for folders alone that this process has made on the
server, and that hold nothing of others: known from having made them just now, or from a look right before. All else is
as with single uploads: sealed bytes, attempts and places noted before the request, and what is not certain found out by
a look.

It is given up easily, since everything can also go by PUT: a file after one failure, all files for a while after some
requests in a row that failed, or when the first one is found to have stored something else than was sent.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack

import trio

from cloudfs.concurrency.killpoints import reached
from cloudfs.errors import (
    Changed,
    CloudfsError,
    NotAuthenticated,
    ProtocolViolation,
    RemoteError,
    Unavailable,
)
from cloudfs.paths import join
from cloudfs.remote.protocol import NewFile
from cloudfs.store.records import Attempt
from cloudfs.store.store import Store
from cloudfs.sync.committing import Committer
from cloudfs.sync.doubts import Doubts
from cloudfs.sync.gate import GatedRemote
from cloudfs.sync.newfolders import FolderLooks, Looked
from cloudfs.sync.packing import Package, Packer
from cloudfs.sync.steps import Step, Upload
from cloudfs.types import Ino, Stored

__all__ = ["MOST_BYTES", "MOST_FILES", "BulkUploader"]

_log = logging.getLogger(__name__)

MOST_FILES = 50
"""Of one request. SOURCE: measured on 29.0.1, two of 50 at once are quicker than any other sizes (protocol.md §8)."""
MOST_BYTES = 2 * 1024 * 1024
"""Of one request: it is held in memory here, and by the server."""
_SMALL_BYTES = 128 * 1024
_MOST_FAILURES = 3
_SHUT_S = 600.0
_MOST_REMEMBERED = 10_000


class BulkUploader:
    """Carries out `Upload` steps together."""

    def __init__(
        self,
        store: Store,
        remote: GatedRemote,
        packer: Packer,
        committer: Committer,
        doubts: Doubts,
        looks: FolderLooks,
    ) -> None:
        self._store = store
        self._nodes = store.nodes
        self._remote = remote
        self._packer = packer
        self._committer = committer
        self._doubts = doubts
        self._looks = looks
        self._new_folders = looks.folders
        self._singly: set[Ino] = set()
        """Files that were in a request that failed, or were refused in one."""
        self._failures = 0
        self._shut_until = -math.inf
        self._proved, self._proving = False, trio.Lock()
        """Whether what a request stored was found to be what was sent; held while that is looked at."""

    def takes(self, step: Step) -> bool:
        """Tell whether a step may go together with others."""
        node = step.node
        if not self._remote.features.bulk or trio.current_time() < self._shut_until:
            return False
        if not isinstance(step, Upload) or step.onto is not None or node.synced or node.tried is not None:
            return False
        if node.size > _SMALL_BYTES or node.ino in self._singly or node.parent is None:
            return False
        folder = self._nodes.synced_path(node.parent)
        if folder is None or not NewFile(join(folder, node.name), b"", 0).fits_bulk:
            return False
        return self._new_folders.covers(node.parent) and not self._store.attempts(node.ino)

    async def send(self, steps: Sequence[Upload]) -> dict[Ino, CloudfsError | None]:
        """Send what belongs to the steps and commit what the server made of it; return what came of each file.

        None: the server has it. Of what is left out nothing is known to have been answered: there was nothing to send
        any more, or it goes by itself next time. Raises RemoteError where the request failed. Then nothing is lost, and
        the next plan says what is still to do.
        """
        outcome: dict[Ino, CloudfsError | None] = {}
        async with AsyncExitStack() as stack:
            packages = await self._pack(stack, steps, outcome)
            files = [await self._file(package) for package in packages]
            looked = await self._looks.look(Counter(package.parcel.place[0] for package in packages))
            # NO CHECKPOINT until the tries are noted: from then on nothing else is done about these files.
            chosen = [
                (package, file)
                for package, file in zip(packages, files, strict=True)
                if self._stands(package, looked)
            ]
            if chosen:
                await self._send(looked, *zip(*chosen, strict=True))
            else:
                # With one of them there the next look goes deeper, where the server lets it.
                self._send_singly([it for it in packages if it.parcel.place[0] in looked.bare][:1])
            outcome |= {it.parcel.node.ino: None for it in packages if it.delivered is not None}
        return outcome

    async def _pack(
        self, stack: AsyncExitStack, steps: Sequence[Upload], outcome: dict[Ino, CloudfsError | None]
    ) -> list[Package]:
        packages = []
        for step in steps:
            try:
                package = await stack.enter_async_context(self._packer.packed(step))
            except CloudfsError as error:
                outcome[step.node.ino] = error
            else:
                packages += [] if package is None or package.parcel.size > _SMALL_BYTES else [package]
        return packages

    async def _file(self, package: Package) -> NewFile:
        content = b"".join([chunk async for chunk in self._packer.chunks(package)])
        return NewFile(package.parcel.path, content, package.parcel.mtime_s)

    def _stands(self, package: Package, looked: Looked) -> bool:
        """Tell whether a package is still to be sent, and to a place where nobody else is; else it goes by PUT.

        That of a bare folder waits for the next look.
        """
        parcel = package.parcel
        node = self._nodes.get(parcel.node.ino)
        certain = parcel.place[0] in looked.ours and self._new_folders.covers(parcel.place[0])
        if not certain and parcel.place[0] not in looked.bare:
            self._send_singly([package])
        free = self._nodes.synced_child(*parcel.place) is None
        return certain and free and node is not None and (node.parent, node.name) == parcel.place

    async def _send(self, looked: Looked, packages: Sequence[Package], files: Sequence[NewFile]) -> None:
        folders = {package.parcel.place[0] for package in packages}
        try:
            with ExitStack() as tries:
                with self._store.transaction():
                    for it in (package.parcel for package in packages):
                        tries.enter_context(self._doubts.trying(it.node.ino, it.place, it.size))
                        self._store.begin_attempt(Attempt(it.node.ino, it.version, it.size, it.checksum))
                reached("attempt noted")
                stored = await self._remote.put_bulk(
                    files, still=lambda: self._looks.still_holds(looked, folders)
                )
                await self._prove(packages, stored)
        except RemoteError as error:
            if error.unsent or isinstance(error, NotAuthenticated):
                self._undo_attempts(packages)
            if error.unsent and isinstance(error, Changed):
                return  # the machine slept, or somebody came: the next plan looks again
            self._failed(packages, error)
            raise
        self._failures = 0
        with self._store.transaction():
            for package, made in zip(packages, stored, strict=True):
                if made is not None:
                    package.delivered = self._committer.commit(package.parcel, made, None)
        # Of what was refused it stays in doubt whether any of it was stored.
        self._send_singly([it for it, made in zip(packages, stored, strict=True) if made is None])

    def _undo_attempts(self, packages: Sequence[Package]) -> None:
        """The server has taken nothing. There are no attempts of before: of such a file nothing goes in bulk."""
        with self._store.transaction():
            for package in packages:
                self._store.end_attempts(package.parcel.node.ino)

    async def _prove(self, packages: Sequence[Package], stored: Sequence[Stored | None]) -> None:
        """Look once whether the server has what it says that it has stored; of two at once the second one waits."""
        async with self._proving:
            if not self._proved:
                self._proved = await self._is_stored(packages, stored)

    async def _is_stored(self, packages: Sequence[Package], stored: Sequence[Stored | None]) -> bool:
        """Tell whether the server was seen to have one of these files; ProtocolViolation where it has none.

        One file that it has is proof: of another one a client may have made a newer version since.
        """
        folder = packages[0].parcel.place[0]
        path = self._nodes.synced_path(folder)
        if path is None:
            return False
        try:
            members = await self._looks.members(folder, path)
        except CloudfsError:
            # Next time, then: each file's sum was checked by the server. On a full disk, too: what the look shows
            # cannot be noted, but all of it is stored.
            return False
        found = {(it.path, it.version.etag, it.version.size, it.version.modified_s) for it in members}
        told = {
            (it.parcel.path, made.etag, it.parcel.size, made.modified_s)
            for it, made in zip(packages, stored, strict=True)
            if made is not None and it.parcel.place[0] == folder
        }
        if told and told.isdisjoint(found):
            self._shut_until = math.inf
            raise ProtocolViolation("the server's bulk upload stored something else", subject=path)
        return bool(told)

    def _failed(self, packages: Sequence[Package], error: RemoteError) -> None:
        if error.unsent or isinstance(error, (NotAuthenticated, Unavailable)):
            return
        # A firewall in between may refuse such requests in any way, for ever (nextcloud/desktop#10300).
        self._send_singly(packages)
        self._failures += 1
        if self._failures >= _MOST_FAILURES:
            self._failures = 0
            self._shut_until = max(self._shut_until, trio.current_time() + _SHUT_S)
            _log.info("small files go up one by one for a while: %s", error)

    def _send_singly(self, packages: Sequence[Package]) -> None:
        if len(self._singly) > _MOST_REMEMBERED:
            self._singly.clear()
        self._singly.update(package.parcel.node.ino for package in packages)
