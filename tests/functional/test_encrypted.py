"""An encrypted account, mounted for real: what is on the disk tells nothing, and nothing is lost, kills included."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudfs.errors import ExitCode
from tests.functional.stages import USER, MountStage
from tests.servers import StandIn

pytestmark = [pytest.mark.mount, pytest.mark.shared_engine]

SECRETS = (
    b"a-folder-that-is-told-nobody",
    b"theirs-in-clear",
    b"mine-in-clear",
    b"WHAT-THEY-WROTE",
    b"WHAT-I-WROTE",
)
THEIRS = (b"WHAT-THEY-WROTE " * 100_000)[:1_500_000]
MINE = (b"WHAT-I-WROTE " * 100_000)[:700_000]
FOLDER = "a-folder-that-is-told-nobody"


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        there = standin.account(USER)
        there.write(f"/{FOLDER}/theirs-in-clear.txt", THEIRS)
        there.write(f"/{FOLDER}/small", b"WHAT-THEY-WROTE in short")
        yield standin


@pytest.fixture
def stage(tmp_path: Path, server: StandIn) -> Iterator[MountStage]:
    made = MountStage(tmp_path / "home", server, settings='cache_encrypt = true\ncache_key = "file"\n')
    yield made
    made.close()


def told(home: Path) -> set[str]:
    """Return the files below the account's folders that have a name or a content in clear; logs do (SEMANTICS.md)."""
    found = set()
    for path in home.rglob("*"):
        if path.is_file() and path.name != "daemon.log":
            raw = path.read_bytes()
            labels = b"".join(os.getxattr(path, name) for name in os.listxattr(path))
            if any(secret in raw or secret in labels or secret in str(path).encode() for secret in SECRETS):
                found.add(str(path.relative_to(home)))
    return found


def test_nothing_on_the_disk_is_readable_and_nothing_is_lost(stage: MountStage, server: StandIn) -> None:
    there, folder = server.account(USER), stage.mount_point / FOLDER
    assert (folder / "theirs-in-clear.txt").read_bytes() == THEIRS
    assert (folder / "small").read_bytes() == b"WHAT-THEY-WROTE in short"
    stage.cloudfs("pin", str(folder))
    stage.cloudfs("pause")
    (folder / "mine-in-clear.txt").write_bytes(MINE)
    with (folder / "theirs-in-clear.txt").open("r+b") as file:
        file.seek(70_000)
        file.write(b"WHAT-I-WROTE in their file")
    assert told(stage.home) == set(), "while it is mounted"
    stage.kill()
    assert told(stage.home) == set(), "after a kill"
    stage.mount()
    assert (folder / "mine-in-clear.txt").read_bytes() == MINE
    assert (folder / "theirs-in-clear.txt").read_bytes()[69_990:70_030] == (
        THEIRS[69_990:70_000] + b"WHAT-I-WROTE in their file" + THEIRS[70_026:70_030]
    )
    assert "encrypted (" in stage.cloudfs("cache", "info").stdout
    stage.cloudfs("resume")
    stage.sync()
    assert there.read(f"/{FOLDER}/mine-in-clear.txt") == MINE
    assert there.read(f"/{FOLDER}/theirs-in-clear.txt") == (
        THEIRS[:70_000] + b"WHAT-I-WROTE in their file" + THEIRS[70_026:]
    )
    stage.cloudfs("unmount")
    assert told(stage.home) == set(), "unmounted"
    # Without its key, or with another, it does not mount, and nothing is touched.
    (key,) = (stage.home / "state/a").glob("cache-key-*")
    before = {path: path.stat().st_mtime_ns for path in (stage.home / "state/a").glob("sealed-*/**/*")}
    kept = key.read_bytes()
    for wrong in (None, b"00" * 32 + b"\n", b"no key\n"):
        key.unlink(missing_ok=True)
        if wrong is not None:
            key.write_bytes(wrong)
            key.chmod(0o600)
        done = stage.cloudfs("mount", "a", str(stage.mount_point), check=False)
        assert done.returncode == ExitCode.BAD_CONFIG, done.stderr
    assert {
        path: path.stat().st_mtime_ns for path in (stage.home / "state/a").glob("sealed-*/**/*")
    } == before
    key.write_bytes(kept)
    stage.mount()
    assert (folder / "mine-in-clear.txt").read_bytes() == MINE


def test_changes_that_were_not_sent_survive_decrypting_encrypting_and_a_new_key(
    stage: MountStage, server: StandIn
) -> None:
    there, folder = server.account(USER), stage.mount_point / FOLDER
    assert stage.cloudfs("cache", "decrypt", check=False).returncode == ExitCode.ALREADY_MOUNTED
    stage.cloudfs("pause")
    (folder / "mine-in-clear.txt").write_bytes(MINE)
    os.truncate(folder / "mine-in-clear.txt", 3_000_000)
    for words, sealed in (
        (("rekey",), True),
        (("decrypt",), False),
        (("encrypt", "--key", "file"), True),
        (("lock",), True),
    ):
        if words != ("lock",):
            stage.cloudfs("unmount")
        stage.cloudfs("cache", *words)
        assert (told(stage.home) == set()) is sealed
        keys = list((stage.home / "state/a").glob("cache-key-*"))
        assert len(keys) == sealed
        assert not re.search("new-", " ".join(os.listdir(stage.home / "state/a")))
        stage.mount()
        assert (folder / "mine-in-clear.txt").read_bytes() == MINE.ljust(3_000_000, b"\0")
        assert ("encrypted (" in stage.cloudfs("cache", "info").stdout) is sealed
    stage.cloudfs("resume")
    stage.sync()
    assert there.read(f"/{FOLDER}/mine-in-clear.txt") == MINE.ljust(3_000_000, b"\0")
    shutil.rmtree(stage.home / "cache/a/blocks", ignore_errors=True)
