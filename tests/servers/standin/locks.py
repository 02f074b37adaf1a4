"""Transactional file locks: who may not touch a path while somebody reads or writes it (protocol.md §14)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.servers.standin.errors import locked
from tests.servers.standin.names import Segments


class LockTable:
    """Locks of one account by path: any number of readers, or one writer."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._readers: dict[Segments, int] = {}
        self._writers: set[Segments] = set()

    @contextmanager
    def shared(self, path: Segments) -> Iterator[None]:
        """Held while a body goes out; 423 when the path is being written."""
        self.acquire_shared(path)
        try:
            yield
        finally:
            self.release_shared(path)

    def acquire_shared(self, path: Segments) -> None:
        """Count one more reader."""
        with self._mutex:
            if path in self._writers:
                raise locked("/".join(path), "exclusive")
            self._readers[path] = self._readers.get(path, 0) + 1

    def release_shared(self, path: Segments) -> None:
        """Count one reader less."""
        with self._mutex:
            self._readers[path] -= 1
            if not self._readers[path]:
                del self._readers[path]

    @contextmanager
    def exclusive(self, path: Segments) -> Iterator[None]:
        """Held while a body comes in; 423 when the path is read or written by others."""
        with self._mutex:
            self._refuse(path, self._holders(path))
            self._writers.add(path)
        try:
            yield
        finally:
            with self._mutex:
                self._writers.discard(path)

    def is_written(self, path: Segments) -> bool:
        """Tell whether a body is just coming in for a path; a GET that asks so would be in the way of the next one."""
        with self._mutex:
            return path in self._writers

    def check_free(self, path: Segments, *, as_server_error: bool = False) -> None:
        """Refuse when the path, or anything below it, is in use; MOVE makes a 500 of that."""
        with self._mutex:
            self._refuse(path, self._holders(path), as_server_error=as_server_error)
            for busy in (*self._readers, *self._writers):
                if busy[: len(path)] == path:
                    self._refuse(path, "2 shared locks", as_server_error=as_server_error)

    def _holders(self, path: Segments) -> str:
        if path in self._writers:
            return "exclusive"
        readers = self._readers.get(path, 0)
        return f"{readers} shared locks" if readers else ""

    @staticmethod
    def _refuse(path: Segments, holders: str, *, as_server_error: bool = False) -> None:
        if holders:
            raise locked("/".join(path), holders, as_server_error=as_server_error)
