"""Values as they stand in headers and properties, read into ours. Pure; what cannot be read is "unknown"."""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TypeVar

import msgspec

from cloudfs.config import SECRET_MAX_BYTES

__all__ = [
    "best_checksum",
    "content_range",
    "file_id_of_header",
    "http_date_s",
    "is_credential",
    "json_of",
    "printable",
    "remembered",
    "whole_number",
]

T = TypeVar("T")

_MONTHS = {name: number for number, name in enumerate(calendar.month_abbr) if name}
_MOST_S = (2**63 - 1) // 10**9
"""The times that 64 bits hold as nanoseconds end in 2262. Servers have files of later ones: Nextcloud takes any."""
_IMF_DATE = re.compile(r"\w{3}, (\d\d) (\w{3}) (\d{4}) (\d\d):(\d\d):(\d\d) GMT")
_CHECKSUM = re.compile(r"([A-Za-z0-9-]{2,16}):([0-9A-Fa-f]{8,128})")
_CHECKSUM_ORDER = ("SHA256", "SHA3-256", "SHA1", "MD5", "ADLER32", "CRC32")
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
_OC_FILE_ID = re.compile(r"(\d{8,20})[A-Za-z]\w*")
_LONGEST_REMEMBERED = 1000


def remembered(entries: int) -> Callable[[Callable[[str], T]], Callable[[str], T]]:
    """Keep results as lru_cache does, but none of a long text: a server may send a thousand of a megabyte each."""

    def wrap(function: Callable[[str], T]) -> Callable[[str], T]:
        kept = lru_cache(maxsize=entries)(function)
        return lambda text: kept(text) if len(text) <= _LONGEST_REMEMBERED else function(text)

    return wrap


def http_date_s(text: str | None) -> int:
    """Read an HTTP date as Unix seconds, the nearest that we can keep; 0 where there is none or it is no date."""
    return _date_s(text) if text else 0


@remembered(1024)
def _date_s(text: str) -> int:
    match = _IMF_DATE.fullmatch(text)
    try:
        if match and match[2] in _MONTHS:
            day, year, hour, minute, second = (int(match[group]) for group in (1, 3, 4, 5, 6))
            moment = datetime(year, _MONTHS[match[2]], day, hour, minute, min(second, 59), tzinfo=UTC)
        else:
            moment = parsedate_to_datetime(text)
        seconds = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        return 0
    return max(-_MOST_S, min(seconds, _MOST_S))


def whole_number(text: str | None) -> int | None:
    """Read a whole number, perhaps negative; None for anything else (also for other digits, and too many)."""
    stripped = (text or "").strip()
    digits = stripped.removeprefix("-")
    return int(stripped) if digits.isdecimal() and digits.isascii() and len(digits) <= 18 else None


def best_checksum(texts: Iterable[str | None]) -> str | None:
    """Choose the strongest checksum of those that a server lists, as ALGORITHM:hex.

    The server stores what any client sent, unchecked: several separated by blanks, or rubbish (protocol.md §6).
    """
    found: dict[str, str] = {}
    for text in texts:
        for word in text.split() if text else ():
            if match := _CHECKSUM.fullmatch(word):
                found.setdefault(match[1].upper(), match[2].lower())
    for algorithm in (*_CHECKSUM_ORDER, *sorted(found)):
        if algorithm in found:
            return f"{algorithm}:{found[algorithm]}"
    return None


def content_range(text: str | None) -> tuple[int, int, int] | None:
    """Read "bytes 0-99/1000" as the half-open (start, stop, total); None for anything else."""
    match = _CONTENT_RANGE.fullmatch((text or "").strip())
    return (int(match[1]), int(match[2]) + 1, int(match[3])) if match else None


def file_id_of_header(text: str | None) -> str | None:
    """Return oc:fileid from an OC-FileId header.

    The header is the number padded to 8 digits and the server's instance id, which starts with a letter
    (protocol.md §2.1, oc:id).
    """
    match = _OC_FILE_ID.fullmatch((text or "").strip())
    return str(int(match[1])) if match else None


def printable(text: str, most: int) -> str:
    """Return a text of the server's for people: one line, so many characters at most, nothing that steers terminals."""
    shown = "".join(char if char.isprintable() else " " for char in text[:most])
    return " ".join(shown.split())


def is_credential(word: str) -> bool:
    """Tell whether a word of the server's can be a user name or a password: some text on one line, short enough."""
    return bool(word) and word.isprintable() and len(word.encode()) < SECRET_MAX_BYTES


def json_of(body: bytes, kind: type[T]) -> T:
    """Read JSON of this kind; msgspec.ValidationError for JSON of another kind, msgspec.DecodeError for none."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (RecursionError, UnicodeDecodeError) as error:
        # The first for a hundred thousand brackets, also in a part that `kind` does not have: found by fuzzing.
        raise msgspec.DecodeError("no JSON") from error
