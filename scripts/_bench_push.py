"""Times how long a change of another client takes to show in a mount of a Nextcloud, and prints a Markdown table.

With notify_push: it stands in front of the server (tests/servers/front.py) and tells of each change at the moment when
the server has answered it; the figure is from that message until the mount shows the change. Without: the account is
asked every --poll seconds, and the figure is from the server's answer on. The other client speaks to the server itself.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from scripts._bench_mount import Mount, Server
from tests.servers.front import PushFront

_GIVEN_UP_S = 120.0
_LOOK_S = 0.002
_ASKS_FOR_ID = (
    '<d:propfind xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns"><d:prop><oc:fileid/></d:prop></d:propfind>'
)
_Change = tuple[str, httpx.Response, Callable[[], bool]]


def _changes(client: httpx.Client, url: str, folder: Path) -> Iterator[_Change]:
    """Make one change of another client's with each step: four kinds in turn, and how each looks once it is seen."""
    for number in itertools.count():
        name, moved = f"file%20{number}", f"moved%20{number}"
        path, there = folder / f"file {number}", folder / f"moved {number}"
        path.exists()  # the kernel knows that it is not there
        there.exists()
        yield "a new file", client.put(f"{url}/{name}", content=b"first"), partial(_has, path, b"first")
        yield "new content", client.put(f"{url}/{name}", content=b"second!"), partial(_has, path, b"second!")
        headers = {"Destination": f"{url}/{moved}", "Overwrite": "F"}
        reply = client.request("MOVE", f"{url}/{name}", headers=headers)
        yield "a new name", reply, partial(_stands, there, path)
        yield "a removal", client.delete(f"{url}/{moved}"), partial(_is_gone, there)


def _has(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:  # not there yet, or just being replaced (ESTALE)
        return False


def _stands(path: Path, instead_of: Path) -> bool:
    return path.exists() and not instead_of.exists()


def _is_gone(path: Path) -> bool:
    return not path.exists()


def _until(is_seen: Callable[[], bool]) -> float:
    began = time.perf_counter()
    while not is_seen():
        if time.perf_counter() - began > _GIVEN_UP_S:
            sys.exit("bench: a change was never seen")
        time.sleep(_LOOK_S)
    return time.perf_counter() - began


def _ids_told(reply: httpx.Response, folder_id: str, root_id: str) -> str:
    """Return what a Nextcloud with notify_push tells: of what is removed only the ids of its folder and the root."""
    told = reply.headers.get("OC-FileId", "")
    return f"[{int(told[:8])},{folder_id}]" if told else f"[{folder_id},{root_id}]"


def _file_id(client: httpx.Client, url: str) -> str:
    reply = client.request("PROPFIND", url, headers={"Depth": "0"}, content=_ASKS_FOR_ID).raise_for_status()
    (found,) = re.findall(r"<oc:fileid>(\d+)</oc:fileid>", reply.text)
    return str(found)


def _measure(server: Server, mount: Mount, front: PushFront | None, count: int) -> dict[str, list[float]]:
    took: dict[str, list[float]] = {}
    with mount, httpx.Client(auth=(server.user, server.password), timeout=60) as client:
        _until(lambda: mount.status()["changes"] == ("polling" if front is None else "push"))
        list(mount.point.iterdir())
        folder_id, root_id = (_file_id(client, url) for url in (server.url, server.url.rpartition("/")[0]))
        for what, reply, is_seen in itertools.islice(_changes(client, server.url, mount.point), count):
            reply.raise_for_status()
            if front is not None:
                front.push.tell(server.user, f"notify_file_id {_ids_told(reply, folder_id, root_id)}")
            took.setdefault(what, []).append(_until(is_seen))
    return took


def _print(how: str, took: dict[str, list[float]], goal: str) -> None:
    everything = [each for times in took.values() for each in times]
    for what, times in [*took.items(), ("all", everything)]:
        middle, worst = statistics.median(times), max(times)
        print(f"| {how}: {what}, {len(times)} times | {middle:.2f} s | {worst:.2f} s | {goal} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="scripts/bench push", description=__doc__)
    parser.add_argument("--url", required=True, help="of the account's files on a Nextcloud")
    parser.add_argument("--user", required=True, help="its id")
    parser.add_argument(
        "--password-file", type=Path, required=True, help="its first line is the (app) password"
    )
    parser.add_argument("--count", type=int, default=20, help="changes, with notify_push and without")
    parser.add_argument("--poll", type=int, default=30, help="seconds")
    options = parser.parse_args()
    password = options.password_file.read_text().splitlines()[0]
    parts = urlsplit(options.url)
    site = f"{parts.scheme}://{parts.netloc}"
    print("| change | middle | worst | goal |\n|---|---|---|---|")
    with contextlib.ExitStack() as stack:
        homes = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cloudfs-bench-")))
        server = stack.enter_context(Server(options.url, options.user, password).folder())
        front = stack.enter_context(PushFront(site))
        for how, used, settings, goal in (
            ("told", front, "poll_s = 3600\nlisting_ttl_s = 3600\n", "1 s"),
            (f"asked every {options.poll} s", None, f"poll_s = {options.poll}\n", f"{options.poll + 1} s"),
        ):
            home = homes / ("poll" if used is None else "push")
            home.mkdir()
            url = server.url if used is None else server.url.replace(site, used.url)
            mount = Mount(home, Server(url, server.user, server.password))
            mount.configure(settings)
            _print(how, _measure(server, mount, used, options.count), goal)


if __name__ == "__main__":
    main()
