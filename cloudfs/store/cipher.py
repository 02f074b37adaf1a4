"""A database whose pages are sealed: SQLCipher, opened by the key itself, and made to look like Python's `sqlite3`.

Everything around it goes on dealing with one kind of connection and one kind of errors. Loaded only by who has a key:
it brings a SQLite of its own. Page, WAL and journal are sealed (AES-256-CBC and HMAC-SHA512 for each page); what stays
readable is how many pages there are, and which of them were written last.
SOURCE: https://www.zetetic.net/sqlcipher/sqlcipher-api/
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, NoReturn, cast

from sqlcipher3 import dbapi2

__all__ = ["connect", "told_cursor"]

_KINDS = {
    dbapi2.OperationalError: sqlite3.OperationalError,
    dbapi2.IntegrityError: sqlite3.IntegrityError,
    dbapi2.ProgrammingError: sqlite3.ProgrammingError,
    dbapi2.DataError: sqlite3.DataError,
    dbapi2.NotSupportedError: sqlite3.NotSupportedError,
    dbapi2.InternalError: sqlite3.InternalError,
}
_UNREADABLE = "SQL logic error"
"""SQLite's words for an error without details: SQLCipher's, where a page is not what was written."""


def connect(path: str, key: bytes, **options: Any) -> sqlite3.Connection:  # noqa: ANN401  # as sqlite3.connect has them
    """Open a database as `sqlite3.connect` does. With another key than its own the first statement fails (NOTADB)."""
    connection = dbapi2.connect(path, factory=_Connection, **options)
    try:
        connection.execute("PRAGMA cipher_log_level = NONE")  # it would go to stderr
        connection.execute(f"PRAGMA key = \"x'{key.hex()}'\"")
    except BaseException:
        connection.close()
        raise
    return cast("sqlite3.Connection", connection)


def told_cursor(
    told: Callable[[sqlite3.DatabaseError], Exception],
) -> Callable[[sqlite3.Connection], sqlite3.Cursor]:
    """Return what makes cursors that raise what `told` returns where rows cannot be read."""

    def make(connection: sqlite3.Connection) -> sqlite3.Cursor:
        cursor = _Cursor(connection)
        cursor.told = told
        return cast("sqlite3.Cursor", cursor)

    return make


def _raise(error: Any) -> NoReturn:  # noqa: ANN401  # of a library without types
    raise _as_sqlite3(error) from error


def _as_sqlite3(error: Any) -> sqlite3.DatabaseError:  # noqa: ANN401  # as above
    code = getattr(error, "sqlite_errorcode", None)
    kind: type[sqlite3.DatabaseError] = _KINDS.get(type(error), sqlite3.DatabaseError)
    if code == sqlite3.SQLITE_ERROR and str(error) == _UNREADABLE:
        kind, code = sqlite3.DatabaseError, sqlite3.SQLITE_CORRUPT
    made = kind(*error.args)
    if code is not None:
        made.sqlite_errorcode = code
        made.sqlite_errorname = getattr(error, "sqlite_errorname", "")
    return made


class _Cursor(dbapi2.Cursor):  # type: ignore[misc]  # it has no types
    told: Callable[[sqlite3.DatabaseError], Exception] | None = None

    def execute(self, *args: Any) -> _Cursor:  # noqa: ANN401  # as its parent
        try:
            super().execute(*args)
        except dbapi2.DatabaseError as error:
            _raise(error)
        return self

    def executemany(self, *args: Any) -> _Cursor:  # noqa: ANN401  # as its parent
        try:
            super().executemany(*args)
        except dbapi2.DatabaseError as error:
            _raise(error)
        return self

    def __next__(self) -> Any:  # noqa: ANN401  # a row
        try:
            return super().__next__()
        except dbapi2.DatabaseError as error:
            self._fail(error)

    def fetchone(self) -> Any:  # noqa: ANN401  # a row
        try:
            return super().fetchone()
        except dbapi2.DatabaseError as error:
            self._fail(error)

    def fetchmany(self, *args: Any) -> Any:  # noqa: ANN401  # rows
        try:
            return super().fetchmany(*args)
        except dbapi2.DatabaseError as error:
            self._fail(error)

    def fetchall(self) -> Any:  # noqa: ANN401  # rows
        try:
            return super().fetchall()
        except dbapi2.DatabaseError as error:
            self._fail(error)

    def _fail(self, error: Any) -> NoReturn:  # noqa: ANN401  # as in _raise
        if self.told is None:
            _raise(error)
        raise self.told(_as_sqlite3(error)) from error


class _Connection(dbapi2.Connection):  # type: ignore[misc]  # as above
    def cursor(self, factory: Any = _Cursor) -> Any:  # noqa: ANN401  # as its parent
        return super().cursor(factory)

    def execute(self, *args: Any) -> Any:  # noqa: ANN401  # as its parent
        return self.cursor().execute(*args)

    def executemany(self, *args: Any) -> Any:  # noqa: ANN401  # as its parent
        return self.cursor().executemany(*args)
