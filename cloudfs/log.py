"""Logging: to the terminal, to the journal, or to a private file that rotates; never a secret, never a flood."""

from __future__ import annotations

import base64
import logging
import os
import re
import sys
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final
from urllib.parse import quote

from cloudfs import journal

__all__ = ["Redactor", "RepeatFilter", "hide", "set_up", "spellings"]

FILE_BYTES: Final = 5 * 1024 * 1024
FILES_KEPT: Final = 3
HIDDEN: Final = "[hidden]"


def set_up(
    *,
    file: Path | None,
    account: str = "",
    secrets: Collection[str] = (),
    debug: bool = False,
    environ: Mapping[str, str] | None = None,
) -> None:
    """Send everything to `file`, else to the journal where stderr leads there, else to stderr.

    Replaces what was set up before.

    The file is created with mode 0600 in a folder that must be private. Never logs any of `secrets`.
    """
    environ = os.environ if environ is None else environ
    handler: logging.Handler = _PrivateFile(file) if file else logging.StreamHandler(sys.stderr)
    handler.setFormatter(Redactor(_Timed(), secrets))
    if file is None and journal.is_stderr(environ):
        handler.setFormatter(Redactor(_Journal(), secrets))
        message = Redactor(logging.Formatter("%(message)s"), secrets)
        handler = journal.JournalHandler(account, message.clean, otherwise=handler)
        handler.setFormatter(message)
    handler.addFilter(RepeatFilter())
    handler.addFilter(_in_one_line)
    handler.addFilter(_is_worth_saying)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("cloudfs").setLevel(logging.DEBUG if debug else logging.INFO)


def hide(secret: str) -> None:
    """Never log this either: it became a secret after `set_up`."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, Redactor):
            handler.formatter.hide([secret])


class _PrivateFile(RotatingFileHandler):
    """A file that only its owner can read, from its first moment on."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=FILE_BYTES, backupCount=FILES_KEPT, encoding="utf-8")

    def _open(self) -> TextIOWrapper:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.baseFilename, flags, 0o600)
        os.fchmod(descriptor, 0o600)
        return open(descriptor, "a", encoding="utf-8", errors="backslashreplace")  # noqa: PTH123  # a descriptor


class _Timed(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")


class _Journal(logging.Formatter):
    """The journal adds the time and the process; it wants the priority as a number in front of each line."""

    _PRIORITIES: Final = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}

    def __init__(self) -> None:
        super().__init__("%(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        prefix = f"<{self._PRIORITIES.get(record.levelname, 6)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())


class Redactor(logging.Formatter):
    """Formats with another formatter and hides secrets in the result, tracebacks included."""

    _HEADERS: Final = re.compile(
        r"""((?:proxy-)?authorization|set-cookie|cookie)(b?["']?\s*[:,=]\s*b?["']?)[^"'\r\n]+""",
        re.IGNORECASE,
    )
    _CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
    """A name of a file that has any must not steer the terminal of whoever reads the log."""
    _PASSWORD_IN_URL: Final = re.compile(r"(://[^/\s:@]+:)[^/\s@]+@")

    def __init__(self, layout: logging.Formatter, secrets: Collection[str]) -> None:
        super().__init__()
        self._layout = layout
        self._known = set(secrets)
        self._secrets: re.Pattern[str] | None = None
        self.hide(secrets)

    def hide(self, secrets: Collection[str]) -> None:
        """Hide these from now on, too."""
        self._known |= set(secrets)
        known = {spelling for secret in self._known if secret for spelling in spellings(secret)}
        # Longest first, as one spelling may contain another.
        alternatives = "|".join(re.escape(text) for text in sorted(known, key=len, reverse=True))
        self._secrets = re.compile(alternatives) if alternatives else None

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or lines, without secrets."""
        return self.clean(self._layout.format(record))

    def clean(self, text: str) -> str:
        """Return a text without secrets, and with control characters spelled out."""
        text = self._CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
        if self._secrets:
            text = self._secrets.sub(HIDDEN, text)
        text = self._HEADERS.sub(rf"\1\2{HIDDEN}", text)
        return self._PASSWORD_IN_URL.sub(rf"\1{HIDDEN}@", text)


def spellings(secret: str) -> set[str]:
    """Return the ways in which a secret may come to stand in a text."""
    return {
        secret,
        quote(secret, safe=""),
        repr(secret)[1:-1],
        base64.b64encode(secret.encode()).decode().rstrip("="),
    }


class RepeatFilter(logging.Filter):
    """Lets the same line through `burst` times in `interval_s`, then says how many it kept back.

    "The same" is the place in the code, not the text: a thousand failing uploads are one kind of line.
    """

    def __init__(self, burst: int = 20, interval_s: float = 60.0, *, kinds: int = 500) -> None:
        """At most `kinds` different lines are remembered."""
        super().__init__()
        self._burst, self._interval_s, self._kinds = burst, interval_s, kinds
        self._seen: OrderedDict[tuple[str, int], tuple[float, int]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Decide about one record; the first after a pause tells how many were kept back."""
        key, now = (record.pathname, record.lineno), time.monotonic()
        since, count = self._seen.pop(key, (now, 0))
        if now - since >= self._interval_s:
            if count > self._burst:
                record.msg = f"{record.msg} ({count - self._burst} more like this were kept back)"
            since, count = now, 0
        self._seen[key] = (since, count + 1)
        if len(self._seen) > self._kinds:
            self._seen.popitem(last=False)
        return count < self._burst


def _in_one_line(record: logging.LogRecord) -> bool:
    """Spell out line ends in what a message is about: no name of a file may look like a message of its own."""
    if isinstance(record.args, tuple):
        record.args = tuple(map(_spelled_out, record.args))
    return True


def _spelled_out(argument: object) -> object:
    if isinstance(argument, int | float):
        return argument
    text = str(argument)
    return text.replace("\n", "\\n") if "\n" in text else argument


def _is_worth_saying(record: logging.LogRecord) -> bool:
    """Drop what pyfuse3 calls an error and is none: a program that did not wait for its answer."""
    return not (record.name == "pyfuse3" and "fuse_reply_" in str(record.msg))
