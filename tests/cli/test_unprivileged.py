"""A new user's first minutes, with a user's rights: not root, an empty home, and fusermount3's rights to mount with."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloudfs.errors import ExitCode
from tests.cli.conftest import REPOSITORY, Result
from tests.functional.stages import PASSWORD, USER
from tests.fuse.test_operations import wait_for
from tests.servers import StandIn

NOBODY = 65534
CLOUDFS = Path(sys.executable).with_name("cloudfs")
FILE = ("--secret-store", "file")
"""There is no keyring."""

pytestmark = pytest.mark.mount

_ROOM = """
set -eu
mount --make-rprivate /
mount -t tmpfs -o mode=755 room "$1"
mknod "$1/fuse" c 10 229 && chmod 666 "$1/fuse" && mount --bind "$1/fuse" /dev/fuse
shift
for folder; do  # where the interpreter lies is root's alone
    while [ "$folder" != / ]; do
        if [ "$(stat -c %A "$folder" | cut -c10)" != x ]; then closed=$folder; fi
        folder=$(dirname "$folder")
    done
done
if [ -n "${closed:-}" ]; then
    copy=$(mktemp -d) && mount --bind "$closed" "$copy" && mount -t tmpfs -o mode=755 room "$closed"
    for folder; do
        case $folder in "$closed"/*) ;; *) continue ;; esac
        mkdir -p "$folder" && mount --bind "$copy${folder#"$closed"}" "$folder"
    done
    umount "$copy" && rmdir "$copy"
fi
echo ready
exec cat
"""
"""In mounts of its own: a /dev/fuse as systems have it, and a way through to what is run."""


@dataclass
class Stranger:
    """A user without any rights, in mounts of his own."""

    room: int
    """Process that has these mounts."""
    home: Path

    def run(self, *words: object, stdin: str = "", program: object = CLOUDFS) -> Result:
        """Run `cloudfs`, or another program."""
        enter = ["nsenter", "--target", str(self.room), "--mount", "--wd=/", "--"]
        become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all"]
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.home), "USER": "nobody", "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            [*enter, *become, str(program), *map(str, words)],
            check=False,
            capture_output=True,
            text=True,
            input=stdin,
            env=environ,
            timeout=120,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    if os.geteuid() != 0:
        pytest.skip("all tests run without root's rights here")
    for program in ("nsenter", "setpriv", "unshare"):
        assert shutil.which(program), f"util-linux has {program}"
    home = Path(tempfile.mkdtemp(prefix="cloudfs-nobody-"))
    os.chown(home, NOBODY, NOBODY)
    room = Path(tempfile.mkdtemp(prefix="cloudfs-room-"))
    ways = [REPOSITORY, Path(sys.executable).parents[1], Path(sys.base_prefix)]
    command = ["unshare", "--mount", "sh", "-c", _ROOM, "sh", str(room), *map(str, ways)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        found = Stranger(process.pid, home)
        yield found
        told = found.run("status", "--json").out
        if told and (pid := json.loads(told)["pid"]):
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: not Path(f"/proc/{pid}").exists())
        process.kill()
    shutil.rmtree(home)
    room.rmdir()


def may_allow_other_here() -> bool:
    """Tell whether this machine lets every user do so."""
    try:
        return "user_allow_other" in Path("/etc/fuse.conf").read_text().split("\n")
    except FileNotFoundError:
        return False


def test_the_first_minutes(stranger: Stranger) -> None:
    home, place = stranger.home, stranger.home / "Cloud"
    with StandIn() as server:
        server.account(USER).write("/a.txt", b"what the server has\n")
        assert stranger.run("status").code == ExitCode.NO_ACCOUNT
        login = ["login", server.url, "--user", USER, "--account", "work", "--password-stdin"]
        done = stranger.run(*login, stdin=PASSWORD + "\n")
        assert (done.code, len(done.said)) == (ExitCode.NOT_DONE, 2), done.err
        assert not any(stranger.home.iterdir())
        done = stranger.run(*login, *FILE, stdin=PASSWORD + "\n")
        assert done.code == 0, done.err
        assert stranger.run("mount", place).code == ExitCode.MOUNT_POINT  # there is no such folder yet
        stranger.run("-p", place, program="mkdir")
        done = stranger.run("mount", place)
        assert done.code == 0, done.err
        assert stranger.run(place / "a.txt", program="cat").out == "what the server has\n"
        stranger.run(place / "a.txt", place / "b.txt", program="cp")
        assert stranger.run("sync", "--wait", place).code == 0
        assert server.account(USER).read("/b.txt") == b"what the server has\n"
        doctor = stranger.run("doctor")
        assert doctor.code == 0, doctor.out
        owners = {path.stat().st_uid for path in home.rglob("*") if place not in path.parents}
        assert owners == {NOBODY}
        assert not any(path.stat().st_mode & 0o077 for path in (home / ".local/state/cloudfs").rglob("*"))
        assert stranger.run("unmount", place).code == 0
        assert stranger.run("logout").code == 0


def test_what_a_user_may_not_do_is_a_sentence(stranger: Stranger, tmp_path: Path) -> None:
    with StandIn() as server:
        login = ["login", server.url, "--user", USER, "--account", "work", "--password-stdin", *FILE]
        assert stranger.run(*login, stdin=PASSWORD + "\n").code == 0
        (tmp_path / "closed").mkdir(mode=0o700)
        for place in (tmp_path / "closed", "/", "/proc", "/etc", "/root/x"):
            done = stranger.run("mount", place)
            assert (done.code, len(done.said)) == (ExitCode.MOUNT_POINT, 2), done.err
        stranger.run("-p", stranger.home / "x", program="mkdir")
        file = stranger.home / ".config/cloudfs/accounts/work.toml"
        if not may_allow_other_here():
            written = file.read_text()
            file.write_text(written + "allow_other = true\n")  # [settings] comes last
            done = stranger.run("mount", stranger.home / "x")
            assert (done.code, len(done.said)) == (ExitCode.NO_FUSE, 2), done.err
            assert done.said[0].startswith("This user may not let others into a mount")
            file.write_text(written)
        file.chmod(0)
        done = stranger.run("status")
        assert done.code == 0 or done.said[0].endswith("."), done.err
        for words in (("mount", stranger.home / "x"), ("logout",), ("doctor",)):
            assert stranger.run(*words).code != 0
