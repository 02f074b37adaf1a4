"""The same random calls on a plain folder and on a mount, with unmounts and kills between them.

The kernel, its caches and the daemon's start are part of what is compared here; faults and other clients are not.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from cloudfs.paths import is_local_only
from tests.functional.drivers import Driver, OpenFile, OsDriver, read, tree, write
from tests.functional.stages import USER, MountStage
from tests.model.histories import histories, mounted
from tests.model.operations import (
    Append,
    Chmod,
    Close,
    Create,
    Drain,
    Fsync,
    Kill,
    Mkdir,
    Open,
    Operation,
    Read,
    ReadFile,
    Rename,
    Restart,
    Rmdir,
    Save,
    SaveByRename,
    SetTime,
    Truncate,
    TruncateFile,
    Unlink,
    Write,
)
from tests.servers import StandIn
from tests.tooling.needs import in_ci

pytestmark = [pytest.mark.mount, pytest.mark.slow]

_LENIENT = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.EINVAL}
"""Where several things are wrong at once, POSIX leaves open which one is told."""
_SETTINGS = settings(
    max_examples=40 if in_ci() else 10,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
_numbers = itertools.count()


@dataclass
class _Side:
    """One of the two folders, and what is open in it."""

    driver: Driver
    open: dict[int, OpenFile] = field(default_factory=dict)

    def do(self, operation: Operation, data: bytes) -> bytes | None:
        """Do one operation; return what it read."""
        driver = self.driver
        match operation:
            case Save(path):
                write(driver, path, data)
            case SaveByRename(path, _, beside):
                write(driver, beside, data)
                driver.rename(beside, path)
            case Mkdir(path):
                driver.mkdir(path)
            case Rmdir(path):
                driver.rmdir(path)
            case Unlink(path):
                driver.unlink(path)
            case Rename(source, target):
                driver.rename(source, target, operation.mode)
            case Truncate(path, size):
                driver.truncate(path, size)
            case Chmod(path, mode):
                # A folder nobody may enter is no matter for this test.
                driver.chmod(path, mode | (0o111 if driver.is_folder(path) else 0))
            case SetTime(path, mtime_s):
                driver.utime(path, mtime_s * 10**9)
            case ReadFile(path):
                return read(driver, path)
            case _:
                return self._by_handle(operation, data)
        return None

    def _by_handle(self, operation: Operation, data: bytes) -> bytes | None:
        match operation:
            case Create(path, slot):
                self._keep(slot, lambda: self.driver.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL))
            case Open(path, slot, writes, truncate):
                flags = os.O_RDWR | (os.O_TRUNC if truncate else 0) if writes else os.O_RDONLY
                self._keep(slot, lambda: self.driver.open(path, flags))
            case Close(slot):
                self.close(slot)
            case Write() | Append() | TruncateFile() | Read() | Fsync():
                file = self.open.get(operation.slot)
                return None if file is None else _on_file(file, operation, data)
            case _:
                raise AssertionError(f"{operation} is not for a mount")
        return None

    def _keep(self, slot: int, opening: Callable[[], OpenFile]) -> None:
        self.close(slot)
        self.open[slot] = opening()

    def close(self, slot: int) -> None:
        file = self.open.pop(slot, None)
        if file is not None:
            file.close()

    def close_all(self) -> None:
        for slot in list(self.open):
            self.close(slot)

    def details(self) -> dict[str, tuple[int, int | None]]:
        """Return mode and size of everything."""
        return {
            path: (self.driver.mode(path), None if content is None else self.driver.size(path))
            for path, content in tree(self.driver).items()
        }


def _on_file(
    file: OpenFile, operation: Write | Append | TruncateFile | Read | Fsync, data: bytes
) -> bytes | None:
    match operation:
        case Write(offset=offset):
            file.write(offset, data)
        case Append():
            file.write(file.size(), data)
        case TruncateFile(size=size):
            file.truncate(size)
        case Read(offset=offset, size=size):
            return file.read(offset, size)
        case Fsync():
            file.fsync()
    return None


class _Comparison:
    """One history in a folder of its own on both sides."""

    def __init__(self, plain: Path, stage: MountStage, server: StandIn) -> None:
        self._stage, self._server = stage, server
        self._name = f"history-{next(_numbers)}"
        (plain / self._name).mkdir()
        (stage.mount_point / self._name).mkdir()
        self._plain = _Side(OsDriver(plain / self._name))
        self._mount = _Side(OsDriver(stage.mount_point / self._name))
        self._drawn = 0

    def play(self, history: list[Operation]) -> None:
        try:
            for operation in history:
                self._step(operation)
                assert tree(self._mount.driver) == tree(self._plain.driver)
                assert self._mount.details() == self._plain.details()
            self._step(Drain())
        finally:
            for side in (self._plain, self._mount):
                side.close_all()

    def _step(self, operation: Operation) -> None:
        if isinstance(operation, Restart | Kill):
            self._remount(operation)
        elif isinstance(operation, Drain):
            self._drain()
        else:
            self._drawn += 1
            data = (f"{self._drawn}." * getattr(operation, "size", 0))[
                : getattr(operation, "size", 0)
            ].encode()
            expected, found = (_outcome(side, operation, data) for side in (self._plain, self._mount))
            assert found == expected or {found, expected} <= _LENIENT, (
                f"{operation}: {found!r}, expected {expected!r}"
            )

    def _remount(self, operation: Restart | Kill) -> None:
        for side in (self._plain, self._mount):
            side.close_all()
        if isinstance(operation, Kill):
            self._stage.kill()
        else:
            self._stage.cloudfs("unmount", "a")
        self._stage.mount()

    def _drain(self) -> None:
        for side in (self._plain, self._mount):
            side.close_all()
        self._stage.sync()
        expected = {
            path: content
            for path, content in tree(self._plain.driver).items()
            if not any(map(is_local_only, path.split("/")))
        }
        assert self._server.account(USER).tree(f"/{self._name}") == expected


def _outcome(side: _Side, operation: Operation, data: bytes) -> bytes | int | None:
    try:
        return side.do(operation, data)
    except OSError as error:
        return error.errno


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MountStage, StandIn]]:
    with StandIn() as server:
        made = MountStage(tmp_path_factory.mktemp("mounted") / "home", server)
        yield made, server
        made.close()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in memory, whose file system knows RENAME_EXCHANGE."""
    folder = tmp_path_factory.mktemp("plain")
    yield folder
    shutil.rmtree(folder)


@pytest.mark.timeout(400)
@pytest.mark.shared_engine
@pytest.mark.expect_log("cleared the mount of account a that a killed daemon left", optional=True)
@_SETTINGS
@given(history=histories(mounted, longest=25))
def test_a_mount_is_as_a_plain_folder(
    stage: tuple[MountStage, StandIn], plain: Path, history: list[Operation]
) -> None:
    _Comparison(plain, *stage).play(history)
