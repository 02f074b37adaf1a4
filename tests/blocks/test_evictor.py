"""Least recently used goes first: the rules alone, and a whole store against an ordered dictionary."""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from pathlib import Path

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudfs.blocks.blockstore import BlockStore
from cloudfs.blocks.evictor import OVERHEAD_BYTES, choose_victims
from cloudfs.blocks.index import BlockRow
from cloudfs.blocks.rawdisk import BlockKey
from cloudfs.blocks.recency import RecentUses
from cloudfs.types import ContentVersion, Ino

SIZE = 1000
ROOM = 5


def key(ino: int) -> BlockKey:
    return BlockKey(Ino(ino), ContentVersion(1), 0)


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 2**20)), max_size=30),
    st.integers(-10, 2**22),
    st.sets(st.integers(1, 9)),
)
def test_victims_are_the_oldest_and_no_more_than_needed(
    blocks: list[tuple[int, int]], wanted: int, pinned: set[int]
) -> None:
    rows = [
        BlockRow(BlockKey(Ino(ino), ContentVersion(1), n), length, n)
        for n, (ino, length) in enumerate(blocks)
    ]
    victims, spared = choose_victims(rows, wanted, lambda ino, _: ino in pinned)
    looked_at = rows[: len(victims) + len(spared)]
    assert sorted(victims + spared) == sorted(row.key for row in looked_at)
    assert all(row.key.ino in pinned for row in looked_at if row.key in spared)
    freed = [row.length + OVERHEAD_BYTES for row in looked_at if row.key in victims]
    assert sum(freed[:-1]) < max(wanted, 1), "the last victim was needed"
    assert sum(freed) >= wanted or len(looked_at) == len(rows)


def test_uses_are_bounded_and_the_known_go_on_counting() -> None:
    uses = RecentUses(10)
    for ino in range(20000):
        uses.note(key(ino))
    assert len(uses) == 16384
    assert not uses.claim([key(19999)]), "it was forgotten"
    uses.note(key(5))
    assert uses.claim([key(5), key(6)]) == {key(5): uses.tick, key(6): 17}
    written: dict[BlockKey, int] = {}
    while uses:
        part = uses.take()
        assert list(part) == sorted(part)
        assert len(part) <= 512
        written |= part
    assert len(written) == 16382


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "get", "drop", "reopen", "pin", "unpin"]), st.integers(1, 9)),
        max_size=40,
    )
)
def test_a_store_keeps_what_an_ordered_dictionary_keeps(plan: list[tuple[str, int]]) -> None:
    """Exactly the least recently used go, also across restarts; pinned ones stay, beyond the limit if must be."""
    with tempfile.TemporaryDirectory() as folder:
        trio.run(_compare, Path(folder), plan)


async def _compare(folder: Path, plan: list[tuple[str, int]]) -> None:
    model: OrderedDict[int, bytes] = OrderedDict()
    pinned: set[int] = set()

    async def opened() -> BlockStore:
        return await BlockStore.open(
            folder,
            "s",
            limit_bytes=ROOM * (SIZE + OVERHEAD_BYTES),
            keep_free_bytes=0,
            exempt=lambda ino, _: ino in pinned,
        )

    store = await opened()
    for action, ino in plan:
        match action:
            case "put":
                await store.put(*key(ino), bytes([ino]) * SIZE)
                _model_put(model, pinned, ino)
            case "get":
                assert await store.get(*key(ino)) == model.get(ino)
                if ino in model:
                    model.move_to_end(ino)
            case "drop":
                await store.drop(*key(ino)[:2])
                model.pop(ino, None)
            case "pin":
                pinned.add(ino)
            case "unpin":
                pinned.discard(ino)
            case _:
                await store.aclose()
                store = await opened()
        assert [ino for ino in range(1, 10) if store.has(*key(ino))] == sorted(model)
        assert store.statistics().blocks == len(model)
    await store.aclose()


def _model_put(model: OrderedDict[int, bytes], pinned: set[int], ino: int) -> None:
    if ino not in model:
        for old in list(model):
            if len(model) < ROOM:
                break
            if old in pinned:
                model.move_to_end(old)
            else:
                del model[old]
        if len(model) >= ROOM and ino not in pinned:
            return
    model[ino] = bytes([ino]) * SIZE
    model.move_to_end(ino)
