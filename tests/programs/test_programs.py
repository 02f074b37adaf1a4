"""Each program works as on a local disk, and the server ends up with exactly its files."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from tests.functional.sites import Site
from tests.programs.conftest import Run, contents
from tests.tooling.needs import need

pytestmark = [pytest.mark.mount, pytest.mark.shared_engine]


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """A small tree outside the mount."""
    root = tmp_path / "original"
    for number in range(30):
        file = root / f"folder {number % 5}" / f"file {number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"%d" % number * number * 37)
    os.chmod(root / "folder 0/file 0.txt", 0o755)  # noqa: S103  # a script, to see its bits kept
    return root


def test_tar_unpacks(place: Path, run: Run, original: Path) -> None:
    archive = original.with_suffix(".tar")
    run("tar", "cf", archive, "-C", original, ".", at=original)
    run("tar", "xf", archive, at=place)
    assert contents(place) == contents(original)
    assert (place / "folder 0/file 0.txt").stat().st_mode & 0o777 == 0o755


def test_cp_a_keeps_times_and_modes(place: Path, run: Run, original: Path) -> None:
    run("cp", "-a", original, place / "copy", at=place)
    assert contents(place / "copy") == contents(original)
    for path in original.rglob("*"):
        twin = place / "copy" / path.relative_to(original)
        assert twin.stat().st_mtime_ns == path.stat().st_mtime_ns
        assert twin.stat().st_mode == path.stat().st_mode


def test_rsync_a_has_nothing_to_do_the_second_time(place: Path, run: Run, original: Path) -> None:
    need("rsync")
    run("rsync", "-a", f"{original}/", f"{place}/", at=place)
    assert contents(place) == contents(original)
    assert run("rsync", "-ain", f"{original}/", f"{place}/", at=place) == ""


def test_git_clone_and_commit(place: Path, run: Run, original: Path) -> None:
    need("git")
    run("git", "init", "-q", "-b", "main", original, at=original)
    run("git", "add", ".", at=original)
    run("git", "commit", "-qm", "one", at=original)
    run("git", "clone", "-q", original, place / "clone", at=place)
    clone = place / "clone"
    (clone / "folder 1/file 1.txt").write_text("changed")
    run("git", "commit", "-qam", "two", at=clone)
    run("git", "fsck", "--strict", at=clone)
    assert run("git", "status", "--porcelain", at=clone) == ""
    assert len(run("git", "log", "--oneline", at=clone).splitlines()) == 2


def test_vim_keeps_the_file_id(place: Path, run: Run, site: Site) -> None:
    need("vim")
    document = place / "document.txt"
    document.write_text("first line\n")
    path = f"{place.name}/document.txt"
    _wait_on_server(site, path, b"first line\n")
    before = site.file_id(path)
    for turn in range(2):
        run(
            "vim",
            "-es",
            "-u",
            "NONE",
            "-c",
            f"normal Gowritten in turn {turn}",
            "-c",
            "wq",
            document,
            at=place,
        )
    assert document.read_text() == "first line\nwritten in turn 0\nwritten in turn 1\n"
    assert contents(place).keys() == {"document.txt"}
    _wait_on_server(site, path, document.read_bytes())
    assert site.file_id(path) == before


def test_sed_in_place(place: Path, run: Run) -> None:
    file = place / "file.txt"
    file.write_text("one two three\n")
    run("sed", "-i", "s/two/2/", file, at=place)
    assert file.read_text() == "one 2 three\n"


def test_sqlite3(place: Path, run: Run) -> None:
    need("sqlite3")
    database = place / "data.sqlite"
    run("sqlite3", database, "create table t (a); insert into t values (1), (2);", at=place)
    run("sqlite3", database, "update t set a = a * 10; delete from t where a = 20; vacuum;", at=place)
    assert run("sqlite3", database, "select sum(a) from t; pragma integrity_check;", at=place) == "10\nok\n"


def test_mmap_shared_and_private(place: Path) -> None:
    file = place / "mapped"
    file.write_bytes(bytes(10_000))
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as shared:
        shared[5000:5005] = b"hello"
        shared.flush()
    with file.open("rb") as reading, mmap.mmap(reading.fileno(), 0, access=mmap.ACCESS_COPY) as private:
        assert private[5000:5005] == b"hello"
        private[0:5] = b"local"
    assert file.read_bytes()[:5] == bytes(5)
    assert file.read_bytes()[5000:5005] == b"hello"


def test_appending_from_the_shell(place: Path, run: Run) -> None:
    for number in range(5):
        run("sh", "-c", f"echo line {number} >> log.txt", at=place)
    assert (place / "log.txt").read_text() == "".join(f"line {number}\n" for number in range(5))


def test_what_cannot_be_has_a_clean_errno(place: Path) -> None:
    (place / "file").write_bytes(b"")
    with pytest.raises(PermissionError):
        os.symlink("file", place / "link")
    with pytest.raises(PermissionError):
        os.link(place / "file", place / "hard")
    with pytest.raises(PermissionError):
        os.mkfifo(place / "fifo")


def test_a_saved_document_keeps_its_file_id(place: Path, run: Run, site: Site) -> None:
    """Write-new-and-rename, rename-away-and-write-new, and sed -i, each after the document is on the server."""
    document = place / "document.txt"
    path = f"{place.name}/document.txt"
    document.write_text("first\n")
    _wait_on_server(site, path, b"first\n")
    before = site.file_id(path)
    (place / ".document.new").write_text("second\n")
    os.rename(place / ".document.new", document)
    _wait_on_server(site, path, b"second\n")
    os.rename(document, place / "document.txt~")
    document.write_text("third\n")
    os.unlink(place / "document.txt~")
    _wait_on_server(site, path, b"third\n")
    run("sed", "-i", "s/third/fourth/", document, at=place)
    _wait_on_server(site, path, b"fourth\n")
    assert site.file_id(path) == before


def _wait_on_server(site: Site, path: str, content: bytes) -> None:
    import time  # noqa: PLC0415  # polls another process: there is no event to wait for

    for _ in range(600):
        if site.read(path) == content:
            return
        time.sleep(0.05)
    pytest.fail(f"{path} did not reach the server")
