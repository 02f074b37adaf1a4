"""What was removed and lies in a Nextcloud's trash, by file id (protocol.md §10).

    PROPFIND  remote.php/dav/trashbin/USER/trash[/NAME.dTIME[/FOLDER...]]       Depth 1
    GET       remote.php/dav/trashbin/USER/trash/NAME.dTIME[/FOLDER...][/NAME]

A file that was removed, or replaced by a MOVE, keeps its id there, be it alone or below a folder that was removed with
it. The time that is told of each, as Last-Modified and as ETag, is that of the removal, and no checksum is listed:
neither says which content it is. So whoever asks has to prove what came.

SOURCE: measured on 29.0.1.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from urllib.parse import quote, unquote

from cloudfs.errors import NotFound, ProtocolViolation
from cloudfs.remote import dialect, queries, reading, values
from cloudfs.remote.connect import Site
from cloudfs.remote.exchange import Request
from cloudfs.remote.multistatus import Member, read_members
from cloudfs.remote.session import Session
from cloudfs.remote.versions import open_whole, side_tree
from cloudfs.types import RemotePath

__all__ = ["open_removed"]

_MOST_FOLDERS = 30
"""So many are looked into at most. A listing costs the server 30 to 50 ms of CPU (protocol.md §16)."""

_QUESTION = queries.propfind(("d:resourcetype", "d:getcontentlength", "oc:fileid", "nc:trashbin-filename"))


@asynccontextmanager
async def open_removed(
    session: Session, site: Site, file_id: str, size: int, folders: Collection[str]
) -> AsyncIterator[reading.Window]:
    """Open all bytes, at least one, of a removed file of this size; looks first into folders of these names.

    Raises NotFound where it is not found, Unsupported where the server has no trash, and what requests raise.
    """
    subject = RemotePath(f"removed file {file_id}")
    top = f"{side_tree(session, site, 'trashbin', subject)}/trash"
    url = await _place_of(session, top, subject, file_id, folders)
    async with open_whole(session, url, subject, size) as window:
        yield window


async def _place_of(
    session: Session, top: str, subject: RemotePath, file_id: str, folders: Collection[str]
) -> str:
    waiting = deque([top])
    for _ in range(_MOST_FOLDERS):
        if not waiting:
            break
        place = waiting.popleft()
        below = []
        for member in await _members(session, place, subject):
            url = f"{place}/{_segment(member)}"
            if member.collection:
                below.append((url, member.properties.get("nc:trashbin-filename"), _removed_s(member)))
            elif member.properties.get("oc:fileid") == file_id:
                return url
        below.sort(key=lambda it: it[2])
        waiting.extendleft(url for url, name, _ in below if name in folders)
        waiting.extend(url for url, name, _ in reversed(below) if name not in folders)
    raise NotFound("it is not found in the trash", subject=subject)


async def _members(session: Session, url: str, subject: RemotePath) -> list[Member]:
    """List a folder of the trash; nothing where it is gone, or has too much in it."""
    headers = dialect.query_headers(session.features, "1")
    try:
        reply = await session.fetch(Request("PROPFIND", f"{url}/", subject, headers, _QUESTION), 207)
        members = await read_members(reply.body)
    except (ProtocolViolation, NotFound):
        return []
    itself = _depth(unquote(url.partition("/remote.php/")[2]))
    return [it for it in members if _depth(unquote(it.href.partition("/remote.php/")[2])) == itself + 1]


def _depth(path: str) -> int:
    return path.rstrip("/").count("/")


def _segment(member: Member) -> str:
    return quote(
        unquote(member.href.rstrip("/").rpartition("/")[2]), safe=""
    )  # one name, whatever the server says


def _removed_s(member: Member) -> int:
    """Return when a folder was removed; of what lies in one its name tells nothing."""
    return values.whole_number(_segment(member).rpartition(".d")[2]) or 0
