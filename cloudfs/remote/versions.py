"""Old contents that Nextcloud keeps of a file: its versions, by file id (protocol.md §10).

    PROPFIND  remote.php/dav/versions/USER/versions/ID         Depth 1
    GET       remote.php/dav/versions/USER/versions/ID/NAME

A name is the modification time of that content, in seconds. What the file holds now is listed, too, and not to be had
there (404). Of several contents of one second only one is kept, and no checksum is listed: whoever asks has to prove
what came.

SOURCE: measured on 29.0.1.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

from cloudfs.errors import Changed, NotFound, ProtocolViolation, Unsupported
from cloudfs.paths import encode
from cloudfs.remote import dialect, queries, reading, values
from cloudfs.remote.connect import Site
from cloudfs.remote.exchange import Lane, Request
from cloudfs.remote.multistatus import Member, read_members
from cloudfs.remote.session import Session
from cloudfs.types import RemotePath, RemoteVersion

__all__ = ["open_old", "open_whole", "side_tree"]

_PROPERTIES = ("d:resourcetype", "d:getlastmodified", "d:getcontentlength")


@asynccontextmanager
async def open_old(
    session: Session, site: Site, file_id: str, expect: RemoteVersion
) -> AsyncIterator[reading.Window]:
    """Open all bytes, at least one, of the old content that has the size and time of `expect`.

    Raises NotFound where there is none, Unsupported where the server keeps none, and what requests raise.
    """
    subject = RemotePath(f"old version of file {file_id}")
    url = f"{side_tree(session, site, 'versions', subject)}/versions/{quote(file_id, safe='')}"
    name = await _name_of(session, url, subject, expect)
    async with open_whole(session, f"{url}/{name}", subject, expect.size) as window:
        yield window


def side_tree(session: Session, site: Site, name: str, subject: RemotePath) -> str:
    """Return the URL of what a Nextcloud has beside a user's files. Raises Unsupported on other servers."""
    if not session.features.nextcloud or site.base_url is None or site.user_id is None:
        raise Unsupported("the server keeps no old contents", subject=subject)
    return f"{site.base_url}remote.php/dav/{name}/{encode(site.user_id)}"


@asynccontextmanager
async def open_whole(
    session: Session, url: str, subject: RemotePath, size: int
) -> AsyncIterator[reading.Window]:
    """Open all bytes of what was just listed with this size; Changed where it has another one."""
    request = Request("GET", url, subject, {}, lane=Lane.STREAMS, follow=False)
    async with session.open(request, 200) as reply:
        if reply.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise ProtocolViolation("the file comes encoded, which was not asked for", subject=subject)
        if values.whole_number(reply.headers.get("Content-Length")) != size:
            raise Changed("it has another size than was listed", subject=subject)
        yield reading.Window(reply, subject, reading.plan(0, size, size), 0, size)


async def _name_of(session: Session, url: str, subject: RemotePath, expect: RemoteVersion) -> str:
    headers = dialect.query_headers(session.features, "1")
    question = queries.propfind(_PROPERTIES)
    reply = await session.fetch(Request("PROPFIND", url, subject, headers, question), 207)
    names = [
        member.href.rstrip("/").rpartition("/")[2]
        for member in await read_members(reply.body)
        if _fits(member, expect)
    ]
    if len(names) != 1 or not names[0].isdecimal():
        raise NotFound("the server keeps no such version", subject=subject)
    return names[0]


def _fits(member: Member, expect: RemoteVersion) -> bool:
    found = member.properties
    return (
        not member.collection
        and values.whole_number(found.get("d:getcontentlength")) == expect.size
        and values.http_date_s(found.get("d:getlastmodified")) == expect.modified_s
    )
