"""Several open handles of one file: what one writes the others read, and the kernel's pages stay of use."""

from __future__ import annotations

import os
import random

import pytest

from tests.functional.drivers import Driver, read, write
from tests.functional.stages import MountStage, Stage

pytestmark = pytest.mark.shared_engine

ROUNDS = 100
SIZES = [0, 1, 100, 4095, 4097, 65536, 200_000, 1024 * 1024 - 1, 1024 * 1024 + 1, 1_500_000]
"""Offsets, sizes and lengths: around pages, requests of the kernel and blocks."""


def kernel_reads(stage: MountStage) -> int:
    """Return how often the kernel has asked for bytes."""
    requests = stage.status()["requests"]
    assert isinstance(requests, dict)
    return int(requests.get("read", 0))


def test_who_writes_and_reads_one_file_in_turn_does_not_have_it_read_anew(
    driver: Driver, stage: Stage
) -> None:
    """Three requests for each turn otherwise: with another time of the file the kernel drops its pages."""
    data = bytearray(random.Random(1).randbytes(300_000))
    write(driver, "db", bytes(data))
    file = driver.open("db", os.O_RDWR)
    file.read(0, len(data))
    before = kernel_reads(stage) if isinstance(stage, MountStage) else 0
    for turn in range(ROUNDS):
        data[turn : turn + 1] = b"%d" % (turn % 10)
        file.write(turn, bytes(data[turn : turn + 1]))
        assert file.size() == len(data)
        assert file.read(0, len(data)) == bytes(data)
    if isinstance(stage, MountStage):
        # Once in a second of that it is read anew, so a slow machine has some; and all of it once after it was opened.
        assert kernel_reads(stage) - before < ROUNDS
    file.close()


@pytest.mark.parametrize("seed", range(3))
def test_handles_agree_whatever_is_done_by_each(driver: Driver, seed: int) -> None:
    chance, content = random.Random(seed), bytearray()
    write(driver, "file", b"")
    files = [driver.open("file", os.O_RDWR) for _ in range(3)]
    for turn in range(150):
        file, at, length = chance.choice(files), chance.choice(SIZES), 1 + chance.choice(SIZES) // 4
        match chance.choice(["write", "write", "read", "read", "truncate", "reopen", "size"]):
            case "write":
                data = random.Random(turn).randbytes(length)
                file.write(at, data)
                content.extend(bytes(max(0, at - len(content))))
                content[at : at + length] = data
            case "read":
                assert file.read(at, length) == bytes(content[at : at + length]), turn
            case "truncate":
                file.truncate(at)
                content[at:] = bytes(max(0, at - len(content)))
            case "reopen":
                files.remove(file)
                file.close()
                files.append(driver.open("file", os.O_RDWR))
            case _:
                assert file.size() == len(content)
    for file in files:
        file.close()
    assert read(driver, "file") == bytes(content)
