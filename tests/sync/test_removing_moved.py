"""What is removed here while another client moves the folder that it is in."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.model.fake_remote import FakeRemote, FaultKind
from tests.sync.mount import World, tell


@pytest.mark.parametrize(
    ("what", "meanwhile", "faults"),
    [
        pytest.param("file", "delete", [], id="a file"),
        pytest.param("folder", "list_folder", [], id="a folder"),
        pytest.param(
            "folder", "stat", [FaultKind.REFUSE], id="a folder, after a request that did not arrive"
        ),
    ],
)
def test_what_is_removed_in_a_folder_that_another_client_moves_is_removed_in_its_new_place(
    tmp_path: Path, what: str, meanwhile: str, faults: list[FaultKind | None]
) -> None:
    """In its old place there was nothing, so it counted as removed: it stayed on the server, and was shown no more."""
    remote = FakeRemote()
    for path in ("/d", "/d/e", "/d/e/folder"):
        remote.other.mkdir(path)
    for path in ("/d/e/file", "/d/e/other"):
        remote.other.write(path, b"content")
    remote.faults.next("delete", faults)

    async def move() -> None:
        await trio.lowlevel.checkpoint()
        remote.other.move("/d/e", "/e")

    async def story(world: World) -> None:
        await world.walk()
        await (world.unlink if what == "file" else world.rmdir)(f"d/e/{what}")
        while faults and "delete /d/e/folder" not in remote.methods():
            await trio.sleep(0.1)
        remote.before[meanwhile] = move
        assert not await world.drain()
        assert not remote.before, "nobody asked"
        await trio.sleep(400)  # until the account was looked at in any case
        assert not await world.drain()
        left = {"/e/other": b"content", "/e/file": b"content", "/e/folder": None, "/d": None, "/e": None}
        del left[f"/e/{what}"]
        assert remote.other.tree() == left
        assert await world.tree() == left

    tell(tmp_path, story, remote)
