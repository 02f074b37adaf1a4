"""Two mounts and a WebDAV client at work in one folder, over a network that fails; then all have to see the same.

scripts/soak --seconds 600 --kill                                 on the stand-in server
scripts/soak --url URL --user NAME --password-file FILE --kill    in a new folder of the WebDAV folder at URL

No acknowledged content may be lost, nothing may be read that nobody wrote, no call may take longer than its deadline.
The exit code is 1 where any of that happened. What a run left is kept then.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.functional.stages import PASSWORD, USER
from tests.servers import StandIn
from tests.soak.course import Account, Plan, run
from tests.tooling.guards import PROXY_VARIABLES, SESSION_VARIABLES

__all__ = ["folder_of", "stand_in"]

_LOCKED_S = 60.0


@contextlib.contextmanager
def stand_in() -> Iterator[Account]:
    """Start the stand-in server of the tests."""
    with StandIn() as server:
        yield Account(server.dav_url(USER).rstrip("/"), USER, PASSWORD)


@contextlib.contextmanager
def folder_of(account: Account) -> Iterator[Account]:
    """Make a folder for one run, and remove it."""
    inside = Account(f"{account.url.rstrip('/')}/soak-{secrets.token_hex(4)}", account.user, account.password)
    with httpx.Client(auth=(account.user, account.password), timeout=120, trust_env=False) as client:
        client.request("MKCOL", inside.url).raise_for_status()
        try:
            yield inside
        finally:
            _remove(client, inside.url)


def _remove(client: httpx.Client, url: str) -> None:
    """Remove a folder. A request that was cut off may hold a lock in it for a while."""
    until = time.monotonic() + _LOCKED_S
    while (answer := client.delete(url)).status_code == httpx.codes.LOCKED and time.monotonic() < until:
        time.sleep(1.0)
    answer.raise_for_status()


def main() -> int:
    """Run once; print what came of it."""
    parser = argparse.ArgumentParser(
        prog="scripts/soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--url", help="of a WebDAV folder, http://; without it the stand-in server is started"
    )
    parser.add_argument("--user")
    parser.add_argument("--password-file", type=Path, help="its first line is an app password")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", default=secrets.token_hex(4), help="of what each client chooses")
    parser.add_argument("--kill", action="store_true", help="kill -9 the daemons now and then")
    parser.add_argument("--encrypt", action="store_true", help="the cache of one of the mounts")
    asked = parser.parse_args()
    if asked.url and not (asked.url.startswith("http://") and asked.user and asked.password_file):
        parser.error("--url has to begin with http://, and needs --user and --password-file")
    for name in (*PROXY_VARIABLES, *SESSION_VARIABLES):
        os.environ.pop(name, None)  # no keyring, no desktop and no proxy has a part in this
    if asked.url:
        password = asked.password_file.read_text().splitlines()[0]
        where = folder_of(Account(asked.url, asked.user, password))
    else:
        where = stand_in()
    root = Path(tempfile.mkdtemp(prefix="cloudfs-soak-"))
    print(f"soak: seed {asked.seed}, {asked.seconds:.0f} s, in {root}", flush=True)
    with where as account:
        report = run(Plan(asked.seed, asked.seconds, kill=asked.kill, encrypt=asked.encrypt), account, root)
    print(report, flush=True)
    if report.faults:
        print(f"soak: what it left is in {root}")
        return 1
    shutil.rmtree(root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
