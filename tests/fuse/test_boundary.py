"""No failure below ends the mount, hangs a program, or gets the wrong errno."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import time
from collections.abc import Callable
from typing import NoReturn

import pyfuse3
import pytest
import trio
import trio.testing

from cloudfs.errors import LocalDamage, NotFound, PosixError, Unreachable
from cloudfs.fuse.boundary import Boundary, answered, unanswered
from cloudfs.types import ROOT
from tests.fuse.conftest import Serve, Server
from tests.fuse.memory_filesystem import NEVER
from tests.fuse.test_operations import errno_of, wait_for


async def forever() -> None:
    await trio.sleep_forever()


async def fail(error: BaseException) -> NoReturn:
    await trio.lowlevel.checkpoint()
    raise error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PosixError(errno.ENOTEMPTY), errno.ENOTEMPTY),
        (NotFound("gone", subject="/a"), errno.ENOENT),
        (Unreachable("no route"), errno.EHOSTUNREACH),
        (OSError(errno.ENOSPC, "full"), errno.ENOSPC),
        (pyfuse3.FUSEError(errno.EPERM), errno.EPERM),
        (ExceptionGroup("", [PosixError(errno.EBUSY), PosixError(errno.EBUSY)]), errno.EBUSY),
    ],
)
async def test_expected_errors_keep_their_errno(error: Exception, code: int) -> None:
    boundary = Boundary(5)
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await boundary.run("test", fail(error))
    assert caught.value.errno == code
    assert boundary.statistics().by_errno == {errno.errorcode[code]: 1}
    assert boundary.statistics().unexpected == 0


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError(),
        OSError(errno.EACCES, "a file of our own"),
        ExceptionGroup("", [PosixError(errno.EBUSY), KeyError("x")]),
    ],
)
@pytest.mark.expect_log("test failed unexpectedly")
async def test_unexpected_errors_become_eio_with_a_traceback(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    boundary = Boundary(5)
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await boundary.run("test", fail(error))
    assert caught.value.errno == errno.EIO
    assert boundary.statistics().unexpected == 1
    assert "Traceback" in caplog.text


@pytest.mark.expect_log("test failed: database broken")
async def test_damage_is_logged_without_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(pyfuse3.FUSEError):
        await Boundary(5).run("test", fail(LocalDamage("database broken")))
    assert "Traceback" not in caplog.text


@pytest.mark.expect_log("not answered within 15 s")
async def test_a_request_ends_at_its_deadline(autojump_clock: trio.testing.MockClock) -> None:
    boundary, begun = Boundary(15), autojump_clock.current_time()
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await boundary.run("test", forever())
    assert caught.value.errno == errno.ETIMEDOUT
    assert autojump_clock.current_time() - begun == 15
    assert (boundary.statistics().timed_out, boundary.statistics().in_flight) == (1, 0)


async def test_cancellation_from_outside_goes_through() -> None:
    boundary = Boundary(15)
    with trio.move_on_after(0.01) as scope:
        await boundary.run("test", forever())
    assert scope.cancelled_caught
    assert boundary.statistics().by_errno == {}


@pytest.mark.expect_log("test failed unexpectedly")
async def test_an_error_beside_a_cancellation_is_logged_and_does_not_end_the_mount(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def stubborn() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ZeroDivisionError

    async def two() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stubborn)
            await trio.sleep_forever()

    with trio.move_on_after(0.01) as scope:
        await Boundary(15).run("test", two())
    assert scope.cancelled_caught
    assert "ZeroDivisionError" in caplog.text


class Handlers:
    def __init__(self) -> None:
        self.boundary = Boundary(1)

    @answered
    async def ask(self, value: int) -> int:
        return value + 1

    @unanswered
    async def _tell(self, error: Exception) -> None:
        raise error


async def test_decorated_methods_are_counted_by_name(expect_log: Callable[..., None]) -> None:
    expect_log("tell failed unexpectedly")
    handlers = Handlers()
    assert await handlers.ask(1) == 2
    await handlers._tell(ZeroDivisionError())
    assert handlers.boundary.statistics().by_name == {"ask": 1, "tell": 1}


# --- through a mount


@pytest.mark.mount
def test_a_bug_in_a_handler_is_eio_and_the_mount_lives(served: Server) -> None:
    root = served.mount_point
    assert errno_of((root / "boom").stat) == errno.EIO
    assert errno_of((root / "group").stat) == errno.EACCES
    assert errno_of((root / "stale").stat) == errno.ESTALE
    assert (root / "hello.txt").read_bytes() == b"hello world\n"
    assert "ValueError: b'boom'" in served.log()
    wait_for(lambda: served.state()["requests"]["unexpected"] == 2)  # and the failing release of the fake


@pytest.mark.mount
def test_a_handler_that_hangs_is_answered_in_time(serve: Serve) -> None:
    served = serve("--deadline", "1")
    begun = time.monotonic()
    assert errno_of((served.mount_point / "hang").stat) == errno.ETIMEDOUT
    assert 0.8 < time.monotonic() - begun < 3
    assert (served.mount_point / "hello.txt").exists()


@pytest.mark.mount
def test_a_short_write_is_an_error_never_a_lost_byte(served: Server) -> None:
    served.command("set", "write_short", 1)
    descriptor = os.open(served.mount_point / "new", os.O_WRONLY | os.O_CREAT)
    assert errno_of(lambda: os.write(descriptor, b"12345")) == errno.EIO
    os.close(descriptor)
    assert "took 4 of 5 bytes" in served.log()


def test_the_log_is_quiet_about_everyday_answers(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def main() -> None:
        with pytest.raises(pyfuse3.FUSEError):
            await Boundary(5).run("lookup", fail(PosixError(errno.ENOENT)))

    trio.run(main)
    assert caplog.text == ""


@pytest.mark.mount
def test_however_many_wait_for_the_server_what_needs_none_is_answered(serve: Serve) -> None:
    """Each program waits for bytes that never come; there are more of them than pyfuse3 has tasks for by itself."""
    served = serve("--deadline", "40")
    for number in range(150):
        served.command("add", ROOT, f"never-{number}", NEVER.decode())
    waiting = [
        subprocess.Popen(
            ["cat", str(served.mount_point / f"never-{number}")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for number in range(150)
    ]
    try:
        wait_for(lambda: served.state()["requests"]["in_flight"] >= len(waiting))
        assert (served.mount_point / "hello.txt").read_bytes() == b"hello world\n"
        assert os.statvfs(served.mount_point).f_bsize
        assert all(program.poll() is None for program in waiting)
    finally:
        for program in waiting:
            program.kill()
        served.close()  # they wait in the kernel, where a kill is not heard
        for program in waiting:
            program.wait()


async def test_in_a_crowd_nobody_waits_long_for_the_server(
    autojump_clock: trio.testing.MockClock, expect_log: Callable[..., None]
) -> None:
    del autojump_clock
    expect_log("was not answered within")
    boundary = Boundary(15)

    async def ask(name: str) -> float:
        began_s = trio.current_time()
        with pytest.raises(pyfuse3.FUSEError) as caught:
            await boundary.run(name, forever())
        assert caught.value.errno == errno.ETIMEDOUT
        return trio.current_time() - began_s

    took: dict[str, float] = {}

    async def note(name: str) -> None:
        took[name] = await ask(name)

    async with trio.open_nursery() as nursery:
        for _ in range(1000):
            nursery.start_soon(ask, "lookup")
        await trio.testing.wait_all_tasks_blocked()
        for name in ("lookup", "read", "create", "setattr", "fsync"):
            nursery.start_soon(note, name)
    assert took == {
        "lookup": pytest.approx(1),
        "read": pytest.approx(1),
        "create": pytest.approx(1),
        "setattr": pytest.approx(1),
        "fsync": pytest.approx(15),
    }
