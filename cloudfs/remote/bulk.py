"""Many small new files in one request: Nextcloud's bulk endpoint (protocol.md §8).

    POST dav/bulk    multipart/related; each part: X-File-Path, X-File-MD5, X-OC-Mtime, Content-Length

A third of the server's work per file, and one round trip for all. It knows no preconditions and keeps no checksums;
what a part breaks on is told in words only. So the caller sends what is certainly new, and what was not stored
goes again by a PUT, whose answer says why.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence

import msgspec

from cloudfs.errors import ProtocolViolation, RemoteError
from cloudfs.remote import dialect, etags, values
from cloudfs.remote.connect import Site
from cloudfs.remote.exchange import Lane, Request, WholeReply
from cloudfs.remote.failures import UNCONNECTED
from cloudfs.remote.home import home_path
from cloudfs.remote.protocol import NewFile
from cloudfs.remote.session import Session
from cloudfs.types import Stored

__all__ = ["send"]

_FILE_S = 2.0
"""A file costs the server 25 ms (measured on 29.0.1), so many times more when it is busy."""


class _Result(msgspec.Struct, frozen=True):
    """What the endpoint says of one file."""

    error: bool
    etag: str = ""
    fileid: str = ""


async def send(session: Session, site: Site, files: Sequence[NewFile]) -> Sequence[Stored | None]:
    """Send the files; see `Remote.put_bulk`."""
    names = [home_path(site) + file.path for file in files]
    boundary = secrets.token_hex(16)
    request = Request(
        "POST",
        f"{site.base_url}remote.php/dav/bulk",
        f"{files[0].path} and {len(files) - 1} more files" if len(files) > 1 else files[0].path,
        {"Content-Type": f"multipart/related; boundary={boundary}"},
        _body(files, names, boundary.encode()),
        lane=Lane.BULK,
        silence_s=session.transport.limits.change_s + _FILE_S * len(files),
    )
    try:
        reply = await session.fetch(request, 200, 400)
    except RemoteError as error:
        error.unsent = isinstance(
            error.__cause__, UNCONNECTED
        )  # it is one request, never followed by another
        raise
    results = _results(reply, request.subject)
    return [_stored(results.get(name), file) for name, file in zip(names, files, strict=True)]


def _body(files: Sequence[NewFile], names: Sequence[str], boundary: bytes) -> bytes:
    parts = []
    for file, name in zip(files, names, strict=True):
        headers = {
            "X-File-Path": name,
            "X-File-MD5": hashlib.md5(file.content, usedforsecurity=False).hexdigest(),
            "X-OC-Mtime": str(dialect.clamp_mtime(file.mtime_s)),
            "Content-Length": str(len(file.content)),
        }
        lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
        parts += [b"--", boundary, b"\r\n", lines.encode(), b"\r\n", file.content, b"\r\n"]
    return b"".join([*parts, b"--", boundary, b"--\r\n"])


def _results(reply: WholeReply, subject: str) -> dict[str, _Result]:
    """Read what the server says of each file. With 400 it ended early and says it of those that are done."""
    try:
        told = values.json_of(reply.body, object)
        # PHP writes an empty list where it means an empty table.
        return msgspec.convert(told or {}, dict[str, _Result])
    except msgspec.DecodeError as error:
        raise ProtocolViolation(
            "a page answers, but not the server's bulk upload", subject=subject, status=reply.status
        ) from error


def _stored(result: _Result | None, file: NewFile) -> Stored | None:
    etag = "" if result is None or result.error else etags.normalise(result.etag)
    if result is None or not etag:
        return None
    modified_s = dialect.clamp_mtime(file.mtime_s)
    file_id = values.file_id_of_header(result.fileid)
    return Stored(etag, file_id, modified_s, mtime_kept=modified_s == file.mtime_s)
