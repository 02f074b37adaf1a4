"""``python -m tests.servers.standin``: a stand-in for people to look at.

Prints one JSON line with the URL when it listens, and runs until interrupted.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from pathlib import Path

from tests.servers.standin.server import StandIn


def main() -> None:
    """Serve one account with the files of a folder."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers.standin", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--user", default="demo")
    parser.add_argument(
        "--password-file", type=Path, required=True, help="its first line is the login password"
    )
    parser.add_argument(
        "--tree", type=Path, help="folder whose files the account starts with; never written to"
    )
    parser.add_argument("--tls", action="store_true")
    parser.add_argument(
        "--unbuffered", action="store_true", help="a front end that passes bodies through as they come"
    )
    options = parser.parse_args()
    password = options.password_file.read_text().splitlines()[0]
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    server = StandIn(
        {options.user: password}, port=options.port, tls=options.tls, buffered=not options.unbuffered
    )
    if options.tree is not None:
        server.account(options.user).adopt(options.tree)
    with server:
        certificate = str(server.certificate.certificate) if server.certificate is not None else None
        sys.stdout.write(
            json.dumps({"url": server.url, "user": options.user, "certificate": certificate}) + "\n"
        )
        sys.stdout.flush()
        stop.wait()


if __name__ == "__main__":
    main()
