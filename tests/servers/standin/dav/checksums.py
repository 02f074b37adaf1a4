"""PATCH with ``X-Recalculate-Hash``: the server computes and stores a checksum (protocol.md §9)."""

from __future__ import annotations

import hashlib
import zlib

from tests.servers.standin.blobs import Blob
from tests.servers.standin.dav.location import Location
from tests.servers.standin.errors import DavError, not_implemented
from tests.servers.standin.messages import Request, Response, empty


def _hashed(name: str, blob: Blob) -> str:
    if name in ("adler32", "crc32"):
        start, step = (1, zlib.adler32) if name == "adler32" else (0, zlib.crc32)
        value = start
        for block in blob.blocks():
            value = step(block, value)
        return f"{value:08x}"
    if name not in ("md5", "sha1", "sha256"):
        message = "hash_file(): Argument #1 ($algo) must be a valid hashing algorithm"
        raise DavError(500, message, exception="ValueError")
    digest = hashlib.new(name, usedforsecurity=False)
    for block in blob.blocks():
        digest.update(block)
    return digest.hexdigest()


def patch(request: Request, location: Location) -> Response:
    """Answers 204 with the checksum; the ETag stays."""
    name = request.header("x-recalculate-hash").lower()
    with location.user.tree.lock:
        node = location.existing()
        if node.is_folder:
            raise not_implemented("PATCH")
        node.checksum = f"{name.upper()}:{_hashed(name, node.blob)}"
        return empty(204, [("OC-Checksum", node.checksum)])
