"""Many small files of one folder in one request: the zip that Nextcloud makes for "download" (protocol.md §5.1).

    up to 30   GET  index.php/apps/files/ajax/download.php?dir=/folder&files=["a","b"]      (measured on 29.0.1)
    from 31    GET  remote.php/dav/files/USER/folder/?accept=zip&files=["a","b"]            (documented; not tried here)

No capability tells which there is, so the first request asks both, the newer first: a server that does not know it
answers with a page about WebDAV. Later ones ask in the form that worked.

Members are stored uncompressed, with their lengths and CRCs behind them: libraries that unpack a zip while it comes
(stream-unzip 0.0.101) refuse such. It need not be unpacked while it comes. None of it may be used before all of it has
passed, and the caller has to prove afterwards that nothing was changed meanwhile. So it is read whole, into no more
memory than the files that were asked for take, and the standard library's `zipfile` unpacks it by its directory.

A zip names no versions. What it holds is what the server had at some moment of the request, or, of a file that is
written just then, maybe of several.
"""

from __future__ import annotations

import io
import json
import math
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum, auto
from urllib.parse import quote

import trio

from cloudfs.concurrency.threads import in_read_thread
from cloudfs.errors import (
    Forbidden,
    NotAuthenticated,
    NotFound,
    ProtocolViolation,
    RemoteError,
    Unsupported,
)
from cloudfs.remote.connect import Site
from cloudfs.remote.exchange import Lane, Reply, Request
from cloudfs.remote.failures import error_of_reply, is_dav_error
from cloudfs.remote.home import home_path
from cloudfs.remote.session import Session
from cloudfs.types import RemotePath

__all__ = ["Archives", "batches", "members"]

_LONGEST_QUERY = 5000
"""Bytes of names in a URL: nginx takes 8 KiB of request line as it comes (414 beyond that, measured)."""
_LONGEST_NAME = 2000
"""Characters: no longer one is a name of 255 bytes in NFC."""
_MEMBER_BYTES = 512
"""What a member may take beside its content and, twice, its name: 76 to 180 bytes are usual."""
_END_BYTES = 1024
_ASK_AGAIN_S = 3600.0
"""A server that offered nothing is asked again after this long: it may have been upgraded."""


class _Form(Enum):
    """Which interface makes archives."""

    UNKNOWN = auto()
    NONE = auto()
    ON_DAV = auto()
    DOWNLOAD = auto()


class Archives:
    """Asks one account's server for archives, and remembers how that is done."""

    def __init__(self, session: Session, site: Site) -> None:
        self._session = session
        self._site = site
        self._form = _Form.UNKNOWN
        self._asked_s = -math.inf

    async def read(self, folder: RemotePath, sizes: Mapping[str, int]) -> dict[str, bytes]:
        """See `Remote.read_archive`."""
        if len(sizes) < 2:
            # Of one file download.php sends the file itself (measured).
            raise ValueError("an archive of fewer than two files")
        for form in self._forms(folder):
            request = self._request(form, folder, sizes)
            async with self._session.transport.open(request) as reply:
                if await self._is_zip(reply, form, folder):
                    self._form = form
                    body = await _read_whole(reply, folder, _most_bytes(sizes))
                    break
        else:
            if self._form in {_Form.ON_DAV, _Form.DOWNLOAD}:
                self.forget()  # it was upgraded, maybe
                raise ProtocolViolation(
                    "the server makes no archives any more in the form it did", subject=folder
                )
            self._form, self._asked_s = _Form.NONE, trio.current_time()
            raise Unsupported("the server makes no archives", subject=folder)
        try:
            return await in_read_thread(members, body, sizes)
        except ProtocolViolation as error:
            raise ProtocolViolation(error.message, subject=folder) from error

    def forget(self) -> None:
        """Find out again what there is: the server may be another one by now."""
        self._form = _Form.UNKNOWN

    def _forms(self, folder: RemotePath) -> Sequence[_Form]:
        nowhere = self._form is _Form.NONE and trio.current_time() - self._asked_s < _ASK_AGAIN_S
        if not self._session.features.nextcloud or self._site.base_url is None or nowhere:
            raise Unsupported("the server makes no archives", subject=folder)
        return (
            (self._form,) if self._form in {_Form.ON_DAV, _Form.DOWNLOAD} else (_Form.ON_DAV, _Form.DOWNLOAD)
        )

    def _request(self, form: _Form, folder: RemotePath, sizes: Mapping[str, int]) -> Request:
        names = quote(_names(sizes), safe="")
        if form is _Form.ON_DAV:
            # In the query and not in X-NC-Files, which is split at commas.
            url = f"{self._session.place.url_of(folder, folder=True)}?accept=zip&files={names}"
        else:
            # An absent list would mean all of the folder, and POST all of the account (measured): so GET, with a list.
            path = quote(home_path(self._site) + folder, safe="")
            url = f"{self._site.base_url}index.php/apps/files/ajax/download.php?dir={path}&files={names}"
        silence_s = self._session.transport.limits.change_s
        return Request(
            "GET",
            url,
            folder,
            {},
            lane=Lane.RANGES,
            silence_s=silence_s,
            follow=False,
            tells_of_login=form is _Form.ON_DAV,
        )

    async def _is_zip(self, reply: Reply, form: _Form, folder: RemotePath) -> bool:
        """Tell whether an archive comes; False where this server does not make it in this form.

        A page in the place of an archive says nothing: what download.php cannot do now, such as to read a file that is
        being written, is a page with the status 200 (measured).
        """
        kind = reply.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if reply.status == 200 and kind == "application/zip":
            return True
        failure = await reply.failure()
        if reply.status < 400:
            if form is _Form.ON_DAV and reply.status == 200:
                return False
            raise ProtocolViolation("a page came instead of an archive", subject=folder, status=reply.status)
        error = error_of_reply(failure)
        absent: tuple[type[RemoteError], ...] = (NotFound, Unsupported)
        if form is _Form.DOWNLOAD:
            absent = (
                *absent,
                Forbidden,
                NotAuthenticated,
            )  # a guard: Nextcloud itself redirects to its login
        if isinstance(error, absent) and not is_dav_error(failure.body):
            return False
        raise await self._session.error_of(failure)


