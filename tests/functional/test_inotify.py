"""What another client changes raises real inotify events, as inotifywait(1) shows them."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from tests.functional.stages import USER, MountStage, wait_until
from tests.servers import StandIn
from tests.servers.standin import Account
from tests.tooling.needs import find_program, missing

pytestmark = [pytest.mark.mount, pytest.mark.shared_engine]


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with StandIn(push=True) as standin:
        yield standin


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, server: StandIn) -> Iterator[MountStage]:
    server.account(USER).write("/one/file", b"first")
    server.account(USER).write("/one/deep/inside", b"inside")
    server.account(USER).mkdir("/two")
    made = MountStage(tmp_path_factory.mktemp("inotify") / "mount", server)
    wait_until(lambda: made.status()["changes"] == "push")
    yield made
    made.close()


@pytest.fixture
def other(server: StandIn) -> Account:
    return server.account(USER)


class Watching:
    """inotifywait on some folders of the mount, all listed before, as a file manager does it."""

    def __init__(self, *folders: Path) -> None:
        if find_program("inotifywait") is None:
            missing("the program inotifywait (scripts/setup --tests installs it)")
        for folder in folders:
            list(folder.iterdir())
        command = ["inotifywait", "--monitor", "--format", "%e %w%f", *map(str, folders)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read)

    def _read(self) -> None:
        assert self._process.stdout
        self._lines.extend(line.strip() for line in self._process.stdout)

    def __enter__(self) -> Self:
        assert self._process.stderr
        while "Watches established" not in self._process.stderr.readline():
            pass
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._reader.join(10)
        self._process.wait(10)
        for stream in (self._process.stdout, self._process.stderr):
            assert stream
            stream.close()

    def sees(self, pattern: str) -> None:
        """Wait for an event."""
        wait_until(lambda: any(re.fullmatch(pattern, line) for line in self._lines))

    def lines(self) -> list[str]:
        return list(self._lines)


def test_a_new_file_and_a_new_folder_are_created(stage: MountStage, other: Account) -> None:
    one = stage.mount_point / "one"
    with Watching(one) as watching:
        other.write("/one/new", b"content")
        watching.sees(f"CREATE {one}/new")
        watching.sees(f"CLOSE_WRITE,CLOSE {one}/new")
        assert (one / "new").read_bytes() == b"content"
        other.mkdir("/one/folder")
        watching.sees(f"CREATE,ISDIR {one}/folder")
        assert (one / "folder").is_dir()


def test_a_change_is_a_modification(stage: MountStage, other: Account) -> None:
    one = stage.mount_point / "one"
    other.write("/one/changed", b"before", mtime=1_650_000_000)
    wait_until((one / "changed").exists)
    with Watching(one) as watching:
        other.write("/one/changed", b"longer than before", mtime=1_650_000_099)
        watching.sees(f"MODIFY {one}/changed")
        watching.sees(f"CLOSE_WRITE,CLOSE {one}/changed")
        assert (one / "changed").read_bytes() == b"longer than before"
        assert (one / "changed").stat().st_size == 18


def test_a_removal_is_one(stage: MountStage, other: Account) -> None:
    one = stage.mount_point / "one"
    other.write("/one/gone", b"x")
    other.write("/one/whole/folder", b"x")
    wait_until((one / "whole/folder").exists)
    with Watching(one) as watching:
        other.delete("/one/gone")
        watching.sees(f"DELETE {one}/gone")
        other.delete("/one/whole")
        watching.sees(f"DELETE,ISDIR {one}/whole")
        assert not (one / "gone").exists()
        assert not (one / "whole").exists()


def test_a_rename_is_two_halves_and_keeps_the_inode(stage: MountStage, other: Account) -> None:
    one = stage.mount_point / "one"
    with Watching(one) as watching:
        other.write("/one/before", b"x")
        watching.sees(f"CREATE {one}/before")
        ino = (one / "before").stat().st_ino
        other.move("/one/before", "/one/after")
        watching.sees(f"MOVED_FROM {one}/before")
        watching.sees(f"MOVED_TO {one}/after")
        assert (one / "after").stat().st_ino == ino
        assert not (one / "before").exists()
        told = [line for line in watching.lines() if line.startswith(("CREATE", "DELETE"))]
        assert told == [f"CREATE {one}/before"]


def test_a_move_to_another_folder_is_seen_in_both(stage: MountStage, other: Account) -> None:
    one, two = stage.mount_point / "one", stage.mount_point / "two"
    other.write("/one/moving", b"x")
    wait_until((one / "moving").exists)
    with Watching(one, two) as watching:
        other.move("/one/moving", "/two/moved")
        watching.sees(f"MOVED_FROM {one}/moving")
        watching.sees(f"MOVED_TO {two}/moved")
        assert (two / "moved").read_bytes() == b"x"
        other.delete("/two/moved")
        watching.sees(f"DELETE {two}/moved")
        assert f"DELETE {one}/moving" not in watching.lines()


@contextmanager
def opened(folder: Path) -> Iterator[None]:
    """Have a folder open, as a shell has the one that it is in."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield
    finally:
        os.close(handle)


