"""A lost database's files are taken over, plain and sealed, whatever cuts that off: each once, whole, by its name."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from cloudfs.blocks.sealedfolder import SealedFolder
from cloudfs.blocks.sealing import Cipher, Keys
from cloudfs.blocks.staging import Staging
from cloudfs.content import adoption
from cloudfs.content.adoption import Adoption
from cloudfs.content.labels import label, read
from cloudfs.errors import PosixError
from cloudfs.ranges import RangeSet
from cloudfs.store.records import StagedRow
from cloudfs.store.store import Store
from cloudfs.types import ROOT, ContentVersion
from tests.crash.rescued import rescued

KEYS = Keys(bytes(range(32)), Cipher.AES)
BOTH = pytest.mark.parametrize("keys", [None, KEYS], ids=["plain", "sealed"])
FILES = {"first": b"one " * 20_000, "second": bytes(5_000_000) + b"end", "empty": b""}
PART = b"a part of it " * 10_000


@contextmanager
def opened(state: Path, keys: Keys | None) -> Iterator[tuple[Store, Staging]]:
    """Open a state's database and changed files; nothing of a lost one is taken over yet."""
    store = Store(state / "state.sqlite", key=None if keys is None else keys.database)
    sealed = None if keys is None else (keys, store.store_id)
    staging = Staging(state / f"staging-{store.store_id}", sealed=sealed)
    try:
        yield store, staging
    finally:
        staging.close()
        store.close()


async def put(
    store: Store, staging: Staging, name: str, content: bytes, present: RangeSet, limit: int
) -> None:
    """Make a changed file, as a mount does: its length first, then its bytes, zeros as holes."""
    version = store.nodes.next_version()
    ino = store.nodes.insert(
        parent=ROOT, name=name, folder=0, size=len(content), mtime_ns=1, ctime_ns=1, version=version
    )
    file = await staging.create(ino, version)
    await file.truncate(len(content))
    written = RangeSet()
    for start, stop in present:
        begin = stop - len(content[start:stop].lstrip(b"\0"))
        await file.pwrite(begin, content[begin:stop])
        written.add(begin, stop)
    await file.admit_holes(written)
    row = StagedRow(ino, version, len(content), present.pack(), ContentVersion(0), limit, None)
    store.put_staged(row)
    label(store, staging, row)


def lose(state: Path, keys: Keys | None) -> None:
    """Make a state with files of each kind, and lose its database."""
    state.mkdir()
    with opened(state, keys) as (store, staging):
        for name, content in FILES.items():
            whole = RangeSet([(0, len(content))] if content else [])
            trio.run(put, store, staging, name, content, whole, 0)
        content = bytes(200_000) + PART
        trio.run(put, store, staging, "part", content, RangeSet([(200_000, len(content))]), 200_000)
    for path in state.glob("state.sqlite*"):
        path.unlink()


def adopt(state: Path, keys: Keys | None) -> None:
    """Do what a start does."""
    with opened(state, keys) as (store, staging):
        take_over(state, store, staging)


def take_over(state: Path, store: Store, staging: Staging) -> None:
    taking = Adoption(store, staging, state / "recovered", lambda *_: False)
    for lost in sorted(state.glob("staging-*")):
        if lost != staging.path:
            taking.adopt(lost)


def found(state: Path, keys: Keys | None) -> dict[str, bytes]:
    """Return what the database has, by name, read from the staging files."""
    shown = {}
    with opened(state, keys) as (store, staging):
        for row in store.all_staged():
            node = store.nodes.get(row.ino)
            assert node is not None
            assert node.name not in shown
            assert (node.version, node.size) == (row.version, row.size)
            assert RangeSet.unpack(row.present).covers(0, row.size)
            assert staging.length(row.ino, row.version) == row.size
            trio.run(staging.open, row.ino, row.version, RangeSet.unpack(row.present))
            shown[node.name] = staging.read_now(row.ino, row.version, 0, row.size)
    return shown


