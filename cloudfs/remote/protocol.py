"""What a server can do for us: the contract that every caller relies on and every adapter obeys.

Rules of every method:
- Paths are `RemotePath`s below the account's root; nothing outside the root can be named.
- Errors are `RemoteError`s (see `cloudfs.errors`); the network, TLS and XML libraries' own never leak.
- Every call ends within the adapter's time-outs; longer limits are the caller's cancel scope.
- Reads (stat, list, get) are retried inside on temporary errors, a bounded number of times. Changes are
  sent once: whether to repeat one is the caller's decision, who must first look at what became of it.
- `RemoteError.temporary` tells whether the same call may succeed later.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

import msgspec

from cloudfs.paths import NameRules
from cloudfs.types import Annotations, Octets, RemoteEntry, RemotePath, RemoteVersion, Stored

__all__ = [
    "Admitting",
    "Body",
    "Condition",
    "Features",
    "Health",
    "NewFile",
    "Outspoken",
    "Piecemeal",
    "PiecesNoted",
    "Pushed",
    "Remote",
    "Space",
    "Spelling",
]


class Body(Protocol):
    """An upload's bytes. May be asked again, when a request is repeated or goes on where an earlier one stopped."""

    def __call__(self, start: int = 0, /) -> AsyncIterator[bytes]:
        """Begin at byte `start`, and give all that follow."""
        ...


class Features(msgspec.Struct, frozen=True):
    """What this server was found to do; probed or told by it, never guessed from its name."""

    name: str
    """For people only: "Nextcloud 29.0.1", "WebDAV (Apache/2.4)"."""
    nextcloud: bool = False
    """Speaks oc:fileid, oc:permissions, X-OC-Mtime, OC-Checksum, If: on MOVE."""
    sets_mtime: bool = False
    """An upload's and a PROPPATCH's modification time are kept by the server."""
    checksums: bool = False
    """Stores OC-Checksum and lists it."""
    conditional_put: bool = True
    """If-Match and If-None-Match are honoured on PUT (rclone serve ignores them, protocol.md §15.2).

    Where False the caller must compare the version itself right before sending.
    """
    chunking: bool = False
    """Takes large files in pieces and puts them together itself: Nextcloud's uploads collection."""
    piece_bytes: int = 0
    """So large may one piece, or a file in one request, be at most; 0: nothing is said about that."""
    bulk: bool = False
    """Takes many small new files in one request: see `Remote.put_bulk`."""
    depth_infinity: bool = False
    deep_etags: bool = False
    """A folder's ETag changes with everything below it, in the same moment."""
    push_url: str = ""
    """The websocket on which the server tells of changes, on the origin of the account; "" where it has none."""
    push_token_url: str = ""
    """Where a word is had that is good for one login there, so that no password goes over it; "" where it is not."""
    name_rules: NameRules = NameRules()

    @property
    def appends(self) -> bool:
        """What only grew may go up as its tail (`put` with `base_bytes`): the version it grew from is surely named."""
        return self.chunking and self.checksums and self.nextcloud


class Pushed(msgspec.Struct, frozen=True):
    """The server says that something has changed."""

    ids: tuple[str, ...] | None
    """File ids of some of it; None: it does not say what. Not its folders, and what was removed may be among it."""


class Condition(msgspec.Struct, frozen=True):
    """What must be true of the target for a change to happen; exactly one of the two."""

    version: RemoteVersion | None = None
    """The target must still be this version (If-Match)."""
    absent: bool = False
    """The target must not exist (If-None-Match: *, Overwrite: F)."""


class NewFile(msgspec.Struct, frozen=True):
    """A small file on its way to a name that nothing has."""

    path: RemotePath
    content: bytes
    mtime_s: int

    @property
    def fits_bulk(self) -> bool:
        """Tell whether the file can be named in a bulk request, which takes paths as they are in lines of text.

        A backslash is read as a slash there, and a name that ends in `.part` breaks the whole request (protocol.md §8).
        """
        name = self.path.rpartition("/")[2]
        awkward = name != name.strip() or "\\" in self.path or not self.path.isprintable()
        return not awkward and not any(part.lower().endswith(".part") for part in self.path.split("/"))


class Health(msgspec.Struct, frozen=True):
    """What a server says of itself to everybody."""

    maintenance: bool = False
    upgrade: bool = False
    """Its administrator has to finish an upgrade; until then it serves nobody."""


@runtime_checkable
class Outspoken(Protocol):
    """A `Remote` whose server tells some things without a login. Each raises RemoteError."""

    async def health(self) -> Health | None:
        """Ask how the server is; None where nothing tells."""
        ...

    async def asks_for_wipe(self) -> bool:
        """Ask, after a refused login, whether this device's copy of the account is to be removed."""
        ...


class Space(msgspec.Struct, frozen=True):
    """What an account may still store, and what it stores, in bytes."""

    free: int
    used: int


class Unlimited(msgspec.Struct, frozen=True):
    """The account has no limit; what it stores, in bytes."""

    used: int


