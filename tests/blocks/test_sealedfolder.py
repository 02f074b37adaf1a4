"""Sealed staging files: what was acknowledged survives a kill and a power cut, and nothing is made up."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudfs.blocks import sealedfolder, slots
from cloudfs.blocks.sealedfolder import SealedFolder
from cloudfs.blocks.sealing import Cipher, Keys
from cloudfs.errors import LocalDamage, PosixError
from cloudfs.ranges import RangeSet

KEYS = Keys(bytes(range(32)), Cipher.AES)
STORE = "0123456789abcdef"
NAME = "7.3"
CHUNK, SLOT = 48, 128
"""Small ones, so that a few bytes are many chunks."""


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture(autouse=True)
def _small_chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "large" not in request.keywords:
        for module in (slots, sealedfolder):
            monkeypatch.setattr(module, "CHUNK_BYTES", CHUNK)
            monkeypatch.setattr(module, "SLOT_BYTES", SLOT)
            monkeypatch.setattr(module, "REGION_BYTES", 4 * SLOT)
        # Too small to be holes for a file system: their headers are cleared.
        monkeypatch.setattr(sealedfolder, "_libc", NoPunching)


class NoPunching:
    @staticmethod
    def fallocate(*_: int) -> int:
        return -1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "staging"


def opened(
    path: Path, keys: Keys = KEYS, store: str = STORE, present: RangeSet | None = None
) -> SealedFolder:
    folder = SealedFolder(path, 4, 0, keys, store)
    if (path / NAME).exists():
        folder.probe(NAME, present)
    else:
        folder.create(NAME)
    return folder


def content(folder: SealedFolder) -> bytes:
    return folder.pread(NAME, 0, folder.length(NAME))


def written(path: Path, data: bytes, **how: Any) -> SealedFolder:
    folder = opened(path, **how)
    folder.pwrite(NAME, 0, data)
    return folder


SIZE = 4 * CHUNK
ALL = RangeSet([(0, SIZE)])
TEXT = bytes(range(SIZE))
REGION = 4 * SLOT


def test_nothing_can_be_read_without_the_key(path: Path) -> None:
    data = b"a secret that must not be on the disk" * 2
    written(path, data).close()
    raw = (path / NAME).read_bytes()
    assert not any(data[at : at + 8] in raw for at in range(len(data) - 8))
    for keys, store in (
        (Keys(bytes(32), Cipher.AES), STORE),
        (KEYS, "another"),
        (Keys(bytes(range(32)), Cipher.CHACHA), STORE),
    ):
        folder = opened(path, keys, store, RangeSet([(0, len(data))]))
        with pytest.raises(LocalDamage):
            folder.pread(NAME, 0, len(data))
        folder.close()
    folder = opened(path)
    assert content(folder) == data
    folder.close()


def test_every_flipped_bit_is_noticed(path: Path) -> None:
    written(path, TEXT).close()
    raw = (path / NAME).read_bytes()
    at_byte = [at for at in range(len(raw)) if raw[at]]
    for at in at_byte:
        damaged = bytearray(raw)
        damaged[at] ^= 1 << (at % 8)
        (path / NAME).write_bytes(damaged)
        folder = opened(path, present=ALL)
        try:
            assert folder.pread(NAME, 0, SIZE) == TEXT, f"byte {at}"
        except LocalDamage:
            pass
        finally:
            folder.close()


def test_chunks_and_files_cannot_be_swapped(path: Path) -> None:
    folder = written(path, TEXT)
    folder.create("7.4")
    folder.pwrite("7.4", 0, bytes(reversed(TEXT)))
    folder.close()
    raw, other = (path / NAME).read_bytes(), (path / "7.4").read_bytes()
    first, second = slots.slot_at(1, 0), slots.slot_at(2, 0)
    for swapped in (
        raw[:first] + raw[second : second + REGION] + raw[first : first + REGION] + raw[second + REGION :],
        raw[:second] + other[second : second + REGION] + raw[second + REGION :],
        raw[:first] + bytes(SLOT) + raw[first : first + SLOT] + raw[first + 2 * SLOT :],  # to another slot
    ):
        (path / NAME).write_bytes(swapped)
        folder = opened(path, present=ALL)
        with pytest.raises(LocalDamage):
            content(folder)
        folder.close()


def test_a_chunk_that_was_taken_out_is_damage_and_no_zeros(path: Path) -> None:
    written(path, TEXT).close()
    raw = bytearray((path / NAME).read_bytes())
    raw[slots.slot_at(2, 0) : slots.slot_at(3, 0)] = bytes(REGION)
    (path / NAME).write_bytes(raw)
    folder = opened(path, present=ALL)
    assert folder.pread(NAME, 0, CHUNK) == TEXT[:CHUNK]
    with pytest.raises(LocalDamage, match="byte 48 is damaged"):
        folder.pread(NAME, 50, 2)
    with pytest.raises(LocalDamage):
        folder.pwrite(NAME, 50, b"x")
    folder.pwrite(NAME, 48, TEXT[48:96])
    assert content(folder) == TEXT, "written whole again, it is mended"
    folder.close()


def test_a_file_that_was_cut_is_damage(path: Path) -> None:
    written(path, TEXT).close()
    os.truncate(path / NAME, slots.slot_at(3, 0))
    folder = opened(path, present=ALL)
    with pytest.raises(LocalDamage):
        folder.pread(NAME, 0, SIZE)
    folder.close()


def test_holes_are_zeros_where_the_file_says_so(path: Path) -> None:
    folder = written(path, b"head")
    folder.truncate(NAME, 1000)
    folder.pwrite(NAME, 990, b"tail")
    assert folder.admit_holes(NAME, RangeSet([(0, 4), (990, 994)]))
    assert not folder.admit_holes(NAME, RangeSet([(0, 1000)])), "what they are already"
    folder.sync(NAME, folder_too=True)
    folder.close()
    folder = opened(path, present=RangeSet([(0, 1000)]))
    assert content(folder) == b"head".ljust(990, b"\0") + b"tail".ljust(10, b"\0")
    folder.pwrite(NAME, 500, b"middle")
    folder.sync(NAME, folder_too=False)
    folder.close()
    raw = bytearray((path / NAME).read_bytes())
    chunk = 500 // CHUNK + 1
    raw[slots.slot_at(chunk, 0) : slots.slot_at(chunk + 1, 0)] = bytes(REGION)
    (path / NAME).write_bytes(raw)
    folder = opened(path, present=RangeSet([(0, 1000)]))
    with pytest.raises(LocalDamage):
        folder.pread(NAME, 500, 6)
    folder.close()


def test_more_holes_than_a_file_can_tell_of(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealedfolder, "_MOST_HOLES", 0)
    folder = opened(path)
    for at in range(0, 600, 120):
        folder.pwrite(NAME, at, b"x")
    whole = content(folder)
    folder.admit_holes(NAME, RangeSet((at, at + 1) for at in range(0, 600, 120)))
    folder.close()
    folder = opened(path, present=RangeSet([(0, len(whole))]))
    assert content(folder) == whole
    folder.close()


def test_a_damaged_new_slot_is_not_replaced_by_an_old_one(path: Path) -> None:
    folder = written(path, TEXT)
    folder.pwrite(NAME, 0, b"new")
    slot = slots.slot_at(1, folder._known[NAME].rewritten[1].latest)
    with open(path / NAME, "r+b") as file:
        file.seek(slot + 40)
        file.write(b"\xff\xff")
    with pytest.raises(LocalDamage):
        folder.pread(NAME, 0, 3)
    folder.close()


def test_after_an_fsync_old_slots_are_gone(path: Path) -> None:
    folder = written(path, TEXT)
    for number in range(5):
        folder.pwrite(NAME, 0, bytes([number]))
    folder.sync(NAME, folder_too=True)
    folder.close()
    with open(path / NAME, "rb") as file:
        found = list(slots._headers(file.fileno(), 1))
    assert len(found) == 1


# What a crash leaves

PLACES = st.integers(0, 150)
BYTES = st.integers(1, 255)
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("write"),
            PLACES,
            st.builds(bytes, st.lists(BYTES, min_size=1, max_size=1)).map(lambda one: one * 60),
        ),
        st.tuples(st.just("write"), PLACES, st.binary(min_size=1, max_size=120)),
        st.tuples(st.just("truncate"), PLACES, st.just(b"")),
        st.tuples(st.just("sync"), st.just(0), st.just(b"")),
        st.tuples(st.just("reopen"), st.just(0), st.just(b"")),
    ),
    min_size=3,
    max_size=10,
)


class Disk:
    """Stands between the folder and the file: knows what of it a power cut may take, and can stop within a write."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        """So many bytes are written before the process is killed."""
        self.since_sync: list[tuple[int, bytes]] = []
        self.image = b""
        """The file as the last fsync found it."""
        monkeypatch.setattr(os, "pwrite", self._pwrite)
        monkeypatch.setattr(os, "fsync", self._fsync)

    def _pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        part = bytes(data)
        if self.left is not None:
            part = part[: self.left]
            self.left -= len(part)
        self.since_sync.append((offset, part))
        done = PWRITE(fd, part, offset)
        if len(part) < len(data):
            raise Killed
        return done

    def _fsync(self, fd: int) -> None:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            self.image = os.pread(fd, os.fstat(fd).st_size, 0)
            self.since_sync = []


PWRITE = os.pwrite


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def apply(model: bytearray, action: str, at: int, data: bytes) -> bytearray:
    if action == "write":
        model = model + bytes(max(0, at - len(model)))
        model[at : at + len(data)] = data
    elif action == "truncate":
        model = model[:at] + bytes(max(0, at - len(model)))
    return model


def note(present: RangeSet, step: tuple[str, int, bytes]) -> None:
    if step[0] == "write":
        present.add(step[1], step[1] + len(step[2]))
    elif step[0] == "truncate":
        present.discard_from(step[1])


def carry_out(folder: SealedFolder, action: str, at: int, data: bytes) -> None:
    if action == "write":
        folder.pwrite(NAME, at, data)
    elif action == "truncate":
        folder.truncate(NAME, at)
    elif action == "sync":
        folder.sync(NAME, folder_too=False)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS, STEPS, st.integers(0, 150))
def test_a_write_that_is_torn_at_any_byte_takes_nothing_else_with_it(
    tmp_path_factory: pytest.TempPathFactory,
    disk: Disk,
    steps: list[tuple[str, int, bytes]],
    more: list[tuple[str, int, bytes]],
    left: int,
) -> None:
    path = tmp_path_factory.mktemp("torn") / "staging"
    disk.left = None
    folder, model, present = opened(path), bytearray(), RangeSet()
    for number, step in enumerate(steps + more):
        if step[0] == "reopen":
            folder.close()
            folder = opened(path, present=present)
            continue
        after = apply(bytearray(model), *step)
        if number >= len(steps):
            disk.left = left
        try:
            carry_out(folder, *step)
            model = after
        except Killed:
            disk.left = None
            folder.close()
            if step[0] == "truncate":
                present.discard_from(step[1])  # its row is there before it is
            folder = opened(path, present=present)
            check_torn(folder, present, model, after, step)
            # The kill was in the midst of it: it is done again.
            carry_out(folder, *step)
            model = after
        disk.left = None
        note(present, step)
        assert content(folder) == model
    folder.close()


def check_torn(
    folder: SealedFolder, present: RangeSet, before: bytearray, after: bytearray, step: tuple[str, int, bytes]
) -> None:
    size = max((stop for _, stop in present), default=0)
    assert folder.length(NAME) >= size
    found = folder.pread(NAME, 0, size)
    touched = range(step[1], step[1] + len(step[2])) if step[0] == "write" else range(0)
    for at in range(size):
        assert found[at] in ((before[at], after[at]) if at in touched else (before[at],)), f"byte {at}"


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS, st.integers(0, 2**32))
def test_a_power_cut_leaves_what_was_synced(
    tmp_path_factory: pytest.TempPathFactory, disk: Disk, steps: list[tuple[str, int, bytes]], seed: int
) -> None:
    """Of what was written since, any part may be there: each byte of the file is one that was there at some time."""
    path = tmp_path_factory.mktemp("power") / "staging"
    folder, model = opened(path), bytearray()
    present, safe = RangeSet(), RangeSet()
    synced, since = bytearray(), [bytearray()]
    disk.image, disk.since_sync, chance = b"", [], Random(seed)
    for step in steps:
        if step[0] == "truncate":
            continue  # shortening waits for its row (CONCURRENCY.md, 17), and is another matter
        if step[0] == "reopen":
            folder.close()
            folder = opened(path, present=present)
            continue
        carry_out(folder, *step)
        model = apply(model, *step)
        note(present, step)
        since.append(bytearray(model))
        if step[0] == "sync":
            safe = present.copy()
            synced, since = bytearray(model), [bytearray(model)]
    cut = bytearray(disk.image)
    for offset, part in disk.since_sync:
        keep = part[: chance.choice((0, chance.randint(0, len(part)), len(part)))]
        if keep:
            cut.extend(bytes(max(0, offset + len(keep) - len(cut))))
            cut[offset : offset + len(keep)] = keep
    folder.close()
    (path / NAME).write_bytes(cut)
    folder = opened(path, present=safe)
    found = folder.pread(NAME, 0, len(synced))
    for at, byte in enumerate(found):
        assert byte in {was[at] for was in since}, f"byte {at}"
    folder.close()


@pytest.mark.parametrize("many", [False, True])
def test_bytes_that_an_fsync_did_not_bring_to_the_disk_do_not_count_as_there(
    path: Path, monkeypatch: pytest.MonkeyPatch, *, many: bool
) -> None:
    """Those of another file do that was synced with it."""
    folder = written(path, TEXT)
    folder.create("8.1")
    folder.pwrite("8.1", 0, TEXT)
    folder.sync(NAME, folder_too=True)
    folder.sync("8.1", folder_too=False)
    kept = (path / NAME).read_bytes()
    folder.pwrite(NAME, 0, b"first")
    folder.pwrite("8.1", 0, b"first")
    with monkeypatch.context() as patch:
        fsync = os.fsync

        def fail(fd: int) -> None:
            if Path(f"/proc/self/fd/{fd}").readlink().name == NAME:
                raise OSError(errno.EIO, "the disk is broken")
            fsync(fd)

        patch.setattr(os, "fsync", fail)
        if many:
            assert list(folder.sync_many([NAME, "8.1"])) == [NAME]
            with open(path / "8.1", "rb") as file:
                assert len(list(slots._headers(file.fileno(), 1))) == 1
        else:
            with pytest.raises(PosixError, match=NAME):
                folder.sync(NAME, folder_too=False)
    for number in range(10):
        folder.pwrite(NAME, 0, bytes([number]))
    first = slots.slot_at(1, 0)
    assert (path / NAME).read_bytes()[first : first + SLOT] == kept[first : first + SLOT], "not written over"
    folder.close()


def test_writes_while_it_is_synced_leave_what_the_disk_is_to_have(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written(path, TEXT)
    folder.sync(NAME, folder_too=True)
    folder.pwrite(NAME, 0, b"before")
    slot = folder._known[NAME].rewritten[1].latest
    at_sync = b""

    def meanwhile(_fd: int) -> None:
        nonlocal at_sync
        at_sync = (path / NAME).read_bytes()
        for number in range(10):
            folder.pwrite(NAME, 0, bytes([number]) * 6)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", meanwhile)
        folder.sync(NAME, folder_too=False)
    for number in range(10):
        folder.pwrite(NAME, 0, bytes([number]) * 6)
    at = slots.slot_at(1, slot)
    assert (path / NAME).read_bytes()[at : at + SLOT] == at_sync[at : at + SLOT]
    assert content(folder)[:6] == b"\x09" * 6
    folder.close()
