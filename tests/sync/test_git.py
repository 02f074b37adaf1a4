"""What `git` does to a server: hundreds of new folders with a file or two each, all in a row."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import trio

from tests.model.fake_remote import FakeRemote
from tests.sync.bulk import WITH_BULK
from tests.sync.mount import World, tell

FILES = 150
POLL_S = 3.0


def objects() -> dict[str, bytes]:
    """Return what the repository gets, by path: as spread as git's objects are by their names."""
    found = {}
    for number in range(FILES):
        name = hashlib.sha1(b"%d" % number, usedforsecurity=False).hexdigest()
        found[f"own/.git/objects/{name[:2]}/{name[2:]}"] = b"object %d" % number
    return found


async def commit(world: World) -> None:
    """Write a folder of texts and a repository of it, with a name for each object before it has its own."""
    for number in range(3):
        await world.mkdir(f"own/d{number}")
    for number in range(FILES):
        await world.save(f"own/d{number % 3}/{number}", b"text %d" % number)
    for path in (".git", ".git/refs", ".git/refs/heads", ".git/objects", ".git/objects/pack"):
        await world.mkdir(f"own/{path}")
    for path in ("HEAD", "config", "description"):
        await world.save(f"own/.git/{path}", b"of git")
    made = set()
    for path, content in objects().items():
        folder = path.rpartition("/")[0]
        if folder not in made:
            await world.mkdir(folder)
            made.add(folder)
        await world.save(f"{folder}/tmp_obj_a", content)
        await world.rename(f"{folder}/tmp_obj_a", path)
    await world.save("own/.git/refs/heads/master", b"a commit")


def test_folders_cost_a_request_each_and_files_next_to_none(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.lookup("own")
        await commit(world)
        await world.drain()
        await trio.sleep(2 * POLL_S)
        asked = Counter(line.split()[0] for line in world.remote.methods())
        folders = len({path.rpartition("/")[0] for path in objects()}) + 8
        assert asked["make_folder"] == folders
        assert asked["put"] <= 8
        assert sum(asked.values()) <= folders + 60
        assert await world.tree() == world.remote.other.tree()

    remote = FakeRemote(features=WITH_BULK, latency_s=0.2)
    remote.other.mkdir("/own")
    tell(tmp_path, story, remote, poll_s=POLL_S)
