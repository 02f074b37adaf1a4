"""Checksums as servers name them, and what can be checked of them. Pure.

A server stores whatever the uploading client says, unchecked (protocol.md §6): other algorithms, rubbish, and the
right checksum of another content. `values.best_checksum` has chosen one of several already.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

from cloudfs.types import Octets

__all__ = ["Digest", "begin", "can_check", "of", "spelled"]

_ALGORITHMS = {
    "SHA1": ("sha1", 40),
    "SHA256": ("sha256", 64),
    "SHA3-256": ("sha3_256", 64),
    "MD5": ("md5", 32),
}
"""By their names in checksums: hashlib's name, and digits. Not ADLER32 and CRC32, which ownCloud knows too: what these
would find, TLS and the disk's own sums find."""


class Digest(Protocol):
    """A hash that is being computed."""

    def update(self, data: Octets, /) -> None:
        """Take the next bytes."""
        ...

    def hexdigest(self) -> str:
        """Return the hash of all bytes so far."""
        ...


def can_check(checksum: str | None) -> bool:
    """Tell whether a content can be compared with this checksum."""
    algorithm, _, digits = (checksum or "").partition(":")
    known = _ALGORITHMS.get(algorithm.upper())
    return known is not None and len(digits) == known[1]


def begin(checksum: str) -> Digest:
    """Begin a hash by the algorithm of `checksum`, which `can_check` said yes to."""
    name, _ = _ALGORITHMS[checksum.partition(":")[0].upper()]
    return hashlib.new(name, usedforsecurity=False)


def spelled(checksum: str, digest: Digest) -> str:
    """Write a digest as checksums are kept: comparable with `checksum` and its like."""
    return f"{checksum.partition(':')[0].upper()}:{digest.hexdigest()}"


def of(data: Octets, checksum: str) -> str:
    """Return the checksum of `data` by the algorithm of `checksum`."""
    digest = begin(checksum)
    digest.update(data)
    return spelled(checksum, digest)
