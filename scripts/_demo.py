"""The demo: a made-up account on an embedded server, or a real one, mounted until Ctrl-C.

Everything of it lives in one temporary folder, cloudfs's own files included; at the end nothing is left.
Only where changes did not reach a real server is that folder kept, and the person told how to send them.
What a killed demo of a made-up account has left goes when the next one begins.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import getpass
import json
import os
import secrets
import select
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from scripts._demo_account import BIG_FILE, build

ROOT = Path(__file__).resolve().parents[1]
CLOUDFS = str(Path(sys.executable).with_name("cloudfs"))
ACCOUNT = "demo"
PREFIX = "cloudfs-demo-"
LOCK = "alive"
"""A file in the folder of a demo, locked as long as that lives; it holds the mount point.

A real account's demo has none: changes in it may be wanted yet.
"""

# Nothing is waited for without end.
SERVER_S = 30
LOGIN_S = 60
MOUNT_S = 40
STATUS_S = 10
SEND_S = 30
"""How long Ctrl-C waits for changes to reach the server; a second Ctrl-C ends that."""
UNMOUNT_S = 30
REVOKE_S = 20
STOP_S = 5


class Interrupted(Exception):
    """Ctrl-C, a polite kill, or a closed terminal."""


class Failed(Exception):
    """It does not go on, for the reason that the message tells; `code` is what the demo exits with."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Login:
    """The account that is shown."""

    url: str
    user: str
    password: str
    real: bool
    options: tuple[str, ...] = ()
    """Of `cloudfs login`."""


@dataclass
class Demo:
    """This run: where its files are, and whether they may go at its end."""

    folder: Path
    mountpoint: Path
    keep: bool = False
    daemon: int | None = None
    """Its process id, once it was heard of."""

    @property
    def home(self) -> Path:
        """CLOUDFS_HOME of this run: settings, state and cache."""
        return self.folder / "home"

    def cloudfs(self, *arguments: str, timeout_s: float, given: str = "") -> int:
        """Run cloudfs, which tells people on stderr what is wrong; return its exit code, 1 for too slow.

        Its output goes to no pipe: a daemon that it starts could hold that open for ever.
        """
        try:
            return subprocess.run(
                [CLOUDFS, *arguments],
                env=self._environment(),
                input=given,
                stdout=subprocess.DEVNULL,
                text=True,
                check=False,
                timeout=timeout_s,
            ).returncode
        except subprocess.TimeoutExpired:
            say(f"demo: `cloudfs {arguments[0]}` did not end within {timeout_s} s.")
            return 1

    def status(self) -> dict[str, Any]:
        """Return what the daemon says of itself; empty when it says nothing."""
        command = [CLOUDFS, "status", "--json"]
        try:
            answer = subprocess.run(
                command, env=self._environment(), capture_output=True, check=False, timeout=STATUS_S
            )
            status = dict(json.loads(answer.stdout))
        except (subprocess.TimeoutExpired, ValueError, TypeError):
            return {}
        self.daemon = status.get("pid") or self.daemon
        return status

    def pending(self) -> int | None:
        """Return how many changes are not on the server; None when nobody can tell."""
        return self.status().get("pending")

    def is_mounted(self) -> bool:
        """Tell whether something is mounted on the mount point, without asking what is."""
        point = str(self.mountpoint).replace("\\", "\\134").replace(" ", "\\040")
        return any(line.split(" ")[1] == point for line in Path("/proc/self/mounts").read_text().splitlines())

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "CLOUDFS_HOME": str(self.home)}


def say(text: str = "") -> None:
    """Tell the person."""
    print(text, flush=True)


def main() -> int:
    """Run the demo; return the exit code."""
    options = parse()
    listen_to_signals()
    clear_killed()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    mountpoint = options.mountpoint or (Path("cloud") if options.url else folder / "cloud")
    demo = Demo(folder, Path(os.path.abspath(mountpoint)))  # noqa: PTH100  # resolve() would ask a dead mount
    if not options.url:
        show_life(demo)
    try:
        with login_to(options, folder) as login, mounted(demo, login):
            explain(demo, login)
            wait(demo)
    except Interrupted:
        say("\ndemo: stopped.")
    except Failed as error:
        say(f"demo: {error}")
        return error.code
    finally:
        ignore_signals()
        remove(demo)
    return 0


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=f"{__doc__}".partition("\n")[0])
    parser.add_argument("--url", help="a real server's address, or that of any WebDAV folder")
    parser.add_argument("--user", help="with --url: the login name; the password is asked for")
    parser.add_argument("--ca-file", help="with --url: a certificate authority (PEM) to be trusted, too")
    parser.add_argument("--allow-http", action="store_true", help="with --url: send the password unencrypted")
    parser.add_argument("--mountpoint", type=Path, help="default: a temporary folder; with --url: ./cloud")
    options = parser.parse_args()
    if bool(options.url) != bool(options.user):
        parser.error("--url and --user go together")
    return options


