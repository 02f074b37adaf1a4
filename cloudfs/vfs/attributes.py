"""A node's attributes as the mount shows them. Pure."""

from __future__ import annotations

from cloudfs.content.layers import FileContent
from cloudfs.metadata.columns import NS
from cloudfs.metadata.permissions import may
from cloudfs.store.records import Node
from cloudfs.types import Kind
from cloudfs.vfs.records import Attributes

__all__ = ["attributes_of"]

_FILE_MODE, _FOLDER_MODE = 0o644, 0o755
_WRITE_BITS = 0o222


def attributes_of(node: Node, unflushed: FileContent | None) -> Attributes:
    """Combine the row with what was written since the last flush."""
    return Attributes(
        ino=node.ino,
        kind=node.kind,
        permissions=_permissions(node),
        size=unflushed.size if unflushed is not None else node.size,
        mtime_ns=_written_ns(unflushed.mtime_ns, node.mtime_ns) if unflushed is not None else node.mtime_ns,
        ctime_ns=unflushed.mtime_ns if unflushed is not None else node.ctime_ns,
        links=_links(node),
        exact=unflushed is None,
    )


def _written_ns(written_ns: int, closed_ns: int) -> int:
    """Return the time to show of a file that is being written, from second to second; its exact one once it is closed.

    With each other time that the kernel sees it drops all pages of the file, and reads them anew (libfuse has it do so,
    and pyfuse3 cannot ask for anything else).
    """
    return max(closed_ns, written_ns - written_ns % NS) if closed_ns <= written_ns else written_ns


def _links(node: Node) -> int:
    if not node.linked:
        return 0
    return 2 if node.kind is Kind.FOLDER else 1


def _permissions(node: Node) -> int:
    """Return a chmod's bits or the usual ones, less what the server does not allow (protocol.md §2.2)."""
    mode = node.mode if node.mode is not None else (_FOLDER_MODE if node.folder else _FILE_MODE)
    return mode if may(node, "CK" if node.folder else "W") else mode & ~_WRITE_BITS
