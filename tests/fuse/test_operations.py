"""Every request of the kernel, through a real mount."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import socket
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuse.conftest import Serve, Server

pytestmark = pytest.mark.mount


def errno_of(call: Callable[[], object]) -> int:
    with pytest.raises(OSError) as caught:  # noqa: PT011  # the errno is what is looked at
        call()
    return caught.value.errno or 0


def renameat2(source: Path, target: Path, flags: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.renameat2(-100, os.fsencode(source), -100, os.fsencode(target), flags)
    return ctypes.get_errno() if failed else 0


def test_attributes_are_the_mounting_users(served: Server) -> None:
    found = (served.mount_point / "hello.txt").stat()
    assert (found.st_uid, found.st_gid) == (os.geteuid(), os.getegid())
    assert stat.S_IFMT(found.st_mode) == stat.S_IFREG
    assert (found.st_size, found.st_blocks, found.st_blksize, found.st_nlink) == (12, 1, 65536, 1)
    assert abs(found.st_mtime_ns - time.time_ns()) < 60 * 10**9
    assert found.st_mtime_ns % 10**9


def test_an_empty_file_is_written_in_large_pieces(served: Server) -> None:
    """`cp` looks once, after it has made the file; readers of what is in it shall not take so much at once."""
    path = served.mount_point / "copied.bin"
    with path.open("wb") as file:
        assert os.fstat(file.fileno()).st_blksize == 1024 * 1024
        file.write(b"something")
        file.flush()
        assert os.fstat(file.fileno()).st_blksize == 64 * 1024


def test_files_are_written_and_read(served: Server) -> None:
    path = served.mount_point / "new.bin"
    data = os.urandom(3 * 2**20 + 1)
    path.write_bytes(data)
    assert path.read_bytes() == data
    with path.open("ab") as file:
        file.write(b"tail")
    assert path.read_bytes() == data + b"tail"
    path.write_bytes(b"short")
    assert path.read_bytes() == b"short"


def test_a_sparse_write_leaves_zeros(served: Server) -> None:
    path = served.mount_point / "sparse"
    with path.open("wb") as file:
        file.seek(100_000)
        file.write(b"x")
    assert path.read_bytes() == bytes(100_000) + b"x"


def test_truncating_open_arrives_as_one_request(served: Server) -> None:
    before = len(served.calls("setattr"))
    os.close(os.open(served.mount_point / "hello.txt", os.O_WRONLY | os.O_TRUNC))
    assert served.calls("open")[-1].endswith("True, False)")
    assert len(served.calls("setattr")) == before
    assert (served.mount_point / "hello.txt").stat().st_size == 0


def test_append_arrives_as_a_flag(served: Server) -> None:
    os.close(os.open(served.mount_point / "hello.txt", os.O_WRONLY | os.O_APPEND))
    assert served.calls("open")[-1].endswith("False, True)")


def test_attributes_are_set(served: Server) -> None:
    path = served.mount_point / "hello.txt"
    path.chmod(0o751)
    os.utime(path, ns=(1, 1_700_000_000_123_456_789))
    os.truncate(path, 5)
    found = path.stat()
    assert stat.S_IMODE(found.st_mode) == 0o751
    assert path.read_bytes() == b"hello"
    assert "('setattr', 2, None, None, 1700000000123456789, False)" in served.calls("setattr")


def test_a_touch_takes_the_time_of_now(served: Server) -> None:
    os.utime(served.mount_point / "hello.txt", ns=(0, 0))
    os.utime(served.mount_point / "hello.txt")
    assert abs((served.mount_point / "hello.txt").stat().st_mtime - time.time()) < 60


def test_ftruncate_names_the_handle(served: Server) -> None:
    with (served.mount_point / "hello.txt").open("r+b") as file:
        os.ftruncate(file.fileno(), 3)
    assert served.calls("setattr")[-1] == "('setattr', 2, 3, None, None, True)"


def test_chown_to_others_is_refused(served: Server) -> None:
    path = served.mount_point / "hello.txt"
    os.chown(path, os.geteuid(), os.getegid())
    assert errno_of(lambda: os.chown(path, os.geteuid() + 1, -1)) == errno.EPERM
    assert errno_of(lambda: os.chown(path, -1, os.getegid() + 1)) == errno.EPERM


def test_folders(served: Server) -> None:
    folder = served.mount_point / "new"
    folder.mkdir(0o700)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert errno_of(folder.mkdir) == errno.EEXIST
    (folder / "file").touch()
    assert errno_of(folder.rmdir) == errno.ENOTEMPTY
    (folder / "file").unlink()
    folder.rmdir()
    assert not folder.exists()


def test_an_unlinked_file_works_while_it_is_open(served: Server) -> None:
    path = served.mount_point / "hello.txt"
    with path.open("r+b") as file:
        path.unlink()
        file.seek(0, os.SEEK_END)
        file.write(b"more")
        file.flush()
        file.seek(0)
        assert file.read() == b"hello world\nmore"
        assert os.fstat(file.fileno()).st_nlink == 0
    assert not path.exists()


def test_renames_with_their_flags(served: Server) -> None:
    hello, docs, other = (served.mount_point / name for name in ("hello.txt", "docs", "other"))
    other.write_bytes(b"other")
    assert renameat2(hello, other, 1) == errno.EEXIST
    assert renameat2(hello, other, 2) == 0
    assert (hello.read_bytes(), other.read_bytes()) == (b"other", b"hello world\n")
    assert renameat2(hello, other, 4) == errno.EINVAL
    other.rename(docs / "moved")
    assert (docs / "moved").read_bytes() == b"hello world\n"


def test_what_a_server_cannot_keep_is_refused_cleanly(served: Server) -> None:
    root = served.mount_point
    assert errno_of(lambda: os.link(root / "hello.txt", root / "hard")) == errno.EPERM
    assert errno_of(lambda: (root / "soft").symlink_to("hello.txt")) == errno.EPERM
    assert errno_of(lambda: os.mkfifo(root / "fifo")) == errno.EPERM
    assert errno_of(lambda: os.mknod(root / "device", stat.S_IFBLK | 0o600, os.makedev(1, 1))) == errno.EPERM
    assert errno_of((root / "hello.txt").readlink) == errno.EINVAL
    with socket.socket(socket.AF_UNIX) as server:
        folder = os.open(root, os.O_RDONLY)
        try:
            assert errno_of(lambda: server.bind(f"/proc/self/fd/{folder}/socket")) == errno.EPERM
        finally:
            os.close(folder)
    assert sorted(os.listdir(root)) == ["docs", "hello.txt"]


def test_mknod_makes_a_regular_file_and_leaves_no_handle(served: Server) -> None:
    os.mknod(served.mount_point / "plain", stat.S_IFREG | 0o640)
    assert stat.S_IMODE((served.mount_point / "plain").stat().st_mode) == 0o640
    assert served.state()["handles"] == 0


def test_extended_attributes(served: Server) -> None:
    path = served.mount_point / "hello.txt"
    assert os.listxattr(path) == []
    assert errno_of(lambda: os.getxattr(path, "user.none")) == errno.EOPNOTSUPP
    assert errno_of(lambda: os.setxattr(path, "user.none", b"1")) == errno.EOPNOTSUPP
    assert errno_of(lambda: os.removexattr(path, "user.none")) == errno.ENODATA


def test_space_comes_from_memory(served: Server) -> None:
    found = os.statvfs(served.mount_point)
    assert found.f_blocks * found.f_frsize == 10 * 2**30
    assert found.f_bavail * found.f_frsize == 4 * 2**30
    assert found.f_namemax == 227


def test_fsync_of_files_and_folders(served: Server) -> None:
    with (served.mount_point / "hello.txt").open("r+b") as file:
        os.fsync(file)
        os.fdatasync(file)
    folder = os.open(served.mount_point / "docs", os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
    assert served.calls("fsync") == ["('fsync', False)", "('fsync', True)"]
    assert len(served.calls("fsync_folder")) == 1


def test_an_error_of_flush_reaches_close(served: Server) -> None:
    descriptor = os.open(served.mount_point / "big", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, b"full")
    assert errno_of(lambda: os.close(descriptor)) == errno.ENOSPC


def test_memory_maps(served: Server) -> None:
    path = served.mount_point / "mapped"
    path.write_bytes(b"a" * 10_000)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[5000:5005] = b"hello"
        mapped.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as private:
            private[0:1] = b"z"
    assert path.read_bytes() == b"a" * 5000 + b"hello" + b"a" * 4995


def test_locks_are_the_kernels(served: Server) -> None:
    with (
        (served.mount_point / "hello.txt").open("r+b") as one,
        (served.mount_point / "hello.txt").open("r+b") as two,
    ):
        fcntl.flock(one, fcntl.LOCK_EX)
        assert errno_of(lambda: fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)) == errno.EAGAIN


# --- listings


def test_a_listing_has_dots_like_any_folder(served: Server) -> None:
    listed = subprocess.run(["ls", "-a", served.mount_point], check=True, capture_output=True, text=True)
    assert listed.stdout.split() == [".", "..", "docs", "hello.txt"]


def test_a_listing_brings_the_attributes_along(serve: Serve) -> None:
    served = serve("--caching", "60")
    served.command("fill", 1, 500)
    with os.scandir(served.mount_point) as entries:
        assert sum(entry.stat().st_size for entry in entries) == 12
    assert len(served.calls("lookup")) <= 1


def test_a_huge_folder_is_listed_once_each_and_lazily(served: Server) -> None:
    served.command("fill", 3, 20_000)
    names = os.listdir(served.mount_point / "docs")
    assert len(names) == len(set(names)) == 20_001
    assert len(served.calls("read_folder")) > 3


def test_a_listing_that_breaks_off_gives_an_error_and_counts_nothing(served: Server) -> None:
    served.command("add", 3, "cracked", "")
    served.command("add", 3, "never", "")
    assert errno_of(lambda: os.listdir(served.mount_point / "docs")) == errno.EIO
    assert set(served.state()["lookups"]) <= {"3"}


def test_names_that_vanish_during_a_listing_skip_no_other(served: Server) -> None:
    served.command("fill", 3, 2000)
    seen = []
    with os.scandir(served.mount_point / "docs") as entries:
        for number, entry in enumerate(entries):
            seen.append(entry.name)
            if number % 2:
                Path(entry.path).unlink()
    assert len(seen) == len(set(seen)) == 2001


# --- lookup counts


def test_the_kernel_forgets_exactly_what_it_was_given(serve: Serve) -> None:
    served = serve("--caching", "60")
    served.command("fill", 3, 300)
    subprocess.run(["find", served.mount_point, "-ls"], check=True, stdout=subprocess.DEVNULL)
    (served.mount_point / "created").write_bytes(b"1")
    (served.mount_point / "made").mkdir()
    os.mknod(served.mount_point / "node", stat.S_IFREG | 0o600)
    (served.mount_point / "hello.txt").stat()
    given = served.state()["lookups"]
    assert given["2"] >= 1
    assert len(given) == 306
    last = served.end()
    assert min(last["state"]["lookups"].values()) >= 0


def test_forgotten_inodes_count_down_to_zero(served: Server) -> None:
    for name in ("hello.txt", "docs", "docs/deep.txt"):
        (served.mount_point / name).stat()
    served.announce("entry_removed", 1, "hello.txt", 2)
    for _ in range(100):
        if served.state()["lookups"].get("2") == 0:
            break
        time.sleep(0.05)
    assert served.state()["lookups"]["2"] == 0


# --- what the kernel may answer by itself


def test_missing_names_are_cached_until_announced(serve: Serve) -> None:
    served = serve("--caching", "60")
    for _ in range(3):
        assert not (served.mount_point / "later.txt").exists()
    assert len(served.calls("lookup")) == 1
    served.command("add", 1, "later.txt", "here")
    assert not (served.mount_point / "later.txt").exists()
    served.announce("entry_changed", 1, "later.txt")
    wait_for((served.mount_point / "later.txt").exists)


def test_changed_contents_are_read_anew_after_the_announcement(serve: Serve) -> None:
    served = serve("--caching", "60")
    path = served.mount_point / "hello.txt"
    assert path.read_bytes() == path.read_bytes() == b"hello world\n"
    assert len(served.calls("read")) == 1
    served.command("grow", 2, "hello world\nand more")
    served.announce("node_changed", 2, content=True)
    wait_for(lambda: path.read_bytes() == b"hello world\nand more")


def wait_for(condition: Callable[[], bool], timeout_s: float = 5) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
