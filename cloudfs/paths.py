"""Names and paths: bytes on the Linux side, NFC text on the server, percent-encoded on the wire. Pure."""

from __future__ import annotations

import errno
import fnmatch
import re
import sys
import unicodedata
from datetime import datetime
from urllib.parse import quote, unquote_to_bytes

import msgspec

from cloudfs.errors import PosixError
from cloudfs.types import RemotePath

__all__ = [
    "LOCAL_ONLY_PATTERNS",
    "NAME_MAX_BYTES",
    "ROOT_PATH",
    "NameRules",
    "UnrepresentableName",
    "check_name",
    "conflicted_copy",
    "decode_segment",
    "encode",
    "is_below",
    "is_copy_of",
    "is_local_only",
    "join",
    "lookup_name",
    "mount_path",
    "original_name",
    "parent_of",
]

ROOT_PATH = RemotePath("/")

NAME_MAX_BYTES = 255
"""The kernel passes longer names to FUSE (design.md §7), so the limit is ours to keep."""

_DECOMPOSED_MAX_BYTES = 8 * NAME_MAX_BYTES
"""No longer text is a name of 255 bytes in NFC: what is one byte there has three at most (UAX #15, section 9.1, and
U+212A, which is K)."""

_EXTENSION_MAX_BYTES = 40
"""What follows the last dot is an extension up to this length; the rest of longer names is cut like any stem."""

LOCAL_ONLY_PATTERNS = (
    ".~lock.*#",
    ".*.sw?",
    ".goutputstream-*",
    ".Trash-*",
    ".fuse_hidden*",
    "*~",
    "*.part",
)
"""Names that live in the mount and never go up: programs' locks, swap and scratch files.

`*.part` because Nextcloud keeps such names for itself: a PUT is locked for ever and a MOVE onto one
vanishes (protocol.md, rule 12).
"""
_LOCAL_ONLY = re.compile("|".join(map(fnmatch.translate, LOCAL_ONLY_PATTERNS)))


class UnrepresentableName(ValueError):
    """A name on the server that no file here can have."""


class NameRules(msgspec.Struct, frozen=True):
    """What a server refuses in new names; existing odd names are still shown."""

    forbidden_characters: str = ""
    forbidden_names: frozenset[str] = frozenset()
    """Whole names, compared in lower case."""
    forbidden_stems: frozenset[str] = frozenset()
    """What may not stand before the first dot of a name, in lower case."""
    forbidden_endings: tuple[str, ...] = ()
    """What names may not end with, in lower case; a blank or a dot among them."""
    refuse_control_characters: bool = False
    refuse_dots_and_blanks: bool = False
    """Of names that are a dot or two, or nothing, but for blanks around."""
    max_bytes: int = NAME_MAX_BYTES
    new_file_bytes: int = NAME_MAX_BYTES
    """The longest name under which a file can come into being there; renamed, it may have a longer one."""
    path_bytes: int = sys.maxsize
    """The longest path below the account's folder, with its slash."""


def lookup_name(raw: bytes) -> str:
    """Return the text under which a name from the kernel is stored: UTF-8, NFC.

    Raises PosixError: ENAMETOOLONG over 255 bytes, EILSEQ for bytes that are not UTF-8.
    """
    if len(raw) > NAME_MAX_BYTES:
        raise PosixError(errno.ENAMETOOLONG, repr(raw[:40]))
    try:
        return unicodedata.normalize("NFC", raw.decode())
    except UnicodeDecodeError as error:
        raise PosixError(errno.EILSEQ, repr(raw)) from error


def check_name(raw: bytes, rules: NameRules, *, new_file: bool = False) -> str:
    """Return the stored text of a name to be created; `new_file` for a file that the server does not have yet.

    Raises PosixError as `lookup_name` does, and EINVAL for names that the server is known to refuse or
    to change silently (protocol.md §2.4), so that nothing is created that could never go up. Names that stay here are
    not the server's business: it may well forbid `.part`, which is why that one stays.
    """
    name = lookup_name(raw)
    if not name or name in {".", ".."} or "/" in name or "\0" in name:
        raise PosixError(errno.EINVAL, repr(name))
    if is_local_only(name):
        return name
    if len(name.encode()) > (rules.new_file_bytes if new_file else rules.max_bytes):
        raise PosixError(errno.ENAMETOOLONG, name)
    if rules.refuse_control_characters and any(_breaks_listings(char) for char in name):
        raise PosixError(errno.EINVAL, repr(name))
    if rules.refuse_dots_and_blanks and name.strip(" ") in {"", ".", ".."}:
        raise PosixError(errno.EINVAL, repr(name))
    if any(char in rules.forbidden_characters for char in name) or _is_forbidden(name.lower(), rules):
        raise PosixError(errno.EINVAL, name)
    return name


