"""Contents that only add something to the end of a version that the server has.

Of such a content only the tail is sent, and its base is not downloaded for it. So nobody here can say what the checksum
of the whole is, and the proof that an upload was ours is another one than usual: the time that the server was told, the
size, and the checksum of the tail.
"""

from __future__ import annotations

import contextlib
import re

import msgspec

from cloudfs.content.layers import Layer
from cloudfs.content.source import Source

__all__ = ["TailProof", "appended_to", "is_tail_proof"]

_PROOF = re.compile(r"TAIL-(\d+)-(\d+)-(SHA1:[0-9a-f]{40})")


class TailProof(msgspec.Struct, frozen=True):
    """What the bytes of an upload from `start` on are. Kept where the checksum of a whole content is kept otherwise."""

    start: int
    mtime_s: int
    checksum: str

    def __str__(self) -> str:
        return f"TAIL-{self.start}-{self.mtime_s}-{self.checksum}"

    @classmethod
    def parse(cls, text: str | None) -> TailProof | None:
        """Return the proof that `text` is, None for anything else."""
        with contextlib.suppress(ValueError):
            found = _PROOF.fullmatch(text or "")
            return None if found is None else cls(int(found[1]), int(found[2]), found[3])
        return None


def is_tail_proof(text: str | None) -> bool:
    """Tell the proof of a tail from the checksum of a whole content."""
    return TailProof.parse(text) is not None


def appended_to(top: Layer) -> Source | None:
    """Return the version of the server's that a content begins with, all of it, and then goes on; else None."""
    layers: list[Layer] = []
    at: Layer | Source | None = top
    while isinstance(at, Layer) and at.remote is None:
        layers.append(at)
        at = at.base
    if isinstance(at, Layer) and at.remote is not None:
        at = Source(at.ino, at.version, at.remote)
    if not isinstance(at, Source) or not 0 < at.size < top.size:
        return None
    size = at.size
    untouched = all(
        layer.base_limit >= size and not any(start < size for start, _ in layer.present) for layer in layers
    )
    return at if untouched else None
