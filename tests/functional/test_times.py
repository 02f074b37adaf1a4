"""Times that programs set, as tar, rsync -a and cp -a do: on the server too, folders last."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.drivers import VfsDriver, write
from tests.functional.stages import PASSWORD, USER, MountStage, VfsStage
from tests.servers import Account, StandIn, WsgidavServer

pytestmark = pytest.mark.shared_engine

S = 10**9
OLD, OLDER, OLDEST = 1_600_000_000, 1_500_000_000, 1_400_000_000


@pytest.fixture
def account(server: StandIn) -> Account:
    return server.account(USER)


@pytest.fixture
def stage(tmp_path: Path, server: StandIn) -> Iterator[VfsStage]:
    made = VfsStage(tmp_path / "engine", server)
    yield made
    made.close()


def unpack(driver: VfsDriver) -> dict[str, int]:
    """Make a tree as tar does: what is in a folder first, then its time; return the times."""
    times = {"top/sub/file": OLDEST, "top/sub": OLDER, "top/empty": OLDER, "top/file": OLDEST, "top": OLD}
    for folder in ("top", "top/sub", "top/empty"):
        driver.mkdir(folder)
    for path, time_s in times.items():
        if path.endswith("file"):
            write(driver, path, b"content")
        driver.utime(path, time_s * S)
    return times


def on_server(account: Account, times: dict[str, int]) -> dict[str, int]:
    return {path: account.node(f"/{path}").mtime for path in times}


def test_folders_have_the_times_that_they_were_given(stage: VfsStage, account: Account) -> None:
    times = unpack(stage.root())
    stage.sync()
    assert on_server(account, times) == times
    stage.look()
    assert {path: stage.root().mtime_ns(path) // S for path in times} == times


def test_a_time_given_after_the_folder_went_up_is_sent_after_its_members(
    stage: VfsStage, account: Account
) -> None:
    root = stage.root()
    root.mkdir("top")
    stage.sync()
    write(root, "top/file", b"content")
    root.utime("top", OLD * S)
    stage.sync()
    assert account.node("/top").mtime == OLD


def test_an_empty_folder_gets_its_time_with_the_request_that_makes_it(
    stage: VfsStage, server: StandIn, account: Account
) -> None:
    stage.root().mkdir("empty")
    stage.root().utime("empty", OLD * S)
    server.requests.reset()
    stage.sync()
    assert account.node("/empty").mtime == OLD
    assert server.requests.count("MKCOL") == 1
    assert server.requests.count("PROPPATCH") == 0


def test_times_that_nobody_set_are_not_sent(stage: VfsStage, server: StandIn) -> None:
    """A folder's time follows its members everywhere by itself: a request for each new folder would be in vain."""
    root = stage.root()
    for name in ("a", "a/b"):
        root.mkdir(name)
        write(root, f"{name}/file", b"content")
    server.requests.reset()
    stage.sync()
    assert server.requests.count("PROPPATCH") == 0


def test_a_time_set_here_outlasts_a_restart_before_it_was_sent(stage: VfsStage, account: Account) -> None:
    times = unpack(stage.root())
    stage.restart()
    stage.sync()
    assert on_server(account, times) == times


@pytest.mark.mount
@pytest.mark.parametrize("program", ["tar", "rsync", "cp"])
def test_programs_that_keep_times_keep_them(
    tmp_path: Path, server: StandIn, account: Account, program: str
) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"no {program} here")
    source = tmp_path / "source/top"
    for folder in ("sub/deep", "empty"):
        (source / folder).mkdir(parents=True)
    for name in ("file", "sub/file", "sub/deep/file"):
        (source / name).write_bytes(name.encode())
    paths = [*sorted(source.rglob("*"), reverse=True), source]
    for number, path in enumerate(paths):
        os.utime(path, (OLD, OLD - 1000 * number))
    stage = MountStage(tmp_path / "home", server)
    try:
        packed = tmp_path / "packed.tar"
        if program == "tar":
            subprocess.run(["tar", "-C", source.parent, "-cf", packed, "top"], check=True, timeout=60)
        commands: dict[str, list[str | Path]] = {
            "tar": ["tar", "-C", stage.mount_point, "-xf", packed, "--no-same-owner"],
            "rsync": ["rsync", "-a", "--no-owner", "--no-group", source, stage.mount_point],
            "cp": ["cp", "-r", "--preserve=timestamps", source, stage.mount_point],
        }
        subprocess.run(commands[program], check=True, timeout=60)
        stage.sync()
        expected = {path: int(path.stat().st_mtime) for path in paths}
        assert {
            path: account.node(f"/top/{path.relative_to(source)}".removesuffix("/.")).mtime for path in paths
        } == expected
        here = stage.mount_point / "top"
        assert {path: int((here / path.relative_to(source)).stat().st_mtime) for path in paths} == expected
    finally:
        stage.close()


@pytest.mark.mount
def test_a_plain_copy_of_folders_sends_no_times_of_folders(tmp_path: Path, server: StandIn) -> None:
    for folder in ("a", "b/c"):
        (tmp_path / "source" / folder).mkdir(parents=True)
        (tmp_path / "source" / folder / "file").write_bytes(b"content")
    stage = MountStage(tmp_path / "home", server)
    try:
        subprocess.run(["cp", "-r", tmp_path / "source", stage.mount_point], check=True, timeout=60)
        stage.sync()
        assert server.requests.count("MKCOL") == 4
        assert server.requests.count("PROPPATCH") == 0
    finally:
        stage.close()


def test_the_time_of_a_file_that_was_looked_at_before_it_was_closed_is_exact_at_once(
    tmp_path: Path, server: StandIn
) -> None:
    """While it is written it goes on by the second; `make` compares it right after the editor has saved."""
    made = MountStage(tmp_path / "home", server)
    try:
        path = made.mount_point / "source.c"
        path.write_bytes(b"int")
        os.utime(path, ns=(OLD * S, OLD * S))
        with path.open("r+b", buffering=0) as file:
            file.write(b"long")
            os.fstat(file.fileno())
        shown = path.stat().st_mtime_ns
        made.sync()
        subprocess.run(["sync", "-f", made.mount_point], check=True)
        time.sleep(1.1)  # the kernel keeps what it was told for a second
        assert shown == path.stat().st_mtime_ns
        assert shown % S
    finally:
        made.close()


@pytest.fixture
def timeless(tmp_path: Path) -> Iterator[tuple[VfsStage, WsgidavServer]]:
    """A server that keeps no times that are set."""
    server = WsgidavServer()
    server.user, server.password = USER, PASSWORD
    with server:
        made = VfsStage(tmp_path / "engine", server)
        yield made, server
        made.close()


@pytest.mark.server("wsgidav")
def test_a_server_that_keeps_no_times_changes_none_here(timeless: tuple[VfsStage, WsgidavServer]) -> None:
    stage, server = timeless
    here = stage.root()
    here.mkdir("d")
    here.mkdir("d/sub")
    write(here, "d/f", b"content")
    times = {path: (OLDEST + number) * S for number, path in enumerate(("d/f", "d/sub", "d"))}
    for path, time_ns in times.items():
        here.utime(path, time_ns)
    stage.sync()
    stage.look()
    assert {path: here.mtime_ns(path) for path in times} == times
    stage.restart()
    stage.look()
    here = stage.root()
    assert {path: here.mtime_ns(path) for path in times} == times
    server.write("/d/sub/theirs", b"theirs")
    stage.look()
    assert here.names("d/sub") == ["theirs"]
    assert here.mtime_ns("d/sub") > times["d/sub"]
    assert here.mtime_ns("d") == times["d"]
