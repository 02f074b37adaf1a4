"""What a log says, for programs: one JSON object a line, the same from the daemon's file and from the journal."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from contextlib import suppress

import msgspec

__all__ = ["Collector", "Entry", "of_journal"]

_HEAD = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(\d{3}) ([A-Z]+) ([\w.]+): (.*)", re.DOTALL)
"""As `log` writes it to a file; what does not begin so belongs to the line before."""
_LEVELS = ("CRITICAL", "CRITICAL", "CRITICAL", "ERROR", "WARNING", "INFO", "INFO", "DEBUG")
"""By the journal's priorities. SOURCE: syslog(3)."""


class Entry(msgspec.Struct, frozen=True):
    """One thing said."""

    time: float | None
    """Unix s; null: not known, as of a line that was cut off at the file's beginning."""
    level: str
    """As in Python: DEBUG, INFO, WARNING, ERROR, CRITICAL."""
    logger: str
    message: str
    path: str | None = None
    """In the mount; told by the journal alone, as the next one is."""
    request_id: str | None = None

    def line(self) -> str:
        """Return it as JSON, with the line's end."""
        return msgspec.json.encode(self).decode() + "\n"


class Collector:
    """Puts lines of a file together again: a message may have several."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def take(self, lines: Iterable[str]) -> list[Entry]:
        """Return what is whole now; the last one may go on."""
        found = []
        for line in lines:
            if self._is_whole() and _HEAD.match(line):
                found += self.end()
            self._lines.append(line)
        return found

    def end(self) -> list[Entry]:
        """Return what was kept back: nothing comes after it for now. A line without its end waits for that."""
        if not self._is_whole():
            return []
        text, self._lines = "".join(self._lines).removesuffix("\n"), []
        head = _HEAD.match(text)
        if head is None:
            return [Entry(None, "INFO", "", text)]
        second, milliseconds, level, logger, message = head.groups()
        return [Entry(_unix(second) + int(milliseconds) / 1000, level, logger, message)]

    def _is_whole(self) -> bool:
        return bool(self._lines) and self._lines[-1].endswith("\n")


def _unix(local: str) -> float:
    return time.mktime(time.strptime(local, "%Y-%m-%d %H:%M:%S"))


def of_journal(line: bytes) -> Entry | None:
    """Read what `journalctl --output=json` prints for an entry; None for what is none.

    SOURCE: systemd's docs/JOURNAL_EXPORT_FORMATS.md: a value that is no text is a list of bytes, a very long one null,
    and one that is there several times a list of these.
    """
    with suppress(msgspec.MsgspecError, ValueError):
        fields = msgspec.json.decode(line, type=dict[str, object])
        priority = int(_text(fields.get("PRIORITY")) or 6)
        stamp = _text(fields.get("__REALTIME_TIMESTAMP"))
        return Entry(
            int(stamp) / 1e6 if stamp else None,
            _LEVELS[priority] if 0 <= priority < len(_LEVELS) else "INFO",
            _text(fields.get("CLOUDFS_LOGGER")) or _text(fields.get("SYSLOG_IDENTIFIER")) or "",
            _text(fields.get("MESSAGE")) or "",
            _text(fields.get("CLOUDFS_PATH")),
            _text(fields.get("CLOUDFS_REQUEST_ID")),
        )
    return None


def _text(value: object) -> str | None:
    if isinstance(value, list):
        if value and all(isinstance(byte, int) for byte in value):
            return bytes(value).decode(errors="backslashreplace")
        return _text(value[0]) if value else None
    return value if isinstance(value, str) else None
