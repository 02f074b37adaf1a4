"""Where blocking calls run: five lanes of worker threads, each with its own limit.

Lanes are apart so that a slow kind of call cannot use up the threads of a quick one: an fsync that takes
seconds must not hold up reads, a kernel notification that waits for a page must not hold up anything.

What happens when the waiting task is cancelled (a request's deadline, shutting down)?

- Reads, notifications and questions to the keyring are *abandoned*: the task goes on at once, the thread
  finishes behind it and its result is dropped. They change nothing that anybody relies on before they have
  ended, so nobody can tell; and a disk that hangs must not hold a kernel request beyond its bound. The limit
  counts an abandoned thread until it has really ended.
- Calls with an effect (writes, fsync, unlink) are *waited for*. An abandoned write would land later, maybe
  on top of a newer write that a program was told is safe. The price: a hanging local disk holds the
  request, as on every other file system.

A hop costs about 0.25 ms (trio 0.35, 2 cores; a checkpoint 0.01 ms), so only work that may touch the disk
is worth one, and a job does all its disk work in one hop. Threads get file descriptors and immutable
values, never objects that the loop changes meanwhile.

What a call raises comes over in a list that is empty afterwards. Raised by trio's own `run_sync` it would be part of a
circle (error, traceback, frames and those that called them, error; trio 0.35, Python 3.11), and all that the call was
given would stay until the collector passes: a cold read beside a full disk kept 100 MB of blocks like that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import trio
from trio.lowlevel import RunVar

__all__ = [
    "in_disk_thread",
    "in_notify_thread",
    "in_read_thread",
    "in_secret_thread",
    "in_sync_thread",
    "thread_statistics",
]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _Lane:
    """A capacity limiter that every trio.run makes for itself, so tests and runs share nothing."""

    __slots__ = ("_limiter", "name", "threads")

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        self.threads = threads
        self._limiter: RunVar[trio.CapacityLimiter] = RunVar(f"cloudfs {name} threads")

    def limiter(self) -> trio.CapacityLimiter:
        try:
            return self._limiter.get()
        except LookupError:
            limiter = trio.CapacityLimiter(self.threads)
            self._limiter.set(limiter)
            return limiter


_READ = _Lane("read", 8)
_DISK = _Lane("disk", 4)
_SYNC = _Lane("sync", 4)
_NOTIFY = _Lane("notify", 4)
_SECRET = _Lane("secret", 4)


async def _run(lane: _Lane, call: Callable[[*Ts], T], *args: *Ts, abandon: bool = False) -> T:
    """Run the call in a thread of the lane; raises what it raises."""
    results: list[T] = []
    errors: list[BaseException] = []

    def job() -> None:
        try:
            results.append(call(*args))
        except BaseException as error:  # noqa: BLE001  # it is raised below
            errors.append(error)

    await trio.to_thread.run_sync(job, limiter=lane.limiter(), abandon_on_cancel=abandon)
    if errors:
        raise errors.pop()
    return results.pop()


async def in_read_thread(call: Callable[[*Ts], T], *args: *Ts) -> T:
    """Run a blocking call without effects, such as pread. Abandoned when cancelled."""
    return await _run(_READ, call, *args, abandon=True)


async def in_disk_thread(call: Callable[[*Ts], T], *args: *Ts) -> T:
    """Run a blocking call that changes the disk. Waited for even when cancelled."""
    return await _run(_DISK, call, *args)


async def in_sync_thread(call: Callable[[*Ts], T], *args: *Ts) -> T:
    """Run a call that waits for the disk itself, such as fsync. Waited for even when cancelled."""
    return await _run(_SYNC, call, *args)


async def in_notify_thread(call: Callable[[*Ts], T], *args: *Ts) -> T:
    """Tell the kernel something that it may answer late. Abandoned when cancelled.

    The kernel can hold an invalidation until a page is read that only we can deliver: never wait for one
    while holding what a read needs.
    """
    return await _run(_NOTIFY, call, *args, abandon=True)


async def in_secret_thread(call: Callable[[*Ts], T], *args: *Ts) -> T:
    """Ask the keyring, which may have to ask a person first, or never answer. Abandoned when cancelled."""
    return await _run(_SECRET, call, *args, abandon=True)


def thread_statistics() -> dict[str, tuple[int, int]]:
    """Return per lane the busy threads and the tasks that wait for one; only inside trio.run."""
    lanes = {lane.name: lane.limiter().statistics() for lane in (_READ, _DISK, _SYNC, _NOTIFY, _SECRET)}
    return {name: (now.borrowed_tokens, now.tasks_waiting) for name, now in lanes.items()}
