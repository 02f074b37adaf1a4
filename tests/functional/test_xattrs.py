"""Extended attributes over a real mount: `user.cloudfs.*`, unless an account does without."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from cloudfs import config
from cloudfs.config import Folders
from tests.functional.stages import USER, MountStage
from tests.servers import StandIn

pytestmark = [pytest.mark.mount, pytest.mark.shared_engine]

CONTENT = b"what the server has\n"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[MountStage]:
    with StandIn() as server:
        there = server.account(USER)
        there.mkdir("/Documents")
        there.write("/Documents/a.txt", CONTENT)
        there.write("/b.txt", CONTENT)
        made = MountStage(tmp_path / "home", server, settings="quiet_s = 0.1")
        yield made
        made.close()


def errno_of(call: Callable[[], object]) -> int | None:
    try:
        call()
    except OSError as error:
        return error.errno
    return None


def value(path: Path, name: str) -> str:
    return os.getxattr(path, f"user.cloudfs.{name}").decode()


def test_extended_attributes(stage: MountStage) -> None:
    root = stage.mount_point
    documents, inside, other = root / "Documents", root / "Documents/a.txt", root / "b.txt"
    os.listdir(documents)

    # What they tell.
    assert value(other, "state") == "synced"
    assert (value(other, "here"), value(other, "here_bytes")) == ("none", "0")
    assert other.read_bytes() == CONTENT
    stage.wait(lambda: value(other, "here") == "all")
    assert value(other, "here_bytes") == str(len(CONTENT))
    assert value(other, "etag")
    assert value(other, "policy") == "unset"
    assert errno_of(lambda: value(other, "pin")) == errno.ENODATA
    assert errno_of(lambda: value(other, "reason")) == errno.ENODATA

    # What is said: it holds below, is listed where it was said, and is what the command tells.
    os.setxattr(documents, "user.cloudfs.pin", b"always-local")
    assert (value(documents, "pin"), value(inside, "policy")) == ("always-local", "always-local")
    assert errno_of(lambda: value(inside, "pin")) == errno.ENODATA
    assert (os.listxattr(documents), os.listxattr(inside)) == (["user.cloudfs.pin"], [])
    assert '"always-local"' in stage.cloudfs("pin", "--json").stdout
    stage.wait(lambda: value(inside, "here") == "all")
    os.setxattr(inside, "user.cloudfs.pin", b"online-only")
    stage.wait(lambda: value(inside, "here") == "none")
    os.setxattr(inside, "user.cloudfs.pin", b"unset")
    assert value(inside, "policy") == "always-local"
    os.removexattr(documents, "user.cloudfs.pin")
    assert (value(inside, "policy"), os.listxattr(documents)) == ("unset", [])

    # What cannot be, says so, and nothing is kept of it.
    for name, code in {
        "user.cloudfs.state": errno.EPERM,
        "user.cloudfs.mine": errno.EOPNOTSUPP,
        "user.mine": errno.EOPNOTSUPP,
    }.items():
        assert errno_of(partial(os.setxattr, other, name, b"1")) == code, name
    for name in ("user.cloudfs.mine", "user.mine"):
        assert errno_of(partial(os.getxattr, other, name)) == errno.ENODATA, name
        assert errno_of(partial(os.removexattr, other, name)) == errno.ENODATA, name
    for name in ("security.capability", "system.posix_acl_access"):
        assert errno_of(partial(os.getxattr, other, name)) == errno.EOPNOTSUPP, name
    assert errno_of(lambda: os.setxattr(other, "user.cloudfs.pin", b"perhaps")) == errno.EINVAL
    assert errno_of(lambda: os.removexattr(other, "user.cloudfs.pin")) == errno.ENODATA
    assert errno_of(lambda: os.removexattr(other, "user.cloudfs.etag")) == errno.EPERM
    assert os.listxattr(other) == []

    # Copies take along what was said, and go without a word about what was not.
    os.setxattr(other, "user.cloudfs.pin", b"online-only")
    subprocess.run(["cp", "-a", other, root / "copy.txt"], check=True, timeout=60)
    assert value(root / "copy.txt", "pin") == "online-only"
    assert value(root / "copy.txt", "state") in {"pending", "sending", "synced"}

    # They survive a new mount, as pins do.
    stage.cloudfs("unmount", "a")
    stage.mount()
    assert value(other, "pin") == "online-only"


def test_an_account_can_do_without(tmp_path: Path) -> None:
    """`tests/fuse/test_operations.py` has what a program sees of a mount without."""
    folders = Folders.from_environment({"CLOUDFS_HOME": str(tmp_path)})
    folders.create()
    path = folders.account_file("a")
    path.write_text('url = "https://h.example/"\nuser = "jo"\n')
    assert config.load_account(folders, "a").settings.xattrs
    path.write_text('url = "https://h.example/"\nuser = "jo"\n[settings]\nxattrs = false\n')
    assert not config.load_account(folders, "a").settings.xattrs
