"""An encrypted account, mounted for real: what is on the disk tells nothing, and nothing is lost, kills included."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from cloudfs.cli.main import main
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


class Quick(MountStage):
    """Its commands run in this process, which takes a tenth of the time; the daemon is one of its own all the same."""

    def cloudfs(self, *words: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name, value in self.environ.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["cloudfs", *words])
            patch.setattr(sys, "stdin", io.StringIO(stdin))
            with pytest.raises(SystemExit) as ended:
                main()
        done = subprocess.CompletedProcess(words, int(ended.value.code or 0), out.getvalue(), err.getvalue())
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done


@pytest.fixture
def stage(tmp_path: Path, server: StandIn) -> Iterator[MountStage]:
    made = Quick(tmp_path / "home", server, settings='cache_encrypt = true\ncache_key = "file"\n')
    yield made
    made.close()


def told(home: Path) -> set[str]:
    """Return the files below the account's folders that have a name or a content in clear; logs do (SEMANTICS.md)."""
    found = set()
    for path in home.rglob("*"):
        if path.is_file() and path.name != "daemon.log":
            try:
                raw = path.read_bytes()
                labels = b"".join(os.getxattr(path, name) for name in os.listxattr(path))
            except FileNotFoundError:
                continue  # a journal of SQLite's that has just gone
            if any(secret in raw or secret in labels or secret in str(path).encode() for secret in SECRETS):
                found.add(str(path.relative_to(home)))
    return found


LONG = MINE.ljust(3_000_000, b"\0")
EDITED = THEIRS[:70_000] + b"WHAT-I-WROTE in their file" + THEIRS[70_026:]


@pytest.mark.expect_log("cleared the mount of account a that a killed daemon left", optional=True)
def test_nothing_on_the_disk_is_readable_and_nothing_is_lost(stage: MountStage, server: StandIn) -> None:
    """One life of an account, as each mount costs a second: a kill, another key, a new key, plain, and sealed again."""
    there, folder, state = server.account(USER), stage.mount_point / FOLDER, stage.home / "state/a"

    def is_whole() -> bool:
        mine, theirs = (folder / "mine-in-clear.txt").read_bytes(), folder / "theirs-in-clear.txt"
        return mine == LONG and theirs.read_bytes() == EDITED

    assert (folder / "theirs-in-clear.txt").read_bytes() == THEIRS
    assert (folder / "small").read_bytes() == b"WHAT-THEY-WROTE in short"
    stage.cloudfs("pin", str(folder))
    stage.cloudfs("pause")
    (folder / "mine-in-clear.txt").write_bytes(MINE)
    os.truncate(folder / "mine-in-clear.txt", len(LONG))
    with (folder / "theirs-in-clear.txt").open("r+b") as file:
        file.seek(70_000)
        file.write(b"WHAT-I-WROTE in their file")
    assert told(stage.home) == set(), "while it is mounted"
    stage.kill()
    assert told(stage.home) == set(), "after a kill"
    with_another_key_nothing_is_mounted_or_touched(stage, state)
    stage.mount()
    assert is_whole()
    assert stage.cloudfs("cache", "decrypt", check=False).returncode == ExitCode.ALREADY_MOUNTED
    stage.cloudfs("cache", "lock")
    assert told(stage.home) == set(), "locked"
    for words, sealed in ((("rekey",), True), (("decrypt",), False), (("encrypt", "--key", "file"), True)):
        stage.cloudfs("cache", *words)
        assert (told(stage.home) == set()) is sealed
        assert len(list(state.glob("cache-key-*"))) == sealed
        assert not list(state.glob("new-*"))
        if words != ("rekey",):  # which the next one opens with its key
            stage.mount()
            assert is_whole()
            assert ("encrypted (" in stage.cloudfs("cache", "info").stdout) is sealed
            if not sealed:
                stage.cloudfs("unmount")
    stage.cloudfs("resume")
    stage.sync()
    assert there.read(f"/{FOLDER}/mine-in-clear.txt") == LONG
    assert there.read(f"/{FOLDER}/theirs-in-clear.txt") == EDITED
    stage.cloudfs("unmount")
    assert told(stage.home) == set(), "unmounted"


def times(state: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in state.glob("sealed-*/**/*")}


def with_another_key_nothing_is_mounted_or_touched(stage: MountStage, state: Path) -> None:
    """One wrong key of those in `tests/vault/test_keys.py`."""
    (key,) = state.glob("cache-key-*")
    kept, before = key.read_bytes(), times(state)
    key.write_bytes(b"00" * 32 + b"\n")
    done = stage.cloudfs("mount", "a", str(stage.mount_point), check=False)
    assert done.returncode == ExitCode.BAD_CONFIG, done.stderr
    assert times(state) == before
    key.write_bytes(kept)
