"""How far the kernel reads ahead: in mounts of root's by ourselves, in those of others by the package's udev rule."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from cloudfs.fuse.kernel_readahead import READ_AHEAD_KIB, widen
from cloudfs.fuse.mounts import mounts_at
from tests.fuse.conftest import Server

PROGRAM = Path(__file__).parents[2] / "scripts/_deb/readahead"
TABLE = """\
42 27 0:39 / /home/a\\040b rw,nosuid shared:1 master:2 - fuse.cloudfs cloudfs\\043work rw,user_id=1000
43 42 0:3 / /home/other rw - fuse.sshfs host: rw,user_id=1000
"""


@pytest.mark.parametrize(("before", "after"), [("128", "256"), ("4096", "4096")])
def test_it_is_widened_and_never_narrowed(tmp_path: Path, before: str, after: str) -> None:
    setting = tmp_path / "0:39" / "read_ahead_kb"
    setting.parent.mkdir()
    setting.write_text(before)
    assert widen("0:39", tmp_path)
    assert setting.read_text() == after


def test_where_it_cannot_be_changed_it_stays(tmp_path: Path) -> None:
    assert not widen("0:39", tmp_path)
    (tmp_path / "0:40").mkdir()
    (tmp_path / "0:40" / "read_ahead_kb").write_text("?")
    assert not widen("0:40", tmp_path)


@pytest.mark.mount
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change it")
@pytest.mark.skipif(not os.access("/sys/class/bdi", os.W_OK), reason="/sys is read-only here")
def test_a_mount_of_roots_has_it(served: Server) -> None:
    (mount,) = mounts_at(str(served.mount_point))
    assert int(Path(f"/sys/class/bdi/{mount.device}/read_ahead_kb").read_text()) >= READ_AHEAD_KIB


def _said(device: str, folder: Path, waiting: str = "0\n") -> tuple[int, str]:
    """What the rule's program says, and its exit code."""
    (folder / "table").write_text(TABLE)
    (folder / "39").mkdir(exist_ok=True)
    (folder / "39" / "waiting").write_text(waiting)
    command = ["sh", str(PROGRAM), device, str(folder / "table"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout


def test_udev_is_told_the_same_figure_for_our_mounts_alone(tmp_path: Path) -> None:
    assert _said("0:39", tmp_path) == (0, f"{READ_AHEAD_KIB}\n")
    assert _said("0:3", tmp_path) == (1, "")
    assert _said("0:4", tmp_path) == (1, "")


def test_before_the_answer_to_init_nothing_is_said(tmp_path: Path) -> None:
    """The kernel would go back to what it had with it."""
    assert _said("0:39", tmp_path, waiting="1\n") == (1, "")
