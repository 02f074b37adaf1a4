"""The hint about a cache's subfolders, as `lsattr` (e2fsprogs) shows it."""

from __future__ import annotations

import shutil
from pathlib import Path
from subprocess import run

import pytest

from cloudfs.blocks.scattering import scatter
from cloudfs.blocks.upkeep import open_volume
from cloudfs.blocks.values import PlainValues
from tests.blocks.conftest import STORE_ID


@pytest.fixture
def ext4(tmp_path: Path) -> Path:
    """Return a folder that takes the hint from others, too."""
    if shutil.which("chattr") is None:
        pytest.skip("chattr (e2fsprogs) is missing")
    probe = tmp_path / "probe"
    probe.mkdir()
    if run(["chattr", "+T", str(probe)], check=False, capture_output=True).returncode:
        pytest.skip("this file system knows no such hint")
    return tmp_path


def flags(folder: Path) -> set[str]:
    """Return the letters that `lsattr` shows."""
    return set(
        run(["lsattr", "-d", str(folder)], check=True, capture_output=True, text=True).stdout.split()[0]
    )


def test_the_subfolders_of_a_new_volume_are_spread(ext4: Path) -> None:
    volume = open_volume(ext4 / "cache", STORE_ID, PlainValues())
    try:
        assert "T" in flags(volume.folder)
    finally:
        volume.close(True)
    assert "T" not in flags(ext4)


def test_other_flags_of_a_folder_stay(ext4: Path) -> None:
    folder = ext4 / "folder"
    folder.mkdir()
    run(["chattr", "+d", str(folder)], check=True)
    scatter(folder)
    assert {"d", "T"} <= flags(folder)


def test_a_file_system_without_the_hint_is_no_error() -> None:
    scatter(Path("/proc/self"))
