"""protocol.md §12: what a Nextcloud with notify_push tells of each kind of change, heard as we listen to it.

A real one has to have the app; it gathers what it tells for a second or more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio

from cloudfs.remote.connect import discover
from cloudfs.remote.files import WebdavRemote
from cloudfs.remote.protocol import Pushed
from tests.conformance.conftest import DAV_FILES, Target
from tests.conformance.dav import Dav

_LONGEST_S = 60.0


class Ears:
    """The ids that were told since the last look."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._bell = trio.Event()

    def hear(self, pushed: Pushed) -> None:
        self._ids.update(pushed.ids or ())
        self._bell.set()

    async def told(self, *wanted: str) -> set[str]:
        """Wait until these ids were told; return all that were."""
        with trio.fail_after(_LONGEST_S):
            while not self._ids.issuperset(wanted):
                self._bell = trio.Event()
                await self._bell.wait()
        told, self._ids = self._ids, set()
        return told


def listening(target: Target, cloud: Dav, story: Callable[[Ears], Awaitable[None]]) -> None:
    """Play a story while listening, with a token in the place of the password; skip where nothing is told."""

    async def main() -> None:
        remote = WebdavRemote(await discover(target.site_url, target.user, target.password), target.password)
        if not remote.features.push_url:
            pytest.skip("it has no notify_push")
        ears, connected = Ears(), trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(remote.follow_changes, connected.set, ears.hear)
            with trio.fail_after(_LONGEST_S):
                await connected.wait()
            await heard_by_id(ears, cloud)
            await story(ears)
            nursery.cancel_scope.cancel()
        await remote.aclose()

    trio.run(main)


async def heard_by_id(ears: Ears, cloud: Dav) -> None:
    """Change something until it is told of: that ids are wanted has no answer."""
    with trio.fail_after(_LONGEST_S):
        while True:
            await trio.to_thread.run_sync(cloud.put, "probe")
            with trio.move_on_after(3):
                await ears.told(file_id(cloud, "probe"))
                return


def file_id(dav: Dav, path: str = "") -> str:
    return dav.stat(path, "oc:fileid").found["oc:fileid"]


def account_of(cloud: Dav) -> Dav:
    before, _, below = cloud.folder_url.partition(DAV_FILES)
    return Dav(cloud.client, f"{before}{DAV_FILES}/{below.split('/')[1]}/")


def test_what_is_told_of_each_change(nextcloud: Target, cloud: Dav) -> None:
    """A file, its folder, and both folders of a move; of what is removed the folders above it alone."""
    cloud.mkcol("there")

    async def story(ears: Ears) -> None:
        here, there, top = file_id(cloud), file_id(cloud, "there"), file_id(account_of(cloud))
        make = partial(cloud.put, "file", "content")
        await trio.to_thread.run_sync(make)
        file = file_id(cloud, "file")
        assert there not in await ears.told(file, here)
        await trio.to_thread.run_sync(make)
        await ears.told(file, here)
        cloud.transfer("MOVE", "file", "there/file", Overwrite="F").raise_for_status()
        await ears.told(file, here, there)
        cloud.request("DELETE", "there/file").raise_for_status()
        assert file not in await ears.told(there, here, top)
        cloud.mkcol("new")
        await ears.told(file_id(cloud, "new"), here)

    listening(nextcloud, cloud, story)
