"""One mount from its beginning to its end: it is announced only once it answers, and leaves nothing behind.

At the end the order matters. The kernel is still served while the mount is taken away, so that pages which
programs changed through mmap arrive and nobody waits for an answer that will not come; only then is
the session closed.
"""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable
from typing import Protocol

import pyfuse3
import trio

from cloudfs.errors import ExitCode, UserError
from cloudfs.fuse.kernel_readahead import widen
from cloudfs.fuse.mounts import PROBE, MountEntry, abort, all_mounts, fusermount, mounts_at, source_of
from cloudfs.fuse.operations import Operations
from cloudfs.fuse.overhearing import not_mounted, overheard
from cloudfs.fuse.unmounting import SILENT, is_busy, why_mounted

__all__ = ["Session"]

log = logging.getLogger(__name__)

_MOST_REQUESTS = 2000
"""So many are at work at once. By itself pyfuse3 would leave the 100th in the kernel's queue, and with it those that
need no network. Long before there are so many, the boundary lets no further one wait for long."""
_GLANCE_S = 1.0
"""So long a program may be in a mount that is to be unmounted."""


class Notifying(Protocol):
    """Tells the kernel of changes in threads of its own."""

    def start(self) -> None:
        """The mount answers."""
        ...

    def stop(self, timeout_s: float) -> bool:
        """Call the kernel no more; blocks up to that long for each thread. False where one hangs there."""
        ...


class Session:
    """The one FUSE session of this process (libfuse and pyfuse3 allow no second)."""

    def __init__(
        self,
        operations: Operations,
        mount_point: str,
        *,
        account: str,
        notifier: Notifying,
        grace_s: float = 5.0,
        allow_other: bool = False,
    ) -> None:
        """`mount_point` comes from `mount_point.claim`. `grace_s` bounds each step of the end.

        `allow_other`: other users get in, as far as modes allow; `mount_point.check_fuse` knows whether that may be.
        """
        self._allow_other = allow_other
        self.mount_point = mount_point
        self._operations = operations
        self._account = account
        self._notifier = notifier
        self._grace_s = grace_s
        self._serving = trio.CancelScope(shield=True)
        self._ended = trio.Event()
        self._made: MountEntry | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Mount, report `started` once the mount answers, and serve until it is unmounted or this is cancelled.

        Raises UserError when it cannot be mounted. Whatever happens, the mount is gone afterwards; when
        cancelled, in at most about three times `grace_s`.
        """
        self._init()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._serve)
                try:
                    await self._wait_until_it_answers()
                    if self._made is not None:
                        widen(self._made.device)
                    self._notifier.start()
                    task_status.started()
                    await self._ended.wait()
                finally:
                    with trio.CancelScope(shield=True):
                        await self._leave()
                    self._serving.cancel()
        finally:
            # We have unmounted by ourselves: close(unmount=True) would take away whatever is mounted there now.
            pyfuse3.close(unmount=False)

    async def answers(self) -> bool:
        """Ask the mount from outside, as a program does; False where no answer comes within the deadline."""
        return await _execute([*PROBE, self.mount_point], self._operations.boundary.deadline_s) == 0

    async def unmount(self) -> None:
        """Unmount as umount(8) does; UserError, with the reason, where it is still mounted, and then goes on.

        Where it is in use that is tried for a second: who only looks, as our own probe does, is through by then.
        """
        until = trio.current_time() + _GLANCE_S
        while True:
            said: list[str] = []
            code = await _execute([fusermount(), "-u", "--", self.mount_point], self._grace_s, said.append)
            if self._made is None or not self.is_mounted():
                return
            words = SILENT if code is None else "".join(said)
            if not is_busy(words) or trio.current_time() >= until:
                raise why_mounted(self.mount_point, self._made.mount_id, words, all_mounts())
            await trio.sleep(_GLANCE_S / 10)

    def is_mounted(self) -> bool:
        """Tell whether the mount is still in the tree."""
        made = self._made
        return made is not None and any(e.mount_id == made.mount_id for e in mounts_at(self.mount_point))

    @property
    def connection(self) -> str:
        """The number of its FUSE connection, once it is mounted."""
        return "" if self._made is None else self._made.connection

    def _init(self) -> None:
        before = {entry.mount_id for entry in mounts_at(self.mount_point)}
        with overheard() as said:
            try:
                pyfuse3.init(self._operations, self.mount_point, self._options())
            except RuntimeError as error:
                raise not_mounted(self.mount_point, said()) from error
        made = [entry for entry in mounts_at(self.mount_point) if entry.mount_id not in before]
        self._made = made[-1] if made else None

    def _options(self) -> set[str]:
        # No auto_unmount: after a crash the empty folder below would show up, and programs would write into it without
        # a word; a dead mount refuses them. The kernel compares users with modes, whoever is let in.
        options = {
            f"fsname={source_of(self._account)}",
            "subtype=cloudfs",
            "default_permissions",
            "nosuid",
            "nodev",
        }
        return options | {"allow_other"} if self._allow_other else options

    async def _serve(self) -> None:
        try:
            with self._serving:
                await pyfuse3.main(max_tasks=_MOST_REQUESTS)
        finally:
            self._ended.set()

    async def _wait_until_it_answers(self) -> None:
        code = await _execute([*PROBE, self.mount_point], self._operations.boundary.deadline_s)
        if code != 0:
            raise UserError(
                f"The mount at {self.mount_point} was made but does not answer (error {code}).",
                hint="The daemon's log names the reason.",
                code=ExitCode.MOUNT_POINT,
            )

    async def _leave(self) -> None:
        """Unmount whatever is left of the mount; bounded. Cancelled by nobody."""
        stopped = await trio.to_thread.run_sync(self._notifier.stop, self._grace_s)
        if self.is_mounted():
            await self._unmount_or_detach()
        with trio.move_on_after(self._grace_s):
            await self._ended.wait()  # a detached mount ends when the last file in it is closed
        if not stopped:
            self._abort()

    async def _unmount_or_detach(self) -> None:
        if not self._ended.is_set():
            try:
                await self.unmount()
            except UserError as error:
                log.warning("%s Detached; programs with open files there lose them", error.message)
            else:
                return
            await _execute(["sync", "-f", self.mount_point], self._grace_s)  # pages changed through mmap
        await _execute([fusermount(), "-uz", "--", self.mount_point], self._grace_s)

    def _abort(self) -> None:
        """Have the kernel give up every request, which frees a thread that hangs in an invalidation."""
        log.error("an invalidation hangs in the kernel: aborting the connection")
        if self._made is not None:
            try:
                abort(self._made)
            except OSError as error:
                log.error("cannot abort it: %s", error)  # noqa: TRY400  # the reason is all there is to say


async def _execute(
    command: list[str], timeout_s: float, told: Callable[[str], None] = lambda _: None
) -> int | None:
    """Run a program that may hang on our own mount; its exit code, None when it took too long.

    `told` hears what it says where it fails.
    """

    def run() -> int:
        done = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()
            log.debug("%s: %s", command, said)
            told(said)
        return done.returncode

    with trio.move_on_after(timeout_s):
        try:
            # abandon_on_cancel: a child that hangs in the kernel must not keep us.
            return await trio.to_thread.run_sync(run, abandon_on_cancel=True)
        except subprocess.TimeoutExpired:
            return None
    return None