def listen_to_signals() -> None:
    """Make signals end the demo in order, also when it was started in the background."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise Interrupted

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)


def ignore_signals() -> None:
    """Let the rest of the end happen undisturbed; every step of it is bounded."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


# --- demos that were killed ---


def show_life(demo: Demo) -> None:
    """Have others see that this demo lives: the kernel takes the lock away with the process."""
    new = demo.folder / f"{LOCK}.new"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.write(descriptor, os.fsencode(demo.mountpoint))
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    new.rename(demo.folder / LOCK)  # only then others look at it


def clear_killed() -> None:
    """End and remove what killed demos of made-up accounts have left, and say so."""
    for lock in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{LOCK}"):
        with contextlib.suppress(OSError):  # it lives, or is somebody else's
            found = lock.parent.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                continue
            descriptor = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                clear(Demo(lock.parent, Path(os.fsdecode(file.read()))))


def clear(demo: Demo) -> None:
    """End the daemon and the server of a demo that is dead itself, and remove its folder."""
    unmount(demo)
    for pid in servers_of(demo.folder):
        os.kill(pid, signal.SIGTERM)
        end_process(pid)
    if demo.is_mounted():
        say(f"demo: a killed demo's {demo.mountpoint} cannot be unmounted, so {demo.folder} stays.")
        return
    shutil.rmtree(demo.folder)
    say(f"demo: removed what a killed demo had left in {demo.folder}.")


def servers_of(folder: Path) -> Iterator[int]:
    """Find the processes that serve the made-up account in a demo's folder."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if {b"tests.servers.standin", os.fsencode(folder / "account")} <= set(words):
                yield int(path.parent.name)


# --- the account ---


def login_to(options: argparse.Namespace, folder: Path) -> contextlib.AbstractContextManager[Login]:
    """Return the real account that was asked for, or a made-up one on a server that lives as long."""
    if not options.url:
        return standin(folder)
    try:
        password = getpass.getpass(f"Password of {options.user} (it is not shown): ")
    except EOFError:
        raise Failed(
            "no password came; call it in a terminal, or pass the password on standard input", 2
        ) from None
    say("demo: logging in …")
    passed_on = ["--allow-http"] if options.allow_http else []
    passed_on += ["--ca-file", options.ca_file] if options.ca_file else []
    return contextlib.nullcontext(
        Login(options.url, options.user, password, real=True, options=tuple(passed_on))
    )


@contextlib.contextmanager
def standin(folder: Path) -> Iterator[Login]:
    """Serve a made-up account on a free port of this machine."""
    say("demo: making an account, and a server for it …")
    tree, password_file = folder / "account", folder / "password"
    build(tree)
    password = secrets.token_urlsafe(12)
    password_file.touch(0o600)
    password_file.write_text(password + "\n")
    command = [sys.executable, "-m", "tests.servers.standin", "--port", "0", "--user", ACCOUNT]
    command += ["--password-file", str(password_file), "--tree", str(tree)]
    # In a session of its own: Ctrl-C must not stop the server before the changes are on it.
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True)
    try:
        yield Login(url_of(server), ACCOUNT, password, real=False)
    finally:
        stop(server)


def url_of(server: subprocess.Popen[bytes]) -> str:
    """Return the address that the server prints once it listens."""
    assert server.stdout is not None  # noqa: S101  # it was started with a pipe
    with server.stdout as output:
        ready, _, _ = select.select([output], [], [], SERVER_S)
        line = output.readline() if ready else b""
    if not line:
        raise Failed("the embedded server did not start")
    return str(json.loads(line)["url"])


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a child, politely at first."""
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_S)


# --- the mount ---


@contextlib.contextmanager
def mounted(demo: Demo, login: Login) -> Iterator[None]:
    """Log in and mount; at the end give changes some time to reach the server, and unmount."""
    with mount_point(demo.mountpoint):
        options = ["--user", login.user, "--password-stdin", "--account", ACCOUNT]
        options += ["--secret-store", "file", *login.options]  # the password goes with the folder
        code = demo.cloudfs("login", login.url, *options, given=login.password + "\n", timeout_s=LOGIN_S)
        if code:
            raise Failed("there is no login, so nothing is mounted", code)
        try:
            if code := demo.cloudfs("mount", ACCOUNT, str(demo.mountpoint), timeout_s=MOUNT_S):
                raise Failed("nothing is mounted", code)
            demo.keep = login.real  # until it is known that nothing is pending
            yield
            demo.keep = not send(demo, login) and login.real
        finally:
            ignore_signals()
            unmount(demo)
            if login.real and not demo.keep:
                revoke(demo)


