"""Worlds whose local disk is bad: one that is full now and then, and one that loses its power instead of a process."""

from __future__ import annotations

import errno
import random
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio

from cloudfs.engine import disk
from cloudfs.errors import PosixError
from cloudfs.store import db
from cloudfs.store.db import Database
from tests.crash.cuts import Disk
from tests.model.world import World

__all__ = ["CutWorld", "FullWorld"]

_CHANGES = re.compile(r"\s*(INSERT|UPDATE|DELETE)")
_FULL = "the state database"


class FullWorld(World):
    """Some of the changes of its database are refused for want of room, a few in a row, while `troubled`."""

    forgiven = re.compile("what was written last could not be kept")  # the program was told, by flush

    def __init__(self, *args: Any, chance: random.Random, **more: Any) -> None:
        super().__init__(*args, **more)
        self._chance = chance
        self._in_a_row = 0
        self._patch = pytest.MonkeyPatch()

    async def start(self) -> None:
        self._patch.undo()  # to begin at all takes some room
        await super().start()
        execute, transaction = Database.execute, Database.transaction

        def refusing(db: Database, sql: str, parameters: Any = ()) -> Any:
            if not db._inside and _CHANGES.match(sql):
                self._refuse()
            return execute(db, sql, parameters)

        @contextmanager
        def all_or_nothing(db: Database) -> Iterator[None]:
            outermost, before = not db._inside, db._db.total_changes
            with transaction(db):
                yield
                if outermost and db._db.total_changes != before:
                    self._refuse()

        self._patch.setattr(Database, "execute", refusing)
        self._patch.setattr(Database, "transaction", all_or_nothing)

    def _refuse(self) -> None:
        if not self.troubled:
            return
        if self._in_a_row:
            self._in_a_row -= 1
        elif self._chance.random() < 0.05:
            self._in_a_row = self._chance.choice((0, 0, 1, 3, 10))
        else:
            return
        self.remote.trace("the disk is full")
        raise PosixError(errno.ENOSPC, _FULL)

    async def _stop(self) -> None:
        # Until its end: what it puts on the disk meanwhile is there when it is killed in the midst.
        await super()._stop()
        self._patch.undo()

    async def check_nothing_left(self) -> None:
        await self.restart()  # what could not be given up is so at the next start
        await super().check_nothing_left()


class CutWorld(World):
    """Most of its deaths are power cuts: what was not put on the disk may be there or not, in parts, or as holes."""

    forgiven = re.compile("was not on the disk when the power went|staging file is missing")

    def __init__(self, *args: Any, chance: random.Random, **more: Any) -> None:
        super().__init__(*args, **more)
        self._chance = chance
        self._patch = pytest.MonkeyPatch()
        self._disk: Disk | None = None
        self._boots = 0
        self._began_at = self._safe_until = 0.0
        """What was closed by then is on the disk."""

    async def start(self) -> None:
        self._patch.undo()
        self._disk = None
        for who in (disk, db):
            self._patch.setattr(who, "boot_id", lambda: str(self._boots))
        await super().start()
        self._disk, self._began_at = Disk(self.folder / "state", self._patch), trio.current_time()

    async def restart(self) -> None:
        await self._stop()
        self._safe_until = trio.current_time()
        await self.start()

    def die(self) -> None:
        if self.is_dead():
            return
        super().die()
        assert self._left is not None
        if trio.current_time() - self._began_at > _HARD_S:
            self._safe_until = trio.current_time() - _HARD_S
        if self._disk is None or self._chance.random() < 0.3:
            return
        shutil.rmtree(self._left[1] / "state")
        self._disk.cut(self._left[1] / "state", self._chance)
        self._boots += 1
        self.unsure_since = self._safe_until
        self.remote.trace("that was a power cut")

    async def _stop(self) -> None:
        # Until its end: what it puts on the disk meanwhile is there when it is killed in the midst.
        await super()._stop()
        self._patch.undo()


_HARD_S = 1.0
"""Closed files are put on the disk half a second later (docs/SEMANTICS.md)."""
