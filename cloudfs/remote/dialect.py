"""What differs between Nextcloud and plain WebDAV: the properties, the headers, the names. Pure.

SOURCE: protocol.md, measured on Nextcloud 29.0.1, Apache 2.4, wsgidav 4.4, rclone and SabreDAV 4.5.
"""

from __future__ import annotations

from collections.abc import Mapping

from cloudfs.errors import NotFound, ProtocolViolation
from cloudfs.paths import NameRules
from cloudfs.remote import values
from cloudfs.remote.protocol import Features
from cloudfs.types import RemoteEntry

__all__ = [
    "EARLIEST_MTIME_S",
    "MINIMAL",
    "check_entry",
    "clamp_mtime",
    "file_id",
    "listed_properties",
    "mtime_accepted",
    "nextcloud_names",
    "query_headers",
    "stat_properties",
    "upload_headers",
]

EARLIEST_MTIME_S = 86401
"""Nextcloud answers X-OC-Mtime below this with 500, yet stores the file (protocol.md, rule 11)."""

_PLAIN = ("d:resourcetype", "d:getlastmodified", "d:getcontentlength", "d:getetag")
_NEXTCLOUD = (
    *_PLAIN,
    "oc:fileid",
    "oc:permissions",
    "oc:size",
    "oc:checksums",
    "nc:is-mount-root",
    "oc:data-fingerprint",
)
MINIMAL = {"Prefer": "return=minimal"}
"""Of a PROPFIND an answer without what an object does not have, of a PROPPATCH that was done none (rule 16)."""
_QUOTA = ("d:quota-available-bytes", "d:quota-used-bytes")

_NAME_BYTES = 250
_NEW_FILE_BYTES = 227
"""The upload of a new file with a longer name fails for ever: it goes through a name of its own with an ending
(protocol.md §2.4). Folders, renamed files and what is there already may have up to 250 bytes."""
_PATH_BYTES = 3900
"""Of 4000, in which Nextcloud counts the user's id (64 at most), "/files" and the ending of that name. What is made
with one over 3968 can go to no trash, where 32 more are before and behind it: a DELETE is a 500, for ever (measured on
29.0.1)."""


def listed_properties(features: Features) -> tuple[str, ...]:
    """Return the properties of a listing: each costs next to nothing even per thousand (protocol.md §16).

    Never d:displayname: names come from hrefs (rule 13).
    """
    return _NEXTCLOUD if features.nextcloud else _PLAIN


def stat_properties(features: Features) -> tuple[str, ...]:
    """Return the properties of a single object: those of a listing, and the quota."""
    return (*listed_properties(features), *_QUOTA)


def query_headers(features: Features, depth: str) -> dict[str, str]:
    """Return the headers of a PROPFIND. `return=minimal` leaves out what an object does not have."""
    headers = {"Depth": depth, "Content-Type": "application/xml; charset=utf-8", "Accept-Encoding": "gzip"}
    return headers | MINIMAL if features.nextcloud else headers


def check_entry(entry: RemoteEntry, features: Features) -> RemoteEntry:
    """Return the entry unless Nextcloud shows a thing that is not there.

    Any path with a component `*.part` is answered with 207 and an empty ETag (protocol.md, rule 12), and so is somebody
    else's home (§1): neither has a file id.
    """
    if not features.nextcloud or entry.file_id:
        return entry
    if any(segment.lower().endswith(".part") for segment in entry.path.split("/")):
        raise NotFound("it does not exist on the server", subject=entry.path, status=404)
    raise ProtocolViolation("listed without its file id", subject=entry.path)


def clamp_mtime(mtime_s: int) -> int:
    """Return the nearest modification time that Nextcloud takes."""
    return max(mtime_s, EARLIEST_MTIME_S)


def upload_headers(features: Features, mtime_s: int | None, checksum: str | None) -> dict[str, str]:
    """Return the headers that carry a file's time and checksum along.

    The time is sent to every server: others than Nextcloud may know the header (rclone 1.75 does), the rest ignore it.
    """
    headers: dict[str, str] = {}
    if mtime_s is not None:
        headers["X-OC-Mtime"] = str(clamp_mtime(mtime_s))
    if checksum is not None and features.checksums:
        headers["OC-Checksum"] = checksum
    return headers


def mtime_accepted(headers: Mapping[str, str]) -> bool:
    """Tell from the reply to an upload whether its X-OC-Mtime was taken over."""
    return headers.get("X-OC-MTime", "").strip().lower() == "accepted"


def file_id(headers: Mapping[str, str], features: Features) -> str | None:
    """Return the file id in the reply to a change, in the form of listings."""
    return values.file_id_of_header(headers.get("OC-FileId")) if features.nextcloud else None


def nextcloud_names(files: Mapping[str, object]) -> NameRules:
    """Read the name rules out of the capabilities' "files" section.

    29 has blacklisted_files, 30 and later forbidden_filenames (protocol.md §1) and, where it is to please Windows,
    stems and endings; `/` is no character of a name anyway.
    """
    characters = {"\\"}
    names = {".htaccess", "*"}  # the second is "a reserved word" to 29.0.1 (measured)
    characters.update(text for text in _texts(files.get("forbidden_filename_characters")) if len(text) == 1)
    for key in ("blacklisted_files", "forbidden_filenames"):
        names.update(text.lower() for text in _texts(files.get(key)))
    return NameRules(
        forbidden_characters="".join(sorted(characters - {"/"})),
        forbidden_names=frozenset(names),
        forbidden_stems=frozenset(map(str.lower, _texts(files.get("forbidden_filename_basenames")))),
        forbidden_endings=tuple(sorted(map(str.lower, _texts(files.get("forbidden_filename_extensions"))))),
        refuse_control_characters=True,
        refuse_dots_and_blanks=True,
        max_bytes=_NAME_BYTES,
        new_file_bytes=_NEW_FILE_BYTES,
        path_bytes=_PATH_BYTES,
    )


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str) and item] if isinstance(value, list) else []
