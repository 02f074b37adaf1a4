"""systemd's journal, by its native protocol: a message with fields, by which it can be searched.

    journalctl --user -u cloudfs@work CLOUDFS_PATH=/report.pdf
    journalctl --user -u cloudfs@work -o verbose

SOURCE: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/, systemd.journal-fields(7).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from logging_journald import JournaldTransport

__all__ = ["JournalHandler", "is_stderr"]

SOCKET: Final = Path("/run/systemd/journal/socket")
_PRIORITIES: Final = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}
_OWN: Final = ("path", "request_id")
"""What callers put beside a message, by `extra`."""


def is_stderr(environ: Mapping[str, str]) -> bool:
    """Tell whether what this process writes to stderr goes to the journal."""
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM", "") == f"{status.st_dev}:{status.st_ino}"


class JournalHandler(logging.Handler):
    """Sends each record; without a journal, to `otherwise`. Never waits: what a stuck journal does not take is lost."""

    def __init__(
        self, account: str, clean: Callable[[str], str], otherwise: logging.Handler, socket: Path = SOCKET
    ) -> None:
        """`clean` takes secrets out of a field; the message comes from the formatter, as always."""
        super().__init__()
        self._account = account
        self._clean = clean
        self._otherwise = otherwise
        self._transport = JournaldTransport(socket, connected=False)
        self._transport.socket.setblocking(False)  # noqa: FBT003  # the standard library's

    def emit(self, record: logging.LogRecord) -> None:
        """Send it."""
        try:
            # As bytes, which may be any: names of files may have lines.
            self._transport.send(
                (name, value.encode(errors="backslashreplace")) for name, value in self._fields(record)
            )
        except BlockingIOError:
            return
        except OSError:
            self._otherwise.handle(record)
        except Exception:  # noqa: BLE001  # as logging does
            self.handleError(record)

    def close(self) -> None:
        """Close the socket."""
        self._transport.socket.close()
        super().close()

    def _fields(self, record: logging.LogRecord) -> Iterator[tuple[str, str]]:
        yield "MESSAGE", self.format(record)
        yield "PRIORITY", str(_PRIORITIES.get(record.levelname, 6))
        yield "SYSLOG_IDENTIFIER", "cloudfs"
        yield "CLOUDFS_ACCOUNT", self._account
        yield "CLOUDFS_LOGGER", record.name
        for name in _OWN:
            if value := getattr(record, name, ""):
                yield f"CLOUDFS_{name.upper()}", self._clean(str(value))
        yield "CODE_FILE", record.pathname
        yield "CODE_LINE", str(record.lineno)
        yield "CODE_FUNC", record.funcName or ""
