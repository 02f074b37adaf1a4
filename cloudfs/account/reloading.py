"""Taking over a changed account's file while it is mounted.

What can hold at once does; of all else it is said that it holds after the next mount. A file that is wrong changes
nothing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import msgspec

from cloudfs import config
from cloudfs.config import Account, Bandwidth, Folders, Settings
from cloudfs.control.methods import Method, Tell, method
from cloudfs.control.records import Limits, Nothing, Reloaded
from cloudfs.engine import Engine
from cloudfs.metadata.pinning import Defaults
from cloudfs.paths import mount_path
from cloudfs.sync.throttling import Throttle

__all__ = ["Reloader", "cache_limits", "kept_by"]

_log = logging.getLogger(__name__)

_GIGABYTE = 10**9

_OF_THE_LOGIN = frozenset({"features", "own_password", "secret_store"})
"""Written by programs: another login is handed over by itself."""


class Reloader:
    """One mounted account's."""

    def __init__(
        self, engine: Engine, throttle: Throttle, folders: Folders, name: str, account: Account
    ) -> None:
        self._engine = engine
        self._throttle = throttle
        self._folders = folders
        self._name = name
        self._account = account
        """What holds: what a mount began with, and what was taken over since."""

    @property
    def methods(self) -> Mapping[str, Method]:
        """By the name of the request."""
        return {"reload": method(Nothing, self._reload)}

    async def _reload(self, _: Nothing, _tell: Tell) -> Reloaded:
        return self.reload()

    def reload(self) -> Reloaded:
        """Read the file again; UserError BAD_CONFIG, naming file and line, where it is wrong. NO CHECKPOINT."""
        new = config.load_account(self._folders, self._name)
        keys = list(_differing(self._account, new))
        at_once = self._take_over(new)
        changed = [key for key in keys if key in at_once]
        for take_over in dict.fromkeys(at_once[key] for key in changed):
            take_over()
        # Of what holds, so that what does not yet goes on being told of.
        self._account = _with(self._account, new, changed)
        _log.info("read the account's file again: %s", ", ".join(keys) or "nothing has changed")
        return Reloaded(changed, [key for key in keys if key not in at_once], self.limits())

    def limits(self) -> Limits:
        """Return the limits in force."""
        return self._throttle.now

    def _take_over(self, new: Account) -> dict[str, Callable[[], None]]:
        """Return what takes over each key that can hold at once. NO CHECKPOINT in any."""
        engine, settings = self._engine, new.settings

        def limits() -> None:
            self._throttle.use(new.bandwidth.rules())

        def quiet() -> None:
            engine.worker.config = msgspec.structs.replace(engine.worker.config, quiet_s=settings.quiet_s)

        def keep() -> None:
            engine.keeper.defaults = kept_by(settings)
            engine.hydrator.wake()

        def cache() -> None:
            engine.blocks.limit(*cache_limits(settings, engine.config.cache))

        return {
            **dict.fromkeys((f"bandwidth.{key}" for key in Bandwidth.__struct_fields__), limits),
            "settings.quiet_s": quiet,
            **dict.fromkeys(("settings.keep", "settings.keep_max_bytes"), keep),
            **dict.fromkeys(("settings.cache_size_bytes", "settings.cache_keep_free_bytes"), cache),
        }


def cache_limits(settings: Settings, cache: Path) -> tuple[int, int]:
    """Return how much may be cached, and how much of the disk is left alone."""
    disk = os.statvfs(cache)
    disk_bytes = disk.f_blocks * disk.f_frsize
    size, keep_free = settings.cache_size_bytes, settings.cache_keep_free_bytes
    return (
        min(disk_bytes // 10, 20 * _GIGABYTE) if size is None else size,
        max(disk_bytes // 20, _GIGABYTE) if keep_free is None else keep_free,
    )


def kept_by(settings: Settings) -> Defaults:
    """Return what is kept where nobody said anything else."""
    return Defaults(tuple(map(mount_path, settings.keep)), settings.keep_max_bytes)


def _differing(old: msgspec.Struct, new: msgspec.Struct, before: str = "") -> Iterator[str]:
    """Yield the keys with other values, those in a table as TABLE.KEY."""
    for key in old.__struct_fields__:
        ours, theirs = getattr(old, key), getattr(new, key)
        if isinstance(ours, msgspec.Struct) and isinstance(theirs, msgspec.Struct):
            yield from _differing(ours, theirs, f"{before}{key}.")
        elif ours != theirs and key not in _OF_THE_LOGIN:
            yield f"{before}{key}"


def _with(account: Account, new: Account, keys: Collection[str]) -> Account:
    """Return an account with these keys of another one."""
    for table in ("settings", "bandwidth"):
        ours, theirs = getattr(account, table), getattr(new, table)
        values = {key: getattr(theirs, key) for key in ours.__struct_fields__ if f"{table}.{key}" in keys}
        account = msgspec.structs.replace(account, **{table: msgspec.structs.replace(ours, **values)})
    return account
