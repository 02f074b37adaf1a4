"""What the server was asked: the record tests make assertions about."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import overload
from urllib.parse import unquote


@dataclass(eq=False)
class Record:
    """One request. ``status`` is ``None`` while it runs and when no answer was given."""

    number: int
    """Counts from 1 since the last reset: the call number of faults."""
    method: str
    path: str
    """Decoded, without the query."""
    target: str
    """As sent: percent-encoded, with the query."""
    headers: Mapping[str, str]
    """Names in lower case."""
    user: str | None = None
    status: int | None = None
    request_bytes: int = 0
    """Bytes of the body that were taken in."""
    response_bytes: int = 0
    """Bytes of the body that were sent."""
    fault: str | None = None
    """The fault that was applied, if any."""
    done: bool = False
    came_at_s: float = field(default_factory=time.monotonic)

    def __str__(self) -> str:
        return f"{self.number} {self.method} {self.path} -> {self.status}{f' [{self.fault}]' if self.fault else ''}"


class RequestLog(Sequence[Record]):
    """All requests since the last `reset`, in order of arrival. Safe to read while requests run."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._records: list[Record] = []

    def begin(self, method: str, target: str, headers: Mapping[str, str]) -> Record:
        """Note a request that has just come in."""
        path = unquote(target.partition("?")[0], errors="surrogateescape")
        with self._mutex:
            record = Record(len(self._records) + 1, method, path, target, headers)
            self._records.append(record)
        return record

    def reset(self) -> None:
        """Forget everything; call numbers start at 1 again."""
        with self._mutex:
            self._records = []

    clear = reset

    def matching(self, method: str | None = None, path: str = "") -> list[Record]:
        """The records of a method whose path contains the regular expression."""
        pattern = re.compile(path)
        with self._mutex:
            records = list(self._records)
        return [r for r in records if method in (None, r.method) and pattern.search(r.path)]

    def count(self, method: str | None = None, path: str = "") -> int:
        """How many `matching` there are."""
        return len(self.matching(method, path))

    @property
    def methods(self) -> list[str]:
        """The methods in order, the shortest way to say what happened."""
        return [record.method for record in self]

    def __iter__(self) -> Iterator[Record]:
        with self._mutex:
            return iter(list(self._records))

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        with self._mutex:
            return self._records[index]

    def __str__(self) -> str:
        return "\n".join(map(str, self))
