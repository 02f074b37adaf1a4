"""Value files are whole or not there, past the page cache or through it."""

from __future__ import annotations

import errno
import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cloudfs.blocks.valuefile import ValueWriter, read_value

MIB = 1024 * 1024
Opened = list[int]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """The flags of every file that was opened for writing."""
    flags: Opened = []
    real = os.open

    def note(path: str, flag: int, mode: int = 0o777) -> int:
        flags.append(flag)
        return real(path, flag, mode)

    monkeypatch.setattr(os, "open", note)
    return flags


def directly(flags: int) -> bool:
    return bool(flags & os.O_DIRECT)


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 512 * 1024, MIB - 1, MIB, MIB + 4096])
def test_bytes_come_back(tmp_path: Path, size: int) -> None:
    value, path = os.urandom(size), str(tmp_path / "ab" / "1.val")
    writer = ValueWriter()
    writer.write(path, os.urandom(MIB))
    writer.write(path, value)
    assert read_value(path) == value
    assert Path(path).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("offset", [0, 1, 512, 4096])
def test_memory_of_any_alignment_comes_back(tmp_path: Path, opened: Opened, offset: int) -> None:
    """What lies at the beginning of a page goes to the disk from where it is; all else is copied first."""
    memory, path = mmap.mmap(-1, MIB + 4096), str(tmp_path / "1.val")
    memory[:] = os.urandom(len(memory))
    value = memoryview(memory)[offset : offset + MIB]
    ValueWriter().write(path, value)
    assert directly(opened[0])
    assert read_value(path) == value


def test_a_file_system_that_refuses_is_asked_once(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(flags: int) -> int | None:
        return errno.EINVAL if directly(flags) else None

    with_fault(monkeypatch, refuse)
    writer = ValueWriter()
    for name in ("1", "2"):
        writer.write(str(tmp_path / name), bytes(MIB))
        assert read_value(str(tmp_path / name)) == bytes(MIB)
    assert [directly(flags) for flags in opened] == [True, False, False]


def test_a_full_disk_leaves_no_part_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, path = ValueWriter(), tmp_path / "1"
    writer.write(str(path), b"old")
    monkeypatch.setattr(os, "write", lambda _fd, data: len(data) // 2)
    with pytest.raises(OSError, match="space"):
        writer.write(str(path), bytes(MIB))
    assert not path.exists()


def test_a_slow_disk_is_written_to_later(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(10_000))  # a second for every look at it
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    writer = ValueWriter()
    for name in range(6):
        writer.write(str(tmp_path / str(name)), bytes(MIB))
    assert [directly(flags) for flags in opened] == [True] * 4 + [False] * 2
    for _ in range(40):
        next(clock)
    writer.write(str(tmp_path / "later"), bytes(MIB))
    assert directly(opened[-1])


def with_fault(monkeypatch: pytest.MonkeyPatch, fault: Callable[[int], int | None]) -> None:
    """Make opening fail with the errno that `fault` names for the flags."""
    real = os.open

    def maybe(path: str, flags: int, mode: int) -> int:
        fd = real(path, flags, mode)
        if code := fault(flags):
            os.close(fd)
            raise OSError(code, os.strerror(code))
        return fd

    monkeypatch.setattr(os, "open", maybe)
