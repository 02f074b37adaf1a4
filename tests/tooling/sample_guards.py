"""Tests that keep or break the guards' rules, run by `test_guards.py`; the names say which. Not collected."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.tooling import daemons, leaks

daemons.GRACE_S = 0.2

log = logging.getLogger("cloudfs.sample")

FILE_SYSTEM = """
import sys, pyfuse3, trio
pyfuse3.init(pyfuse3.Operations(), sys.argv[1], {"fsname=cloudfs-sample", "subtype=cloudfs"})
print("mounted", flush=True)
trio.run(pyfuse3.main)
"""


def mount(folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir()
    process = subprocess.Popen([sys.executable, "-c", FILE_SYSTEM, folder], stdout=subprocess.PIPE)
    assert process.stdout
    with process.stdout as lines:
        assert lines.readline() == b"mounted\n"
    return process


@pytest.fixture(scope="module")
def held_open() -> Iterator[None]:
    descriptor = os.open("/", os.O_RDONLY)
    yield
    os.close(descriptor)


@pytest.fixture
async def sockets() -> AsyncIterator[None]:
    ours, theirs = trio.socket.socketpair()
    with ours, theirs:
        yield


# --- logs ---


def test_breaks_unexpected_warning() -> None:
    log.warning("disk %s", "gone")


def test_breaks_expectation_unmet(expect_log: Callable[..., None]) -> None:
    expect_log("never said")


def test_keeps_info_and_others() -> None:
    log.info("fine")
    logging.getLogger("elsewhere").error("not ours")


def test_keeps_expected_by_fixture(expect_log: Callable[..., None]) -> None:
    log.error("upload of a.txt failed")
    expect_log(r"upload of .* failed")


@pytest.mark.expect_log("offline")
async def test_keeps_expected_by_marker() -> None:
    log.warning("server offline")


@pytest.mark.expect_log("perhaps", optional=True)
def test_keeps_optional() -> None:
    pass


# --- descriptors ---


def test_breaks_descriptor(tmp_path: Path) -> None:
    os.open(tmp_path, os.O_RDONLY)


@pytest.mark.usefixtures("held_open")
def test_breaks_second_descriptor_on_one_target() -> None:
    os.open("/", os.O_RDONLY)


@pytest.mark.usefixtures("held_open")
def test_keeps_descriptor_of_module() -> None:
    pass


@pytest.mark.usefixtures("sockets")
async def test_keeps_descriptors_of_trio() -> None:
    await trio.to_thread.run_sync(os.getpid)
    await trio.run_process(["true"])


def test_fails_by_itself(tmp_path: Path) -> None:
    os.open(tmp_path, os.O_RDONLY)
    log.error("no blame for what a broken test leaves")
    raise ZeroDivisionError


# --- homes ---


@pytest.fixture(scope="module")
def home_of_module() -> str:
    return os.environ["CLOUDFS_HOME"]


def test_keeps_home(tmp_path: Path) -> None:
    for name in ("CLOUDFS_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"):
        assert Path(os.environ[name]).is_relative_to(tmp_path)


def test_keeps_home_of_module(home_of_module: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert Path(home_of_module).is_relative_to(tmp_path_factory.getbasetemp())


# --- Hypothesis ---


@given(number=st.integers())
def test_keeps_hypothesis(number: int) -> None:
    assert number + 1 > number


@given(number=st.integers())
async def test_keeps_hypothesis_on_trio(number: int) -> None:
    assert number + 1 > number


# --- mounts ---

left_over: list[subprocess.Popen[bytes]] = []


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("module") / "mnt"
    with mount(folder) as process:
        yield folder
        subprocess.run(["fusermount3", "-u", folder], check=True)
        process.wait(timeout=10)


@pytest.mark.mount
def test_breaks_mount(tmp_path: Path) -> None:
    left_over.append(mount(tmp_path / "with space"))


@pytest.mark.mount
def test_keeps_clear_of_it() -> None:
    with left_over.pop() as process:
        process.wait(timeout=10)
    assert "with\\040space" not in Path("/proc/self/mounts").read_text()


@pytest.mark.mount
def test_keeps_mount_of_module(mounted: Path) -> None:
    assert leaks.mounts_below(mounted.parent) == [leaks.Mount(str(mounted), "fuse.cloudfs")]


# --- daemons ---

DAEMON = """
import logging, os, pathlib, sys, threading
import pyfuse3, trio
from cloudfs import log
from cloudfs.control.instance import Holder, hold

