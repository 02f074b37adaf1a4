"""Back-off: without end, later each time, at the server's word, and open to everybody who asks why."""

from __future__ import annotations

import errno
import math
import tracemalloc
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from cloudfs.errors import (
    ContentRefused,
    Forbidden,
    LocalDamage,
    Locked,
    NameRefused,
    NotAuthenticated,
    PosixError,
    ProtocolViolation,
    QuotaExceeded,
    RemoteError,
    ServerFault,
    StorageAway,
    TooLarge,
    Unavailable,
    Unreachable,
    Unsupported,
)
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.sync.inbox import Inbox
from cloudfs.sync.troubles import Troubles
from cloudfs.types import ROOT, Ino

BLOCKING = [ContentRefused, QuotaExceeded, Forbidden, NameRefused, TooLarge, NotAuthenticated]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    store = Store(tmp_path / "state.sqlite")
    root = store.nodes.get(ROOT)
    store.close()
    assert root is not None
    return root


async def test_each_try_waits_longer_up_to_a_limit_and_never_ends(
    node: Node, autojump_clock: MockClock
) -> None:
    del autojump_clock
    troubles = Troubles()
    waits = []
    for _ in range(40):
        troubles.add(node, Unreachable("no route"))
        waits.append(troubles.due(node.ino) - trio.current_time())
        await trio.sleep_until(troubles.due(node.ino))
    ceilings = [min(2.0**number, 300.0) for number in range(40)]
    assert all(ceiling / 2 <= wait <= ceiling for wait, ceiling in zip(waits, ceilings, strict=True))
    known = troubles.of(node.ino)
    assert known is not None
    assert (known.tries, known.blocked) == (40, False)


async def test_two_nodes_do_not_wait_in_step(node: Node) -> None:
    """Jitter: what failed together must not come back together."""
    troubles = Troubles()
    dues = set()
    for _ in range(10):
        troubles.forget(node.ino)
        troubles.add(node, Locked("in use"))
        dues.add(troubles.due(node.ino))
    assert len(dues) > 5


async def test_the_servers_word_is_kept(node: Node) -> None:
    troubles = Troubles()
    troubles.add(node, Unavailable("maintenance", retry_after_s=120))
    assert troubles.due(node.ino) >= trio.current_time() + 119


@pytest.mark.parametrize("kind", BLOCKING)
async def test_what_waiting_cannot_mend_is_blocked_with_a_next_step_and_tried_again_all_the_same(
    node: Node, kind: type[RemoteError], autojump_clock: MockClock
) -> None:
    del autojump_clock
    troubles = Troubles()
    troubles.add(node, kind("no", subject="/a"))
    (trouble,) = troubles.all_blocked()
    assert troubles.blocked(node.ino) == trouble
    assert trouble.reason == "/a: no"
    assert trouble.next_step
    assert 0 < trouble.due - trio.current_time() <= 600


async def test_local_damage_is_blocked(node: Node) -> None:
    troubles = Troubles()
    troubles.add(node, LocalDamage("bytes are missing"))
    assert troubles.blocked(node.ino)


@pytest.mark.parametrize(
    "error", [Unreachable("no"), Locked("no"), ServerFault("no", status=500), OSError(5, "io")]
)
async def test_what_may_pass_is_not_blocked(node: Node, error: Exception) -> None:
    troubles = Troubles()
    troubles.add(node, error)
    assert troubles.blocked(node.ino) is None
    assert troubles.all_blocked() == []


async def test_what_is_refused_without_a_reason_is_blocked_after_four_refusals_of_its_kind(
    node: Node,
) -> None:
    """What passed by itself before is not counted, nor a refusal of another kind."""
    troubles = Troubles()
    for error in (
        *[Locked("in use", status=423)] * 3,
        *[ServerFault("no", status=500)] * 3,
        *[ServerFault("no", status=400)] * 3,
        *[Unsupported("no", status=405)] * 3,
        Locked("in use", status=423),
    ):
        troubles.add(node, error)
        assert troubles.blocked(node.ino) is None
    troubles.add(node, ServerFault("no", status=400))
    assert troubles.blocked(node.ino)


