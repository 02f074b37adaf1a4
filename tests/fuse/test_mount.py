"""Mount points that are fit and unfit, and the ends that a mount can come to."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyfuse3
import pytest
import trio

from cloudfs.errors import ExitCode, UserError
from cloudfs.fuse.mount import Session
from cloudfs.fuse.mount_point import check_fuse, claim, claimed, locate
from cloudfs.fuse.mounts import mounts_at
from cloudfs.fuse.overhearing import overheard
from tests.fuse.conftest import Serve, Server, is_mounted
from tests.fuse.test_operations import errno_of, wait_for

TABLE = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
42 27 0:39 / /home/a\\040b rw,nosuid shared:1 master:2 - fuse.cloudfs cloudfs\\043work rw,user_id=1000,group_id=1000
43 42 0:40 / /home/a\\040b rw - fuse.sshfs host: rw,user_id=1000
nonsense
44 27 0:41 / /home/tab\\011x rw - tmpfs tmpfs rw
"""


def refusal(path: Path | str) -> UserError:
    with pytest.raises(UserError) as caught:
        claim(str(path))
    assert caught.value.code is ExitCode.MOUNT_POINT
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value


def test_the_mount_table_is_understood() -> None:
    first, second = mounts_at("/home/a b", TABLE)
    assert (first.account, first.device, first.mount_id) == ("work", "0:39", 42)
    assert second.account is None
    assert mounts_at("/home/tab\tx", TABLE)[0].fs_type == "tmpfs"
    assert mounts_at("/home", TABLE) == []


def test_a_good_mount_point_is_returned_resolved(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert claim(str(tmp_path / "link")) == str(tmp_path / "real")
    assert claim(str(tmp_path / "real" / ".." / "real")) == str(tmp_path / "real")


def test_no_two_begin_at_one_place(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "place").mkdir()
    with claimed(str(tmp_path / "place")) as place:
        with (
            pytest.raises(UserError, match="just being mounted") as caught,
            claimed(str(tmp_path / "link" / "place")),
        ):
            pass
        assert caught.value.code is ExitCode.MOUNT_POINT
    with claimed(place):
        pass


def test_places_are_found_without_touching_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert locate("cloud") == str(tmp_path / "cloud")
    assert locate("~/Cloud") == "/home/me/Cloud"
    assert locate("/") == "/"
    assert locate(".") == str(tmp_path)
    assert locate("~nobody-of-this-name/Cloud") == str(tmp_path / "~nobody-of-this-name" / "Cloud")


def test_links_in_a_circle_are_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    assert "cannot be used: Too many levels" in refusal(tmp_path / "circle").message
    assert "cannot be used: Too many levels" in refusal(tmp_path / "circle" / "below").message


def test_a_working_folder_that_is_gone_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(UserError, match="Cloud cannot be found: the folder that you are in does not exist"):
        locate("Cloud")
    assert locate(str(tmp_path / "cloud")) == str(tmp_path / "cloud")


def test_unfit_mount_points(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.odt").touch()
    assert "does not exist" in refusal(tmp_path / "none").message
    assert f"`mkdir -p '{tmp_path}/not there'`" in refusal(tmp_path / "not there").hint
    assert "is not a folder" in refusal(tmp_path / "file").message
    assert "is not empty (it holds 'thesis.odt')" in refusal(tmp_path / "full").message
    assert "cannot be used" in refusal(tmp_path / "file" / "below").message
    assert os.listdir(tmp_path / "full") == ["thesis.odt"]


def test_missing_fuse_names_the_next_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="/dev/fuse does not exist") as caught:
        check_fuse(str(tmp_path / "fuse"))
    assert caught.value.code is ExitCode.NO_FUSE
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="fusermount3 is not installed") as caught:
        check_fuse()
    assert "apt install fuse3" in caught.value.hint


