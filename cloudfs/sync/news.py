"""What people want to read in the log of what succeeds: what the server has now, what came from it, and for whom.

One line for each event; what happens in one folder within seconds is one event. Of an encrypted account nothing is
named: the log is in clear.
"""

from __future__ import annotations

import logging

import msgspec
import trio

from cloudfs.sizes import in_units
from cloudfs.store.nodes import Nodes
from cloudfs.store.records import Node
from cloudfs.sync.steps import FindOut, MakeFolder, Move, Remove, Step, Upload
from cloudfs.types import Ino

__all__ = ["News"]

_log = logging.getLogger(__name__)

_QUIET_S = 2.0
"""A line is written once nothing was added to it for so long,"""
_MOST_S = 60.0
"""and after so long in any case."""
_MOST_FOLDERS = 5
"""More folders with news of one kind are told of in one line."""

_SENT, _MADE, _MOVED, _REMOVED = "sent", "made", "moved", "removed"
_BROUGHT, _READ = "kept", "read"

_ONE = {
    _SENT: "{0} is on the server ({2})",
    _MADE: "{0}, a folder, is on the server",
    _MOVED: "{1} is {0} on the server, too",
    _REMOVED: "{0} was removed on the server",
    _BROUGHT: "{0} came from the server to be kept here ({2})",
    _READ: "{3} reads {0}, which comes from the server ({2})",
}
_UNNAMED = {
    _SENT: "on the server: {0:,} files ({2})",
    _MADE: "on the server: {0:,} folders",
    _MOVED: "moved on the server, too: {0:,} files and folders",
    _REMOVED: "removed on the server: {0:,} files and folders",
    _BROUGHT: "came from the server to be kept here: {0:,} files ({2})",
    _READ: "come from the server, as {3} reads them: {0:,} files ({2})",
}
"""Without a name in them, nor of a folder."""
_MANY = {
    _SENT: "{0:,} files in {1} are on the server ({2})",
    _MADE: "{0:,} folders in {1} are on the server",
    _MOVED: "{0:,} files and folders were moved to {1} on the server, too",
    _REMOVED: "{0:,} files and folders in {1} were removed on the server",
    _BROUGHT: "{0:,} files in {1} came from the server to be kept here ({2})",
    _READ: "{3} reads {0:,} files in {1}, which come from the server ({2})",
}


class _Item(msgspec.Struct):
    """What is to be said of one kind in one folder."""

    folder: str
    path: str
    """Of the first."""
    before: str
    """Where that was."""
    count: int = 0
    size: int = 0
    """Bytes."""


class News:
    """Of one account. NO CHECKPOINT in what others call; it never raises there."""

    def __init__(self, nodes: Nodes, *, names: bool) -> None:
        """`names`: files and folders are named."""
        self._nodes = nodes
        self._names = names
        self._items: dict[tuple[str, str, Ino | None], _Item] = {}
        """By kind, program and folder."""
        self._bell = trio.Event()
        self._last = 0.0

    def done(self, step: Step) -> None:
        """A step has succeeded."""
        node = step.node
        after = self._nodes.get(node.ino)
        match step:
            case Remove():
                if after is None or not after.synced:
                    self._add(_REMOVED, node)
            case _ if after is None or not after.linked:
                return  # gone again
            case MakeFolder():
                self._add(_MADE, after)
            case Move():
                if after.placed:
                    self._add(_MOVED, after, before=self._place(node.s_parent, node.s_name))
            case Upload() | FindOut():
                if not after.dirty and (node.content_dirty or not node.synced):
                    self._add(_MADE if node.folder else _SENT, after)

    def brought(self, ino: Ino) -> None:
        """A file that is always to be here is."""
        if (node := self._nodes.get(ino)) is not None:
            self._add(_BROUGHT, node)

    def read(self, ino: Ino, program: str) -> None:
        """A program reads what is not here, or not all of it."""
        if (node := self._nodes.get(ino)) is not None:
            self._add(_READ, node, program=program or "a program")

    async def run(self) -> None:
        """Write what there is to say, until cancelled."""
        while True:
            await self._bell.wait()
            began = trio.current_time()
            # An event for each would cost more.
            while (until := min(self._last + _QUIET_S, began + _MOST_S)) > trio.current_time():  # noqa: ASYNC110
                await trio.sleep_until(until)  # until it is quiet: an event for each would cost more
            self.flush()

    def flush(self) -> None:
        """Write it now."""
        items, self._items = self._items, {}
        self._bell = trio.Event()
        kinds: dict[tuple[str, str], list[_Item]] = {}
        for (kind, program, _), item in items.items():
            kinds.setdefault((kind, program), []).append(item)
        for (kind, program), found in kinds.items():
            if not self._names:
                item = _together(found)
                _log.info("%s", _UNNAMED[kind].format(item.count, "", in_units(item.size), program))
                continue
            for item in found if len(found) <= _MOST_FOLDERS else [_together(found)]:
                path = item.path if item.count == 1 else item.folder
                _log.info("%s", _sentence(kind, program, item), extra={"path": path})

    def _add(self, kind: str, node: Node, *, program: str = "", before: str = "") -> None:
        folder = node.s_parent if node.parent is None else node.parent
        name = node.s_name if node.parent is None else node.name
        key = kind, program, folder
        item = self._items.get(key)
        if item is None:
            path = self._place(folder, name)
            item = self._items[key] = _Item(path.rpartition("/")[0] or "/", path, before)
        item.count += 1
        item.size += node.size
        self._last = trio.current_time()
        self._bell.set()

    def _place(self, folder: Ino | None, name: str | None) -> str:
        above = None if folder is None else self._nodes.local_path(folder) or self._nodes.synced_path(folder)
        return f"{(above or '').rstrip('/')}/{name or ''}"


def _together(items: list[_Item]) -> _Item:
    parts = [item.folder.split("/") for item in items]
    common: list[str] = []
    for names in zip(*parts, strict=False):
        if len(set(names)) > 1:
            break
        common.append(names[0])
    folder = "/".join(common) or "/"
    return _Item(folder, folder, "", sum(item.count for item in items), sum(item.size for item in items))


def _sentence(kind: str, program: str, item: _Item) -> str:
    size = in_units(item.size)
    if item.count == 1:
        return _ONE[kind].format(item.path, item.before, size, program)
    return _MANY[kind].format(item.count, item.folder, size, program)
