"""``POST /remote.php/dav/bulk``: many small files in one request (protocol.md §8)."""

from __future__ import annotations

import hashlib
import io
import re

from tests.servers.standin.dav.location import Location
from tests.servers.standin.dav.times import whole_seconds
from tests.servers.standin.dav.writing import store
from tests.servers.standin.errors import DavError
from tests.servers.standin.messages import HTML, Request, Response, php_json
from tests.servers.standin.names import LONGEST_NAME_BYTES, Segments, is_part, split_local
from tests.servers.standin.site import Site
from tests.servers.standin.users import User

_BOUNDARY = re.compile(r'boundary="?([^";]+)"?')
Results = dict[str, dict[str, object]]


class _BatchError(Exception):
    """The rest of the batch is not processed; what was written stays (§8)."""


class _FileError(Exception):
    """One file failed; the batch goes on."""


class Bulk:
    """The bulk endpoint. With a session cookie it logs the session out first, as the real one does."""

    needs_login = True

    def __init__(self, site: Site) -> None:
        self._site = site

    def handle(self, request: Request) -> Response:
        """Store every part; overwrites silently, ignores preconditions and checksums on parts."""
        if request.method != "POST":
            raise DavError(404, "File not found: bulk in 'root'")
        cookies = self._log_out(request)
        boundary = _boundary(request.header("content-type"))
        stream = io.BytesIO(request.body.read())
        results: Results = {}
        try:
            self._store_all(request.account, stream, boundary, results)
        except _BatchError:
            return Response(400, [HTML, *cookies], php_json(results or []))
        return Response(200, [HTML, *cookies], php_json(results or []))

    def _log_out(self, request: Request) -> list[tuple[str, str]]:
        if request.session is None:
            return []
        cookies = self._site.users.end_session(request)
        self._site.users.check_again(request)
        return cookies

    def _store_all(self, user: User, stream: io.BytesIO, boundary: bytes, results: Results) -> None:
        opening, closing = b"--" + boundary + b"\r\n", b"--" + boundary + b"--\r\n"
        while (line := stream.readline()) != closing:
            if line != opening:
                raise _BatchError
            headers, content = _part(stream)
            path = headers["x-file-path"]
            try:
                results[path] = self._store(user, path, headers, content)
            except _FileError as error:
                results[path] = {"error": True, "message": str(error)}

    def _store(self, user: User, path: str, headers: dict[str, str], content: bytes) -> dict[str, object]:
        segments = _checked_path(user, path)
        mtime = headers.get("x-file-mtime") or headers.get("x-oc-mtime")
        try:
            seconds = whole_seconds(mtime) if mtime is not None else None
        except DavError as error:
            raise _FileError(error.message) from error
        with user.tree.lock:
            _check_storable(user, segments)
            location = Location(user, segments, "", "")
            _, node = store(location, self._site.blobs.of(content), upload_time=0)
            if seconds is not None:
                user.tree.touch(node, seconds)
            if is_part(segments):
                # The file is on disk, the file cache does not know it, and the whole batch dies of that (§8).
                user.tree.remove(node)
                raise DavError(500, "Call to a member function getETag() on null", exception="Error")
            return {
                "error": False,
                "etag": node.etag,
                "fileid": self._site.full_id(node.file_id),
                "permissions": node.effective_permissions(),
            }


def _boundary(content_type: str) -> bytes:
    kind, *parameters = [part.strip() for part in content_type.split(";")]
    if kind != "multipart/related":
        raise DavError(400, "Content-Type must be multipart/related")
    match = _BOUNDARY.fullmatch(parameters[0]) if len(parameters) == 1 else None
    if match is None:
        raise DavError(400, "Boundary is invalid")
    return match[1].encode()


def _part(stream: io.BytesIO) -> tuple[dict[str, str], bytes]:
    headers: dict[str, str] = {}
    while (line := stream.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode(errors="replace").partition(":")
        headers[name.strip().lower()] = value.strip()
    if not {"x-file-path", "x-file-md5", "content-length"} <= headers.keys():
        raise _BatchError
    content = stream.read(int(headers["content-length"]))
    stream.readline()
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != headers["x-file-md5"]:
        raise _BatchError
    return headers, content


def _checked_path(user: User, path: str) -> Segments:
    if ".." in path.split("/"):
        raise _FileError(f'Invalid path "{path}"')
    segments = split_local(path.replace("\\", "/"))
    name = segments[-1]
    if name.lower() == ".htaccess":
        raise _FileError(f"Invalid path: files/{'/'.join(segments)}")
    if len(name.encode()) > LONGEST_NAME_BYTES or any(character < " " for character in name):
        raise _could_not_create(user, segments)
    return segments


def _check_storable(user: User, segments: Segments) -> None:
    node = user.tree.lookup(segments)
    parent = user.tree.lookup(segments[:-1])
    if node is not None:
        storable = not node.is_folder and "W" in node.effective_permissions()
    else:
        storable = parent is not None and parent.is_folder and "C" in parent.effective_permissions()
    if not storable:
        raise _could_not_create(user, segments)


def _could_not_create(user: User, segments: Segments) -> _FileError:
    return _FileError(f'Could not create path "/{user.id}/files/{"/".join(segments)}"')
