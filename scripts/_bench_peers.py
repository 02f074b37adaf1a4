"""Runs cloudfs, rclone mount, davfs2 and curl in turn on one server, near and far, and prints a Markdown table.

The account gets a folder with 3,600 files (600 MB) and what the clients put there; it is removed in the end. Needs 8 GB
on the local disk, and root for davfs2. No test looks at these figures.
"""

from __future__ import annotations

import argparse
import contextlib
import platform
import secrets
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

from scripts._peers.chart import chart
from scripts._peers.clients import Client
from scripts._peers.dataset import FULL, build, build_sources
from scripts._peers.figures import Figure, Figures
from scripts._peers.mounts import CLIENTS, Cloudfs, Curl
from scripts._peers.proxy import DelayProxy
from scripts._peers.server import Server
from scripts._peers.table import document, tables
from scripts._peers.turn import Turn, take_turn
from scripts._peers.works import WORKS, Work

_DOCS = Path(__file__).resolve().parent.parent / "docs"
_LARGE_BYTES = 512 * 1024
_SYNC_S = 1800.0


class Bench:
    """The server's folder, the proxy and the clients of one run."""

    def __init__(self, options: argparse.Namespace, server: Server, proxy: DelayProxy, scratch: Path) -> None:
        self._options = options
        self._server = server
        self._proxy = proxy
        self._sources = scratch / "sources"
        self._scratch = scratch
        self.clients = [
            kind(scratch, server.behind(proxy.port)) for kind in _present(options.clients.split(","))
        ]

    def run(self, figures: Figures) -> None:
        """Go through all distances, repeats, kinds of work and clients; the clients are the innermost."""
        build_sources(self._sources, FULL)
        for rtt_ms in map(int, self._options.rtt.split(",")):
            self._proxy.rtt_s = rtt_ms / 1000
            for repeat in range(self._options.repeats):
                for work in _works(self._options.rows):
                    for client in self.clients:
                        for figure in self._turn(rtt_ms, repeat, work, client):
                            figures.add(figure)
                            _tell(figure)
                self._make_space()

    def _turn(self, rtt_ms: int, repeat: int, work: Work, client: Client) -> list[Figure]:
        scratch = f"{client.name}-{work.key}-{rtt_ms}-{repeat}-{secrets.token_hex(2)}"
        turn = Turn(
            client,
            self._server,
            self._proxy,
            self._sources,
            rtt_ms,
            self._options.patience,
            work.title,
            scratch,
        )
        if isinstance(client, Curl):
            limit = work.limit
            return take_turn(turn, lambda it: limit(it, client)) if limit else []
        return take_turn(turn, work.act)

    def _make_space(self) -> None:
        """Remove large files that were put aside. Small ones stay: see `Client`."""
        for folder in self._scratch.iterdir():
            for path in folder.rglob("*") if folder != self._sources else ():
                with contextlib.suppress(OSError):
                    if path.is_file() and path.stat().st_size > _LARGE_BYTES:
                        path.unlink()


def _present(names: list[str]) -> Iterator[type[Client]]:
    for name in names:
        if reason := CLIENTS[name].missing():
            print(f"left out: {name}: {reason}", file=sys.stderr)
        else:
            yield CLIENTS[name]


def _works(keys: str) -> list[Work]:
    chosen = keys.split(",") if keys else [work.key for work in WORKS]
    return [work for work in WORKS if work.key in chosen]


def _tell(figure: Figure) -> None:
    said = figure.failed or f"{figure.seconds:.2f} s, {figure.requests} requests"
    print(f"{figure.rtt_ms} ms, {figure.work}, {figure.client}: {said}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _folder(server: Server, name: str, scratch: Path) -> Iterator[Server]:
    """Make the folder with all its files; a folder that was named and is there already is taken as it is, and stays."""
    inside = server.inside(name or f"bench-{secrets.token_hex(4)}")
    new = inside.make("")
    try:
        if new:
            _fill(inside, scratch / "filling")
        yield inside
    finally:
        if not name:
            inside.remove("")


def _fill(server: Server, scratch: Path) -> None:
    """Fill the server's folder through a mount of ours: what is small goes in bulk where that is possible."""
    scratch.mkdir()
    build(scratch / "dataset", FULL)
    client = Cloudfs(scratch, server)
    client.begin()
    try:
        print("filling the server's folder", file=sys.stderr)
        client.call(
            "sh", "-c", 'cp -a "$1"/* "$2"', "sh", scratch / "dataset", client.point, patience_s=_SYNC_S
        )
        client.sync(_SYNC_S)
    finally:
        client.unmount()


def _facts(options: argparse.Namespace) -> str:
    rclone = subprocess.run(
        [str(Path(sys.executable).with_name("rclone")), "version"],
        check=False,
        stdout=subprocess.PIPE,
        text=True,
    )
    lines = [
        f"{time.strftime('%Y-%m-%d')}, Linux {platform.release().partition('-')[0]},",
        f"Python {platform.python_version()},",
        f"{rclone.stdout.splitlines()[0] if rclone.stdout else 'rclone'}.",
        options.note,
    ]
    return textwrap.fill(" ".join(filter(None, lines)), 118)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench peers", description=__doc__)
    parser.add_argument("--url", required=True, help="of a WebDAV folder, http://")
    parser.add_argument("--user", required=True)
    parser.add_argument(
        "--password-file", type=Path, required=True, help="its first line is the (app) password"
    )
    parser.add_argument("--rows", default="", help=f"some of {','.join(work.key for work in WORKS)}")
    parser.add_argument("--clients", default=",".join(CLIENTS), help="some of the default")
    parser.add_argument("--rtt", default="0,40,120", help="round trips in ms")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--patience", type=float, default=180, help="seconds until a client is given up")
    parser.add_argument(
        "--folder", default="", help="name of the server's folder, which then stays for the next run"
    )
    parser.add_argument("--figures", type=Path, help="a file that keeps all figures; those in it count too")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md and .svg")
    parser.add_argument("--note", default="", help="a sentence about machine and server for the page")
    return parser.parse_args()


def main() -> None:
    """Measure, and print the tables."""
    options = _options()
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(1)
    )  # with everything unmounted and removed, as after Ctrl-C
    password = options.password_file.read_text().splitlines()[0]
    account = Server(options.url, options.user, password)
    with tempfile.TemporaryDirectory(prefix="cloudfs-peers-", ignore_cleanup_errors=True) as name:
        scratch = Path(name)
        figures = Figures(options.figures or scratch / "figures")
        if options.repeats:
            with (
                DelayProxy(*account.host).running() as proxy,
                _folder(account, options.folder, scratch) as server,
            ):
                Bench(options, server, proxy, scratch).run(figures)
        print("\n".join(tables(figures)))
        if options.write:
            (_DOCS / "benchmarks.md").write_text(document(figures, _facts(options), "benchmarks.svg"))
            (_DOCS / "benchmarks.svg").write_text(chart(figures))


if __name__ == "__main__":
    main()
