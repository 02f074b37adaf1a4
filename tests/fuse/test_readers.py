"""Who is remembered as the one that had a content brought."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from cloudfs.fuse import readers
from cloudfs.fuse.readers import Readers, program_of
from cloudfs.types import ContentVersion, Ino

FILE, VERSION = Ino(5), ContentVersion(3)
OURS = Path("/proc/self/comm").read_text().strip()


def test_the_first_reader_of_a_version_counts_and_only_where_something_lacks() -> None:
    lacking: dict[Ino, ContentVersion] = {FILE: VERSION}
    made = Readers(lacking.get)
    made.opened(1, FILE, os.getpid())
    assert made.first(FILE, VERSION) is None  # it has read nothing yet
    made.reads(1)
    first = made.first(FILE, VERSION)
    assert first
    assert first.program == OURS
    made.opened(2, FILE, 0)
    made.reads(2)
    assert made.first(FILE, VERSION) == first

    assert made.first(FILE, ContentVersion(4)) is None
    lacking[FILE] = ContentVersion(4)
    made.opened(3, FILE, os.getpid())
    made.closed(3)
    made.reads(3)
    assert made.first(FILE, ContentVersion(4)) is None

    other = Ino(6)
    made.opened(4, other, os.getpid())
    made.reads(4)
    assert made.first(other, VERSION) is None


def test_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_MOST", 2)
    made = Readers(lambda _: VERSION)
    for ino in (1, 2, 3):
        made.opened(ino, Ino(ino), os.getpid())
        made.reads(ino)
    assert [made.first(Ino(ino), VERSION) is not None for ino in (1, 2, 3)] == [False, True, True]


def test_a_thread_has_its_programs_name() -> None:
    names: list[str] = []

    def look() -> None:
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text("another")
        names.append(program_of(threading.get_native_id()))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert names == [OURS]


def test_whoever_is_gone_or_elsewhere_has_no_name() -> None:
    assert program_of(0) == program_of(2**22 + 1) == ""


def test_another_mount_knows_the_latest_of_them() -> None:
    told: list[tuple[Ino, str]] = []
    made = Readers(lambda _: VERSION, lambda ino, program: told.append((ino, program)))
    for ino in (1, 2, 3):
        made.opened(ino, Ino(ino), os.getpid())
        made.reads(ino)
    assert told == [(Ino(ino), OURS) for ino in (1, 2, 3)]
    after = Readers(lambda _: VERSION)
    after.restore(made.packed(most=2))
    assert after.first(Ino(1), VERSION) is None
    assert after.first(Ino(3), VERSION) == made.first(Ino(3), VERSION)
    assert after.first(Ino(3), ContentVersion(4)) is None
    for damaged in ("", "no JSON", '{"1": 2}'):
        after.restore(damaged)
    assert after.first(Ino(3), VERSION)
