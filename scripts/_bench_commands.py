"""Times each command from its start to the first thing that a person sees, on a terminal.

No test looks at these figures: they depend on the machine, and on what else it does. The goal is that of a command that
feels as if it were there at once. On a busy machine only the processor's time says something.
"""

from __future__ import annotations

import argparse
import os
import pty
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from cloudfs.config import Account, Folders, save_account, write_secret

_GOAL_S = 0.3
_NOBODY = "https://127.0.0.1:1"
_COMMANDS = (
    "--help",
    f"login {_NOBODY}",
    f"login {_NOBODY} --user zoe",
    "login http://cloud.example.org",
    "logout work",
    "accounts",
    "mount work /nowhere",
    "unmount work",
    "status",
    "sync --wait work",
    "pause work",
    "pin",
    "free /nowhere",
    "cache info",
    "ls /nowhere",
    "info /nowhere",
    "conflicts",
    "deletions",
    "log",
    "reload work",
    "doctor --offline",
    "doctor",
    "service status",
    "completion bash",
)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5, help="so often each; the quickest counts")
    times = parser.parse_args().times
    print(f"| command | first output | CPU until then | goal {_GOAL_S:.1f} s |\n|---|---:|---:|---|")
    with tempfile.TemporaryDirectory(prefix="cloudfs-bench-") as home:
        environ = {**os.environ, "CLOUDFS_HOME": home, "TERM": "xterm"}
        os.environ["CLOUDFS_HOME"] = home
        for command in _COMMANDS:
            _prepare()
            runs = [_first_output_s(command.split(), environ) for _ in range(times)]
            took_s, busy_s = (min(figures) for figures in zip(*runs, strict=True))
            met = "met" if took_s <= _GOAL_S else "**missed**"
            print(f"| `{command}` | {took_s:.2f} s | {busy_s:.2f} s | {met} |", flush=True)


def _prepare() -> None:
    """Have an account; a logout may have taken it."""
    folders = Folders.from_environment()
    folders.create()
    write_secret(folders, "work", "app-password")
    account = Account(url=f"{_NOBODY}/remote.php/dav/files/zoe/", user="zoe", base_url=f"{_NOBODY}/")
    save_account(folders, "work", account)


def _first_output_s(words: list[str], environ: dict[str, str]) -> tuple[float, float]:
    """Return how long it took, and the processor's time of that."""
    ours, theirs = pty.openpty()
    command = [str(Path(sys.executable).with_name("cloudfs")), *words]
    began = time.monotonic()
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ)
    os.close(theirs)
    try:
        with suppress(OSError):  # it has ended without a word
            os.read(ours, 1)
        took_s = time.monotonic() - began
        return took_s, int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[0]) / 1e9
    finally:
        process.kill()
        process.wait()
        os.close(ours)


if __name__ == "__main__":
    main()