def obey():
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        if word == "warn":
            logging.getLogger("cloudfs.sample").warning(rest)
        elif word == "hold":
            path = state / "staging-1" / rest
            path.parent.mkdir(exist_ok=True)
            os.open(path, os.O_RDWR | os.O_CREAT)
        elif word == "leak":
            path = state / rest
            os.open(path, os.O_RDWR | os.O_CREAT)
            path.unlink()
        print("done", flush=True)

state = pathlib.Path(os.environ["CLOUDFS_HOME"]) / "state/a"
state.mkdir(parents=True)
log.set_up(file=state / "daemon.log")
with hold(state, "a") as held:
    held.note(Holder(os.getpid(), sys.argv[1], ""))
    pyfuse3.init(pyfuse3.Operations(), sys.argv[1], {"fsname=cloudfs-sample", "subtype=cloudfs"})
    print("done", flush=True)
    threading.Thread(target=obey, daemon=True).start()
    trio.run(pyfuse3.main)
"""


class Daemon:
    """What looks like one of ours, and does as it is told."""

    def __init__(self, folder: Path) -> None:
        self.home, self.place = folder / "home", folder / "mnt"
        self.place.mkdir()
        environ = {**os.environ, "CLOUDFS_HOME": str(self.home)}
        command = [sys.executable, "-c", DAEMON, str(self.place)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, env=environ, stdin=pipe, stdout=pipe, text=True)
        self._hear()

    def tell(self, order: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        self._hear()

    def _hear(self) -> None:
        assert self._process.stdout
        assert self._process.stdout.readline() == "done\n"

    def close(self) -> None:
        with self._process:
            subprocess.run(["fusermount3", "-u", self.place], check=True)
            self._process.wait(timeout=10)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    made = Daemon(tmp_path_factory.mktemp("daemon"))
    made.tell("leak before any test")
    yield made
    made.close()


@pytest.fixture
def own_daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path)
    yield made
    daemons.complain(made.home)
    made.close()


@pytest.mark.mount
def test_breaks_warning_of_a_daemon_of_module(daemon: Daemon) -> None:
    daemon.tell("warn disk gone")


@pytest.mark.mount
def test_keeps_clear_of_earlier_warnings_and_descriptors(daemon: Daemon) -> None:
    daemon.tell("hold 1.1")


@pytest.mark.mount
def test_keeps_expected_by_fixture_of_a_daemon(daemon: Daemon, expect_log: Callable[..., None]) -> None:
    daemon.tell("warn upload failed")
    expect_log("upload failed")


@pytest.mark.mount
def test_breaks_descriptor_of_a_daemon_of_module(daemon: Daemon) -> None:
    daemon.tell("leak 2.1")


@pytest.mark.mount
def test_breaks_staging_file_opened_twice(daemon: Daemon) -> None:
    daemon.tell("hold 1.1")


@pytest.mark.mount
def test_breaks_warning_of_a_daemon(own_daemon: Daemon) -> None:
    own_daemon.tell("warn disk gone")


@pytest.mark.mount
def test_breaks_descriptor_of_a_daemon(own_daemon: Daemon) -> None:
    own_daemon.tell("leak 2.1")


def test_breaks_crash_in_a_daemons_log(tmp_path: Path) -> None:
    state = tmp_path / "home/state/a"
    state.mkdir(parents=True)
    lines = [
        "2026-11-30 09:00:00,250 INFO cloudfs.daemon: mounted",
        "Traceback (most recent call last):",
        "Oops",
    ]
    (state / "daemon.log").write_text("\n".join(lines))
