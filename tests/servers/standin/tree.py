"""The files of one account: ids, ETags, sizes and times kept as Nextcloud's file cache keeps them (protocol.md §3)."""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.servers.standin.blobs import EMPTY, Blob
from tests.servers.standin.names import Segments

OWN_FOLDER_PERMISSIONS = "RGDNVCK"
OWN_FILE_PERMISSIONS = "RGDNVW"
_LETTERS = "SRMGDNVWCK"
"""In Nextcloud's order."""
_MOST_VERSIONS = 5
"""More than any test looks at; a Nextcloud thins them out by age."""
_DEVICE = 2049
"""Enters every file ETag, as the device number does on a local storage."""


class Counters:
    """What is unique over the whole server: file ids, inode numbers, folder ETags."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.now = now
        self._ids = itertools.count(21)
        self._inodes = itertools.count(1_000_001)
        self._lock = threading.Lock()
        self._last_microsecond = 0

    def file_id(self) -> int:
        """The next file id."""
        return next(self._ids)

    def inode(self) -> int:
        """The next inode number."""
        return next(self._inodes)

    def uniqid(self) -> str:
        """A folder ETag: 13 hex digits of the time in microseconds, never the same twice (PHP's ``uniqid``)."""
        with self._lock:
            microsecond = max(self._last_microsecond + 1, int(self.now() * 1_000_000))
            self._last_microsecond = microsecond
        seconds, rest = divmod(microsecond, 1_000_000)
        return f"{seconds:08x}{rest:05x}"


@dataclass(eq=False, slots=True)
class Node:
    """A file or a folder."""

    name: str
    parent: Node | None
    file_id: int
    inode: int
    mtime: int
    etag: str
    children: dict[str, Node] | None = None
    """Members of a folder; ``None`` for a file."""
    blob: Blob = EMPTY
    size_bytes: int = 0
    """What listings say: recursive for folders; wrong after a broken overwrite until the file is read."""
    broken_at: int | None = None
    """When an overwrite broke off; the listing does not know of it yet."""
    checksum: str | None = None
    creation_time: int = 0
    upload_time: int = 0
    favorite: bool = False
    tags: list[str] = field(default_factory=list)
    system_tags: list[str] = field(default_factory=list)
    sharees: list[tuple[str, int]] = field(default_factory=list)
    """To whom it is given, and the kind of each share."""
    comments: int = 0
    permissions: str | None = None
    """Letters set by a test for this node and everything below it that has no own ones."""
    mounted: bool = False
    """The root of a received share: whatever may be done in it, it may be renamed, moved and left."""
    versions: dict[int, Blob] = field(default_factory=dict)
    """Contents that were overwritten, by their times; of those of one second only the last (protocol.md §10)."""
    dead_properties: dict[str, str] = field(default_factory=dict)
    """Inner XML by Clark name."""

    @property
    def is_folder(self) -> bool:
        """Whether the node can have members."""
        return self.children is not None

    def members(self) -> list[Node]:
        """Members sorted by name."""
        return sorted((self.children or {}).values(), key=lambda node: node.name)

    def segments(self) -> Segments:
        """The path from the account's root."""
        names: list[str] = []
        node: Node | None = self
        while node is not None and node.parent is not None:
            names.append(node.name)
            node = node.parent
        return tuple(reversed(names))

    def lineage(self) -> Iterator[Node]:
        """The node, its parent, … up to the root."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent

    def walk(self) -> Iterator[Node]:
        """The node and everything below it, parents first."""
        yield self
        for member in self.members():
            yield from member.walk()

    def effective_permissions(self) -> str:
        """``oc:permissions`` letters, in Nextcloud's order (protocol.md §2.2)."""
        for node in self.lineage():
            if node.permissions is not None:
                own = node.permissions + ("DNV" if self.mounted else "")
                unfit = "W" if self.is_folder else "CK"
                return "".join(letter for letter in _LETTERS if letter in own and letter not in unfit)
        return OWN_FOLDER_PERMISSIONS if self.is_folder else OWN_FILE_PERMISSIONS

    def permissions_as_itself(self) -> str:
        """The letters when the node itself is asked for: a share's root hides that it may be renamed (§2.2)."""
        letters = self.effective_permissions()
        if self.mounted and not set("NV") & set(self.permissions or ""):
            return letters.replace("N", "").replace("V", "")
        return letters


@dataclass(frozen=True)
class Removed:
    """A file or folder in the trash: it keeps its id, and so does what is below it (protocol.md §10)."""

    node: Node
    original: Segments
    at: int


class Tree:
    """One account's nodes. The caller holds `lock` around anything that reads or changes more than one of them."""

    def __init__(self, owner: str, counters: Counters) -> None:
        self.owner = owner
        self.lock = threading.RLock()
        self.on_change: Callable[[Node | None, Node], None] = lambda _node, _parent: None
        """Hears of every entry that is made, changed or moved, and of the folder that it is in; of what is taken out
        (before a move, too) of the folder alone."""
        self._counters = counters
        self.root = self._node("", None, folder=True)
        self.trash: dict[str, Removed] = {}
        """What was removed, by the names that it has there."""

    def now(self) -> int:
        """The server's clock, in whole seconds."""
        return int(self._counters.now())

    def lookup(self, segments: Segments) -> Node | None:
        """The node at a path."""
        node: Node | None = self.root
        for name in segments:
            if node is None or node.children is None:
                return None
            node = node.children.get(name)
        return node

    def mkdir(self, parent: Node, name: str) -> Node:
        """A new, empty folder."""
        return self._attach(self._node(name, parent, folder=True), parent)

    def create_file(self, parent: Node, name: str, blob: Blob, *, upload_time: int = 0) -> Node:
        """A new file with mtime now."""
        node = self._node(name, parent, folder=False)
        node.blob, node.size_bytes, node.upload_time = blob, blob.size_bytes, upload_time
        node.etag = self._file_etag(node)
        return self._attach(node, parent)

    def overwrite(self, node: Node, blob: Blob, *, upload_time: int = 0, mtime: int | None = None) -> None:
        """New content under the same file id and inode, with mtime now unless another is given."""
        self._keep_version(node)
        grown = blob.size_bytes - node.size_bytes
        node.blob, node.size_bytes = blob, blob.size_bytes
        node.upload_time, node.checksum, node.broken_at = upload_time, None, None
        self._stamp(node, self.now() if mtime is None else mtime)
        self.propagate(node.parent, size_delta=grown, mtime=node.mtime)
        self.on_change(node, node.parent or node)

    def leave_truncated(self, node: Node, blob: Blob) -> None:
        """What a broken in-place overwrite leaves: short content behind an unchanged listing (protocol.md §6)."""
        self._keep_version(node)
        node.blob, node.broken_at = blob, self.now()

    def repair(self, node: Node) -> None:
        """Make the listing of a truncated file true again, as the server does at the next GET (§6)."""
        if node.broken_at is not None:
            self.overwrite(node, node.blob, upload_time=node.upload_time, mtime=node.broken_at)

    @staticmethod
    def _keep_version(node: Node) -> None:
        """Keep what is about to be overwritten; not what a broken overwrite has left."""
        if node.blob.size_bytes and node.broken_at is None:
            node.versions[node.mtime] = node.blob
            while len(node.versions) > _MOST_VERSIONS:
                del node.versions[next(iter(node.versions))]

    def touch(self, node: Node, mtime: int) -> None:
        """Set the mtime: new ETags up to the root; ancestors' times never go back (§3.1)."""
        self._stamp(node, mtime)
        self.propagate(node.parent, mtime=mtime)
        self.on_change(node, node.parent or node)

    def _stamp(self, node: Node, mtime: int) -> None:
        # SOURCE: measured on 29.0.1: as long as the mtime second stays, so does the ETag, whatever the size. Only
        # another mtime makes a new one, from (mtime, inode, device, size).
        if mtime != node.mtime:
            node.mtime = mtime
            # SOURCE: measured on 29.0.1: another time, set by PROPPATCH too, drops what a client said of the content.
            node.checksum = None
            node.etag = self._counters.uniqid() if node.is_folder else self._file_etag(node)

    def remove(self, node: Node) -> None:
        """Take the node and everything below it out of the tree, to the trash."""
        self.trash[f"{node.name}.d{self.now()}"] = Removed(node, node.segments(), self.now())
        self._detach(node)

    def restore(self, name: str) -> None:
        """Put back what has this name in the trash: ids, ETags and times stay."""
        removed = self.trash.pop(name)
        parent = removed.node.parent
        assert parent is not None
        self._attach(removed.node, parent)

    def _detach(self, node: Node) -> None:
        parent = node.parent
        assert parent is not None
        assert parent.children is not None
        del parent.children[node.name]
        parent.mtime = self.now()
        self.propagate(parent, size_delta=-node.size_bytes, mtime=self.now())
        self.on_change(None, parent)

    def move(self, node: Node, parent: Node, name: str) -> None:
        """Rename: ids, ETags, times and checksums stay, both parents' chains change (§3.3)."""
        self._detach(node)
        node.name, node.parent = name, parent
        for below in node.walk():
            if below is not node:
                # Dead properties are stored by path, so a renamed folder's children lose theirs (§9).
                below.dead_properties.clear()
        self._attach(node, parent)

    def copy(self, node: Node, parent: Node, name: str) -> Node:
        """Deep copy: new ids, mtime now, neither checksum nor creation time (§3.3)."""
        if not node.is_folder:
            return self.create_file(parent, name, node.blob)
        made = self.mkdir(parent, name)
        for member in node.members():
            self.copy(member, made, member.name)
        return made

    def propagate(self, node: Node | None, *, size_delta: int = 0, mtime: int | None = None) -> None:
        """New ETags for a folder and all its ancestors, at once (§3.1)."""
        for folder in node.lineage() if node is not None else ():
            folder.etag = self._counters.uniqid()
            folder.size_bytes += size_delta
            if mtime is not None:
                folder.mtime = max(folder.mtime, mtime)

    def _attach(self, node: Node, parent: Node) -> Node:
        assert parent.children is not None
        parent.children[node.name] = node
        parent.mtime = self.now()
        self.propagate(parent, size_delta=node.size_bytes, mtime=self.now())
        self.on_change(node, parent)
        return node

    def _node(self, name: str, parent: Node | None, *, folder: bool) -> Node:
        return Node(
            name=name,
            parent=parent,
            file_id=self._counters.file_id(),
            inode=self._counters.inode(),
            mtime=self.now(),
            etag=self._counters.uniqid(),
            children={} if folder else None,
        )

    @staticmethod
    def _file_etag(node: Node) -> str:
        key = f"{node.mtime}{node.inode}{_DEVICE}{node.size_bytes}"
        return hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()
