"""What the server is in at the moment, and what that holds up: all of it, one storage, one file."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
import trio

from cloudfs.errors import (
    ContentRefused,
    Forbidden,
    Locked,
    QuotaExceeded,
    RemoteError,
    ServerFault,
    StorageAway,
)
from cloudfs.remote.protocol import Space
from cloudfs.sync.connectivity import State
from cloudfs.types import RemoteEntry, RemotePath
from tests.model.fake_remote import FakeRemote, Request
from tests.sync.mount import World, tell


@dataclass
class Refusing(FakeRemote):
    """Refuses requests as told."""

    refuse: Callable[[str, str], RemoteError | None] = lambda _method, _path: None

    async def _arrive(self, sent: Request) -> None:
        await super()._arrive(sent)
        if (error := self.refuse(sent.method, sent.path)) is not None:
            raise error

    def requests_since(self, at_s: float) -> int:
        """Count what went out after a moment."""
        return sum(it.at_s > at_s for it in self.log)

    def asked(self, method: str, below: str = "/") -> list[float]:
        """When requests of a method went out."""
        return [it.at_s for it in self.log if it.method == method and it.path.startswith(below)]


async def until(condition: Callable[[], bool], within_s: float = 3600.0) -> float:
    """Wait, and return how long that took."""
    began = trio.current_time()
    with trio.fail_after(within_s):
        while not condition():
            await trio.sleep(0.1)
    return trio.current_time() - began


def state(world: World) -> State:
    return world.engine.connectivity.state


def test_a_locked_file_backs_off_alone(tmp_path: Path) -> None:
    """423, and 500 with LockedException: another client reads it for five minutes."""
    remote = Refusing()

    async def story(world: World) -> None:
        await world.save("other", b"1")
        await world.save("busy", b"1")
        await until(lambda: remote.other.exists("/busy"))
        over = trio.current_time() + 300
        locked = Locked("it is in use", subject="/busy", status=423)
        remote.refuse = lambda method, path: (
            locked if (method, path) == ("put", "/busy") and trio.current_time() < over else None
        )
        before = len(remote.asked("put", "/busy"))
        await world.save("busy", b"22")
        await world.save("other", b"22")
        assert await until(lambda: remote.other.read("/other") == b"22") < 10
        await until(lambda: remote.other.read("/busy") == b"22")
        tries = remote.asked("put", "/busy")[before:]
        pauses = [later - sooner for sooner, later in itertools.pairwise(tries)]
        assert len(tries) <= 12
        assert pauses[-1] > 10 * pauses[0]
        assert state(world) is State.ONLINE

    tell(tmp_path, story, remote)


def test_a_storage_that_is_down_holds_up_only_what_lies_in_it(tmp_path: Path) -> None:
    remote = Refusing()
    remote.other.mkdir("/depot")
    remote.other.mkdir("/depot/inner")

    async def story(world: World) -> None:
        await world.walk()
        over = trio.current_time() + 3600
        away = StorageAway("not available", subject="/depot", status=503)
        remote.refuse = lambda _, path: (
            away if path.startswith("/depot") and trio.current_time() < over else None
        )
        for number in range(50):
            await world.save(f"depot/inner/{number}", b"x")
        await world.save("here", b"x")
        assert await until(lambda: remote.other.exists("/here")) < 10
        await trio.sleep(1800)
        assert state(world) is State.ONLINE
        assert world.engine.worker.troubles.all_blocked() == []
        assert len(remote.asked("put", "/depot")) <= 20, "one finds out for all"
        await until(lambda: len(remote.other.tree()) == 3 + 50, within_s=3600)

    tell(tmp_path, story, remote)


def test_a_content_that_the_server_does_not_take_is_blocked_with_the_next_step(tmp_path: Path) -> None:
    """415: a virus scanner. What is refused stays here, and goes up once it is another content."""
    remote = Refusing()

    async def story(world: World) -> None:
        refused = ContentRefused("Virus EICAR is detected", subject="/bad", status=415)
        remote.refuse = lambda method, path: refused if (method, path) == ("put", "/bad") else None
        await world.save("bad", b"virus")
        await world.save("good", b"x")
        await until(lambda: bool(world.engine.worker.troubles.all_blocked()))
        await trio.sleep(3600)
        (trouble,) = world.engine.worker.troubles.all_blocked()
        assert "Virus EICAR" in trouble.reason
        assert "virus scanner" in trouble.next_step
        assert len(remote.asked("put", "/bad")) <= 8
        assert await world.read_file("bad") == b"virus"
        assert remote.other.tree() == {"/good": b"x"}
        assert state(world) is State.ONLINE
        remote.refuse = lambda _method, _path: None
        await world.save("bad", b"harmless")
        assert await until(lambda: remote.other.exists("/bad")) < 60

    tell(tmp_path, story, remote)


def test_a_full_account_blocks_what_is_too_large_for_it(tmp_path: Path) -> None:
    """507, although the early check let it pass: somebody else filled it meanwhile."""
    remote = Refusing()

    async def story(world: World) -> None:
        full = QuotaExceeded("Insufficient space", subject="/large", status=507)
        remote.refuse = lambda method, path: full if (method, path) == ("put", "/large") else None
        await world.save("large", b"x" * 1000)
        await world.save("small", b"x")
        await until(lambda: remote.other.exists("/small"))
        await until(lambda: bool(world.engine.worker.troubles.all_blocked()))
        (trouble,) = world.engine.worker.troubles.all_blocked()
        assert trouble.next_step.startswith("free space in the account")
        remote.refuse = lambda _method, _path: None
        assert await until(lambda: remote.other.exists("/large")) < 700

    tell(tmp_path, story, remote)


def test_what_a_full_account_refused_goes_up_soon_after_there_is_room(tmp_path: Path) -> None:
    """Somebody frees space by another client: its file is not waited for until the next of its own tries."""
    remote = Refusing(quota=Space(free=100, used=1000))
    remote.other.write("/old", b"x" * 1000)

    async def story(world: World) -> None:
        full = QuotaExceeded("Insufficient space", subject="/large", status=507)
        remote.refuse = lambda method, path: full if (method, path) == ("put", "/large") else None
        await world.walk()
        await world.save("large", b"x" * 50)
        await until(lambda: bool(world.engine.worker.troubles.all_blocked()))
        await trio.sleep(60)
        remote.refuse = lambda _method, _path: None
        remote.other.delete("/old")
        remote.quota = Space(free=1100, used=0)
        assert await until(lambda: remote.other.exists("/large")) < 60

    tell(tmp_path, story, remote)


class Sharing(Refusing):
    """A server on which /d is a folder of somebody else's."""

    letters = "SRGDNVCK"

    async def list_folder(self, path: RemotePath) -> tuple[RemoteEntry, Sequence[RemoteEntry]]:
        own, members = await super().list_folder(path)
        return self._lettered(own), [self._lettered(member) for member in members]

    def _lettered(self, entry: RemoteEntry) -> RemoteEntry:
        return msgspec.structs.replace(entry, permissions=self.letters) if entry.path == "/d" else entry


