"""`cloudfs cache encrypt` and the others, `doctor` and `logout`, on an account that is not mounted."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import stat
from pathlib import Path

import pytest
import trio

from cloudfs import config
from cloudfs.blocks.slots import slot_at
from cloudfs.blocks.staging import LABEL, Staging
from cloudfs.config import Folders
from cloudfs.content.labels import label
from cloudfs.content.recovered import copy_in
from cloudfs.errors import ExitCode
from cloudfs.ranges import RangeSet
from cloudfs.store.records import StagedRow
from cloudfs.store.store import Store
from cloudfs.types import ROOT, ContentVersion
from cloudfs.vault import keyholding
from cloudfs.vault.keyholding import read_keys
from cloudfs.vault.place import DATABASE, find
from tests.cli.conftest import Run, add_account

NAME = "letter to nobody.txt"


def encrypted(run: Run, folders: Folders) -> Path:
    add_account(folders)
    done = run("cache", "encrypt", "work", "--key", "file")
    assert (done.code, done.err) == (ExitCode.OK, "")
    assert "is encrypted from now on" in done.out
    state = folders.state / "work"
    return find(state).path(state)


def findings(run: Run) -> dict[str, str]:
    found = json.loads(run("doctor", "--offline", "--json").out)
    return {line["name"]: f"{line['verdict']}: {line['reason']}" for line in found}


def test_where_there_is_no_keyring_a_plain_account_is_not_called_encrypted(
    run: Run, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyholding, "_PATIENCE_S", 0)
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent/bus")
    add_account(folders)
    done = run("cache", "encrypt", "work")
    assert done.code == ExitCode.NOT_DONE
    assert "There is nowhere to keep a new key of work" in done.err
    assert "--key" in done.err
    assert find(folders.state / "work").key is None


async def fill(folders: Folders, name: str = NAME) -> Path:
    """Make a changed file, of which a part was put aside after a power cut."""
    state = folders.state / "work"
    place = find(state)
    keys = await read_keys(folders, "work", place)
    assert keys is not None
    folder = place.path(state)
    store = Store(folder / DATABASE, key=keys.database)
    staging = Staging(folder / f"staging-{store.store_id}", sealed=(keys, store.store_id))
    version = store.nodes.next_version()
    ino = store.nodes.insert(
        parent=ROOT, name=name, folder=0, size=300_000, mtime_ns=1, ctime_ns=1, version=version
    )
    file = await staging.create(ino, version)
    await file.pwrite(100_000, b"dear nobody" * 10_000)
    row = StagedRow(ino, version, 300_000, RangeSet([(100_000, 210_000)]).pack(), ContentVersion(0), 0, None)
    store.put_staged(row)
    label(store, staging, row)
    staged = staging.path / f"{ino}.{version}"
    copy_in(folder / "recovered", staged, name, [(100_000, 210_000)], staging.sealed_as)
    await staging.aclose()
    store.close()
    return folder / "recovered"


def test_doctor_says_whether_it_is_encrypted(run: Run, folders: Folders) -> None:
    folder = encrypted(run, folders)
    assert findings(run)["encryption"].startswith("ok: ")
    assert findings(run)["database"] == "skipped: it was never mounted"
    trio.run(fill, folders)
    assert findings(run)["database"] == "ok: in order"
    assert "1 rescued files wait" in findings(run)["rescued"]
    raw = bytearray((folder / DATABASE).read_bytes())
    raw[2000] ^= 1
    (folder / DATABASE).write_bytes(raw)
    assert findings(run)["database"].startswith("problem: ")
    (key,) = (folders.state / "work").glob("cache-key-*")
    key.write_text("00" * 32)
    assert "is not the one that" in findings(run)["encryption"]
    assert "database" not in findings(run)


def test_rescued_files_are_copied_out(run: Run, folders: Folders, tmp_path: Path) -> None:
    encrypted(run, folders)
    recovered = trio.run(fill, folders)
    (kept,) = recovered.iterdir()
    assert NAME not in kept.name
    assert b"nobody" not in kept.read_bytes() + os.getxattr(kept, LABEL)
    done = run("cache", "recovered", "work", "--to", tmp_path / "out")
    assert (done.code, done.err) == (ExitCode.OK, "")
    (copy,) = (tmp_path / "out").iterdir()
    assert done.out == f"{copy}, which was /{NAME}\n"
    assert copy.name == f"1 {NAME}"
    assert copy.read_bytes() == bytes(100_000) + b"dear nobody" * 10_000
    assert list(recovered.iterdir()) == [kept]
    refused = run("cache", "decrypt", "work")
    assert (refused.code, refused.said[0]) == (ExitCode.NOT_DONE, f"1 rescued files wait in {recovered}.")


def test_what_does_not_open_of_a_rescued_file_is_counted_and_no_zeros(
    run: Run, folders: Folders, tmp_path: Path
) -> None:
    encrypted(run, folders)
    (kept,) = trio.run(fill, folders).iterdir()
    with kept.open("r+b") as file:
        file.seek(slot_at(3, 0) + 1000)  # the bytes from 131,072 on
        file.write(b"\0" * 10)
    out = tmp_path / "out"
    assert run("cache", "recovered", "work", "--to", out).out.endswith("; 110000 bytes of it do not open\n")
    (copy,) = out.iterdir()
    assert copy.read_bytes() == b"", (
        "nothing of the piece was written, and so nothing that looks like its content"
    )


def test_rescued_files_are_for_one_person_and_have_names_that_can_be(
    run: Run, folders: Folders, tmp_path: Path
) -> None:
    """Whatever the umask, however long the names are in bytes, and again after a kill."""
    encrypted(run, folders)
    longest = "\u6587" * 85
    recovered = trio.run(fill, folders, longest)
    trio.run(fill, folders)
    kept = sorted(recovered.iterdir())
    opening = recovered / f".opening-{kept[0].name.partition('.')[0]}"
    opening.mkdir()
    (opening / kept[1].name.partition(".")[2]).hardlink_to(kept[1])
    before = os.umask(0)
    try:
        for _ in range(2):
            done = run("cache", "recovered", "work", "--to", tmp_path / "out")
            assert (done.code, done.err) == (ExitCode.OK, "")
    finally:
        os.umask(before)
    copies = list((tmp_path / "out").iterdir())
    assert len(copies) == 4
    assert {stat.S_IMODE(copy.stat().st_mode) for copy in copies} == {0o600}
    assert sorted(recovered.iterdir()) == kept


def test_a_logout_finds_what_is_only_here_and_takes_the_key_along(run: Run, folders: Folders) -> None:
    encrypted(run, folders)
    trio.run(fill, folders)
    refused = run("logout", "work", "--keep-remote")
    assert refused.code == ExitCode.PENDING
    assert "1 change (300 kB) not on the server yet" in refused.err
    (key,) = (folders.state / "work").glob("cache-key-*")
    kept = key.read_text()
    key.write_text("00" * 32)
    assert "its key cannot be read" in run("logout", "work", "--keep-remote").err
    key.write_text(kept)
    assert run("logout", "work", "--keep-remote", "--discard-changes").code == ExitCode.OK
    assert not (folders.state / "work").exists()


def test_what_is_so_already_is_said(run: Run, folders: Folders) -> None:
    add_account(folders)
    assert "is not encrypted" in run("cache", "decrypt", "work").out
    for words in (("rekey",), ("lock",)):
        assert run("cache", *words, "work").code == ExitCode.NOT_DONE
    assert run("cache", "recovered", "work").code == ExitCode.USAGE
    encrypted(run, folders)
    assert "is encrypted already" in run("cache", "encrypt", "work").out
    assert config.load_account(folders, "work").settings.cache_encrypt is True
    assert "is locked" in run("cache", "lock", "work").out
    assert "has a new key" in run("cache", "rekey", "work").out
    assert "its key is gone" in run("cache", "decrypt", "work").out
    assert config.load_account(folders, "work").settings.cache_encrypt is False


def test_a_command_that_has_the_key_closes_its_memory_as_the_daemon_does(
    run: Run, folders: Folders, tmp_path: Path
) -> None:
    add_account(folders, "work")
    set_dumpable, get_dumpable, prctl = 4, 3, ctypes.CDLL(None).prctl
    before = prctl(get_dumpable)
    try:
        for words in (
            ("cache", "encrypt", "work", "--key", "file"),
            ("cache", "rekey", "work"),
            ("cache", "recovered", "work", "--to", tmp_path / "out"),
            ("doctor", "--offline", "--json"),
            ("cache", "decrypt", "work"),
        ):
            prctl(set_dumpable, 1)
            run(*words)
            assert prctl(get_dumpable) == 0, words
            assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
    finally:
        prctl(set_dumpable, before)