def revoke(demo: Demo) -> None:
    """Take back the app password that the login has made: nothing here needs it any more."""
    if demo.cloudfs("logout", ACCOUNT, "--discard-changes", timeout_s=REVOKE_S):
        say("demo: remove the app password of this login in the settings of the server, under Security.")


@contextlib.contextmanager
def mount_point(folder: Path) -> Iterator[None]:
    """Make the folder where it does not exist, and take away what was made."""
    if os.path.lexists(folder):
        yield
        return
    folder.mkdir(parents=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # still mounted: `remove` says so
            folder.rmdir()


def send(demo: Demo, login: Login) -> bool:
    """Wait until every change is on the server; tell whether that is sure."""
    if demo.pending() == 0:
        return True
    say("demo: changes are on their way to the server; Ctrl-C again does not wait for them.")
    with contextlib.suppress(Interrupted):
        demo.cloudfs("sync", "--wait", str(demo.mountpoint), timeout_s=SEND_S)
    pending = demo.pending()
    if pending != 0:
        changes = "some changes" if pending is None else f"{pending} change(s)"
        say(f"demo: {changes} may not be on the server{'' if login.real else ', and go with the demo'}.")
    return pending == 0


def unmount(demo: Demo) -> None:
    """Unmount and see to it that the daemon ends, also when programs still use the mount."""
    if demo.daemon is None:
        demo.status()
    if demo.is_mounted():
        demo.cloudfs("unmount", ACCOUNT, timeout_s=UNMOUNT_S)
    if demo.is_mounted():
        say(f"demo: a program still uses {demo.mountpoint}; it is detached, and gone when that program ends.")
        subprocess.run(["fusermount3", "-uz", demo.mountpoint], check=False, timeout=UNMOUNT_S)
    if demo.daemon is not None:
        end_process(demo.daemon)


def end_process(pid: int) -> None:
    """Wait until a daemon or server is gone; then tell it to go; then end it (a daemon loses nothing by that)."""
    for number in (None, signal.SIGTERM, signal.SIGKILL):
        if number is not None and is_ours(pid):
            os.kill(pid, number)
        deadline = time.monotonic() + STOP_S
        while is_ours(pid) and time.monotonic() < deadline:
            time.sleep(0.05)


def is_ours(pid: int) -> bool:
    """Tell whether the process is there, and cloudfs: numbers are given out again."""
    try:
        return b"cloudfs" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def remove(demo: Demo) -> None:
    """Take away everything of this run that is not needed any more."""
    if demo.is_mounted():
        say(f"demo: {demo.mountpoint} could not be unmounted, so {demo.folder} stays.")
    elif demo.keep:
        say(f"demo: what is missing on the server is kept in {demo.folder}. To send it:")
        say(
            f"  export CLOUDFS_HOME={shlex.quote(str(demo.home))}; mkdir -p {shlex.quote(str(demo.mountpoint))}"
        )
        say(f"  {CLOUDFS} mount {ACCOUNT} {shlex.quote(str(demo.mountpoint))} && {CLOUDFS} sync --wait")
    else:
        shutil.rmtree(demo.folder)
        say("demo: ended; nothing is left.")


# --- the person ---


def explain(demo: Demo, login: Login) -> None:
    """Say what is where, and what to try."""
    point, cloudfs = shlex.quote(str(demo.mountpoint)), shlex.quote(CLOUDFS)
    say(f"\n{login.user} on {login.url} is mounted on\n\n    {demo.mountpoint}\n\nIn another terminal:\n")
    say(f"    cd {point}")
    if not login.real:
        say("    ls -R Projects                    # everything is there at once, nothing is downloaded")
        say("    cat Documents/Letter.txt          # opened on demand")
        say(f"    tail -c 52428800 '{BIG_FILE}' | head -n 1   # the last quarter: only that is downloaded")
    say("    echo hello > hello.txt            # on the local disk when the command ends, soon on the server")
    say()
    say(f"    export CLOUDFS_HOME={shlex.quote(str(demo.home))}")
    say(f"    {cloudfs} sync --wait && {cloudfs} status")
    if not login.real:
        netrc = demo.folder / "netrc"
        netrc.touch(0o600)
        netrc.write_text(f"machine 127.0.0.1 login {login.user} password {login.password}\n")
        say("\nWhat the server has, without the mount:\n")
        say(f"    curl -s --netrc-file {netrc} {login.url}/remote.php/dav/files/{login.user}/hello.txt")
    say("\nCtrl-C here ends it.")


def wait(demo: Demo) -> None:
    """Return on Ctrl-C, or when somebody else unmounts."""
    try:
        while demo.is_mounted():
            time.sleep(0.5)
        say("\ndemo: somebody unmounted it.")
    except Interrupted:
        say("\ndemo: ending …")


if __name__ == "__main__":
    sys.exit(main())