def test_without_the_table_of_mounts_nobody_but_root_could_unmount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a system made by debootstrap, before anything has run in it."""
    device = tmp_path / "fuse"
    device.touch()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UserError, match="nobody but root could unmount") as caught:
        check_fuse(str(device), str(tmp_path / "mtab"))
    assert caught.value.code is ExitCode.NO_FUSE
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    check_fuse(str(device), str(tmp_path / "mtab"))


@pytest.mark.parametrize(
    ("said", "code", "next_step"),
    [
        ("fusermount3: could not determine username", ExitCode.NO_FUSE, "/etc/passwd"),
        ("fusermount3: mount failed: Operation not permitted", ExitCode.NO_FUSE, "--cap-add SYS_ADMIN"),
        ("fusermount3: too many FUSE filesystems mounted", ExitCode.MOUNT_POINT, "cloudfs doctor"),
    ],
)
def test_who_refuses_a_mount_is_heard(
    said: str,
    code: ExitCode,
    next_step: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A daemon's standard error leads nowhere."""

    def init(*_: object) -> None:
        subprocess.run(
            ["sh", "-c", f"echo before >&2; echo '{said}' >&2; echo a line of the log >&2"], check=True
        )
        message = "fuse_session_mount failed"
        raise RuntimeError(message)

    monkeypatch.setattr(pyfuse3, "init", init)
    session = Session(None, "/place", account="a", notifier=None)  # type: ignore[arg-type]
    with pytest.raises(UserError) as caught:
        trio.run(session.run)
    assert caught.value.message == f"/place cannot be mounted: {said}."
    assert caught.value.code is code
    assert next_step in caught.value.hint
    assert capfd.readouterr().err == ""


def test_what_is_said_beside_a_mount_goes_on_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    with overheard() as said:
        subprocess.run(["sh", "-c", "echo a warning >&2"], check=True)
        assert said() == "a warning\n"
    assert capfd.readouterr().err == "a warning\n"


@pytest.mark.mount
def test_nothing_in_it_gives_rights_and_nobody_else_gets_in(served: Server) -> None:
    """A setuid program, or a device, that a server claims to have is one in name only."""
    flags = os.statvfs(served.mount_point).f_flag
    assert flags & os.ST_NOSUID
    assert flags & os.ST_NODEV
    (mount,) = mounts_at(str(served.mount_point))
    assert "default_permissions" in mount.options
    assert "allow_other" not in mount.options
    assert f"user_id={os.getuid()}" in mount.options


@pytest.mark.mount
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("allowed", [False, True])
def test_others_get_in_only_where_that_was_asked_for_and_then_as_modes_say(
    serve: Serve, allowed: bool
) -> None:
    with tempfile.TemporaryDirectory(prefix="cloudfs-others-") as folder:
        place = Path(folder, "mount")
        place.mkdir()
        Path(folder).chmod(0o711)
        served = serve(*(["--allow-other"] if allowed else []), at=place)
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]

        def tries(script: str) -> bool:
            done = subprocess.run(
                [*nobody, "sh", "-c", script, "sh", str(place)], check=False, capture_output=True
            )
            return done.returncode == 0

        assert tries('cat "$1/hello.txt"') is allowed
        assert not tries('echo x >>"$1/hello.txt"')
        assert not tries('echo x >"$1/new"')
        (place / "hello.txt").chmod(0o600)
        assert not tries('cat "$1/hello.txt"')
        assert (place / "hello.txt").read_bytes() == b"hello world\n"
        (mount,) = mounts_at(str(place))
        assert ("allow_other" in mount.options, "default_permissions" in mount.options) == (allowed, True)
        served.command("unmount")


def test_others_are_let_in_only_where_the_administrator_allows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = tmp_path / "fuse.conf"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for text in (None, "#user_allow_other\n", "user_allow_others\n"):
        if text is not None:
            rules.write_text(text)
        with pytest.raises(UserError, match="may not let others into a mount") as caught:
            check_fuse(str(tmp_path), str(tmp_path), allow_other=True, rules=str(rules))
        assert caught.value.code is ExitCode.NO_FUSE
        assert "user_allow_other" in caught.value.hint
    rules.write_text("mount_max = 10\nuser_allow_other # for all\n")
    check_fuse(str(tmp_path), str(tmp_path), allow_other=True, rules=str(rules))


# --- ends


@pytest.mark.mount
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unmounts_cleanly(served: Server, number: int) -> None:
    assert is_mounted(served.mount_point)
    begun = time.monotonic()
    assert served.end(number)["ended"]
    assert time.monotonic() - begun < 3
    assert served.process.returncode == 0
    assert not is_mounted(served.mount_point)
    assert os.listdir(served.mount_point) == []