def _is_forbidden(name: str, rules: NameRules) -> bool:
    # A dot in front belongs to the stem, as in `.htaccess`.
    stem = name[:1] + name[1:].partition(".")[0]
    return (
        name in rules.forbidden_names
        or stem in rules.forbidden_stems
        or name.endswith(rules.forbidden_endings)
    )


def _breaks_listings(char: str) -> bool:
    # U+FFFE and U+FFFF make a whole multistatus ill-formed (protocol.md, rule 13).
    return char < " " or char in "\ufffe\uffff"


def is_local_only(name: str) -> bool:
    """Tell whether a name stays in the mount and is never sent to the server; 1 µs."""
    return _LOCAL_ONLY.match(name) is not None


def mount_path(text: str) -> RemotePath:
    """Return a path in the mount as a person may write it, with or without slashes around; ValueError for none."""
    names = [unicodedata.normalize("NFC", name) for name in text.split("/") if name]
    if any(name in {".", ".."} or "\0" in name or len(name.encode()) > NAME_MAX_BYTES for name in names):
        raise ValueError(f"{text!r} is no path in the mount")
    return RemotePath("/" + "/".join(names))


def join(parent: RemotePath, name: str) -> RemotePath:
    """Return the path of `name` in the folder `parent`."""
    return RemotePath(f"/{name}" if parent == "/" else f"{parent}/{name}")


def parent_of(path: RemotePath) -> RemotePath:
    """Return the folder that holds `path`; the root's parent is the root."""
    return RemotePath(path.rpartition("/")[0] or "/")


def is_below(path: str, folder: str) -> bool:
    """Tell whether `path` is `folder` or inside it."""
    return folder == "/" or path == folder or path.startswith(folder + "/")


def encode(path: str) -> str:
    """Percent-encode every byte but A-Za-z0-9-_.~/ (protocol.md §2.4: `+` is a literal plus)."""
    return quote(path, safe="/-_.~")


def decode_segment(segment: str) -> str:
    """Decode one segment of an href to NFC text.

    Raises UnrepresentableName where it is no UTF-8, contains a slash or NUL, or is longer than any file here can be
    called, and any other ValueError where it could lead out of its folder (`..`).
    """
    raw = unquote_to_bytes(segment)
    if raw == b"." or b".." in raw.split(b"/"):
        msg = f"a listing contains the unsafe name {raw!r}"
        raise ValueError(msg)
    if b"/" in raw or b"\0" in raw:
        msg = f"a listing contains the unsafe name {raw!r}"
        raise UnrepresentableName(msg)
    if len(raw) > _DECOMPOSED_MAX_BYTES:  # to sort 64,000 accents on one letter would take 3 s
        msg = f"a listing contains a name of {len(raw)} bytes"
        raise UnrepresentableName(msg)
    try:
        name = unicodedata.normalize("NFC", raw.decode())
    except UnicodeDecodeError as error:
        raise UnrepresentableName(str(error)) from error
    if len(name.encode()) > NAME_MAX_BYTES:
        # The kernel answers a listing that has one over 1024 with an error, and no program could open the others.
        msg = f"a listing contains a name of {len(name.encode())} bytes"
        raise UnrepresentableName(msg)
    return name


def conflicted_copy(name: str, when: datetime, attempt: int = 0) -> str:
    """Return the name of our version beside the server's: `a (conflicted copy 2026-01-31 235959).txt`.

    `attempt` above 0 adds a number, for names already taken. Long stems are cut to keep the name creatable.
    """
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension.encode()) > _EXTENSION_MAX_BYTES:
        stem, dot, extension = name, "", ""
    counter = f" {attempt + 1}" if attempt else ""
    tail = f" (conflicted copy {when:%Y-%m-%d %H%M%S}{counter}){dot}{extension}"
    room = 227 - len(tail.encode())
    return stem.encode()[: max(room, 1)].decode(errors="ignore") + tail


_COPY = re.compile(
    r"(?P<stem>.+) \(conflicted copy (?P<when>\d{4}-\d\d-\d\d \d{6})(?: (?P<number>\d{1,6}))?\)(?P<extension>\.[^.]*)?",
    re.DOTALL,
)


def original_name(copy: str) -> str | None:
    """Return the name that a conflicted copy's name was made of; None where it is no such name.

    Not the very name where a long stem was cut.
    """
    parts = _COPY.fullmatch(copy)
    return parts and f"{parts['stem']}{parts['extension'] or ''}"


def is_copy_of(copy: str, name: str) -> bool:
    """Tell whether `copy` is the name of a conflicted copy of `name`."""
    parts = _COPY.fullmatch(copy)
    if parts is None:
        return False
    try:
        when = datetime.strptime(parts["when"], "%Y-%m-%d %H%M%S")  # noqa: DTZ007  # only printed again
    except ValueError:
        return False
    return conflicted_copy(name, when, int(parts["number"] or 1) - 1) == copy