@runtime_checkable
class Admitting(Protocol):
    """A `Remote` in which requests wait for each other, and can be held back at the last moment."""

    def admit_by(self, check: Callable[[], None], refused: Callable[[], None]) -> None:
        """Call `check` right before each request is sent; what it raises (a RemoteError) is the request's failure.

        `refused` is called as soon as the server refuses the login in use, before anything else is sent.
        """
        ...


@runtime_checkable
class Spelling(Protocol):
    """A `Remote` whose server may know names in another form than NFC only."""

    def spell_by(self, spelled: Callable[[RemotePath], RemotePath]) -> None:
        """Have requests spell paths as `spelled` does: as the server's listings did."""
        ...


class PiecesNoted(Protocol):
    """Who remembers which uploads in pieces are begun on the server, also after a crash. All return at once."""

    def began(self, folder: str, name: str) -> None:
        """Pieces of the content `name` (see `Remote.put`) are about to be in this folder of the server's; durable."""
        ...

    def begun(self, prefix: str) -> Sequence[str]:
        """Return the folders, of those whose names begin so, in which pieces may be."""
        ...

    def ended(self, folder: str) -> None:
        """The folder is gone."""
        ...

    def unwanted(self, folder: str) -> None:
        """Nobody sends there any more, and nobody will: all went up in another way. To be removed some time."""
        ...

    def left(self, folder: str) -> None:
        """Nobody sends there any more, or for now: whether more comes is the caller's affair."""
        ...


@runtime_checkable
class Piecemeal(Protocol):
    """A `Remote` that leaves pieces on the server when an upload stops, so that it can go on."""

    def note_pieces(self, noted: PiecesNoted) -> None:
        """Tell of each upload in pieces."""
        ...

    async def drop_pieces(self, folder: str) -> None:
        """Have the pieces in a folder removed; nothing where it is gone. Raises RemoteError."""
        ...