@pytest.mark.mount
def test_unmounting_from_outside_ends_the_daemon(served: Server) -> None:
    subprocess.run(["fusermount3", "-u", served.mount_point], check=True)
    assert served.read()["ended"]
    assert served.process.wait(10) == 0


@pytest.mark.mount
def test_a_mount_in_use_is_not_unmounted_on_request(served: Server) -> None:
    with (served.mount_point / "hello.txt").open("rb") as file:
        assert "is in use: a program has a file" in served.command("unmount")
        assert is_mounted(served.mount_point)
        assert file.read() == b"hello world\n"
    assert served.command("unmount") is True
    assert served.read()["ended"]


@pytest.mark.mount
def test_a_signal_detaches_a_mount_in_use_and_says_so(served: Server) -> None:
    descriptor = os.open(served.mount_point / "hello.txt", os.O_RDONLY)
    begun = time.monotonic()
    assert served.end()["ended"]
    assert time.monotonic() - begun < 10
    assert not is_mounted(served.mount_point)
    assert errno_of(lambda: os.close(descriptor)) == errno.ENOTCONN
    assert "is in use: a program has a file or a working folder there. Detached" in served.log()


@pytest.mark.mount
def test_pages_changed_through_mmap_arrive_before_the_end(served: Server) -> None:
    # Held open by another process, as the writer has to outlive the unmount.
    path = served.mount_point / "mapped"
    path.write_bytes(b"a" * 4096)
    program = (
        "import mmap, sys\n"
        "file = open(sys.argv[1], 'r+b')\n"
        "pages = mmap.mmap(file.fileno(), 0)\n"
        "pages[0:5] = b'dirty'\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with writer:
        assert writer.stdout
        writer.stdout.readline()
        last = served.end()
        writer.kill()
    assert any("write" in name for name in last["state"]["requests"]["by_name"])
    assert last["state"]["requests"]["by_name"]["write"] == 2


@pytest.mark.mount
def test_a_hanging_request_does_not_hold_up_the_end(serve: Serve) -> None:
    served = serve("--deadline", "60")
    client = subprocess.Popen(
        ["stat", served.mount_point / "hang"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for(lambda: served.state()["requests"]["in_flight"] == 1)
    begun = time.monotonic()
    served.end()
    assert time.monotonic() - begun < 10
    assert not is_mounted(served.mount_point)
    assert client.wait(10) != 0


# --- dead mounts


@pytest.mark.mount
def test_a_dead_mount_of_ours_is_cleared(serve: Serve, mount_point: Path) -> None:
    for _ in range(2):
        killed = serve()
        assert killed.first == {"ready": True}
        killed.process.kill()
        killed.process.wait()
        assert errno_of(mount_point.stat) == errno.ENOTCONN
        assert is_mounted(mount_point)
    assert serve().first == {"ready": True}
    assert (mount_point / "hello.txt").read_bytes() == b"hello world\n"
    assert len(mounts_at(str(mount_point))) == 1


@pytest.mark.mount
def test_a_mount_that_lives_is_not_mounted_over(served: Server, serve: Serve) -> None:
    second = serve()
    assert second.first["error"].endswith("is already the mount of the account test.")
    assert (served.mount_point / "hello.txt").exists()


OTHER = """
import sys, pyfuse3, trio
pyfuse3.init(pyfuse3.Operations(), sys.argv[1], {"fsname=other"})
print("mounted", flush=True)
trio.run(pyfuse3.main)
"""


@pytest.mark.mount
def test_a_dead_mount_of_another_program_is_left_alone(mount_point: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", OTHER, mount_point], stdout=subprocess.PIPE)
    with other:
        assert other.stdout
        other.stdout.readline()
        other.kill()
    try:
        refused = refusal(mount_point)
        assert "is a dead mount" in refused.message
        assert f"fusermount3 -uz '{mount_point}'" in refused.hint
        assert is_mounted(mount_point)
    finally:
        subprocess.run(["fusermount3", "-uz", mount_point], check=True)
