"""What the server tells is seen at once, and nothing is listed that it does not concern."""

from __future__ import annotations

import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from cloudfs.sync.watching import Channel
from cloudfs.types import ROOT
from tests.model.fake_remote import NEXTCLOUD, FakeRemote, FaultKind
from tests.sync.bulk import Watched
from tests.sync.mount import World, tell

SOON_S = 1.0
POLL_S = 30.0
PUSHING = msgspec.structs.replace(NEXTCLOUD, push_url="wss://cloud.example/push/ws")


def stocked() -> FakeRemote:
    remote = FakeRemote(features=PUSHING)
    for folder in ("/a", "/a/b", "/x", "/x/y"):
        remote.other.mkdir(folder)
        remote.other.write(f"{folder}/file", b"content")
    return remote


def told(
    tmp_path: Path,
    story: Callable[[World], Awaitable[None]],
    remote: FakeRemote | None = None,
    **more: Any,
) -> None:
    """Play a story on a mount that is connected and knows all folders; its log of requests begins here."""

    async def play(world: World) -> None:
        await world.walk()
        await trio.sleep(10)
        assert channel(world) is Channel.PUSH
        world.remote.log.clear()
        await story(world)

    tell(tmp_path, play, remote or stocked(), **more)


def shown(world: World) -> set[str]:
    nodes = world.engine.store.nodes
    return {str(nodes.local_path(node.ino)) for node in nodes.descendants(ROOT)}


def channel(world: World) -> Channel:
    return world.engine.watcher.channel