class Remote(Protocol):
    """One account, or one folder of it, on one server."""

    @property
    def features(self) -> Features:
        """What the server can do; from the last `connect`, or what was stored with the account."""
        ...

    @property
    def clock_skew_s(self) -> float:
        """How far the server's clock is ahead of ours, in s, as its last reply told; right to about a second."""
        ...

    async def connect(self) -> Features:
        """Ask the server what it is and can do, and check the credentials.

        Raises Unreachable, TlsRejected, NotAuthenticated, ProtocolViolation (no WebDAV there), NotFound.
        """
        ...

    async def stat(self, path: RemotePath) -> RemoteEntry:
        """PROPFIND with depth 0. NotFound only from a WebDAV server's own 404."""
        ...

    async def space(self) -> Space | Unlimited | None:
        """Return the account's space as it is now; None where there is no limit, or none is told."""
        ...

    async def list_folder(self, path: RemotePath) -> tuple[RemoteEntry, Sequence[RemoteEntry]]:
        """Return the folder's own entry and its members (PROPFIND with depth 1), parsed as they arrive.

        ProtocolViolation when the reply is cut, no XML, or names objects outside the folder: a listing is
        whole or it is nothing. Unsupported when `path` is a file.
        """
        ...

    async def list_tree(
        self, path: RemotePath, *, most: int, begun: Callable[[], None] = lambda: None
    ) -> Sequence[tuple[RemoteEntry, Sequence[RemoteEntry]]]:
        """Return a folder and folders below it, each with all its members, from one request (depth infinity).

        A folder of which it is not certain that all its members are there is left out, as below another storage's
        mount point. Sent once. Raises Unsupported where the server refuses or silently gives one level only, and
        ProtocolViolation for a reply that is cut, contradicts itself, or lists more than `most` objects: then nothing
        of it may be used. `begun` is called once the answer begins to come: the server's work for it is done then.
        """
        ...

    async def find(self, file_id: str) -> Sequence[RemotePath]:
        """Return where a thing with this file id stands; nothing, too, where the server cannot be asked for that."""
        ...

    async def get_range(self, path: RemotePath, start: int, stop: int, expect: RemoteVersion) -> bytes:
        """Return exactly the bytes [start, stop) of exactly that version, stop <= expect.size.

        Raises Changed when the server has another version, ProtocolViolation when length, range or ETag of
        the reply do not fit, NotFound. Never returns short. Ranges larger than a few MiB belong to `stream`.
        """
        ...

    def stream(
        self, path: RemotePath, start: int, stop: int, expect: RemoteVersion
    ) -> AbstractAsyncContextManager[AsyncIterator[Octets]]:
        """Open [start, stop) of that version as chunks of at most 1 MiB; one request, not retried.

        Entering raises as `get_range` does. The iterator raises Unreachable or ProtocolViolation when the
        body ends early. Leaving early closes the connection, which frees the server's read lock.
        """
        ...

    def stream_old(
        self, file_id: str, expect: RemoteVersion
    ) -> AbstractAsyncContextManager[AsyncIterator[Octets]]:
        """Open what the server keeps of a file that was replaced: a content of the size (> 0) and time of `expect`.

        All of it, as `stream` does. **Nothing says that it is that version**, of which only the second is compared:
        the caller has to prove it. Raises NotFound where none is kept, or more than one may be meant, Unsupported.
        """
        ...

    def stream_removed(
        self, file_id: str, size: int, folders: Collection[str]
    ) -> AbstractAsyncContextManager[AsyncIterator[Octets]]:
        """Open what the server's trash has of a file that was removed, by itself or with a folder.

        All of it, as `stream` does; `folders`: names of those that it may be in. Looked for in some folders only.
        **Nothing says which content it is**: the caller has to prove it. Raises Changed where it has not this size
        (> 0), NotFound where it is not found, Unsupported.
        """
        ...

    async def read_archive(self, folder: RemotePath, sizes: Mapping[str, int]) -> Mapping[str, bytes]:
        """Return whole small files of one folder by name, from one request; `sizes` says how many bytes each has.

        Left out is what the server has no longer, or with another length. **Nothing says of which version the others
        are**: the caller has to prove it, by checksums, or by the folder's ETag before and after.

        Takes the memory of the files, twice for a moment: see `archives.batches` for how many to ask for at once, at
        least two. Raises Unsupported where the server makes no archives, ProtocolViolation when anything in it is
        unexpected (then nothing of it is used), and what requests raise.
        """
        ...

    async def put(
        self,
        path: RemotePath,
        body: Body,
        size: int,
        condition: Condition,
        *,
        mtime_s: int | None = None,
        checksum: str | None = None,
        name: str | None = None,
        base_bytes: int = 0,
    ) -> Stored:
        """Send a whole file of `size` bytes, always with Content-Length.

        With `name`, which must stand for exactly these bytes for ever, a large upload may go in pieces, of which a
        later call with the same name sends only those that are missing; and the file changes in one step.

        With `base_bytes` the file is the whole version that `condition` names, of so many bytes and with a checksum,
        and what follows them in the body: only that is sent. Raises Unsupported where the server cannot do that; then
        nothing was changed. The server keeps no checksum of it: see `have_hashed`.

        Raises Changed or AlreadyExists (the condition failed, nothing done), Locked, QuotaExceeded, ParentMissing,
        NameRefused, Forbidden, TooLarge. After Unreachable the file may or may not be there: look before retrying.
        """
        ...

    async def have_hashed(self, path: RemotePath, expect: RemoteVersion) -> str | None:
        """Have the server read a file and keep its SHA-1; return that as a checksum, None where it does not.

        The ETag stays. Raises Changed when the server has another version, and what requests raise.
        """
        ...

    async def put_bulk(self, files: Sequence[NewFile]) -> Sequence[Stored | None]:
        """Send small new files in one request; return for each what the server made of it.

        None for a file that was not stored: `put` it to learn why. **Overwrites whatever has the name** (protocol.md
        §8): for folders only into which nobody else can have put anything. No checksums are kept.

        Raises Unsupported (nothing was sent), and what requests raise: then each file may or may not be there.
        """
        ...

    async def make_folder(self, path: RemotePath, *, mtime_s: int | None = None) -> Stored:
        """MKCOL. AlreadyExists when anything has the name, ParentMissing."""
        ...

    async def move(
        self, source: RemotePath, target: RemotePath, *, expect: RemoteVersion | None = None
    ) -> Stored:
        """Rename within the account; the target must not exist (Overwrite: F).

        Raises AlreadyExists, NotFound (source), ParentMissing (target's folder), Locked, and Changed when `expect`
        is given and the source (a file) is another version.
        """
        ...

    async def copy(self, source: RemotePath, target: RemotePath) -> Stored:
        """Copy on the server; the target must not exist. Times and checksum are not copied by Nextcloud."""
        ...

    async def delete(self, path: RemotePath, *, expect: RemoteVersion | None = None) -> None:
        """DELETE; a folder goes with all its content, so the caller has to look first.

        Raises NotFound, Locked, Forbidden, and Changed when `expect` is given and a file has another version.
        """
        ...

    async def set_mtime(
        self, path: RemotePath, mtime_s: int, *, expect: RemoteVersion | None = None
    ) -> int | None:
        """PROPPATCH the modification time; return the one that the server took over, None where it keeps none.

        A file has another ETag then, and on Nextcloud 29 no checksum any more (measured), unless the time is as it was.
        Raises NotFound, Locked, Forbidden, and Changed when `expect` is given and a file has another version.
        """
        ...

    async def identify(self, ids: Sequence[str]) -> Sequence[RemoteEntry]:
        """Return what has one of these file ids (at most `search.MOST_IDS`), as listed but without checksums.

        What was removed, or lies outside the account's folder, is not among it; what is shared in several ways is
        there several times. Unsupported.
        """
        ...

    async def annotations(self, path: RemotePath) -> Annotations | None:
        """Ask what people have attached to it; None where the server knows no such thing."""
        ...

    async def follow_changes(self, connected: Callable[[], None], heard: Callable[[Pushed], None]) -> None:
        """Be told of changes by the server until that ends, which it does with an error.

        `connected` is called once everything from then on will be told. A refused login (NotAuthenticated) says nothing
        about other requests. Unsupported where the server has no such thing.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...
