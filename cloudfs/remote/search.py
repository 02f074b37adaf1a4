"""What is behind file ids: one question for many of them, whatever the size of the account (protocol.md §4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import unquote

from cloudfs.errors import Unsupported
from cloudfs.paths import ROOT_PATH, UnrepresentableName
from cloudfs.remote import dialect, queries
from cloudfs.remote.connect import Site
from cloudfs.remote.entries import SizeUnknown, entry_of
from cloudfs.remote.exchange import Request
from cloudfs.remote.multistatus import read_members
from cloudfs.remote.session import Session
from cloudfs.types import RemoteEntry, RemotePath

__all__ = ["MOST_IDS", "find", "identify"]

MOST_IDS = 100
"""The server takes no more comparisons in one question."""
_MOST_ROWS = 1000
"""An id stands at several paths where a file is shared directly and within folders, and rows are counted before those
outside the scope are left out. Newer servers stop at 100 rows where nothing is said."""
_PROPERTIES = (
    "d:resourcetype",
    "d:getlastmodified",
    "d:getcontentlength",
    "d:getetag",
    "oc:fileid",
    "oc:permissions",
    "oc:size",
)
"""These cost nothing; checksums cost a query for each row (protocol.md §4)."""


async def identify(session: Session, site: Site, ids: Sequence[str]) -> list[RemoteEntry]:
    """Return what stands in the account's folder under these ids (at most `MOST_IDS`), without checksums.

    One id may stand at several paths, or at none. The folder itself is never found.
    """
    dav = f"{site.base_url}remote.php/dav/"
    if not session.features.nextcloud or site.base_url is None or not session.place.url.startswith(dav):
        raise Unsupported("the server does not search by file id", subject=ROOT_PATH)
    scope = "/" + unquote(session.place.url.removeprefix(dav).rstrip("/"))
    question = queries.search(scope, _PROPERTIES, "oc:fileid", ids, _MOST_ROWS)
    headers = dialect.query_headers(session.features, "infinity") | {"Content-Type": queries.XML_TYPE}
    reply = await session.fetch(Request("SEARCH", dav, ROOT_PATH, headers, question), 207)
    found: list[RemoteEntry] = []
    for member in await read_members(reply.body):
        with suppress(UnrepresentableName, SizeUnknown):
            entry = entry_of(member, session.place, ROOT_PATH)
            if entry is not None:
                found.append(dialect.check_entry(entry, session.features))
    return found


async def find(session: Session, site: Site, file_id: str) -> list[RemotePath]:
    """Return the paths of whatever has a file id; nothing where the server does not take such a question."""
    try:
        return [entry.path for entry in await identify(session, site, [file_id])]
    except Unsupported:
        return []
