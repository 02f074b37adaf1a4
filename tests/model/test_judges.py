"""The judges find an engine that breaks a promise: each test breaks one on purpose, and plays until it is found."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from cloudfs.content.files import Files
from cloudfs.content.layers import FileContent, Layer
from cloudfs.errors import PosixError
from cloudfs.store.nodes import Nodes
from cloudfs.store.records import Node
from cloudfs.sync.delivery import Delivery
from cloudfs.sync.pushing import Pusher
from cloudfs.sync.resolve import Resolver
from cloudfs.sync.torn import TornParts, Verdict
from cloudfs.vfs.filesystem import FileSystem
from tests.model.fake_remote import FakeRemote, FaultKind
from tests.model.operations import Decide, Drain, Operation, OtherWrite, Refresh, Save, Wait
from tests.model.player import play
from tests.model.profiles import PROFILES
from tests.model.simulate import attempt
from tests.model.two_clients import play_two

_SEEDS = 300


def found(name: str, broken: pytest.MonkeyPatch, sign: str = "") -> str:
    """Return why the first history fails that does, with that sign of it; with the engine mended again it passes."""
    profile = PROFILES[name]
    for seed in range(_SEEDS):
        trouble = attempt(profile, profile.history(seed), seed)
        if trouble is not None and sign in trouble:
            broken.undo()
            assert attempt(profile, profile.history(seed), seed) is None
            return trouble.strip().splitlines()[-1]
    raise AssertionError(f"{_SEEDS} histories found nothing")


def test_an_upload_without_its_condition_loses_what_another_client_wrote(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FakeRemote, "_check", lambda _self, _path, _condition: None)
    assert "lost: " in found("two", monkeypatch, "lost: ")


def test_a_flush_that_keeps_nothing_loses_what_was_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(_files: Files, content: FileContent) -> None:
        content.unflushed = False

    monkeypatch.setattr(Files, "flush", forgetful)
    assert "AssertionError" in found("two", monkeypatch)


def test_what_a_decision_about_a_conflict_drops_beyond_what_it_was_about_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written to the copy while the server is asked, where it is not sealed for that time."""
    freeze = Resolver._frozen
    history: list[Operation] = [
        OtherWrite("a", 5),
        Save("a", 5),
        Drain(),
        Refresh(),
        Decide(0, "keep-theirs", 0.1),
    ]

    @asynccontextmanager
    async def unsealed(resolver: Resolver, ours: Node) -> AsyncIterator[tuple[FileContent, Layer]]:
        async with freeze(resolver, ours) as (content, layer):
            assert isinstance(layer, Layer)
            layer.seals -= 1
            yield content, layer
            layer.seals += 1

    def server() -> FakeRemote:
        return FakeRemote(latency_s=1.0)

    play_two(tmp_path / "sealed", history, remote=server())
    monkeypatch.setattr(Resolver, "_frozen", unsealed)
    with pytest.raises(AssertionError, match="lost: "):
        play_two(tmp_path / "unsealed", history, remote=server())


def test_bytes_of_a_file_that_nobody_wrote_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    read = FileSystem.read

    async def wrong(filesystem: FileSystem, *args: Any) -> bytes:
        return bytes(await read(filesystem, *args)).replace(b"L", b"M")

    monkeypatch.setattr(FileSystem, "read", wrong)
    assert " is read" in found("two", monkeypatch)


