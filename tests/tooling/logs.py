"""What cloudfs logs from WARNING on is part of what a test shows: expected, or the test fails."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["LogGuard"]


@dataclass
class _Expectation:
    pattern: re.Pattern[str]
    optional: bool
    met: bool = False


class LogGuard(logging.Handler):
    """Gathers records of one test and judges them at its end, so expectations may be said at any time."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._texts: list[str] = []
        self._expectations: list[_Expectation] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record as text: its arguments may change until the end of the test."""
        self._texts.append(f"{record.levelname} {record.name}: {self.format(record)}")

    def take(self, texts: Iterable[str]) -> None:
        """Keep what a daemon, a process of its own, logged: each text begins as one of `emit`."""
        self._texts += texts

    def expect(self, regex: str, *, optional: bool = False) -> None:
        """Allow records that `regex` is found in; unless `optional`, there must be at least one."""
        self._expectations.append(_Expectation(re.compile(regex), optional))

    def complaints(self) -> list[str]:
        """Return a sentence for each unexpected record and each expectation that nothing met."""
        unexpected = [
            f"logged without being expected: {text}" for text in self._texts if not self._meets(text)
        ]
        return unexpected + [
            f"expected in the log, but nothing matched: {expectation.pattern.pattern}"
            for expectation in self._expectations
            if not (expectation.met or expectation.optional)
        ]

    def _meets(self, text: str) -> bool:
        matching = [expectation for expectation in self._expectations if expectation.pattern.search(text)]
        for expectation in matching:
            expectation.met = True
        return bool(matching)
