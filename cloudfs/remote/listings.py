"""What exists: single objects, folders, whole trees. One try each; `files.WebdavRemote` repeats the reads."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing

import msgspec

from cloudfs.errors import Forbidden, ProtocolViolation, RemoteError, Unsupported
from cloudfs.paths import ROOT_PATH, parent_of
from cloudfs.remote import dialect
from cloudfs.remote.entries import Listing
from cloudfs.remote.exchange import Reply
from cloudfs.remote.multistatus import ListingParser
from cloudfs.remote.session import Session
from cloudfs.types import Kind, RemoteEntry, RemotePath

__all__ = ["Branches", "list_folder", "list_tree", "stat"]

_log = logging.getLogger(__name__)


async def stat(session: Session, path: RemotePath) -> RemoteEntry:
    """Ask for one object."""
    request = session.propfind(path, "0", dialect.stat_properties(session.features))
    async with session.open(request, 207) as reply:
        found = [entry async for entry in _entries(reply, Listing(session.place, path, 0))]
    if not found:
        raise ProtocolViolation("the server lists nothing", subject=path)
    return dialect.check_entry(found[0], session.features)


async def list_folder(session: Session, path: RemotePath) -> tuple[RemoteEntry, list[RemoteEntry]]:
    """Ask for a folder and its members; the folder's entry counts those that cannot be shown."""
    request = session.propfind(
        path, "1", dialect.listed_properties(session.features), session.transport.limits.change_s
    )
    own: RemoteEntry | None = None
    members: list[RemoteEntry] = []
    listing = Listing(session.place, path, 1)
    async with session.open(request, 207) as reply, aclosing(_entries(reply, listing)) as entries:
        async for entry in entries:
            if entry.path == path:
                own = entry
            else:
                members.append(dialect.check_entry(entry, session.features))
    if own is None:
        raise ProtocolViolation("the listing lacks the folder itself", subject=path)
    if own.kind is not Kind.FOLDER:
        raise Unsupported("it is a file, not a folder", subject=path)
    if listing.hidden_members:
        session.tell_hidden(path, listing.hidden_members, listing.first_hidden)
    if listing.unsized:
        _log.info("%s: the server does not know the sizes of %d files yet", path, len(listing.unsized))
    if hidden := listing.hidden_members + len(listing.unsized):
        names = tuple(unsized.rpartition("/")[2] for unsized in listing.unsized)
        own = msgspec.structs.replace(own, hidden_members=hidden, unsized=names)
    return dialect.check_entry(own, session.features), members


async def list_tree(
    session: Session, path: RemotePath, most: int, begun: Callable[[], None]
) -> list[tuple[RemoteEntry, list[RemoteEntry]]]:
    """Ask for everything below a folder at once; return those folders of which all members are known to be there."""
    properties = dialect.listed_properties(session.features)
    request = session.propfind(path, "infinity", properties, session.transport.limits.tree_s)
    branches = Branches(path)
    listing = Listing(session.place, path, None, most_members=most)
    try:
        async with session.open(request, 207) as reply, aclosing(_entries(reply, listing)) as entries:
            begun()
            async for entry in entries:
                branches.add(dialect.check_entry(entry, session.features))
            branches.lack(parent_of(unsized) for unsized in listing.unsized)
    except RemoteError as error:
        raise _refused_tree(error) from error
    return branches.whole()


def _refused_tree(error: RemoteError) -> RemoteError:
    """Translate the answers by which servers refuse depth infinity (403 Apache, 412 ownCloud, 400)."""
    if isinstance(error, Forbidden) or error.status in {400, 412}:
        return Unsupported("the server does not list whole trees", subject=error.subject, status=error.status)
    return error


class Branches:
    """Sorts the objects of a whole tree by folder, and tells which folders are there with all their members.

    Nothing is told before the reply has ended well: neither a pause nor a change of folder in it proves that a folder's
    members were all there, since servers may list in any order.
    """

    def __init__(self, root: RemotePath) -> None:
        self._root = root
        self._folders: dict[RemotePath, RemoteEntry] = {}
        self._members: dict[RemotePath, list[RemoteEntry]] = {}
        self._deepest = 0
        self._lacking: set[RemotePath] = set()

    def lack(self, folders: Iterable[RemotePath]) -> None:
        """Not all members of these were listed."""
        self._lacking.update(folders)

    def add(self, entry: RemoteEntry) -> None:
        """Take the next object of the reply; Unsupported where the root is a file."""
        if entry.path == self._root and entry.kind is Kind.FILE:
            raise Unsupported("it is a file, not a folder", subject=self._root)
        if entry.kind is Kind.FOLDER:
            self._folders[entry.path] = entry
        if entry.path == self._root:
            return
        self._members.setdefault(parent_of(entry.path), []).append(entry)
        self._deepest = max(self._deepest, self._level(entry.path))

    def whole(self) -> list[tuple[RemoteEntry, list[RemoteEntry]]]:
        """Return each folder with its members, in the order in which the folders came.

        ProtocolViolation where the tree has gaps. Unsupported where nothing below the root's folders is shown: these
        may all be empty, or the server gives one level only.
        """
        if self._root not in self._folders:
            raise ProtocolViolation("the listing of the tree lacks its root", subject=self._root)
        if not self._members.keys() <= self._folders.keys():
            raise ProtocolViolation("the listing of the tree has gaps", subject=self._root)
        if self._deepest == 1 and len(self._folders) > 1:
            raise Unsupported("the server lists one level only", subject=self._root)
        return [
            (folder, self._members.get(path, []))
            for path, folder in self._folders.items()
            if self._is_whole(folder)
        ]

    def _is_whole(self, folder: RemoteEntry) -> bool:
        """Tell whether a folder's members are sure to be all there.

        One without members may be empty, or deeper than the server goes: it is believed where the reply goes deeper
        elsewhere. What is mounted from another storage may be asleep or still be looked through by the server, and is
        not believed at all; nor is the emptiness of a received share.
        """
        if "M" in (folder.permissions or "") or folder.path in self._lacking:
            return False
        if self._members.get(folder.path):
            return True
        return folder.path == self._root or (
            self._level(folder.path) < self._deepest and not folder.mount_root
        )

    def _level(self, path: RemotePath) -> int:
        return path.count("/") - (0 if self._root == ROOT_PATH else self._root.count("/"))


async def _entries(reply: Reply, listing: Listing) -> AsyncGenerator[RemoteEntry, None]:
    parser = ListingParser()
    try:
        async with aclosing(reply.pieces()) as pieces:
            async for piece in pieces:
                for entry in listing.admit(parser.feed(piece)):
                    yield entry
        for entry in listing.admit(parser.close()):
            yield entry
        for entry in listing.finish():
            yield entry
    except ProtocolViolation as error:
        if error.subject:
            raise
        raise ProtocolViolation(error.message, subject=listing.folder, status=error.status) from error
