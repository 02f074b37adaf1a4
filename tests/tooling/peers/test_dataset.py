"""The files of a bench are the same ones wherever they are made."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from scripts._peers.dataset import FULL, NEEDLE, Shape, build, build_sources

SMALL = Shape(
    tree_folders=3,
    tree_files=2,
    text_folders=2,
    text_files=4,
    listed_files=7,
    pictures=2,
    picture_bytes=70_000,
    big_bytes=2_000_000,
    log_bytes=1_500_000,
    copied_files=5,
    copied_bytes=1_100_000,
)


def digest(folder: Path) -> str:
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        whole.update(b"%s %d %d\n" % (name.encode(), path.stat().st_mtime_ns, path.stat().st_size))
        whole.update(path.read_bytes())
    return whole.hexdigest()


def test_two_are_equal(tmp_path: Path) -> None:
    for name in ("one", "two"):
        build(tmp_path / name, SMALL)
        build_sources(tmp_path / name / "sources", SMALL)
    assert digest(tmp_path / "one") == digest(tmp_path / "two")


def test_it_stays_what_it_is(tmp_path: Path) -> None:
    """Figures of two versions can be compared: whoever changes this changes what is measured."""
    build(tmp_path, SMALL)
    build_sources(tmp_path / "sources", SMALL)
    assert digest(tmp_path) == "b50001222a3ff8204ff52670ff8b1591604ec02aef705bd51c8f1c769e591791"


def test_it_has_the_shape_that_was_asked_for(tmp_path: Path) -> None:
    build(tmp_path, SMALL)
    counts = {
        name: sum(len(files) for *_, files in os.walk(tmp_path / name)) for name in os.listdir(tmp_path)
    }
    assert counts == {"tree": 6, "texts": 8, "listed": 7, "pictures": 2, "big.bin": 0}
    assert (tmp_path / "big.bin").stat().st_size == 2_000_000
    assert {path.stat().st_size for path in (tmp_path / "pictures").iterdir()} == {70_000}


def test_each_text_has_the_needle_in_one_line(tmp_path: Path) -> None:
    build(tmp_path, SMALL)
    for path in (tmp_path / "texts").rglob("*.txt"):
        assert path.stat().st_size == SMALL.text_bytes
        assert sum(NEEDLE in line for line in path.read_text().splitlines()) == 1


def test_the_full_one_is_that_of_the_goals() -> None:
    assert FULL.tree_folders * FULL.tree_files == 2000
    assert FULL.text_folders * FULL.text_files == 500
    assert (FULL.pictures, FULL.picture_bytes) == (100, 2 * 1024 * 1024)
    assert FULL.big_bytes == 256 * 1024 * 1024
