"""What another client changes, seen through a real mount whose kernel keeps what it was told for minutes."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Self

import pytest

from tests.functional.stages import USER, MountStage, wait_until
from tests.servers import StandIn
from tests.servers.standin import Account

pytestmark = [pytest.mark.mount, pytest.mark.shared_engine]

POLL_S = 1
_numbers = itertools.count()
LARGE = 3 * 1024 * 1024 + 17


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, server: StandIn) -> Iterator[MountStage]:
    server.account(USER).write("/deep/er/est/file", b"first")
    home = tmp_path_factory.mktemp("changes") / "mount"
    made = MountStage(home, server, settings=f"poll_s = {POLL_S}\n")
    wait_until(lambda: made.status()["changes"] == "polling")
    yield made
    made.close()


@pytest.fixture
def other(server: StandIn) -> Account:
    """Another client of the account."""
    return server.account(USER)


@pytest.fixture
def folder(stage: MountStage, other: Account) -> Path:
    """A folder that the kernel knows."""
    name = f"folder {next(_numbers)}"
    other.mkdir(f"/deep/{name}")
    path = stage.mount_point / "deep" / name
    wait_until(path.exists)
    return path


def kernel_requests(stage: MountStage) -> int:
    """Return how often the kernel asked what a name is, or what it is like."""
    requests = stage.status()["requests"]
    assert isinstance(requests, dict)
    return sum(requests.get(name, 0) for name in ("lookup", "getattr"))


def asked_for(stage: MountStage, *paths: Path) -> int:
    """Return how many requests looking at paths takes."""
    before = kernel_requests(stage)
    for path in paths:
        path.exists()
    return kernel_requests(stage) - before


def test_the_kernel_answers_by_itself_while_changes_are_found_out(stage: MountStage) -> None:
    path, missing = stage.mount_point / "deep/er/est/file", stage.mount_point / "deep/er/none"
    wait_until(lambda: asked_for(stage, path, missing) == 0)  # names just found are announced once
    before = kernel_requests(stage)
    for _ in range(200):
        assert path.stat().st_size == 5
        assert not missing.exists()
    assert kernel_requests(stage) == before


def test_a_name_that_was_missing_appears(folder: Path, other: Account) -> None:
    path = folder / "späte Nachricht"
    assert not path.exists()
    other.write(f"/deep/{folder.name}/späte Nachricht", b"there")
    wait_until(path.exists)
    assert path.read_bytes() == b"there"


def test_a_name_that_is_gone_disappears(folder: Path, other: Account) -> None:
    path = folder / "file"
    other.write(f"/deep/{folder.name}/file", b"there")
    wait_until(path.exists)
    other.delete(f"/deep/{folder.name}/file")
    wait_until(lambda: not path.exists())
    assert list(folder.iterdir()) == []


def test_a_renamed_folder_has_its_new_name_and_a_file_in_it_its_inode(folder: Path, other: Account) -> None:
    other.write(f"/deep/{folder.name}/before/file", b"there")
    wait_until((folder / "before/file").exists)
    ino = (folder / "before/file").stat().st_ino
    other.move(f"/deep/{folder.name}/before", f"/deep/{folder.name}/after")
    wait_until((folder / "after").exists)
    assert not (folder / "before").exists()
    assert (folder / "after/file").read_bytes() == b"there"
    assert (folder / "after/file").stat().st_ino == ino


@pytest.mark.parametrize(("before", "after"), [(100, LARGE), (LARGE, 100), (LARGE, LARGE)], ids=str)
def test_a_file_that_was_read_is_read_whole_after_a_change(
    folder: Path, other: Account, before: int, after: int
) -> None:
    """The kernel has its size and its pages, and nobody has it open: each read is whole, of one version."""
    path, there = folder / "file", f"/deep/{folder.name}/file"
    one, two = b"1" * before, b"2" * after
    other.write(there, one, mtime=1_650_000_000)
    wait_until(path.exists)
    wait_until(lambda: path.read_bytes() == one)
    other.write(there, two, mtime=1_650_000_099)
    seen = [one]

    def changed() -> bool:
        seen.append(path.read_bytes())
        assert seen[-1] in {one, two}
        assert path.stat().st_size in {before, after}
        return seen[-1] == two

    wait_until(changed)
    assert path.stat().st_size == after


@pytest.mark.parametrize(("before", "after"), [(100, LARGE), (LARGE, 100)], ids=["grows", "shrinks"])
def test_an_open_and_mapped_file_keeps_its_version_and_a_new_open_has_the_new_one(
    folder: Path, other: Account, before: int, after: int
) -> None:
    path, there = folder / "file", f"/deep/{folder.name}/file"
    one, two = b"1" * before, b"2" * after
    other.write(there, one, mtime=1_650_000_000)
    wait_until(path.exists)
    with Mapping(path) as mapping:
        assert mapping.look() == [one, one, before]
        other.write(there, two, mtime=1_650_000_099)
        wait_until(partial(_is, path, two, one))
        assert mapping.look() == [one, one, before]
        mapping.close_file()
        assert mapping.look()[0] == one, "the mapping alone keeps the version"
        assert path.read_bytes() == two
    assert path.stat().st_size == after


class Mapping:
    """A program that has a file open and mapped: one of its own, since a page fault stops all threads of a Python."""

    _PROGRAM = """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