def batches(sizes: Mapping[str, int], most_bytes: int, most_files: int) -> Iterator[dict[str, int]]:
    """Divide files into requests, in their order; a last single file is left out: a GET of its own does the same."""
    batch: dict[str, int] = {}
    length = 0
    for name, size in sizes.items():
        own = len(quote(json.dumps(name, ensure_ascii=False), safe="")) + 3
        if batch and (
            sum(batch.values()) + size > most_bytes
            or len(batch) == most_files
            or length + own > _LONGEST_QUERY
        ):
            if len(batch) > 1:
                yield batch
            batch, length = {}, 0
        batch[name] = size
        length += own
    if len(batch) > 1:
        yield batch


def members(body: bytes, sizes: Mapping[str, int]) -> dict[str, bytes]:
    """Return the files of an archive that have the length they should have; blocks for some milliseconds.

    Raises ProtocolViolation where anything but these files is in it, twice, encrypted, or other than its CRC says.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            return {name: data for name, data in _members(archive, sizes) if data is not None}
    except ProtocolViolation:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        ValueError,
        OverflowError,
        OSError,
    ) as error:
        # What zipfile raises for what is none, or is cut: found with Hypothesis.
        raise ProtocolViolation("the archive is damaged") from error


def _members(archive: zipfile.ZipFile, sizes: Mapping[str, int]) -> Iterator[tuple[str, bytes | None]]:
    seen: set[str] = set()
    for member in archive.infolist():
        # To compose a long one takes a second, in which nothing else runs.
        name = unicodedata.normalize("NFC", member.filename) if len(member.filename) <= _LONGEST_NAME else ""
        if name not in sizes or member.orig_filename != member.filename:
            raise ProtocolViolation("the archive has a member that was not asked for")
        if name in seen:
            raise ProtocolViolation("the archive has a member twice")
        seen.add(name)
        if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED} or member.flag_bits & 1:
            raise ProtocolViolation("the archive has a member that cannot be read")
        # Of another length is a file that was changed meanwhile: it is left out, like one that was removed.
        yield name, _content(archive, member) if member.file_size == sizes[name] else None


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    with archive.open(member) as stream:
        # Not read(): that would unpack as much as there is before it looks at the length. The last byte checks the CRC.
        data = stream.read(member.file_size)
    if len(data) != member.file_size:
        raise ProtocolViolation("the archive has a member that ends early")
    if zlib.crc32(data) != member.CRC:  # of an empty one nothing is read, and nothing checked
        raise ProtocolViolation("the archive has a member that does not fit its CRC")
    return data


def _names(sizes: Mapping[str, int]) -> str:
    return json.dumps(list(sizes), ensure_ascii=False, separators=(",", ":"))


def _most_bytes(sizes: Mapping[str, int]) -> int:
    return _END_BYTES + sum(size + _MEMBER_BYTES + 2 * len(name.encode()) for name, size in sizes.items())


async def _read_whole(reply: Reply, folder: RemotePath, most_bytes: int) -> bytes:
    body = bytearray()
    while chunk := await reply.read_raw():
        body += chunk
        if len(body) > most_bytes:
            raise ProtocolViolation("the archive is longer than what was asked for", subject=folder)
    return bytes(body)
