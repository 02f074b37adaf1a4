"""What a mount has to be: files and folders in memory, with the answers of POSIX. The judge of every test here.

A file remembers what it held since the last flush: after a kill each byte must be one of those, and the size too.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

from cloudfs.errors import PosixError
from cloudfs.paths import is_local_only

__all__ = ["RefFile", "RefFolder", "Reference"]


@dataclass(eq=False)
class RefFile:
    content: bytes = b""
    mtime_ns: int | None = None
    """None: not set by hand since the last write."""
    mode: int = 0o644
    since_flush: list[bytes] = field(default_factory=list)
    """Contents that the file had from the last flush to before now."""

    def change(self, content: bytes) -> None:
        self.since_flush.append(self.content)
        self.content, self.mtime_ns = content, None

    def about_to_be(self, content: bytes) -> None:
        """A change begins: whoever dies during it may leave some of it."""
        self.since_flush.append(content)

    def flushed(self) -> None:
        self.since_flush.clear()

    def may_be(self, found: bytes) -> bool:
        """Tell whether a kill may have left these bytes."""
        contents = [self.content, *self.since_flush]
        if len(found) not in {len(content) for content in contents}:
            return False
        return all(
            any(content[at : at + 1] == found[at : at + 1] for content in contents)
            for at in range(len(found))
        )


@dataclass(eq=False)
class RefFolder:
    members: dict[str, RefFile | RefFolder] = field(default_factory=dict)
    mode: int = 0o755


RefNode = RefFile | RefFolder


class Reference:
    """One tree. Paths are relative ("d/a"), "" is the root; errors are PosixErrors."""

    def __init__(self) -> None:
        self.root = RefFolder()

    def get(self, path: str) -> RefNode:
        found: RefNode = self.root
        for name in filter(None, path.split("/")):
            if isinstance(found, RefFile):
                raise PosixError(errno.ENOTDIR, path)
            if name not in found.members:
                raise PosixError(errno.ENOENT, path)
            found = found.members[name]
        return found

    def file(self, path: str) -> RefFile:
        found = self.get(path)
        if isinstance(found, RefFolder):
            raise PosixError(errno.EISDIR, path)
        return found

    def folder_of(self, path: str) -> tuple[RefFolder, str]:
        above, _, name = path.rpartition("/")
        folder = self.get(above)
        if isinstance(folder, RefFile):
            raise PosixError(errno.ENOTDIR, path)
        return folder, name

    def add(self, path: str, node: RefNode) -> RefNode:
        folder, name = self.folder_of(path)
        if name in folder.members:
            raise PosixError(errno.EEXIST, path)
        folder.members[name] = node
        return node

    def unlink(self, path: str) -> None:
        folder, name = self.folder_of(path)
        self.file(path)
        del folder.members[name]

    def rmdir(self, path: str) -> None:
        folder, name = self.folder_of(path)
        found = self.get(path)
        if isinstance(found, RefFile):
            raise PosixError(errno.ENOTDIR, path)
        if found.members:
            raise PosixError(errno.ENOTEMPTY, path)
        del folder.members[name]

    def rename(self, source: str, target: str, *, replace: bool = True) -> None:
        here, old = self.folder_of(source)
        moved = self.get(source)
        there, new = self.folder_of(target)
        taken = there.members.get(new)
        if taken is not None and not replace:
            raise PosixError(errno.EEXIST, target)
        if taken is moved:
            return
        self._require_outside(source, target)
        if isinstance(taken, RefFolder):
            if isinstance(moved, RefFile):
                raise PosixError(errno.EISDIR, target)
            if taken.members:
                raise PosixError(errno.ENOTEMPTY, target)
        elif taken is not None and isinstance(moved, RefFolder):
            raise PosixError(errno.ENOTDIR, target)
        del here.members[old]
        there.members[new] = moved

    def exchange(self, one: str, other: str) -> None:
        here, first = self.folder_of(one)
        there, second = self.folder_of(other)
        left, right = self.get(one), self.get(other)
        self._require_outside(one, other)
        self._require_outside(other, one)
        here.members[first], there.members[second] = right, left

    def _require_outside(self, source: str, target: str) -> None:
        if isinstance(self.get(source), RefFolder) and target.startswith(source + "/"):
            raise PosixError(errno.EINVAL, target)

    def nodes(self) -> dict[str, RefNode]:
        """Return everything by path."""
        found: dict[str, RefNode] = {}

        def below(folder: RefFolder, above: str) -> None:
            for name, node in folder.members.items():
                found[above + name] = node
                if isinstance(node, RefFolder):
                    below(node, f"{above}{name}/")

        below(self.root, "")
        return found

    def tree(self, *, on_server: bool = False) -> dict[str, bytes | None]:
        """Return contents by absolute path, None for a folder; `on_server`: without what stays local."""
        return {
            f"/{path}": None if isinstance(node, RefFolder) else node.content
            for path, node in self.nodes().items()
            if not (on_server and any(map(is_local_only, path.split("/"))))
        }
