"""Clearing away what a killed process left."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path

import pytest

from cloudfs.blocks.rawdisk import BlockKey, value_files
from cloudfs.blocks.upkeep import sweep
from cloudfs.blocks.values import PlainValues
from cloudfs.blocks.volume import NewBlock, Volume
from cloudfs.types import ContentVersion, Ino
from tests.blocks.conftest import STORE_ID

COUNT = 600


def key(ino: int) -> BlockKey:
    return BlockKey(Ino(ino), ContentVersion(1), 0)


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    volume = Volume(tmp_path / "volume", STORE_ID, PlainValues())
    volume.store([NewBlock(key(ino), b"%d" % ino, 1) for ino in range(COUNT)], 0)
    yield volume
    volume.close(in_order=True)


def test_every_step_of_a_sweep_may_run_in_another_thread(volume: Volume) -> None:
    orphans = [key(ino) for ino in range(0, COUNT, 3)]
    volume.index.remove(orphans)  # their values stay, as after a kill between the two databases
    steps, done = sweep(volume), object()
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        for thread in cycle([one, other]):
            if thread.submit(next, steps, done).result() is done:
                break
    left = {text for _, text in volume.value_keys(0, 2 * COUNT)}
    assert left == {key(ino).text(STORE_ID) for ino in range(COUNT) if ino % 3}


def test_only_the_folders_that_are_there_are_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each start after a kill looked for all 256 that a large cache has."""
    folder, looked_into = tmp_path / "volume", list[Path]()
    for name in ("0a", "ff", "fff", "GG"):
        (folder / name).mkdir(parents=True)
    (folder / "ff" / "1.1.0.val").touch()
    listdir = os.listdir

    def note(path: Path) -> list[str]:
        looked_into.append(path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", note)
    assert list(value_files(folder)) == [(folder / "0a", []), (folder / "ff", ["1.1.0.val"])]
    assert looked_into == [folder, folder / "0a", folder / "ff"]
    assert list(value_files(tmp_path / "gone")) == []