size = os.fstat(fd).st_size
mapped = mmap.mmap(fd, size, prot=mmap.PROT_READ)
for line in sys.stdin:
    if line == "close\\n":
        os.close(fd)
        fd = None
    read = b"" if fd is None else os.pread(fd, 1 << 24, 0)
    size = 0 if fd is None else os.fstat(fd).st_size
    print(mapped[:].hex(), read.hex() or "-", size, flush=True)
"""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-c", self._PROGRAM, str(path)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=20)
        assert self._process.returncode == 0

    def _ask(self, word: str) -> list[str]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(word + "\n")
        return self._process.stdout.readline().split()

    def look(self) -> list[object]:
        """Return what the mapping has, what a read of the same descriptor gives, and its size."""
        mapped, read, size = self._ask("look")
        return [bytes.fromhex(mapped), bytes.fromhex(read.strip("-")), int(size)]

    def close_file(self) -> None:
        """Close the descriptor; the mapping stays."""
        self._ask("close")


def _is(path: Path, wanted: bytes, other: bytes) -> bool:
    found = path.read_bytes()
    assert found in {wanted, other}
    return found == wanted


def test_status_says_how_changes_are_found_out(stage: MountStage) -> None:
    status = stage.status()
    assert status["changes"] == "polling"
    since = status["changes_since"]
    assert isinstance(since, float)
    assert since > 1e9
    assert "asked for changes" in stage.cloudfs("status").stdout


# With a server that tells of changes


@pytest.fixture(scope="module")
def telling() -> Iterator[StandIn]:
    with StandIn(push=True) as standin:
        yield standin


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, telling: StandIn) -> Iterator[MountStage]:
    """A mount that would look by itself once an hour."""
    telling.account(USER).write("/deep/er/est/file", b"first")
    made = MountStage(
        tmp_path_factory.mktemp("told") / "mount", telling, settings="poll_s = 3600\nlisting_ttl_s = 3600\n"
    )
    wait_until(lambda: made.status()["changes"] == "push")
    assert (made.mount_point / "deep/er/est/file").read_bytes() == b"first"
    yield made
    made.close()


def test_what_the_server_tells_of_is_visible_long_before_it_is_asked(
    told: MountStage, telling: StandIn
) -> None:
    """Within a second, which tests/sync/test_pushing.py shows by a clock of its own; the next poll is 5 minutes off."""
    place, other = told.mount_point / "deep/er/est", telling.account(USER)
    (place / "new").exists()
    steps: list[tuple[Callable[[], object], Callable[[], bool]]] = [
        (lambda: other.write("/deep/er/est/new", b"new"), (place / "new").exists),
        (
            lambda: other.write("/deep/er/est/new", b"2" * LARGE, mtime=1_650_000_000),
            lambda: (place / "new").read_bytes() == b"2" * LARGE,
        ),
        (lambda: other.move("/deep/er/est/new", "/deep/er/moved"), (place.parent / "moved").exists),
        (lambda: other.delete("/deep/er/moved"), lambda: not (place.parent / "moved").exists()),
        (lambda: other.move("/deep/er/est", "/deep/er/rest"), (place.parent / "rest/file").exists),
        (lambda: other.move("/deep/er/rest", "/deep/er/est"), (place.parent / "est/file").exists),
    ]
    for change, is_visible in steps:
        assert not is_visible()
        change()
        wait_until(is_visible)


def test_our_own_changes_are_not_asked_for(told: MountStage, telling: StandIn) -> None:
    place = told.mount_point / "deep/er"
    told.sync()
    before = len(telling.requests)
    for number in range(3):
        (place / f"mine-{number}").write_bytes(b"mine")
    told.sync()
    wait_until(lambda: _asked(telling, before).count("SEARCH") > 0)
    asked = _asked(telling, before)
    assert asked.count("PUT") == 3
    assert asked.count("GET") == 0
    # The folder's, once for each at most: that something in it has changed is all that is told of removals.
    listed = [
        record for record in list(telling.requests)[before:] if record.path.rstrip("/").endswith("/deep/er")
    ]
    assert sum(record.method == "PROPFIND" for record in listed) <= 3


def _asked(server: StandIn, since: int) -> list[str]:
    return [record.method for record in list(server.requests)[since:]]
