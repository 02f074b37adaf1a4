"""What comes is compared with the checksum that the server has (docs/SEMANTICS.md, Reading)."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.functional.drivers import read
from tests.functional.stages import USER, MountStage, VfsStage
from tests.servers import Spoil, StandIn

pytestmark = pytest.mark.shared_engine

ExpectLog = Callable[[str], None]
MIB = 1024 * 1024
SMALL, LARGE = os.urandom(10_000), os.urandom(5 * MIB + 7)


def sha1(data: bytes) -> str:
    return "SHA1:" + hashlib.sha1(data).hexdigest()  # noqa: S324  # what Nextcloud's clients use


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        account = standin.account(USER)
        account.write("/small", SMALL, checksum=sha1(SMALL))
        account.write("/large", LARGE, checksum=f"MD5:{hashlib.md5(LARGE).hexdigest()} ADLER32:01020304")  # noqa: S324
        account.write("/liar", SMALL, checksum=sha1(LARGE))
        yield standin


@pytest.fixture
def stage(tmp_path: Path, server: StandIn) -> Iterator[VfsStage]:
    made = VfsStage(tmp_path / "engine", server)
    yield made
    made.close()


def gets(server: StandIn, name: str) -> int:
    return server.requests.count("GET", name)


def checked(stage: VfsStage, count: int) -> None:
    """Wait until so many large files were checked."""
    stage.wait(
        lambda: stage.engine.fetcher.verifier.checked == count and not stage.engine.fetcher.verifier.pending
    )


def test_a_wrong_byte_of_a_small_file_is_never_served(
    stage: VfsStage, server: StandIn, expect_log: ExpectLog
) -> None:
    expect_log("/small: .* it is fetched again")
    server.faults.add(Spoil(at=5000), method="GET", path="/small$")
    assert read(stage.root(), "small") == SMALL
    assert gets(server, "/small") == 2


def test_a_wrong_byte_of_a_large_file_is_mended(
    stage: VfsStage, server: StandIn, expect_log: ExpectLog
) -> None:
    expect_log("/large: .* it is fetched again")
    server.faults.add(Spoil(at=3000), method="GET", path="/large$")
    assert len(read(stage.root(), "large")) == len(LARGE)
    checked(stage, 2)
    assert read(stage.root(), "large") == LARGE
    assert stage.engine.fetcher.doubts() == []


def test_a_file_that_is_another_each_time_is_refused_until_there_is_another_version(
    stage: VfsStage, server: StandIn, expect_log: ExpectLog
) -> None:
    expect_log("/small: .* it is fetched again")
    expect_log("/small: something else comes each time")
    rule = server.faults.add(Spoil(by=0), method="GET", path="/small$", times=None)
    here = stage.root()
    for _ in range(2):
        with pytest.raises(OSError, check=lambda error: error.errno == errno.EIO):
            read(here, "small")
    assert gets(server, "/small") == 2
    server.faults.remove(rule)
    newer = SMALL[:100]
    server.account(USER).write("/small", newer, checksum=sha1(newer), mtime=1_000_000_000)
    stage.look()
    assert read(here, "small") == newer


def test_a_wrong_checksum_denies_nobody_the_file(
    stage: VfsStage, server: StandIn, expect_log: ExpectLog
) -> None:
    expect_log("/liar: .* it is fetched again")
    expect_log("/liar: the same came twice")
    assert read(stage.root(), "liar") == SMALL


def test_what_was_written_here_is_neither_fetched_nor_checked(stage: VfsStage, server: StandIn) -> None:
    here = stage.root()
    handle = here.open("mine", os.O_CREAT | os.O_WRONLY)
    handle.write(0, LARGE)
    handle.close()
    stage.sync()
    assert server.account(USER).node("/mine").checksum == sha1(LARGE)
    assert read(here, "mine") == LARGE
    assert gets(server, "/mine") == 0
    assert stage.engine.fetcher.verifier.pending == 0


@pytest.mark.mount
@pytest.mark.expect_log("/liar: what came has .*; it is fetched again")
@pytest.mark.expect_log("/liar: the same came twice, so the server's checksum .* is wrong")
@pytest.mark.expect_log("/small: what came has .*; it is fetched again")
@pytest.mark.expect_log("/small: something else comes each time")
@pytest.mark.expect_log("read failed: /small: what comes does not fit the server's checksum")
def test_status_tells_of_damaged_files(tmp_path: Path, server: StandIn) -> None:
    stage = MountStage(tmp_path / "home", server)
    try:
        assert (stage.mount_point / "liar").read_bytes() == SMALL
        told = stage.status()["damaged"]
        assert isinstance(told, list)
        (told,) = told
        assert (told["path"], told["said"], told["came"]) == ("/liar", sha1(LARGE), sha1(SMALL))
        assert told["readable"]
        rule = server.faults.add(Spoil(by=0), method="GET", path="/small$", times=None)
        with pytest.raises(OSError, check=lambda error: error.errno == errno.EIO):
            (stage.mount_point / "small").read_bytes()
        server.faults.remove(rule)
        said = stage.cloudfs("status").stdout
        assert "/liar: readable, but not what its checksum on the server says" in said
        assert "/small: not readable" in said
        assert f"the server says {sha1(SMALL)}, what came has SHA1:" in said
    finally:
        stage.close()
