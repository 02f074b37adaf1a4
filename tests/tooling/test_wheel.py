"""The wheel: built twice from the same sources, it is the same file."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def build(folder: Path, umask: int, zone: str) -> Path:
    """Build it as somebody else, elsewhere, would: of a copy with times of its own."""
    source = folder / "source"
    source.mkdir(parents=True)
    for name in ("cloudfs", "docs", "systemd"):
        shutil.copytree(
            REPOSITORY / name,
            source / name,
            copy_function=shutil.copyfile,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(REPOSITORY / name, source / name)
    for path in source.rglob("*"):
        path.chmod(path.stat().st_mode & ~umask)
    program = "import os, sys, hatchling.build; os.umask(int(sys.argv[1])); hatchling.build.build_wheel(sys.argv[2])"
    subprocess.run(
        [sys.executable, "-c", program, str(umask), str(folder)],
        check=True,
        cwd=source,
        capture_output=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000", "TZ": zone, "PYTHONHASHSEED": "random"},
        timeout=60,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_it_is_reproducible(tmp_path: Path) -> None:
    first = build(tmp_path / "one", 0o022, "UTC")
    second = build(tmp_path / "another place", 0o077, "Asia/Tokyo")
    assert first.name == second.name
    sums = [hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in (first, second)]
    assert sums[0] == sums[1]


def test_what_is_in_it(tmp_path: Path) -> None:
    names = set(zipfile.ZipFile(build(tmp_path, 0o022, "UTC")).namelist())
    assert {"cloudfs/cli/main.py", "cloudfs/cli/cloudfs@.service"} <= names
    assert any(name.endswith("data/share/man/man1/cloudfs.1") for name in names)
    assert not any(name.startswith(("tests", "scripts")) for name in names)
