"""What a large file adds to the daemon's memory: little, however large it is."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.stages import USER, MountStage
from tests.servers import StandIn

pytestmark = [pytest.mark.mount, pytest.mark.shared_engine, pytest.mark.slow]

MIB = 1 << 20
LARGE = 160 * MIB
"""Whoever kept all of it would be found out."""
MOST_ADDED = 100_000_000


@pytest.fixture
def stage(tmp_path: Path, server: StandIn) -> Iterator[MountStage]:
    server.account(USER).write("/there", bytes(LARGE))
    stage = MountStage(tmp_path / "home", server)
    yield stage
    stage.close()


def test_reading_and_writing_a_large_file_adds_little(stage: MountStage) -> None:
    before = stage.memory("VmRSS")
    subprocess.run(["cmp", stage.mount_point / "there", "/dev/zero", "-n", str(LARGE)], check=True)
    assert stage.memory("VmHWM") - before < MOST_ADDED
    with (stage.mount_point / "here").open("wb") as here:
        subprocess.run(["head", "-c", str(LARGE), "/dev/zero"], stdout=here, check=True)
    stage.sync()
    assert stage.memory("VmHWM") - before < MOST_ADDED
