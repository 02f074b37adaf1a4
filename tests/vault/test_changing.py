"""Sealing, opening and re-keying an account's state: killed anywhere it is as before or changed, never in between."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloudfs.blocks.sealing import Cipher, Keys
from cloudfs.blocks.staging import Staging
from cloudfs.content.labels import label
from cloudfs.errors import LocalDamage, UserError
from cloudfs.ranges import RangeSet
from cloudfs.store.copying import copy_store
from cloudfs.store.records import StagedRow
from cloudfs.store.store import Store
from cloudfs.types import ROOT, ContentVersion, Ino
from cloudfs.vault import changing
from cloudfs.vault.changing import change
from cloudfs.vault.place import DATABASE, Place, find, make_present, remove_others

ONE, OTHER = Keys(bytes(range(32)), Cipher.AES), Keys(bytes(32), Cipher.CHACHA)
NAME = "a name that nobody is to read"
DATA = b"bytes that nobody is to read " * 5000
SIZE = 1_000_000


class Killed(BaseException):
    """The process ends here."""


def place(keys: Keys | None) -> Place:
    return Place() if keys is None else Place(key="file", cipher=keys.cipher.value, check=keys.check)


async def fill(state: Path) -> None:
    """Make a plain state with a changed file that has a hole, and a part of another version."""
    store = Store(state / DATABASE)
    staging = Staging(state / f"staging-{store.store_id}")
    version = store.nodes.next_version()
    ino = store.nodes.insert(
        parent=ROOT, name=NAME, folder=0, size=SIZE, mtime_ns=1, ctime_ns=1, version=version
    )
    file = await staging.create(ino, version)
    await file.pwrite(0, DATA)
    await file.pwrite(SIZE - 100, b"e" * 50)
    await file.truncate(SIZE)
    row = StagedRow(ino, version, SIZE, RangeSet([(0, SIZE)]).pack(), ContentVersion(0), 0, None)
    store.put_staged(row)
    label(store, staging, row)
    store.put_note("something", "noted")
    await staging.aclose()
    store.close()


def content(state: Path, keys: Keys | None) -> bytes:
    folder = find(state).path(state)
    store = Store(folder / DATABASE, key=None if keys is None else keys.database)
    staging = Staging(
        folder / f"staging-{store.store_id}", sealed=None if keys is None else (keys, store.store_id)
    )
    try:
        node = store.nodes.child(ROOT, NAME)
        assert node is not None
        assert store.note("something") == "noted"
        (row,) = store.all_staged()
        staging._folder.probe(f"{row.ino}.{row.version}", RangeSet.unpack(row.present))
        assert NAME.encode() in staging.label_of(row.ino, row.version)
        assert store.nodes.next_version() > row.version
        return staging.read_now(row.ino, row.version, 0, row.size)
    finally:
        staging.close()
        store.close()


WHOLE = DATA.ljust(SIZE - 100, b"\0") + b"e" * 50 + bytes(50)


def in_clear(state: Path) -> bool:
    return any(
        NAME.encode() in path.read_bytes() or DATA[:20] in path.read_bytes()
        for path in state.rglob("*")
        if path.is_file()
    )


async def test_there_and_back_and_with_another_key(tmp_path: Path) -> None:
    state, cache = tmp_path / "state", tmp_path / "cache"
    state.mkdir()
    (cache / "blocks").mkdir(parents=True)
    await fill(state)
    (state / "secret").write_text("stays")
    before: Keys | None = None
    for keys in (ONE, OTHER, None, ONE, None):
        made = change(state, cache, before, place(keys), keys)
        assert find(state) == made
        assert content(state, keys) == WHOLE
        assert in_clear(state) is (keys is None)
        assert not (cache / "blocks").exists()
        assert sorted(os.listdir(state)) == sorted([made.folder, "secret", "vault.json"])
        before = keys


@pytest.mark.parametrize(("keys", "new_keys"), [(None, ONE), (ONE, OTHER), (ONE, None)])
async def test_killed_at_any_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: Keys | None, new_keys: Keys | None
) -> None:
    begun = tmp_path / "begun"
    begun.mkdir()
    await fill(begun)
    if keys is not None:
        change(begun, tmp_path / "cache", None, place(keys), keys)
    outcomes = set()
    for number in range(1, 100):
        state = tmp_path / f"state-{number}"
        shutil.copytree(begun, state)
        left = number

        def counted(call: Callable[..., Any]) -> Callable[..., Any]:
            def counting(*args: Any, **more: Any) -> Any:
                nonlocal left
                left -= 1
                if left <= 0:
                    raise Killed
                return call(*args, **more)

            return counting

        with monkeypatch.context() as patch:
            for owner, name in ((os, "fsync"), (os, "rename"), (os, "unlink"), (os, "rmdir"), (os, "mkdir")):
                patch.setattr(owner, name, counted(getattr(owner, name)))
            patch.setattr(changing, "copy_store", counted(copy_store))
            try:
                change(state, tmp_path / "cache", keys, place(new_keys), new_keys)
            except Killed:
                pass
            else:
                break
        now = find(state)
        remove_others(state, now)  # as the next start does
        is_new = now.key == place(new_keys).key and now.check == place(new_keys).check and bool(now.folder)
        outcomes.add(is_new)
        assert content(state, new_keys if is_new else keys) == WHOLE, number
        shutil.rmtree(state)
    assert outcomes == {False, True}
    assert number > 10


async def test_what_is_damaged_stops_it_and_stays(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    await fill(state)
    change(state, tmp_path / "cache", None, place(ONE), ONE)
    (file,) = state.glob("sealed-*/staging-*/*")
    with open(file, "r+b") as raw:
        raw.seek(300_000)
        raw.write(b"damage")
    with pytest.raises(LocalDamage, match="is damaged"):
        change(state, tmp_path / "cache", ONE, place(None), None)
    assert find(state).key == "file"
    assert file.exists()
    assert sorted(os.listdir(state)) == sorted([find(state).folder, "vault.json"])


async def test_rescued_files_are_looked_at_first(tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "recovered").mkdir(parents=True)
    await fill(state)
    (state / "recovered/7.3 letter").write_bytes(b"x")
    with pytest.raises(UserError, match="1 rescued files wait"):
        change(state, tmp_path / "cache", None, place(ONE), ONE)
    assert content(state, None) == WHOLE


def test_a_place_that_nobody_can_tell_is_refused(tmp_path: Path) -> None:
    assert find(tmp_path) == Place()
    (tmp_path / "sealed-1").mkdir()
    with pytest.raises(UserError, match=r"vault\.json is missing"):
        find(tmp_path)
    (tmp_path / DATABASE).touch()
    assert find(tmp_path) == Place(), "a change that did not come so far"
    for text in (b"", b"{}", b'{"folder": "../x"}', b'{"folder": 1}'):
        (tmp_path / "vault.json").write_bytes(text)
        with pytest.raises(UserError, match="is damaged"):
            find(tmp_path)
    make_present(tmp_path, Place("sealed-1", "keyring", "aes-256-gcm", "00"))
    assert find(tmp_path).key == "keyring"


def test_inodes_go_on_where_they_were(tmp_path: Path) -> None:
    """An inode is never reused: blocks and staging files are named by it."""
    store = Store(tmp_path / DATABASE)
    last = [store.nodes.insert(parent=ROOT, name=f"{n}", folder=0, mtime_ns=1, ctime_ns=1) for n in range(5)][
        -1
    ]
    store.db.execute("DELETE FROM nodes WHERE ino = ?", (last,))
    store.close()
    change(tmp_path, tmp_path / "cache", None, place(ONE), ONE)
    store = Store(find(tmp_path).path(tmp_path) / DATABASE, key=ONE.database)
    assert store.nodes.insert(parent=ROOT, name="x", folder=0, mtime_ns=1, ctime_ns=1) == Ino(last + 1)
    store.close()
