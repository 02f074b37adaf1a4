"""The index against a dictionary, and what it says about its own end."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cloudfs.blocks.index import BlockIndex, NewRow
from cloudfs.blocks.rawdisk import BlockKey
from cloudfs.types import ContentVersion, Ino

KEYS = st.builds(
    lambda ino, version, block: BlockKey(Ino(ino), ContentVersion(version), block),
    st.integers(1, 3),
    st.integers(1, 2),
    st.sampled_from([0, 1, 2, 3, 1000]),
)


class IndexAgainstDictionary(RuleBasedStateMachine):
    """Every answer of the index is the answer of {key: (length, checksum, used)}."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.index = BlockIndex(Path(self.folder.name) / "index.db")
        self.model: dict[BlockKey, tuple[int, int, int]] = {}
        self.tick = 0

    def next_tick(self) -> int:
        self.tick += 1
        return self.tick

    @rule(key=KEYS, length=st.integers(1, 2**20), checksum=st.integers(0, 2**63 - 1))
    def add(self, key: BlockKey, length: int, checksum: int) -> None:
        tick = self.next_tick()
        self.index.add([NewRow(key, length, checksum, tick)])
        self.model[key] = (length, checksum, tick)

    @rule(keys=st.lists(KEYS, unique=True))
    def remove(self, keys: list[BlockKey]) -> None:
        expected = sum(self.model.pop(key)[0] for key in keys if key in self.model)
        assert self.index.remove(keys) == expected

    @rule(keys=st.lists(KEYS, unique=True))
    def touch(self, keys: list[BlockKey]) -> None:
        ticks = {key: self.next_tick() for key in keys}
        self.index.touch(ticks)
        for key in ticks.keys() & self.model.keys():
            self.model[key] = (*self.model[key][:2], ticks[key])

    @rule(key=KEYS)
    def touch_with_an_old_tick(self, key: BlockKey) -> None:
        """A late write never makes a block look older."""
        self.index.touch({key: 0})

    @rule(in_order=st.booleans())
    def reopen(self, in_order: bool) -> None:
        self.index.close(in_order=in_order)
        self.index = BlockIndex(Path(self.folder.name) / "index.db")
        assert self.index.was_closed == in_order
        assert self.index.last_tick == max((row[2] for row in self.model.values()), default=0)

    @rule(key=KEYS, indexes=st.lists(st.integers(0, 1100), max_size=6))
    def missing(self, key: BlockKey, indexes: list[int]) -> None:
        expected = [block for block in indexes if BlockKey(key.ino, key.version, block) not in self.model]
        assert self.index.missing(key.ino, key.version, indexes) == expected

    @rule(key=KEYS)
    def find(self, key: BlockKey) -> None:
        expected = self.model[key][:2] if key in self.model else None
        assert self.index.find(key) == self.index.knows(key) == expected

    @rule(key=KEYS)
    def of_version(self, key: BlockKey) -> None:
        expected = sorted(other for other in self.model if other[:2] == key[:2])
        assert self.index.of_version(key.ino, key.version, 100) == expected
        assert len(self.index.of_version(key.ino, key.version, 1)) == min(1, len(expected))

    @rule(count=st.integers(1, 40))
    def oldest(self, count: int) -> None:
        by_use = sorted((used, key, length) for key, (length, _, used) in self.model.items())[:count]
        assert [(row.used, row.key, row.length) for row in self.index.oldest(count)] == by_use

    @invariant()
    def totals(self) -> None:
        if hasattr(self, "index"):
            assert self.index.blocks == len(self.model)
            assert self.index.bytes == sum(length for length, _, _ in self.model.values())

    def teardown(self) -> None:
        self.index.close(in_order=True)
        self.folder.cleanup()


IndexAgainstDictionary.TestCase.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
TestIndexAgainstDictionary = IndexAgainstDictionary.TestCase


def test_an_index_of_another_format_is_refused(tmp_path: Path) -> None:
    BlockIndex(tmp_path / "i").close(in_order=True)
    with sqlite3.connect(tmp_path / "i") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(sqlite3.DatabaseError):
        BlockIndex(tmp_path / "i")


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "i").write_bytes(b"something else " * 1000)
    with pytest.raises(sqlite3.DatabaseError):
        BlockIndex(tmp_path / "i")
