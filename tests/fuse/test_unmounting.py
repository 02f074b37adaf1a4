"""Why a mount is still there, told apart by what fusermount3 says and what is mounted."""

from __future__ import annotations

import pytest

from cloudfs.errors import ExitCode
from cloudfs.fuse.mounts import MountEntry
from cloudfs.fuse.unmounting import SILENT, why_mounted

PLACE, OURS = "/home/zoe/Cloud", 7


def mount(mount_id: int, path: str, fs_type: str = "fuse.cloudfs") -> MountEntry:
    return MountEntry(mount_id, "0:50", path, fs_type, "cloudfs#work", frozenset())


@pytest.mark.parametrize(
    ("words", "others", "message", "step"),
    [
        ("Device or resource busy", (), "is in use: a program", "fuser -vm"),
        (
            "Device or resource busy",
            (mount(8, f"{PLACE}/usb", "vfat"),),
            f"is in use: {PLACE}/usb is mounted inside it.",
            f"umount {PLACE}/usb",
        ),
        (
            f"entry for {PLACE} not found in /etc/mtab",
            (mount(8, PLACE, "tmpfs"),),
            "another file system (tmpfs) was mounted over it",
            "Unmount that one first",
        ),
        ("Device or resource busy", (mount(8, f"{PLACE}2", "vfat"),), "is in use: a program", "fuser -vm"),
        ("Operation not permitted", (), "no right to", "setuid"),
        ("mount failed: Permission denied", (), "no right to", "setuid"),
        (SILENT, (), "did not end in time", "--lazy"),
        ("failed to unmount: Invalid argument", (), "Invalid argument.", "--lazy"),
        ("", (), "without a word.", "--lazy"),
    ],
)
def test_each_reason_has_its_sentence_and_its_next_step(
    words: str, others: tuple[MountEntry, ...], message: str, step: str
) -> None:
    said = words if words in {"", SILENT} else f"a warning\nfusermount3: {words}\n"
    error = why_mounted(PLACE, OURS, said, [mount(3, "/", "ext4"), mount(OURS, PLACE), *others])
    assert error.message.startswith(PLACE)
    assert message in error.message
    assert step in error.hint
    assert error.code is ExitCode.MOUNT_POINT
