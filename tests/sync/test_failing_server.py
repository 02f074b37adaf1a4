"""A server that answers, but with nothing but errors: shown as that, and left as soon as anything goes well."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
import trio
from trio.testing import MockClock

from cloudfs.errors import (
    Changed,
    Maintenance,
    NotFound,
    ProtocolViolation,
    RemoteError,
    ServerFault,
    Throttled,
    Unavailable,
    Unreachable,
)
from cloudfs.sync.connectivity import Connectivity, State
from cloudfs.sync.gate import GatedRemote
from cloudfs.types import RemotePath
from tests.functional.stages import MountStage
from tests.model.fake_remote import FakeRemote, FaultKind
from tests.servers import Answer, StandIn


def state(connectivity: Connectivity) -> State:
    return connectivity.state  # anew each time, whatever mypy believes to know of it


@pytest.mark.parametrize(
    "error",
    [
        ServerFault("the server answered 500", status=500),
        ServerFault("the server answered 502", status=502),
        ServerFault("the storage is away", status=503),
        ProtocolViolation("a web page came instead of a WebDAV answer", status=200),
    ],
    ids=lambda error: f"{type(error).__name__} {error.status}",
)
async def test_errors_in_a_row_are_shown(error: RemoteError) -> None:
    bells: list[int] = []
    connectivity = Connectivity(returned=lambda: bells.append(1))
    before = time.time()
    for wanted in (State.ONLINE, State.ONLINE, State.FAILING, State.FAILING):
        connectivity.failed(error)
        assert state(connectivity) is wanted
    assert connectivity.reason == str(error)
    began = connectivity.since or 0.0
    assert before <= began <= time.time()
    assert connectivity.next_try == 0.0, "each change has its own time"
    connectivity.succeeded()
    assert state(connectivity) is State.ONLINE
    assert (connectivity.reason, bells) == ("", [1])
    assert connectivity.since is None


@pytest.mark.parametrize("good", [NotFound("gone", status=404), Changed("new", status=412), None], ids=str)
async def test_one_good_answer_between_is_enough(good: RemoteError | None) -> None:
    connectivity = Connectivity(returned=lambda: None)
    for _ in range(5):
        for _ in range(2):
            connectivity.failed(ServerFault("broken", status=500))
        if good is None:
            connectivity.succeeded()
        else:
            connectivity.failed(good)
        assert state(connectivity) is State.ONLINE


async def test_other_states_have_their_own_beginning() -> None:
    connectivity = Connectivity(returned=lambda: None)
    for _ in range(3):
        connectivity.failed(ServerFault("broken", status=502))
    connectivity.failed(Unreachable("away"))
    assert state(connectivity) is State.OFFLINE
    since = connectivity.since
    connectivity.failed(Unreachable("away"))
    assert connectivity.since == since
    connectivity.failed(Unavailable("maintenance", status=503))
    assert state(connectivity) is State.MAINTENANCE
    connectivity.failed(ServerFault("broken", status=502))
    assert state(connectivity) is State.ONLINE, "it answers again: one error says nothing yet"


@pytest.mark.mount
@pytest.mark.shared_engine
@pytest.mark.parametrize("status", [500, 502])
def test_status_says_so(tmp_path: Path, status: int) -> None:
    with StandIn() as server:
        stage = MountStage(tmp_path / "home", server, settings="listing_ttl_s = 0")
        try:
            assert (
                list(stage.mount_point.iterdir()) == []
            )  # a folder that nobody could list takes nothing new
            server.faults.add(Answer(status), times=None)
            (stage.mount_point / "new").write_bytes(b"new")
            stage.wait(
                lambda: bool(list(stage.mount_point.iterdir())) and stage.status()["state"] == "failing"
            )
            since = stage.status()["since"]
            assert isinstance(since, float)
            assert abs(since - time.time()) < 60
            said = stage.cloudfs("status").stdout
            assert f"failing since {time.strftime('%H:', time.localtime(since))}" in said
            assert f"the server answered {status}" in said
            assert "what is to be sent is kept and tried again" in said
            server.faults.clear()
            stage.sync()
            assert (stage.status()["state"], stage.status()["since"]) == ("online", None)
        finally:
            stage.close()


@pytest.mark.parametrize("kind", [FaultKind.REFUSE, FaultKind.HANG])
async def test_a_large_question_without_an_answer_is_no_outage(
    kind: FaultKind, autojump_clock: MockClock
) -> None:
    """Archives and trees may take too long, or too much; what is asked about one file tells."""
    del autojump_clock
    remote = FakeRemote()
    remote.other.mkdir("/d")
    remote.other.write("/d/a", b"a")
    connectivity = Connectivity(returned=lambda: None)
    gate = GatedRemote(remote, connectivity)
    remote.faults.next("read_archive", [kind])
    remote.faults.next("list_tree", [kind])
    with pytest.raises(Unreachable):
        await gate.read_archive(RemotePath("/d"), {"a": 1, "b": 1})
    with pytest.raises(Unreachable):
        await gate.list_tree(RemotePath("/d"), most=10)
    assert state(connectivity) is State.ONLINE
    remote.faults.next("stat", [kind])
    with pytest.raises(Unreachable):
        await gate.stat(RemotePath("/d/a"))
    assert state(connectivity) is State.OFFLINE


async def test_whatever_the_server_answers_is_a_sign_of_life(autojump_clock: MockClock) -> None:
    del autojump_clock
    connectivity = Connectivity(returned=lambda: None)

    async def wait_in_vain() -> None:
        with trio.move_on_after(61):
            async with connectivity.silence.borne(lambda: "/", trio.current_time()):
                await trio.sleep_forever()

    signs: list[Callable[[], object]] = [
        connectivity.succeeded,
        lambda: connectivity.failed(ServerFault("broken", status=500)),
        lambda: connectivity.failed(NotFound("gone", status=404)),
        connectivity.try_now,
    ]
    for sign in signs:
        await wait_in_vain()
        connectivity.failed(Unreachable("no answer"))
        assert connectivity.silence.presumed
        sign()
        assert not connectivity.silence.presumed


@pytest.mark.parametrize("ask", ["read_archive", "list_tree"])
@pytest.mark.parametrize(
    ("status", "now"), [(429, State.THROTTLED), (503, State.MAINTENANCE)], ids=["throttled", "maintenance"]
)
async def test_what_the_server_says_of_itself_counts_in_the_answer_to_a_large_question(
    ask: str, status: int, now: State, autojump_clock: MockClock
) -> None:
    """It wants to be left alone: a program that walks would ask it for one archive and tree after the other."""
    del autojump_clock
    error = Throttled("later", status=status) if status == 429 else Maintenance("down", status=status)

    async def refuse(*_: object, **__: object) -> NoReturn:
        raise error

    remote = FakeRemote()
    setattr(remote, ask, refuse)
    connectivity = Connectivity(returned=lambda: None)
    gate = GatedRemote(remote, connectivity)
    with pytest.raises(type(error)):
        if ask == "list_tree":
            await gate.list_tree(RemotePath("/d"), most=10)
        else:
            await gate.read_archive(RemotePath("/d"), {"a": 1, "b": 1})
    assert state(connectivity) is now
