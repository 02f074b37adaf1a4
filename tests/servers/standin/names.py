"""Names: how they travel in URLs, and which ones Nextcloud refuses (protocol.md §2.4)."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import unquote_to_bytes

from tests.servers.standin.errors import DavError, FrontEndError, invalid_path

Segments = tuple[str, ...]

LONGEST_NAME_BYTES = 250
"""Longer ones are refused everywhere."""

LONGEST_NEW_FILE_BYTES = 228
"""A PUT of a longer new name fails with 500: the temporary name behind it exceeds the file system's 255."""

LONGEST_PATH = 4000
TEMPORARY_ENDING_BYTES = len(".ocTransferId1234567890.part")
"""Of the name behind which a new file is written. SOURCE: measured; the number has up to ten digits."""

_SAFE = re.compile(rb"[^A-Za-z0-9_.~()/@:-]")


def split_path(raw_path: str) -> Segments:
    """Decoded, NFC-normalised segments of a request path: ``//`` and ``..`` collapse, ``%00`` and LF never get in.

    Bytes that are no UTF-8 are taken as Latin-1, as SabreDAV does.
    """
    segments: list[str] = []
    for raw in raw_path.split("/"):
        if "%" in raw and unquote_to_bytes(raw) == b"..":
            raise FrontEndError(400)
        name = _decode(unquote_to_bytes(raw))
        if "\0" in name:
            raise FrontEndError(400)
        if "\n" in name:
            raise FrontEndError(404)
        _append(segments, name)
    return tuple(segments)


def split_destination(raw_path: str) -> Segments:
    """Like `split_path` for a Destination header, which no front end looks at."""
    segments: list[str] = []
    for raw in raw_path.split("/"):
        _append(segments, _decode(unquote_to_bytes(raw)))
    return tuple(segments)


def _append(segments: list[str], name: str) -> None:
    if name == "..":
        del segments[-1:]
    elif name not in ("", "."):
        segments.extend(part for part in name.split("/") if part)


def _decode(raw: bytes) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return unicodedata.normalize("NFC", text)


def split_local(path: str) -> Segments:
    """Segments of a plain ``/a/b`` path as tests write it."""
    return tuple(unicodedata.normalize("NFC", name) for name in path.split("/") if name)


def quote(path: str) -> str:
    """Percent-encode as SabreDAV does: lower-case hex, ``( ) : @ ~`` bare."""
    return _SAFE.sub(lambda match: b"%%%02x" % match[0][0], path.encode("utf-8", "surrogateescape")).decode()


def is_part(segments: Segments) -> bool:
    """Whether the path is one of the phantoms under a ``.part`` name (protocol.md §0 rule 12)."""
    return bool(segments) and segments[-1].endswith(".part")


def check_new(user_id: str, segments: Segments) -> None:
    """Refuse a path that Nextcloud would not create."""
    name = segments[-1]
    if name.lower() == ".htaccess":
        raise DavError(403)
    if name == "*":
        raise invalid_path("File name is a reserved word")
    if "\\" in name or any(character < " " for character in name):
        raise invalid_path("File name contains at least one invalid character")
    if len(name.encode()) > LONGEST_NAME_BYTES:
        raise invalid_path("File name is too long")
    check_path_length(user_id, segments)


def check_path_length(user_id: str, segments: Segments, ending_bytes: int = 0) -> None:
    """Refuse a path of more than 4000 bytes, with the account's folder before it (measured on 29.0.1)."""
    length = sum(len(name.encode()) + 1 for name in (user_id, "files", *segments)) + ending_bytes
    if length > LONGEST_PATH:
        raise invalid_path(f"Path length({length}) exceeds max path length({LONGEST_PATH})")