@pytest.mark.parametrize("target", ["one/renamed", "two/moved"])
def test_a_folder_that_moves_while_a_program_is_in_it_is_no_dead_one(
    stage: MountStage, other: Account, target: str
) -> None:
    """The kernel would show the inode of a removed folder as empty for as long as anything holds it."""
    here, there = stage.mount_point / "one/alive", stage.mount_point / target
    other.write("/one/alive/deep/file", b"x")
    wait_until((here / "deep/file").exists)
    with Watching(here.parent) as watching, opened(here), opened(here / "deep"):
        other.move("/one/alive", f"/{target}")
        wait_until(lambda: there.exists() and not here.exists())
        watching.sees(f"MOVED_FROM,ISDIR {here}|DELETE,ISDIR {here}")
        assert [child.name for child in there.iterdir()] == ["deep"]
        assert (there / "deep/file").read_bytes() == b"x"
        other.write(f"/{target}/new", b"new")
        wait_until((there / "new").exists)
    other.delete(f"/{target}")
    wait_until(lambda: not there.exists())


def test_a_folder_that_comes_back_after_its_removal_was_told_is_no_dead_one(
    stage: MountStage, other: Account
) -> None:
    """It went to a folder that nobody here has looked into, and from there to another one."""
    one, two = stage.mount_point / "one", stage.mount_point / "two"
    other.write("/one/away/file", b"x")
    wait_until((one / "away/file").exists)
    other.mkdir("/unseen")
    with Watching(one) as watching, opened(one / "away"):
        other.move("/one/away", "/unseen/away")
        watching.sees(f"DELETE,ISDIR {one}/away")
        other.move("/unseen/away", "/two/back")
        wait_until((two / "back").exists)
        assert [child.name for child in (two / "back").iterdir()] == ["file"]
        assert (two / "back/file").read_bytes() == b"x"
    other.delete("/two/back")
    wait_until(lambda: not (two / "back").exists())


def test_what_programs_here_do_is_told_once(stage: MountStage) -> None:
    one = stage.mount_point / "one"
    with Watching(one) as watching:
        (one / "mine").write_bytes(b"mine")
        stage.sync()
        watching.sees(f"CLOSE_WRITE,CLOSE {one}/mine")
        (one / "mine").unlink()
        stage.sync()
        watching.sees(f"DELETE {one}/mine")
        created = [line for line in watching.lines() if line == f"CREATE {one}/mine"]
        assert len(created) == 1


def test_announcing_changes_nothing_on_the_server(stage: MountStage, server: StandIn, other: Account) -> None:
    one = stage.mount_point / "one"
    before = len(server.requests)
    with Watching(one) as watching:
        other.write("/one/untouched", b"content", mtime=1_650_000_000)
        watching.sees(f"CREATE {one}/untouched")
        other.write("/one/untouched", b"other content", mtime=1_650_000_099)
        watching.sees(f"MODIFY {one}/untouched")
        other.move("/one/untouched", "/one/moved")
        watching.sees(f"MOVED_TO {one}/moved")
        other.delete("/one/moved")
        watching.sees(f"DELETE {one}/moved")
    stage.sync()
    asked = {record.method for record in list(server.requests)[before:]}
    assert asked <= {"PROPFIND", "SEARCH", "GET"}
    assert stage.status()["pending"] == 0


def test_where_nobody_watches_nothing_is_announced(stage: MountStage, other: Account) -> None:
    """A folder beside a watched one, and a folder that was never looked into."""
    one, two = stage.mount_point / "one", stage.mount_point / "two"
    creates = _requests(stage, "create")
    with Watching(one) as watching:
        other.write("/two/unwatched", b"x")
        wait_until((two / "unwatched").exists)
        other.write("/one/watched", b"x")
        watching.sees(f"CREATE {one}/watched")
    assert _requests(stage, "create") == creates, "announcements are no requests of programs"


def _requests(stage: MountStage, name: str) -> int:
    requests = stage.status()["requests"]
    assert isinstance(requests, dict)
    return int(requests.get(name, 0))
