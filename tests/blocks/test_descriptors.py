"""Borrowed descriptors: bounded, never closed in use, never leaked."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cloudfs.blocks.descriptors import Descriptors


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Descriptors]:
    files = Descriptors(2, lambda name: os.open(tmp_path / name, os.O_RDWR | os.O_CREAT))
    yield files
    files.close()


def test_an_idle_file_stays_open_and_the_oldest_makes_room(files: Descriptors) -> None:
    seen: dict[str, int] = {}
    for name in ("a", "b", "a", "c"):
        with files.borrow(name) as fd:
            seen.setdefault(name, fd)
            assert seen[name] == fd
    with files.borrow("a") as fd:
        assert fd == seen["a"]
    assert len(files) == 2


def test_busy_files_are_never_closed(files: Descriptors) -> None:
    with files.borrow("a") as a, files.borrow("b") as b, files.borrow("c") as c:
        assert len({a, b, c}) == 3
        files.retire("a")
        for fd in (a, b, c):
            os.fstat(fd)
    assert len(files) <= 2
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(a)


def test_a_retired_file_is_opened_anew_while_the_old_one_is_in_use(files: Descriptors) -> None:
    with files.borrow("a") as old:
        files.retire("a")
        with files.borrow("a") as new:
            assert new != old


def test_a_file_that_cannot_be_opened_leaves_nothing(files: Descriptors) -> None:
    with pytest.raises(OSError, match="No such file"), files.borrow("no/such/folder"):
        pass
    assert len(files) == 0


def test_threads_share_without_mixing_files_up(files: Descriptors, tmp_path: Path) -> None:
    start = threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        for turn in range(200):
            name = f"{(number + turn) % 5}"
            with files.borrow(name) as fd:
                assert os.readlink(f"/proc/self/fd/{fd}") == str(tmp_path / name)
            if turn % 40 == number:
                files.retire(name)

    with ThreadPoolExecutor(8) as pool:
        for result in [pool.submit(work, number) for number in range(8)]:
            result.result()
    assert len(files) <= 2


@pytest.mark.parametrize("reopened", [False, True])
def test_an_fsync_does_not_succeed_while_another_one_is_told_of_a_failure(
    files: Descriptors, monkeypatch: pytest.MonkeyPatch, *, reopened: bool
) -> None:
    """The kernel tells one of them, whatever descriptor the other one has by then."""
    inside, asked_again, go_on = threading.Event(), threading.Event(), threading.Event()

    def fail_once(_fd: int) -> None:
        if inside.is_set():
            asked_again.set()
            return
        inside.set()
        go_on.wait()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail_once)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(files.fsync, "a")
        inside.wait()
        if reopened:
            files.retire("a")
        second = pool.submit(files.fsync, "a")
        asked_again.wait(0.2)  # where it does not wait for the first one
        go_on.set()
        assert isinstance(first.exception(), OSError)
        assert isinstance(second.exception(), OSError)


def test_a_doubt_that_comes_up_during_an_fsync_stays(
    files: Descriptors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be about what was written meanwhile."""
    files.doubt(["a", "b"])
    monkeypatch.setattr(os, "fsync", lambda _fd: files.doubt(["a"]))
    files.fsync("a")
    assert files.is_doubted("a")
    monkeypatch.setattr(os, "fsync", lambda _fd: None)
    files.fsync("a")
    assert not files.is_doubted("a")
    assert files.is_doubted("b")
    files.retire("b", forget=True)
    assert not files.is_doubted("b")
