"""Old contents that Nextcloud keeps of a file: its versions and what is in the trash, by file id (protocol.md §10).

    PROPFIND  remote.php/dav/versions/USER/versions/ID         Depth 1
    GET       remote.php/dav/versions/USER/versions/ID/NAME

A name is the modification time of that content, in seconds. What the file holds now is listed, too, and not to be had
there (404). Of several contents of one second only one is kept, and no checksum is listed: whoever asks has to prove
what came.

    PROPFIND  remote.php/dav/trashbin/USER/trash/              Depth 1
    GET       remote.php/dav/trashbin/USER/trash/NAME.dTIME

A file that was removed, or replaced by a MOVE, keeps its id there; its listed time is that of the removal. What was
removed with a folder lies below that, and is not looked for.

SOURCE: measured on 29.0.1.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote, unquote

from cloudfs.errors import Changed, NotFound, ProtocolViolation, Unsupported
from cloudfs.paths import encode
from cloudfs.remote import dialect, queries, reading, values
from cloudfs.remote.connect import Site
from cloudfs.remote.exchange import Lane, Request
from cloudfs.remote.multistatus import Member, parse_members
from cloudfs.remote.session import Session
from cloudfs.types import RemotePath, RemoteVersion

__all__ = ["open_old"]

_PROPERTIES = ("d:resourcetype", "d:getlastmodified", "d:getcontentlength")


@asynccontextmanager
async def open_old(
    session: Session, site: Site, file_id: str, expect: RemoteVersion
) -> AsyncIterator[reading.Window]:
    """Open all bytes, at least one, of the old content that has the size and time of `expect`.

    Raises NotFound where there is none, Unsupported where the server keeps none, and what requests raise.
    """
    if not session.features.nextcloud or site.base_url is None or site.user_id is None:
        raise Unsupported("the server keeps no old versions", subject=file_id)
    subject = RemotePath(f"old version of file {file_id}")
    url = await _place_of(session, site.base_url, encode(site.user_id), file_id, subject, expect)
    request = Request("GET", url, subject, {}, lane=Lane.STREAMS, follow=False)
    wanted = reading.plan(0, expect.size, expect.size)
    async with session.open(request, 200) as reply:
        if reply.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise ProtocolViolation("the file comes encoded, which was not asked for", subject=subject)
        if values.whole_number(reply.headers.get("Content-Length")) != expect.size:
            raise Changed("the old version has another size than was listed", subject=subject)
        yield reading.Window(reply, subject, wanted, 0, expect.size)


async def _place_of(
    session: Session, base_url: str, user: str, file_id: str, subject: RemotePath, expect: RemoteVersion
) -> str:
    versions = f"{base_url}remote.php/dav/versions/{user}/versions/{quote(file_id, safe='')}"
    try:
        return f"{versions}/{await _name_of(session, versions, subject, expect)}"
    except NotFound:
        trash = f"{base_url}remote.php/dav/trashbin/{user}/trash"
        return f"{trash}/{await _name_in_trash(session, trash, subject, file_id, expect)}"


async def _name_in_trash(
    session: Session, url: str, subject: RemotePath, file_id: str, expect: RemoteVersion
) -> str:
    headers = dialect.query_headers(session.features, "1")
    question = queries.propfind(("d:resourcetype", "d:getcontentlength", "oc:fileid"))
    try:
        reply = await session.fetch(Request("PROPFIND", f"{url}/", subject, headers, question), 207)
        members = parse_members(reply.body)
    except ProtocolViolation as error:
        raise NotFound("the trash cannot be looked through", subject=subject) from error  # too much is in it
    for member in members:
        size = values.whole_number(member.properties.get("d:getcontentlength"))
        if member.properties.get("oc:fileid") == file_id and size == expect.size and not member.collection:
            return quote(unquote(_name(member)), safe="")  # one name, whatever the server says
    raise NotFound("the server keeps no such version, nor is it in the trash", subject=subject)


async def _name_of(session: Session, url: str, subject: RemotePath, expect: RemoteVersion) -> str:
    headers = dialect.query_headers(session.features, "1")
    question = queries.propfind(_PROPERTIES)
    reply = await session.fetch(Request("PROPFIND", url, subject, headers, question), 207)
    names = [_name(member) for member in parse_members(reply.body) if _fits(member, expect)]
    if len(names) != 1 or not names[0].isdecimal():
        raise NotFound("the server keeps no such version", subject=subject)
    return names[0]


def _name(member: Member) -> str:
    return member.href.rstrip("/").rpartition("/")[2]


def _fits(member: Member, expect: RemoteVersion) -> bool:
    found = member.properties
    return (
        not member.collection
        and values.whole_number(found.get("d:getcontentlength")) == expect.size
        and values.http_date_s(found.get("d:getlastmodified")) == expect.modified_s
    )
