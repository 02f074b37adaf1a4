"""Counts what SQLite does between two checkpoints, which no machine's speed changes: so long nobody else has a turn."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

from cloudfs.store.store import Store

__all__ = ["Work", "counting"]

_UNIT = 1000


class Work(trio.abc.Instrument):
    """The most that one step of a task does: `statements` begun, and `instructions` of SQLite's machine, in thousands.

    Of a short statement the instructions are not counted, of a long one the most. `all_statements`: of all steps.
    """

    def __init__(self) -> None:
        self.statements = self.instructions = self.all_statements = 0
        self._statements = self._instructions = 0

    def watch(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        """Count what a connection does from now on."""
        connection.set_trace_callback(self._begun)
        connection.set_progress_handler(self._gone_on, _UNIT)
        return connection

    def _begun(self, sql: str) -> None:
        self._statements += not sql.startswith("--")
        self.all_statements += not sql.startswith("--")

    def _gone_on(self) -> int:
        self._instructions += 1
        return 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        del task
        self._statements = self._instructions = 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        del task
        self.statements = max(self.statements, self._statements)
        self.instructions = max(self.instructions, self._instructions)

    def forget(self) -> None:
        """Begin anew."""
        self.statements = self.instructions = 0


@contextmanager
def counting(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    """Count within the block, also what is read on further connections. Inside trio only."""
    work, connect = Work(), sqlite3.connect
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda *args, **more: work.watch(connect(*args, **more)))
        work.watch(store.db._db)
        trio.lowlevel.add_instrument(work)
        try:
            yield work
        finally:
            trio.lowlevel.remove_instrument(work)
            store.db._db.set_trace_callback(None)
            store.db._db.set_progress_handler(None, 0)
