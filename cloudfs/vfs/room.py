"""Whether a file may still grow, as far as the server has told: what is sure to be refused is refused at once.

Only what is certain counts. What was removed or cut here may be free by now, or will be before the file goes up. The
space is that of the account; files of received shares and external storages count on somebody else's, and what other
files will take is not known yet. What a file has on the server it may always have here, though a Nextcloud may refuse
that as well: better kept and shown by `cloudfs status`, as all that is refused later, than not even kept.
"""

from __future__ import annotations

import errno

import msgspec

from cloudfs.errors import PosixError
from cloudfs.store.records import Node
from cloudfs.vfs.records import Space

__all__ = ["Room"]

_ELSEWHERE = frozenset("SM")
"""oc:permissions of what is shared with us or mounted from elsewhere (protocol.md §2.2)."""


class Room(msgspec.Struct, frozen=True):
    """What one file has on the server already, and whether it counts on the account's own space."""

    held_bytes: int
    counts: bool

    @classmethod
    def of(cls, node: Node, parent: Node | None) -> Room:
        """Take a node's; a new file's permissions are those of its folder."""
        letters = node.permissions or (parent.permissions if parent is not None else None) or ""
        return cls(held_bytes=node.s_size or 0, counts=_ELSEWHERE.isdisjoint(letters))

    def lacks(self, size: int, space: Space) -> int:
        """Return how many bytes a file of this size is short of, by what the server has told; 0: it fits."""
        if not (self.counts and space.limited) or size <= self.held_bytes:
            return 0
        needed = size if space.whole else size - self.held_bytes
        return max(needed - max(space.free, 0), 0)

    def require(self, size: int, space: Space, may_be_free: int, opened: Room) -> None:
        """Raise PosixError(EDQUOT) where a file of this size cannot go up, whatever was removed here since.

        `opened`: its room when it was opened. What has gone up of it since is no reason to refuse the rest.
        """
        came = max(self.held_bytes - opened.held_bytes, 0) if space.whole else 0
        if self.lacks(size, space) > may_be_free + came:
            raise PosixError(errno.EDQUOT, f"{size} bytes, and the account has {space.free} left")
