"""What only grew at its end goes up as its tail: the server copies the file that it has as the first piece (§7.1).

    MKCOL  uploads/USER/ID
    COPY   files/USER/PATH            Destination: …/00001, If-Match, Overwrite: F
    PROPFIND files/USER/PATH          still the version that the tail belongs to?
    PUT    uploads/USER/ID/00002 …    meanwhile, if it is small
    PROPFIND uploads/USER/ID          every piece there, with its length, and nothing else?
    MOVE   uploads/USER/ID/.file      Destination, OC-Total-Length, If

These are requests of version 1. In version 2 (primary storage on S3) the storage would put together what it was given
by PUT alone, without the copy, and OC-Total-Length is not looked at: the file would be cut down to its tail. It begins
with the Destination of the MKCOL, which is left out here, and what the folder lists tells.
SOURCE: apps/dav/lib/Upload/ChunkingV2Plugin.php and UploadFolder.php of nextcloud/server, by reading.
"""

from __future__ import annotations

from functools import partial

from cloudfs.concurrency.killpoints import reached
from cloudfs.concurrency.together import together
from cloudfs.errors import (
    AlreadyExists,
    Forbidden,
    NotFound,
    ParentMissing,
    ProtocolViolation,
    QuotaExceeded,
    ServerFault,
    StorageAway,
    Unavailable,
    Unsupported,
)
from cloudfs.remote import conditions, etags
from cloudfs.remote.pieces import GIGABYTE, Pieces, piece_name

__all__ = ["Tail"]

_SMALL_BYTES = 1024 * 1024
"""So much is sent while the server still copies the base: if it turns out that it does not, little was sent in vain."""


class Tail(Pieces):
    """The upload of a parcel that has a base: its first piece is that, and never sent."""

    async def send_pieces(self) -> bool:
        """Have the base copied, then send the tail; Unsupported where the server does otherwise than told above."""
        number, position = await self._begin()
        left = self._parcel.size - position
        if 0 < left <= _SMALL_BYTES:
            await together((self._copy_base, partial(self._send_piece, number, position, self._parcel.size)))
            self._pieces[piece_name(number)] = left
        else:
            await self._copy_base()
            await self._send_rest(number, position)
        await self._require_pieces()
        reached("tail sent")
        return True

    async def _copy_base(self) -> None:
        """Have the first piece made of the file that is there, and be sure of which version it is.

        Its ETag alone says too little: another content of the same second has the same one (protocol.md §3.2). So it is
        looked at after the copy. What was there before the copy and is no longer would have had to be written twice
        in between, with its old time set and its old checksum sent.
        """
        parcel, version = self._parcel, self._parcel.condition.version
        assert version is not None  # noqa: S101  # see Parcel
        headers = {
            "Destination": self._url + piece_name(1),
            "Overwrite": "F",
            "If-Match": etags.if_match(version.etag),
        }
        limits = self._session.transport.limits
        silence_s = limits.change_s * (1 + parcel.base_bytes / GIGABYTE)
        request = self._session.request("COPY", parcel.path, headers, silence_s=silence_s)
        try:
            await self._session.fetch(request, 201)
        except AlreadyExists:
            pass  # 412: copied by an earlier try, or another version, or gone: the look tells
        except ParentMissing as error:
            raise await self._what_is_missing(error) from error
        except (Forbidden, NotFound, ProtocolViolation, QuotaExceeded, ServerFault) as error:
            # Nextcloud 29.0.1 asks whether there is room for the whole new size, of a tail as of all else, and only at
            # the MOVE (measured): where the copy has none, it counts besides, and the whole file may fit.
            if isinstance(error, (StorageAway, Unavailable)) or error.status in {502, 504}:
                raise
            raise Unsupported(
                f"the server makes no piece of a file that it has: {error.message}", subject=parcel.path
            ) from error
        reached("base copied")
        await conditions.compare(self._session, parcel.path, parcel.condition)
        self._pieces[piece_name(1)] = parcel.base_bytes

    async def _require_pieces(self) -> None:
        listed = await self._listed()
        if listed == self._pieces:
            return
        await self._forget()
        if listed.keys() != self._pieces.keys():
            raise Unsupported("the server keeps pieces in another way", subject=self._parcel.path)
        raise ServerFault("the server has other pieces than it should have", subject=self._parcel.path)

    def _identity(self) -> str:
        version = self._parcel.condition.version
        assert version is not None  # noqa: S101  # see Parcel
        # Its first piece is what stands in this place.
        return f"{super()._identity()}\0{self._target_url}\0{self._parcel.base_bytes}\0{version.etag}"

    def _first_piece(self) -> tuple[int, int]:
        return 2, self._parcel.base_bytes

    def _headers(self) -> dict[str, str]:
        """Announce nothing: version 2 must not begin."""
        return {}
