"""diskcache keeps bytes and nothing but bytes: whatever a row claims, nothing of it is decoded."""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import diskcache
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudfs.blocks.rawdisk import BlockKey, RawDisk
from cloudfs.types import ContentVersion, Ino

KEY = BlockKey(Ino(7), ContentVersion(3), 0)
TEXT = KEY.text("a1b2")
NUMBERS = st.integers(0, 2**63 - 1)


class Evil:
    """Unpickling this writes a file."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Path, str]]:
        return Path.write_text, (self.proof, "unpickled")


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[diskcache.Cache]:
    with diskcache.Cache(str(tmp_path / "c"), disk=RawDisk, disk_min_file_size=100) as cache:
        yield cache


def plant(cache: diskcache.Cache, **columns: object) -> None:
    """Change columns of the one row behind diskcache's back."""
    with sqlite3.connect(Path(cache.directory) / "cache.db") as database:
        for column, value in columns.items():
            database.execute(f"UPDATE Cache SET {column} = ?", (value,))  # noqa: S608  # names of this file
    database.close()


@pytest.mark.parametrize("size", [1, 99, 100, 5000])
def test_bytes_come_back_from_the_table_and_from_files(cache: diskcache.Cache, size: int) -> None:
    data = bytes(range(256)) * 20
    cache.set(TEXT, data[:size])
    assert cache.get(TEXT) == data[:size]
    files = list(Path(cache.directory).glob("??/*.val"))
    assert len(files) == (size >= 100)
    for file in files:
        assert file.stat().st_mode & 0o777 == 0o600
        assert str(file.relative_to(cache.directory)) == KEY.file_name()
    assert cache.delete(TEXT)
    assert not list(Path(cache.directory).glob("??/*.val"))


@pytest.mark.parametrize("value", ["text", 1, 1.5, None, ["list"], bytearray(b"x")])
def test_only_bytes_go_in(cache: diskcache.Cache, value: object) -> None:
    with pytest.raises(TypeError):
        cache.set(TEXT, value)
    assert len(cache) == 0


@pytest.mark.parametrize("key", [("a", "tuple"), 1, b"bytes", None])
def test_only_strings_are_keys(cache: diskcache.Cache, key: object) -> None:
    with pytest.raises(TypeError):
        cache.set(key, b"x")


@pytest.mark.parametrize("size", [10, 1000])
def test_a_row_that_claims_to_be_a_pickle_is_a_miss(
    cache: diskcache.Cache, tmp_path: Path, size: int
) -> None:
    proof = tmp_path / "proof"
    evil = pickle.dumps(Evil(proof))
    cache.set(TEXT, bytes(size))
    if size == 10:
        plant(cache, mode=4, value=evil)
    else:
        plant(cache, mode=4)
        (Path(cache.directory) / KEY.file_name()).write_bytes(evil)
    assert cache.get(TEXT) is None
    assert not proof.exists()
    pickle.loads(evil)  # noqa: S301  # to show that it is armed
    assert proof.exists(), "the pickle would have worked"


@pytest.mark.parametrize(
    "columns",
    [{"mode": 3}, {"mode": 1, "value": "text"}, {"mode": 1, "value": 5}, {"mode": 9}, {"mode": None}],
)
def test_other_foreign_rows_are_misses(cache: diskcache.Cache, columns: dict[str, object]) -> None:
    cache.set(TEXT, b"x" * 10)
    plant(cache, **columns)
    assert cache.get(TEXT) is None


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "00/../../secret", "zz/1.2.3.val", "00/7.3.0.val\n"]
)
def test_a_row_cannot_name_a_file_elsewhere(cache: diskcache.Cache, tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_bytes(b"s" * 1000)
    cache.set(TEXT, bytes(1000))
    plant(cache, filename=name)
    assert cache.get(TEXT) is None
    cache.delete(TEXT)
    assert (tmp_path / "secret").exists()


def test_a_pickled_key_is_not_decoded(cache: diskcache.Cache, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    cache.set(TEXT, b"x")
    plant(cache, key=pickle.dumps(Evil(proof)), raw=0)
    with pytest.raises(OSError, match="no plain string"):
        list(cache)
    assert not proof.exists()


def test_an_orphan_of_a_crash_is_overwritten(cache: diskcache.Cache) -> None:
    orphan = Path(cache.directory) / KEY.file_name()
    orphan.parent.mkdir()
    orphan.write_bytes(b"o" * 9000)
    cache.set(TEXT, b"n" * 1000)
    assert cache.get(TEXT) == b"n" * 1000


@given(NUMBERS, NUMBERS, NUMBERS)
def test_keys_and_names_are_one_to_one(ino: int, version: int, block: int) -> None:
    key = BlockKey(Ino(ino), ContentVersion(version), block)
    assert BlockKey.of_text(key.text("store")) == key
    assert BlockKey.of_file_name(key.file_name()) == key


@given(st.text())
def test_other_names_are_nobodys(name: str) -> None:
    key = BlockKey.of_file_name(name)
    assert key is None or key.file_name() == name