def test_a_new_file_is_seen_within_a_second_by_two_requests(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.remote.other.write("/a/b/new", b"new")
        world.remote.tell("/a/b/new")
        await trio.sleep(SOON_S)
        assert "/a/b/new" in shown(world)
        assert world.remote.methods() == ["identify /", "list_folder /a/b"]

    told(tmp_path, story)


def test_what_is_told_of_a_folder_that_is_being_filled_is_seen_however_lately_it_was_listed(
    tmp_path: Path,
) -> None:
    """The next look is minutes away."""

    async def story(world: World) -> None:
        await world.mkdir("new")
        await world.drain()
        await trio.sleep(5)  # it is left to others
        await world.save("new/first", b"content")  # it does not go up for a while
        new = (await world.lookup("new")).ino

        async def see(number: int, tell_of: Callable[[str], None]) -> None:
            await world.engine.lister.refresh(new)
            path = f"/new/theirs-{number}"
            world.remote.other.write(path, b"theirs")
            tell_of(path)
            await trio.sleep(SOON_S)
            assert path in shown(world)

        await see(1, lambda _: world.remote.tell("/new"))
        await see(2, world.remote.tell)
        await see(3, lambda _: world.remote.tell(ids=None))
        assert world.engine.store.nodes.has_work_in(new)

    told(tmp_path, story, quiet_s=60.0)


def test_changes_of_many_files_are_one_question(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for number in range(100):
            world.remote.other.write(f"/a/b/new-{number}", b"new")
            world.remote.tell(f"/a/b/new-{number}")
        await trio.sleep(SOON_S)
        assert {f"/a/b/new-{number}" for number in range(100)} <= shown(world)
        assert world.remote.methods() == ["identify /", "list_folder /a/b"]

    told(tmp_path, story)


def test_ids_without_end_fill_no_memory_and_something_has_changed(tmp_path: Path) -> None:
    """None of them is looked at by itself, and what has changed is seen all the same."""

    async def story(world: World) -> None:
        world.remote.other.write("/a/b/new", b"new")
        tracemalloc.start()
        for number in range(100):
            world.remote.tell(ids=tuple(str(number * 1000 + it) for it in range(1000)))
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert kept < 1_000_000
        await trio.sleep(SOON_S)
        assert "/a/b/new" in shown(world)
        assert "identify /" not in world.remote.methods()

    told(tmp_path, story)


def test_the_folder_that_is_told_too_shows_what_has_changed(tmp_path: Path) -> None:
    """A Nextcloud tells of the folder with everything that changes in it: then nothing need be asked for by its id."""

    async def story(world: World) -> None:
        world.remote.other.write("/a/b/new", b"new")
        world.remote.tell("/a/b/new", "/a/b")
        await trio.sleep(SOON_S)
        assert "/a/b/new" in shown(world)
        assert world.remote.methods() == ["list_folder /a/b"]

    told(tmp_path, story)


def test_a_removal_is_told_by_the_folders_alone(tmp_path: Path) -> None:
    """That is how a Nextcloud tells of it: of all the folders above, up to the root. The lowest is listed first."""

    async def story(world: World) -> None:
        root = world.engine.store.nodes.get(ROOT)
        assert root is not None
        assert root.s_file_id is not None
        world.remote.other.delete("/a/b/file")
        world.remote.tell("/a/b", "/a", ids=(root.s_file_id,))
        await trio.sleep(SOON_S)
        assert "/a/b/file" not in shown(world)
        assert world.remote.methods() == [f"list_folder {it}" for it in ("/a/b", "/", "/a")]
        world.remote.other.delete("/x")
        world.remote.tell(ids=(root.s_file_id,))
        await trio.sleep(SOON_S)
        assert "/x" not in shown(world)
        # A known folder may have been moved: then what is known in it follows.
        assert world.remote.methods()[3:] == ["list_folder /", "find /"]

    told(tmp_path, story)


def test_a_move_is_told_by_both_folders(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        before = (await world.lookup("a/b/file")).ino
        world.remote.other.move("/a/b/file", "/x/y/moved")
        world.remote.tell("/x/y/moved", "/a/b", "/x/y")
        await trio.sleep(SOON_S)
        assert "/a/b/file" not in shown(world)
        assert (await world.lookup("x/y/moved")).ino == before
        assert sorted(world.remote.methods()) == ["list_folder /a/b", "list_folder /x/y"]

    told(tmp_path, story)


def test_a_folder_that_is_no_longer_where_it_was_is_asked_for(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.remote.other.move("/a/b", "/x/moved")
        world.remote.other.write("/x/moved/new", b"new")
        world.remote.tell("/x/moved", "/x/moved/new")
        await trio.sleep(SOON_S)
        assert "/a/b" not in shown(world)
        assert (await world.lookup("x/moved/new")).size == 3

    told(tmp_path, story)


def test_folders_in_which_we_are_at_work_are_listed_when_we_rest(tmp_path: Path) -> None:
    """Or after ten seconds. That they changed is mostly our own doing, but nothing else tells what others remove."""

    async def story(world: World) -> None:
        for number in range(50):
            await world.save(f"a/b/mine-{number}", b"mine")
            await world.drain()
            world.remote.tell(f"/a/b/mine-{number}", "/a/b")
            await trio.sleep(0.5)
        assert world.remote.methods().count("list_folder /a/b") <= 3
        world.remote.log.clear()
        world.remote.other.delete("/a/b/file")
        world.remote.tell("/a/b")
        await trio.sleep(4)
        assert "/a/b/file" not in shown(world)
        assert world.remote.methods().count("list_folder /a/b") == 1

    told(tmp_path, story)


def test_what_others_remove_where_we_never_rest_is_seen(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.remote.other.delete("/a/b/file")
        for number in range(30):
            await world.save(f"a/b/mine-{number}", b"mine")
            await world.drain()
            world.remote.tell(f"/a/b/mine-{number}", "/a/b")
            await trio.sleep(0.5)
        assert "/a/b/file" not in shown(world)

    told(tmp_path, story)


def test_a_removal_is_seen_where_the_file_was(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        file_id = world.remote.other.file_id("/a/b/file")
        world.remote.other.delete("/a/b/file")
        world.remote.tell(ids=(file_id,))
        await trio.sleep(SOON_S)
        assert "/a/b/file" not in shown(world)
        assert world.remote.methods() == ["identify /", "list_folder /a/b"]

    told(tmp_path, story)


def test_a_move_is_seen_on_both_sides_and_keeps_the_inode(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        before = (await world.lookup("a/b/file")).ino
        world.remote.other.move("/a/b/file", "/x/y/moved")
        world.remote.tell("/x/y/moved")
        await trio.sleep(SOON_S)
        assert "/a/b/file" not in shown(world)
        assert (await world.lookup("x/y/moved")).ino == before
        assert sorted(world.remote.methods()[1:]) == ["list_folder /a/b", "list_folder /x/y"]

    told(tmp_path, story)


def test_a_tree_that_appears_is_listed_where_it_hangs(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.remote.other.mkdir("/x/new")
        world.remote.other.mkdir("/x/new/er")
        world.remote.other.write("/x/new/er/file", b"x")
        world.remote.tell("/x/new", "/x/new/er", "/x/new/er/file")
        await trio.sleep(SOON_S)
        assert world.remote.methods() == ["identify /", "list_folder /x"]
        assert (await world.lookup("x/new/er/file")).size == 1

    told(tmp_path, story)


def test_a_change_during_a_folder_s_first_listing_is_seen(tmp_path: Path) -> None:
    remote = stocked()

    async def story(world: World) -> None:
        remote.other.mkdir("/x/new")
        remote.tell("/x/new")
        await trio.sleep(SOON_S)
        new = (await world.lookup("x/new")).ino
        remote.latency_s = 2.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.engine.lister.ensure_listed, new)
            while remote.methods()[-1] != "list_folder /x/new":
                await trio.sleep(0.01)
            await trio.sleep(2.0)  # the server has answered, and the answer is on its way
            remote.latency_s = 0.0
            remote.other.write("/x/new/file", b"x")
            remote.tell("/x/new/file")
        await trio.sleep(3 * SOON_S)
        assert "/x/new/file" in shown(world)

    told(tmp_path, story, remote)


def test_what_is_not_said_is_looked_for(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.remote.other.write("/a/b/new", b"new")
        world.remote.tell(ids=None)
        await trio.sleep(SOON_S)
        assert "/a/b/new" in shown(world)
        assert world.remote.methods()[0] == "stat /"

    told(tmp_path, story)


def test_an_id_that_nobody_knows_is_looked_for(tmp_path: Path) -> None:
    """It may have come and gone, and with it the folder that we were told of by nothing else."""

    async def story(world: World) -> None:
        world.remote.other.write("/a/b/new", b"new")
        world.remote.tell(ids=("987654321",))
        await trio.sleep(SOON_S)
        assert "/a/b/new" in shown(world)

    told(tmp_path, story)


def test_our_own_changes_come_back_as_echoes(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.save("a/b/mine", b"mine")
        await world.save("a/b/file", b"changed here")
        await world.mkdir("x/made")
        await world.rename("x/file", "x/renamed")
        gone = world.remote.other.file_id("/x/y/file")
        await world.unlink("x/y/file")
        await world.drain()
        world.remote.log.clear()
        world.remote.tell("/a/b/mine", "/a/b/file", "/x/made", "/x/renamed", ids=(gone,))
        await trio.sleep(SOON_S)
        assert world.remote.methods() == ["identify /"]
        await trio.sleep(60)
        assert world.remote.methods()[1:] == ["list_folder /x/made"], (
            "once: nothing tells its ETag when it is made"
        )

    told(tmp_path, story)


def test_what_others_did_to_our_change_is_no_echo(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.save("a/b/mine", b"mine")
        await world.drain()
        world.remote.other.write("/a/b/mine", b"and theirs")
        world.remote.tell("/a/b/mine")
        await trio.sleep(SOON_S)
        assert await world.read_file("a/b/mine") == b"and theirs"

    told(tmp_path, story)


def while_a_bulk_upload_is_on_its_way(
    tmp_path: Path,
    meanwhile: Callable[[World], Awaitable[None]],
    afterwards: Callable[[World], Awaitable[None]],
) -> None:
    """The server has stored the files, has told of them, and its answer comes a minute later."""
    remote = Watched(features=msgspec.structs.replace(PUSHING, bulk=True))

    async def story(world: World) -> None:
        async def stored() -> None:
            world.remote.log.clear()
            world.remote.tell(*stored_files(world))
            await meanwhile(world)
            await trio.sleep(60)

        remote.between = stored
        await world.mkdir("new")
        for number in range(100):
            await world.save(f"new/{number}", b"mine")
        await world.drain()
        await trio.sleep(3 * SOON_S)
        await afterwards(world)

    told(tmp_path, story, remote)


def stored_files(world: World) -> list[str]:
    return [path for path in world.remote.other.tree() if path.startswith("/new/")]


def test_echoes_of_a_request_that_is_still_on_its_way_wait_for_its_answer(tmp_path: Path) -> None:
    asked: list[str] = []

    async def meanwhile(world: World) -> None:
        await trio.sleep(30)
        asked.extend(world.remote.methods())

    async def afterwards(world: World) -> None:
        assert asked == ["identify /"]
        methods = world.remote.methods()
        assert methods.count("identify /") == 2
        assert methods.count("list_folder /new") == 1  # the proof that the first bulk upload did what it says

    while_a_bulk_upload_is_on_its_way(tmp_path, meanwhile, afterwards)


def test_what_others_do_beside_a_request_on_its_way_is_seen_at_once(tmp_path: Path) -> None:
    seen: set[str] = set()

    async def meanwhile(world: World) -> None:
        world.remote.other.write("/new/theirs", b"theirs")
        world.remote.tell("/new/theirs")
        await trio.sleep(SOON_S)
        seen.update(shown(world))

    async def afterwards(world: World) -> None:
        assert "/new/theirs" in seen
        assert len(world.remote.other.tree()) == 102

    while_a_bulk_upload_is_on_its_way(tmp_path, meanwhile, afterwards)


def test_what_others_did_to_a_file_on_its_way_is_seen_after_the_answer(tmp_path: Path) -> None:
    path: list[str] = []

    async def meanwhile(world: World) -> None:
        world.engine.worker._executor._hands.bulk._proved = (
            True  # it would be taken for something else than was sent
        )
        path.append(stored_files(world)[5])
        world.remote.other.write(path[0], b"and theirs")

    async def afterwards(world: World) -> None:
        assert await world.read_file(path[0][1:]) == b"and theirs"
        assert len(world.remote.other.tree()) == 101

    while_a_bulk_upload_is_on_its_way(tmp_path, meanwhile, afterwards)


def test_a_content_of_the_same_etag_is_no_echo(tmp_path: Path) -> None:
    """Nobody here has changed the file, so the server does not tell of it for nothing."""
    remote = stocked()
    remote.other.write("/a/b/same", b"one", mtime_s=1_650_000_000)

    async def story(world: World) -> None:
        world.remote.other.write("/a/b/same", b"two", mtime_s=1_650_000_000)
        world.remote.tell("/a/b/same")
        await trio.sleep(SOON_S)
        assert world.remote.methods() == ["identify /", "list_folder /a/b"]

    told(tmp_path, story, remote)


def test_a_question_that_fails_is_a_look_at_everything(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.remote.faults.next("identify", [FaultKind.FAULT])
        world.remote.other.write("/a/b/new", b"new")
        world.remote.tell("/a/b/new")
        await trio.sleep(SOON_S)
        assert "/a/b/new" in shown(world)

    told(tmp_path, story)


@pytest.mark.parametrize("failures", [1, 3])
def test_a_folder_that_could_not_be_listed_is_listed_soon(tmp_path: Path, failures: int) -> None:
    """Nobody told of it again: the next look was up to five minutes away."""

    async def story(world: World) -> None:
        world.remote.other.write("/a/b/new", b"new")
        world.remote.faults.next("list_folder", [FaultKind.FAULT] * failures)
        world.remote.tell("/a/b/new")
        await trio.sleep(2 * SOON_S + failures * POLL_S)
        assert "/a/b/new" in shown(world)

    told(tmp_path, story)


def test_beside_the_messages_the_account_is_looked_at_slowly(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.remote.other.write("/a/b/new", b"new")
        await trio.sleep(299)
        assert "/a/b/new" in shown(world), "what the server did not tell is found all the same"
        world.remote.log.clear()
        await trio.sleep(3000)
        assert 10 <= len(world.remote.log) <= 12
        await world.walk()
        await trio.sleep(SOON_S)
        assert len(world.remote.log) <= 12, "using it makes nobody ask"

    told(tmp_path, story)


def test_after_a_broken_connection_what_was_missed_is_looked_for(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.remote.drop_listeners()
        await trio.sleep(0.1)
        world.remote.other.write("/a/b/new", b"new")
        assert channel(world) is Channel.POLLING
        await trio.sleep(POLL_S)
        assert "/a/b/new" in shown(world)
        assert channel(world) is Channel.PUSH

    told(tmp_path, story)


def test_a_server_that_breaks_every_connection_is_tried_less_and_less(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.remote.faults.next("follow_changes", [FaultKind.REFUSE] * 1000)
        world.remote.drop_listeners()
        await trio.sleep(3600)
        tries = world.remote.methods().count("follow_changes /")
        assert 20 <= tries <= 120
        assert channel(world) is Channel.POLLING
        assert world.engine.connectivity.online, "that says nothing about the account"

    told(tmp_path, story)


def test_a_login_that_only_the_push_server_refuses_is_tried_once_an_hour(tmp_path: Path) -> None:
    remote = stocked()

    async def story(world: World) -> None:
        world.remote.refuses_listeners = True
        world.remote.drop_listeners()
        await trio.sleep(3 * 3600)
        assert world.remote.methods().count("follow_changes /") in {3, 4}
        assert channel(world) is Channel.POLLING

    told(tmp_path, story, remote)


def test_before_the_login_is_known_to_be_good_nobody_connects(tmp_path: Path) -> None:
    remote = stocked()
    remote.faults.next("connect", [FaultKind.REFUSE])

    async def story(world: World) -> None:
        await trio.sleep(1)
        world.remote.faults.unreachable_for(1000)
        await trio.sleep(900)
        assert "follow_changes /" not in world.remote.methods()
        await trio.sleep(200)
        assert channel(world) is Channel.PUSH

    tell(tmp_path, story, remote)
