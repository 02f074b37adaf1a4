"""What all endpoints of one server share."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.servers.standin.blobs import BlobStore
from tests.servers.standin.errors import insufficient_storage
from tests.servers.standin.messages import Request, Response
from tests.servers.standin.names import Segments
from tests.servers.standin.tree import Counters
from tests.servers.standin.users import User, Users

INSTANCE_ID = "ocst4nd1n0ne"


@dataclass
class Site:
    """One server's state and switches."""

    folder: Path
    now: Callable[[], float]
    counters: Counters
    users: Users
    blobs: BlobStore
    buffered: bool = True
    """Whether the front end takes a request's whole body before the application sees the request (§6)."""
    maintenance: bool = False
    archives: str = "download"
    """How folders are downloaded: "download" (download.php, up to 30), "dav" (on the DAV URL, from 31), "" not at all.

    SOURCE: the second is documented only (protocol.md §5).
    """
    fingerprint: str = ""
    """``oc:data-fingerprint``: another one after a backup was restored (protocol.md §2.1)."""
    prefix: str = ""
    """The sub-folder that it is installed in, without a slash at the end: ``/nextcloud``."""

    def full_id(self, file_id: int) -> str:
        """``oc:id``, also the ``OC-FileId`` header (protocol.md §2.1)."""
        return f"{file_id:08d}{INSTANCE_ID}"

    def free_bytes(self, user: User) -> int:
        """What the account may still store."""
        on_disk = shutil.disk_usage(self.folder).free
        if user.quota_bytes is None:
            return on_disk
        return min(on_disk, max(0, user.quota_bytes - user.tree.root.size_bytes))

    def check_quota(self, user: User, path: Segments, required_bytes: int) -> None:
        """507 when the whole new size does not fit, also for an overwrite (protocol.md §6)."""
        available = self.free_bytes(user)
        if required_bytes > available:
            raise insufficient_storage("/" + "/".join(path), required_bytes, available)


class Endpoint(Protocol):
    """Answers everything below one path prefix. A new endpoint is a module with one of these in `application`."""

    needs_login: bool

    def handle(self, request: Request) -> Response:
        """Answer the request; refusals are raised as `DavError`."""