def test_what_was_forbidden_goes_up_soon_after_it_is_allowed(tmp_path: Path) -> None:
    remote = Sharing()
    remote.other.mkdir("/d")

    async def story(world: World) -> None:
        await world.walk()
        remote.letters = "SGDNV"
        forbidden = Forbidden("not allowed", subject="/d/a", status=403)
        remote.refuse = lambda method, path: forbidden if (method, path) == ("put", "/d/a") else None
        await world.save("d/a", b"x")
        await until(lambda: bool(world.engine.worker.troubles.all_blocked()))
        await world.refresh_all()
        await trio.sleep(60)
        assert not remote.other.exists("/d/a")
        remote.letters = "SRGDNVCK"
        remote.refuse = lambda _method, _path: None
        remote.other.write("/seen", b"the root has another ETag then")
        assert await until(lambda: remote.other.exists("/d/a")) < 60

    tell(tmp_path, story, remote)


@pytest.mark.parametrize(
    "error",
    [
        lambda path: ServerFault("no", subject=path, status=500),
        lambda path: Locked("in use", subject=path, status=423),
    ],
    ids=["a fault", "a lock"],
)
def test_what_one_file_meets_without_an_end_is_told_of_and_goes_up_once_it_is_over(
    tmp_path: Path, error: Callable[[str], RemoteError]
) -> None:
    """A folder that the server's own user may not write to; a lock that nobody takes away."""
    lasting = True
    remote = Refusing(
        refuse=lambda asked, path: error(path) if lasting and (asked, path) == ("put", "/stuck") else None
    )

    async def story(world: World) -> None:
        nonlocal lasting
        await world.save("stuck", b"content")
        await world.save("other", b"content")
        with trio.fail_after(600):
            troubles = await world.engine.worker.wait_synced(lambda _: True, settled=True)
        assert [it.name for it in troubles] == ["stuck"]
        assert state(world) is State.ONLINE
        assert remote.other.tree() == {"/other": b"content"}
        await trio.sleep(3600)
        assert len(remote.asked("put", "/stuck")) > 3600 / 300
        lasting = False
        await trio.sleep(310)
        assert remote.other.tree()["/stuck"] == b"content"
        assert not world.engine.obstacles.all_blocked()

    tell(tmp_path, story, remote, poll_s=0)
