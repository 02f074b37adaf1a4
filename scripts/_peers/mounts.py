"""The clients that are compared: cloudfs and its peers, and curl as the limit of what a stream can be."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import httpx

from scripts._peers.clients import Client, TooSlow, call, find_program

__all__ = ["CLIENTS", "Cloudfs", "Curl", "Davfs", "Rclone"]

_SECONDS = 60.0
"""What a command that only starts or ends something may take."""


_IDLE_TIMES = 4
_KEEP_FREE = "cache_keep_free_bytes = 1_000_000_000"


class Cloudfs(Client):
    """This project, as it is in this .venv."""

    name = "cloudfs"
    program = "cloudfs"
    _account = "bench"

    def prepare(self, scratch: Path) -> None:
        """Log in once; each mount begins with a copy of that."""
        self.home = self._new = scratch / "cloudfs-login"
        self._new.mkdir(mode=0o700)
        server = self.server
        self._run(
            "login", server.url, "--user", server.user, "--password-stdin", "--account", self._account,
            given=server.password + "\n",
        )  # fmt: skip
        # A disk that is nearly full would have nothing cached; what that is like is not what is compared here.
        config = next(self._new.rglob(f"{self._account}.toml"))
        text = config.read_text()
        config.write_text(text.replace("[settings]", f"[settings]\n{_KEEP_FREE}"))

    def mount(self) -> None:
        """Mount an account that has only logged in so far."""
        shutil.copytree(self._new, self.home, dirs_exist_ok=True)
        self._run("mount", self._account, str(self.point))
        self._pid = int(json.loads(self._run("status", self._account, "--json"))["pid"])

    def unmount(self) -> None:
        """Unmount; what was not sent by then is of no interest any more."""
        if self.is_mounted():
            self.look()
            self._run("unmount", self._account)

    def sync(self, patience_s: float) -> None:
        """Ask it to wait until all is there."""
        self._run("sync", "--wait", str(self.point), patience_s=patience_s)

    def pids(self) -> list[int]:
        """Return the daemon."""
        return [self._pid] if hasattr(self, "_pid") else []

    def _run(self, *arguments: str, given: str = "", patience_s: float = _SECONDS) -> str:
        program = find_program(self.program) or self.program
        environment = {"CLOUDFS_HOME": str(self.home)}
        return call(
            program, *arguments, patience_s=patience_s, given=given, environment=environment, meanwhile=self
        )


class Rclone(Client):
    """`rclone mount` with its cache for everything."""

    name = "rclone"
    program = "rclone"
    _process: subprocess.Popen[bytes] | None = None

    def prepare(self, scratch: Path) -> None:
        """Write its configuration: the user's files are the remote, the bench's folder a path in it."""
        self._program = find_program(self.program) or self.program
        secret = call(self._program, "obscure", "-", given=self.server.password, patience_s=_SECONDS).strip()
        nextcloud = self.server.is_nextcloud()
        url, self._path = self.server.url, ""
        if nextcloud:  # its uploads in pieces want the address of all the user's files
            url, _, self._path = url.rpartition("/")
        self._config = scratch / "rclone.conf"
        self._config.touch(0o600)
        self._config.write_text(
            f"[bench]\ntype = webdav\nurl = {url}\nvendor = {'nextcloud' if nextcloud else 'other'}\n"
            f"user = {self.server.user}\npass = {secret}\n"
        )

    def mount(self) -> None:
        """Start it in the foreground, with a socket to ask it over."""
        self._socket = self.home / "rc"
        with (self.home / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    self._program, "mount", f"bench:{self._path}", self.point, "--config", self._config,
                    "--vfs-cache-mode", "full", "--cache-dir", self.home / "cache",
                    "--rc", "--rc-no-auth", "--rc-addr", f"unix://{self._socket}",
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self.wait_mounted()

    def unmount(self) -> None:
        """Unmount and wait for its end."""
        if self._process is None:
            return
        self.look()
        subprocess.run(["fusermount3", "-uz", self.point], check=False, stderr=subprocess.DEVNULL)
        try:
            self._process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def sync(self, patience_s: float) -> None:
        """Ask until nothing is queued: it has no command that waits.

        A closed file is queued only when the kernel has told of the close, which is a little later.
        """
        until_s = time.monotonic() + patience_s
        idle = 0
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(self._socket)), timeout=_SECONDS) as client:
            while True:
                cache = client.post("http://rclone/vfs/stats").raise_for_status().json()["diskCache"]
                idle = 0 if cache["uploadsInProgress"] or cache["uploadsQueued"] else idle + 1
                if idle == _IDLE_TIMES:
                    return
                if time.monotonic() > until_s:
                    raise TooSlow(f"over {patience_s:.0f} s")
                self.look()
                time.sleep(0.2)

    def pids(self) -> list[int]:
        """Return the one that was started."""
        return [self._process.pid] if self._process else []


class Davfs(Client):
    """davfs2, which mounts as root only, with its defaults but for locks, which Nextcloud does not have."""

    name = "davfs2"
    program = "mount.davfs"

    @classmethod
    def missing(cls) -> str | None:
        """Say so where we are not root, too."""
        return super().missing() or (None if os.geteuid() == 0 else "davfs2 mounts as root only")

    def prepare(self, scratch: Path) -> None:
        """Write its secret."""
        scratch.chmod(0o711)  # its daemon is another user, and has to get through
        self._secrets = scratch / "davfs2-secrets"
        self._secrets.touch(0o600)
        self._secrets.write_text(f'"{self.server.url}" "{self.server.user}" "{self.server.password}"\n')

    def mount(self) -> None:
        """Mount; it goes to the background by itself."""
        cache, config = self.home / "cache", self.home / "conf"
        cache.mkdir()
        cache.chmod(0o1777)
        config.write_text(
            f"secrets {self._secrets}\ncache_dir {cache}\nask_auth 0\nuse_locks 0\n"
            "buf_size 64\n"  # Linux 6.16 and later give it no listing otherwise
        )
        self.call(
            "mount", "-t", "davfs", "-o", f"conf={config}", self.server.url, self.point, patience_s=_SECONDS
        )

    def unmount(self) -> None:
        """Unmount, which sends what was not sent yet."""
        if self.is_mounted():
            self.call("umount", self.point, patience_s=_SECONDS)

    def sync(self, patience_s: float) -> None:
        """Unmount: nothing else tells when all is there."""
        self.call("umount", self.point, patience_s=patience_s)

    def kill(self) -> None:
        """Take away, too, what keeps another one from mounting in the same place."""
        super().kill()
        name = "-".join(self.point.parts[1:]) + ".pid"
        Path("/var/run/mount.davfs", name).unlink(missing_ok=True)

    def pids(self) -> list[int]:
        """Find it by its command line: it is nobody's child."""
        found = []
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                try:
                    words = (process / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if words[0].endswith(b"mount.davfs") and str(self.point).encode() in words:
                    found.append(int(process.name))
        return found


class Curl(Client):
    """No mount: one request and its bytes are the limit of any client."""

    name = "curl"
    program = "curl"

    def prepare(self, scratch: Path) -> None:
        """Write its login."""
        self.config = scratch / "curl.conf"
        self.config.touch(0o600)
        self.config.write_text(f'user = "{self.server.user}:{self.server.password}"\n')

    def mount(self) -> None:
        """Nothing to mount."""

    def unmount(self) -> None:
        """Nothing was mounted."""

    def sync(self, patience_s: float) -> None:
        """What it sent is there when it ends."""

    def pids(self) -> list[int]:
        """Nothing stays."""
        return []


CLIENTS: dict[str, type[Client]] = {kind.name: kind for kind in (Cloudfs, Rclone, Davfs, Curl)}
