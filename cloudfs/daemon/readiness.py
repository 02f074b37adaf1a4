"""Tells whoever started the daemon, once, how it went: by a pipe, by systemd's socket, or to a person's terminal."""

from __future__ import annotations

import os
import sys

import msgspec

from cloudfs import systemd
from cloudfs.errors import UserError

__all__ = ["Ready"]


class Ready:
    """Of one start. `descriptor`: the pipe to the starting process; None: it runs in the foreground."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def succeed(self, mount_point: str) -> None:
        """The mount answers. Raises UserError, and with that it goes, where nobody waits for it any more."""
        systemd.notify(f"READY=1\nSTATUS=mounted at {mount_point}")
        if not self._tell({"ok": True, "pid": os.getpid(), "mount_point": mount_point}):
            raise UserError("Whoever wanted it mounted has gone before it was.")

    def fail(self, error: UserError) -> None:
        """There is no mount; in the foreground a person reads it."""
        if self._descriptor is None:
            for line in filter(None, (error.message, error.hint)):
                sys.stderr.write(f"{line}\n")
        self._tell({"ok": False, "code": int(error.code), "message": error.message, "hint": error.hint})

    def _tell(self, message: dict[str, object]) -> bool:
        """Tell it; False where nobody hears it any more, as after a terminal was closed."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            try:
                with os.fdopen(descriptor, "wb") as pipe:
                    pipe.write(msgspec.json.encode(message) + b"\n")
            except BrokenPipeError:
                return False
        return True
