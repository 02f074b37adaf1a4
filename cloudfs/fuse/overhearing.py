"""What libfuse and fusermount3 say where they do not mount: they write it to standard error, and a daemon has none."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from cloudfs.errors import ExitCode, UserError

__all__ = ["not_mounted", "overheard"]

_MOST_BYTES = 64 * 1024
_STDERR = 2

_NEXT_STEPS = (
    (
        "could not determine username",
        "Have the administrator give this user, number {uid}, a name: a line in /etc/passwd.",
    ),
    (
        "Operation not permitted",
        "fusermount3 needs its rights (`sudo chmod u+s` it); a container is started with --cap-add SYS_ADMIN.",
    ),
)
"""By their words. SOURCE: fuse3 3.14, util/fusermount.c."""


@contextmanager
def overheard() -> Iterator[Callable[[], str]]:
    """Take what is written to standard error meanwhile, by whatever program; where nothing fails it goes on to there.

    What is yielded returns what was written so far.
    """

    def heard() -> bytes:
        return os.pread(instead, _MOST_BYTES, 0)

    sys.stderr.flush()
    before, instead = os.dup(_STDERR), os.memfd_create("cloudfs-overheard")
    try:
        os.dup2(instead, _STDERR)
        try:
            yield lambda: heard().decode(errors="replace")
        finally:
            sys.stderr.flush()
            os.dup2(before, _STDERR)
        with suppress(OSError):  # nobody may read it any more
            os.write(_STDERR, heard())
    finally:
        os.close(before)
        os.close(instead)


def not_mounted(mount_point: str, said: str) -> UserError:
    """Return the sentence for a mount that was refused, in the words of who refused it, with the next step."""
    lines = ["the kernel gives no reason", *(line.strip() for line in said.splitlines() if line.strip())]
    # Not what another thread logs at that moment.
    line = next((it for it in reversed(lines) if it.startswith("fusermount3:")), lines[-1])
    words = "".join(it if it.isprintable() else "?" for it in line)
    for part, step in _NEXT_STEPS:
        if part in words:
            hint = step.format(uid=os.geteuid())
            return UserError(f"{mount_point} cannot be mounted: {words}.", hint=hint, code=ExitCode.NO_FUSE)
    hint = "`cloudfs doctor` looks at what a mount takes."
    return UserError(f"{mount_point} cannot be mounted: {words}.", hint=hint, code=ExitCode.MOUNT_POINT)