@pytest.mark.parametrize("name", ["lookup", "setattr", "release"])
def test_a_request_that_outlasts_its_deadline_is_found(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    answer = getattr(FileSystem, name)

    async def stubborn(*args: Any, **kwargs: Any) -> object:
        with trio.CancelScope(shield=True):
            await trio.sleep(30)
        return await answer(*args, **kwargs)

    monkeypatch.setattr(FileSystem, name, stubborn)
    assert f"{name} was answered after 30 s" in found("alone", monkeypatch)


def test_a_request_that_waits_for_the_network_and_must_not_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    getattr_ = FileSystem.getattr

    async def slow(*args: Any) -> object:
        await trio.sleep(10)
        return await getattr_(*args)

    monkeypatch.setattr(FileSystem, "getattr", slow)
    assert "getattr waited for" in found("alone", monkeypatch)


def test_a_conflict_without_a_reason_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    create = itertools.count()
    deliver = Delivery.deliver

    async def quarrelsome(delivery: Delivery, parcel: Any, layer: Any) -> object:
        version = await deliver(delivery, parcel, layer)
        if next(create) % 3 == 0:
            nodes: Nodes = delivery._nodes
            node = nodes.get(parcel.node.ino)
            if node is not None and node.linked:
                delivery._conflicts.step_aside(node)
        return version

    monkeypatch.setattr(Delivery, "deliver", quarrelsome)
    assert "conflicts without a reason" in found("offline", monkeypatch)


@pytest.mark.expect_log(".*", optional=True)  # of the disk
def test_holes_that_are_believed_after_a_power_cut_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloudfs.engine.disk.after_power_cut", lambda *_: [])
    assert "AssertionError" in found("cuts", monkeypatch)


@pytest.mark.expect_log(".*", optional=True)  # of the disk
def test_a_close_that_says_nothing_of_a_full_disk_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    flush = Files.flush

    def careless(files: Files, content: FileContent) -> None:
        try:
            flush(files, content)
        except PosixError:
            content.unflushed = False

    monkeypatch.setattr(Files, "flush", careless)
    assert "lost: " in found("full", monkeypatch, "lost: ")


def test_what_stays_behind_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def keep(*_args: Any, **_kwargs: Any) -> None:
        await trio.lowlevel.checkpoint()

    settle: Callable[..., Awaitable[None]] = keep
    monkeypatch.setattr("cloudfs.content.outgoing.Outgoing.settle", settle)
    assert "left over" in found("alone", monkeypatch)


@pytest.mark.expect_log(
    "the server names SHA1|the server's checksum", optional=True
)  # where it is read again
def test_a_checksum_of_something_else_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    put = FakeRemote.put

    async def careless(remote: FakeRemote, *args: Any, **kwargs: Any) -> object:
        return await put(remote, *args, **kwargs | {"checksum": f"SHA1:{0:040}"})

    monkeypatch.setattr(FakeRemote, "put", careless)
    assert "has the checksum of something else" in found("alone", monkeypatch)


@pytest.mark.parametrize("size", [1, 10, 12])
def test_what_a_cut_overwrite_leaves_on_the_server_until_it_is_repeated_is_nobodys_fault(
    tmp_path: Path, size: int
) -> None:
    """It is written in place there, and listings still tell the old checksum (protocol.md §6)."""

    def server() -> FakeRemote:
        remote = FakeRemote(truncating=True)
        remote.faults.next("put", [None, *[FaultKind.CUT] * 3])
        return remote

    history: list[Operation] = [Save("a", 10), Wait(6.0), Save("a", size), *[Wait(0.3)] * 30]
    play(tmp_path, history, remote=server)


def test_a_mount_that_does_not_listen_to_the_server_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it is told, and nothing else, has it look within a minute."""
    monkeypatch.setattr(Pusher, "_heard", lambda _self, _pushed: None)
    assert "not noticed within 60 s" in found("push", monkeypatch, "not noticed")


def test_an_upload_without_its_condition_loses_what_the_other_mount_wrote(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FakeRemote, "_check", lambda _self, _path, _condition: None)
    assert "lost: " in found("mounts", monkeypatch, "lost: ")


def test_what_is_taken_for_a_part_of_ours_and_is_not_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    async def always(*_: object) -> Verdict:
        return Verdict.OURS

    monkeypatch.setattr(TornParts, "judge", always)
    assert "lost: " in found("parts", monkeypatch, "lost: ")


@pytest.mark.expect_log(r": not sent yet: ", optional=True)
@pytest.mark.parametrize(
    ("whose", "sign"), [(Verdict.OURS, "lost: "), (Verdict.ANOTHERS, "a part is the file")]
)
def test_who_takes_all_that_stands_there_for_one_of_both_is_found(
    monkeypatch: pytest.MonkeyPatch, whose: Verdict, sign: str
) -> None:
    async def always(*_: object) -> Verdict:
        return whose

    monkeypatch.setattr(TornParts, "judge", always)
    assert sign in found("plain-parts", monkeypatch, sign)


@pytest.mark.expect_log(r": not sent yet: ", optional=True)
@pytest.mark.parametrize(("left", "sign"), [(True, "lost: "), (False, "a part is the file")])
def test_who_takes_all_that_stands_where_a_file_was_for_one_of_both_is_found(
    monkeypatch: pytest.MonkeyPatch, *, left: bool, sign: str
) -> None:
    async def always(*_: object) -> bool:
        return left

    monkeypatch.setattr(TornParts, "is_left_over", always)
    assert sign in found("plain-parts", monkeypatch, sign)
