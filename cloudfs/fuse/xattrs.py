"""The kernel's requests about extended attributes: `user.cloudfs.*`, computed, where an account has them; else none.

They have a price (docs/PERFORMANCE.md), so an account may do without them: before every write(2) the kernel looks for
`security.capability`, and remembers that there are none only for a mount as a whole, from one ENOSYS on. What would
spare that is FUSE_HANDLE_KILLPRIV_V2, which libfuse 3.14 does not know; pyfuse3 3.5 has no way to ask for it.
SOURCE: Linux fs/fuse/inode.c (SB_NOSEC), fs/fuse/xattr.c (no_getxattr), pyfuse3 handlers.pxi (fuse_init).
"""

# ruff: noqa: ARG002  # the parameters are pyfuse3's, whether a request needs them or not

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import NoReturn, Protocol

import pyfuse3
from pyfuse3 import FUSEError, RequestContext

from cloudfs.fuse.boundary import Boundary, answered
from cloudfs.types import Ino

__all__ = ["XattrOperations", "Xattrs"]

_PREFIX = b"user.cloudfs."
_USER = b"user."


class Xattrs(Protocol):
    """What files have; names are without `user.cloudfs.`. PosixError ENODATA for what is not there."""

    def names(self, ino: Ino) -> Sequence[str]:
        """Return those that a copy of the file is to have, too."""
        ...

    def get(self, ino: Ino, name: str) -> bytes:
        """Return a value."""
        ...

    async def set(self, ino: Ino, name: str, value: bytes) -> None:
        """Change a value; EPERM for what only tells, EOPNOTSUPP for what is not known, EINVAL for a wrong value."""
        ...

    async def remove(self, ino: Ino, name: str) -> None:
        """Take a value back."""
        ...


class XattrOperations(pyfuse3.Operations):
    """A part of `Operations`."""

    boundary: Boundary
    _xattrs: Xattrs | None
    """None: no attribute exists, and the kernel need not ask."""

    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        """Give a value; where there are none, ENOSYS, once and for all (programs see EOPNOTSUPP).

        Foreign namespaces are EOPNOTSUPP, not ENODATA: `ls` then asks for access lists and labels once for each
        mount, and not for every file. The kernel asks for one of these before each write: that is answered in front of
        the boundary, which takes longer than the answer.
        """
        if self._xattrs is not None and name.startswith(_PREFIX):
            return await self._get(inode, name)
        if self._xattrs is None:
            raise FUSEError(errno.ENOSYS)
        raise FUSEError(errno.ENODATA if name.startswith(_USER) else errno.EOPNOTSUPP)

    @answered
    async def _get(self, inode: int, name: bytes) -> bytes:
        assert self._xattrs is not None  # noqa: S101  # asked before
        return self._xattrs.get(Ino(inode), _own(name))

    @answered
    async def listxattr(self, inode: int, ctx: RequestContext) -> Sequence[bytes]:
        """Name what a copy is to have, too."""
        if self._xattrs is None:
            return ()
        return [_PREFIX + name.encode() for name in self._xattrs.names(Ino(inode))]

    @answered
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        """Change one of ours; all else cannot be kept: EOPNOTSUPP."""
        if self._xattrs is None or not name.startswith(_PREFIX):
            _refuse(errno.EOPNOTSUPP)
        await self._xattrs.set(Ino(inode), _own(name), value)

    @answered
    async def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        """Take one of ours back; no other exists: ENODATA."""
        if self._xattrs is None or not name.startswith(_PREFIX):
            _refuse(errno.ENODATA)
        await self._xattrs.remove(Ino(inode), _own(name))


def _own(name: bytes) -> str:
    return name.removeprefix(_PREFIX).decode(errors="replace")


def _refuse(code: int) -> NoReturn:
    raise FUSEError(code)
