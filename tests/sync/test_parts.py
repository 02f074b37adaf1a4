"""A connection breaks, and the server takes the part that it got for the file: a torn upload never stays the file.

wsgidav does so with every file; a Nextcloud with new ones, where its storage is an object store (29.0.1, by reading).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from cloudfs.errors import Unreachable
from cloudfs.remote.protocol import Body, Condition, Features
from cloudfs.types import RemoteEntry, RemotePath, Stored
from tests.model.fake_remote import FakeRemote
from tests.sync.mount import World, tell
from tests.sync.plain_remote import PlainRemote


def sha1_of(data: bytes) -> str:
    """Return a checksum as the server keeps it."""
    return f"SHA1:{hashlib.sha1(data, usedforsecurity=False).hexdigest()}"


OURS = b"ours, of some length"


@dataclass
class Cutting(FakeRemote):
    """The first upload is cut: the server keeps so much of it, as a file without a checksum."""

    kept: bytes = OURS[:9]
    checksum: str | None = None
    cut: bool = False

    async def put(self, path: RemotePath, body: Body, size: int, condition: Condition, **more: Any) -> Stored:
        if self.cut:
            return await super().put(path, body, size, condition, **more)
        self.cut = True
        self.other.write(path, self.kept, checksum=self.checksum)
        raise Unreachable("the connection broke", subject=path)


@dataclass
class PlainCutting(Cutting, PlainRemote):
    """So does a server that is no Nextcloud."""

    features: Features = PlainRemote.features


class Shared(Cutting):
    """Files may be changed there, but none created: no pieces are taken."""

    async def list_folder(self, path: RemotePath) -> tuple[RemoteEntry, Sequence[RemoteEntry]]:
        own, members = await super().list_folder(path)
        return msgspec.structs.replace(own, permissions="RGDNV"), members


@pytest.mark.parametrize(("kept", "killed"), [(OURS[:9], True), (b"", False)], ids=["a part", "nothing"])
@pytest.mark.parametrize(
    ("kind", "known"),
    [
        pytest.param(Cutting, False, id="new"),
        pytest.param(Shared, True, id="known, where none may be created"),
        pytest.param(PlainCutting, False, id="new, no Nextcloud"),
        pytest.param(PlainCutting, True, id="known, no Nextcloud"),
    ],
)
def test_it_is_sent_again_over_the_part(
    tmp_path: Path, kind: type[Cutting], kept: bytes, *, known: bool, killed: bool
) -> None:
    remote = kind(kept=kept)

    async def story(world: World) -> None:
        if known:
            remote.other.write("/a", b"before")
        await world.walk()
        await world.save("a", OURS)
        while not remote.cut:
            await trio.sleep(0.05)
        if killed:
            await world.kill()
        await world.drain()
        assert remote.other.tree() == await world.tree() == {"/a": OURS}
        await world.check_nothing_left()

    tell(tmp_path, story, remote)


@pytest.mark.parametrize(
    ("kept", "whole"),
    [(b"theirs", False), (OURS[:9] + b"!", False), (OURS + b", on", False), (OURS[:9], True)],
)
def test_what_another_client_wrote_is_kept(tmp_path: Path, kept: bytes, *, whole: bool) -> None:
    """With its checksum, which came with all of it, also what ours begins with."""
    remote = Cutting(kept=kept, checksum=sha1_of(kept) if whole else None)

    async def story(world: World) -> None:
        await world.walk()
        await world.save("a", OURS)
        await world.drain()
        await world.refresh_all()
        shown = await world.tree()
        assert remote.other.tree() == shown
        assert shown["/a"] == kept
        assert set(shown.values()) == {OURS, kept}

    tell(tmp_path, story, remote)


@pytest.mark.parametrize("theirs", [OURS[:9], b""], ids=["a part", "nothing"])
@pytest.mark.parametrize("taken_back", [True, False])
def test_what_another_client_took_away_from_the_end_stays_away(
    tmp_path: Path, theirs: bytes, *, taken_back: bool
) -> None:
    """Over a file that it has, a Nextcloud never makes a part of ours the file."""
    remote = Cutting(kept=theirs)

    async def story(world: World) -> None:
        before = OURS if taken_back else OURS[:-1]
        remote.other.write("/a", before, checksum=sha1_of(before))
        await world.walk()
        await world.save("a", OURS + b", on" if taken_back else OURS)
        while not remote.cut:
            await trio.sleep(0.05)
        if taken_back:
            await world.save("a", OURS)
        await world.drain()
        await world.refresh_all()
        shown = await world.tree()
        assert remote.other.tree() == shown
        assert shown["/a"] == theirs
        assert set(shown.values()) == {OURS, theirs}

    tell(tmp_path, story, remote)