@BOTH
def test_each_is_found_again_whole_by_its_name_and_its_holes_take_no_room(
    tmp_path: Path, keys: Keys | None
) -> None:
    state = tmp_path / "state"
    lose(state, keys)
    adopt(state, keys)
    assert found(state, keys) == FILES
    with opened(state, keys) as (store, staging):
        assert staging.used_bytes() < 1_000_000
        for row in store.all_staged():  # and found again if this database is lost, too
            assert read(staging.label_of(row.ino, row.version)) is not None
        assert list(state.glob("staging-*")) == [staging.path]
    (kept,) = (state / "recovered").iterdir()
    assert rescued(kept, keys)[200_000:] == PART
    if keys is not None:
        assert not any(PART[:26] in path.read_bytes() for path in state.rglob("*") if path.is_file())


@BOTH
def test_killed_anywhere_it_is_done_by_the_next_start(
    tmp_path: Path, keys: Keys | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    lose(state, keys)
    kills: list[Path] = []

    def around(of: Any, name: str) -> None:
        """Have the state as it is before and after each call, which is what a kill there leaves."""
        original: Callable[..., Any] = getattr(of, name)

        def call(*arguments: Any, **more: Any) -> Any:
            keep(f"before {name}")
            answer = original(*arguments, **more)
            keep(f"after {name}")
            return answer

        monkeypatch.setattr(of, name, call)

    def keep(moment: str) -> None:
        kills.append(tmp_path / f"{len(kills)} {moment}")
        copies: dict[int, str] = {}

        def copy(source: str, copied: str) -> str:
            """Links stay links: a plain file is taken over by a second name."""
            first = copies.setdefault(os.stat(source).st_ino, copied)
            if first == copied:
                return shutil.copy2(source, copied)
            os.link(first, copied)
            return copied

        shutil.copytree(state, kills[-1], copy_function=copy)

    around(Staging, "inherit")
    around(Store, "put_staged")
    around(adoption, "keep_in")
    around(Path, "unlink")
    adopt(state, keys)
    monkeypatch.undo()
    assert len(kills) > 20
    for killed in kills:
        adopt(killed, keys)
        assert found(killed, keys) == FILES, killed.name
        (kept,) = (killed / "recovered").iterdir()
        assert rescued(kept, keys)[200_000:] == PART


@BOTH
def test_no_file_of_the_lost_one_goes_before_all_is_on_the_disk(
    tmp_path: Path, keys: Keys | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    lose(state, keys)
    before = {path.name for path in state.glob("staging-*/*")}

    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch, pytest.raises(OSError, match=os.strerror(errno.EIO)):
        patch.setattr(adoption, "sync_file_system", fail)
        adopt(state, keys)
    assert {path.name for path in state.glob("staging-*/*")} >= before
    adopt(state, keys)
    assert found(state, keys) == FILES


def test_where_a_full_disk_has_no_room_for_a_copy_the_file_waits_for_a_later_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where it is sealed: a plain one takes no room. The mount starts without it."""
    state = tmp_path / "state"
    lose(state, KEYS)

    def full(*_arguments: object, **_more: object) -> None:
        raise PosixError(errno.ENOSPC, "staging file")

    with monkeypatch.context() as patch:
        patch.setattr(SealedFolder, "pwrite", full)
        adopt(state, KEYS)
    assert found(state, KEYS) == {"empty": b""}
    adopt(state, KEYS)
    assert found(state, KEYS) == FILES
    with opened(state, KEYS) as (_, staging):
        assert list(state.glob("staging-*")) == [staging.path]


@BOTH
def test_a_new_name_is_on_the_disk_before_the_row_that_relies_on_it(
    tmp_path: Path, keys: Keys | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database's log may get to the disk by itself at any time."""
    state = tmp_path / "state"
    lose(state, keys)
    fsync, put_staged = os.fsync, Store.put_staged
    durable: set[str] = set()
    put: list[str] = []

    def note(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        names = os.listdir(path) if path.is_dir() else []
        fsync(descriptor)
        durable.update(names)

    def check(store: Store, row: StagedRow) -> None:
        put.append(f"{row.ino}.{row.version}")
        assert put[-1] in durable
        put_staged(store, row)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(Store, "put_staged", check)
    adopt(state, keys)
    assert len(put) == len(FILES)
