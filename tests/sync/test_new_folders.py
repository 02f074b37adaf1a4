"""Folders that were made here and found on the server: what is in them is known here, with and without a network."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.model.fake_remote import FakeRemote, FaultKind
from tests.model.faults import Span
from tests.sync.mount import World, tell


@pytest.mark.parametrize("how", ["reply lost", "made by another client too"])
def test_what_was_put_into_it_here_is_shown_without_a_network(tmp_path: Path, how: str) -> None:
    remote = FakeRemote()
    if how == "reply lost":
        remote.faults.next("make_folder", [FaultKind.LOSE_REPLY])

    async def story(world: World) -> None:
        await world.mkdir("new")
        if how != "reply lost":
            remote.other.mkdir("/new")
        await world.save("new/inside", b"content")
        await world.drain()
        remote.faults.during(Span.AWAY, math.inf)
        assert await world.tree() == {"/new": None, "/new/inside": b"content"}
        await world.save("new/more", b"without a network")
        remote.faults.end(Span.AWAY)
        await world.drain()
        await world.refresh_all()
        assert await world.tree() == remote.other.tree()

    tell(tmp_path, story, remote)