@pytest.mark.parametrize(
    "error",
    [ServerFault("no", status=500), Locked("in use", status=423), ProtocolViolation("a page", status=200)],
    ids=lambda error: type(error).__name__,
)
async def test_what_should_pass_and_does_not_is_told_of_and_tried_as_often_as_ever(
    node: Node, error: RemoteError, autojump_clock: MockClock
) -> None:
    """A folder that the server may not write to is a 500 for ever: nobody heard, and `sync --wait` did not end."""
    del autojump_clock
    troubles, began = Troubles(), trio.current_time()
    while not troubles.blocked(node.ino) and trio.current_time() - began < 3600:
        troubles.add(node, error)
        await trio.sleep_until(troubles.due(node.ino))
    assert 60 < trio.current_time() - began < 300
    (trouble,) = troubles.all_blocked()
    assert trouble.reason == str(error)
    assert trouble.next_step != "see the log"
    for _ in range(5):
        troubles.add(node, error)
        assert troubles.due(node.ino) - trio.current_time() <= 300
    troubles.forget(node.ino)
    troubles.add(node, error)
    assert not troubles.blocked(node.ino)


@pytest.mark.parametrize(
    "error",
    [Unreachable("no route"), Unavailable("maintenance", status=503), StorageAway("one storage", status=503)],
    ids=lambda error: type(error).__name__,
)
async def test_what_is_about_more_than_a_file_is_never_told_of_as_its_own(
    node: Node, error: RemoteError
) -> None:
    troubles = Troubles()
    for _ in range(40):
        troubles.add(node, error)
    assert not troubles.blocked(node.ino)


async def test_success_and_change_start_afresh(node: Node) -> None:
    troubles = Troubles()
    for _ in range(8):
        troubles.add(node, Locked("no"))
    troubles.forget(node.ino)
    assert troubles.due(node.ino) == 0
    assert troubles.of(node.ino) is None
    troubles.add(node, Locked("no"))
    assert troubles.due(node.ino) <= trio.current_time() + 1
    troubles.retry_all()
    assert troubles.due(node.ino) == 0


async def test_a_change_rings_once_and_forgets_troubles(node: Node, autojump_clock: MockClock) -> None:
    del autojump_clock
    inbox = Inbox()
    inbox.troubles.add(node, Forbidden("no"))
    bell = inbox.listen()
    assert not bell.is_set()
    await trio.sleep(3)
    inbox.notify(node.ino)
    assert bell.is_set()
    assert inbox.changed_at(node.ino) == trio.current_time()
    assert inbox.troubles.of(node.ino) is None
    assert not inbox.listen().is_set(), "a new bell rings for new changes only"


async def test_a_change_between_two_rounds_is_never_missed() -> None:
    inbox = Inbox()
    for number in range(4):
        bell = inbox.listen()
        if number % 2:
            inbox.ring()
        else:
            inbox.notify(Ino(5))
        with trio.fail_after(1):
            await bell.wait()


async def test_what_changed_before_the_start_was_never_changed(node: Node) -> None:
    inbox = Inbox()
    assert inbox.changed_at(node.ino) == -math.inf


async def test_what_is_never_sent_is_not_remembered_for_ever(autojump_clock: MockClock) -> None:
    """A build in the mount makes and removes files by the thousand before any of them is due."""
    del autojump_clock
    inbox = Inbox()
    tracemalloc.start()
    try:
        for number in range(30_000):
            inbox.notify(Ino(number))
        before, _ = tracemalloc.get_traced_memory()
        for number in range(30_000, 90_000):
            inbox.notify(Ino(number))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after < before * 1.2
    assert inbox.changed_at(Ino(89_999)) == trio.current_time()


async def test_a_full_disk_is_told_of_and_tried_as_often_as_ever(
    node: Node, autojump_clock: MockClock
) -> None:
    """What else goes up may make room at once."""
    del autojump_clock
    troubles = Troubles()
    told: list[bool] = []
    for _ in range(12):
        troubles.add(node, PosixError(errno.ENOSPC, "staging"))
        trouble = troubles.of(node.ino)
        assert trouble is not None
        assert trouble.due - trio.current_time() <= 300
        assert ("make room" in trouble.next_step) is trouble.blocked
        told.append(trouble.blocked)
    assert told == [False] * 3 + [True] * 9
