"""One run: who works where, what fails when, and what is seen when everybody has ended."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from cloudfs.control.instance import find_holder
from cloudfs.paths import is_local_only
from tests.functional.stages import REPOSITORY, MountStage
from tests.soak.blocked import give_up
from tests.soak.dav import Folder
from tests.soak.judge import Verdict, View, judge
from tests.soak.network import Network
from tests.soak.notes import Contents, Notes, read_notes

__all__ = ["Account", "Plan", "Report", "run"]

MOUNTS = ("A", "B")
BESIDE = "C"
"""The client that has no mount."""
SLACK_S = 10.0
"""What a call may take beyond the deadline on a machine that is busy with other things."""
_DEADLINE_S = 15.0
_SETTINGS = {
    "A": "delete_guard = 0\ndelete_guard_server = 0\n",
    "B": "delete_guard = 0\ndelete_guard_server = 0\npoll_s = 5.0\n",
}
"""Nobody is there to answer whether so much was meant to go."""
_ENCRYPTED = 'cache_encrypt = true\ncache_key = "file"\n'
_PATIENCE_S = 600.0
"""For everybody to come to rest and agree. Far more than it takes: it ends by being equal."""
_CRASH = "Traceback (most recent call last)"


@dataclass(frozen=True)
class Account:
    """A WebDAV folder that the run has for itself, and who may go there."""

    url: str
    user: str
    password: str


@dataclass(frozen=True)
class Plan:
    """What a run does."""

    seed: str
    seconds: float
    kill: bool = False
    encrypt: bool = False
    """The cache of mount B."""
    pace_s: float = 0.3
    """What a client waits between two things, on average."""
    haste: float = 1.0
    """How many times shorter than usual failures of the network are."""


@dataclass
class Report:
    """What came of a run."""

    seed: str
    verdict: Verdict
    kills: int
    hits: dict[str, int]
    """How often each failure of the network hit something."""
    settled_s: float
    clients: list[dict[str, Any]]
    faults: list[str] = field(default_factory=list)
    """Everything that must not be; empty: it has passed."""

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {'FAILED' if self.faults else 'ok'}, {self.kills} kills"]
        for client in self.clients:
            slowest = sorted(((took_s, call) for call, took_s in client["longest"].items()), reverse=True)[:3]
            calls = ", ".join(f"{call} {took_s:.1f} s" for took_s, call in slowest)
            done = sum(client["done"].values())
            lines.append(
                f"  {client['who']}: {done} things done, {client['kept']} acknowledged; slowest: {calls or '-'}"
            )
        lines.append(
            f"  network: {', '.join(f'{what} {count}' for what, count in sorted(self.hits.items()))}"
        )
        lines += [f"  {what}: {count}" for what, count in sorted(self.verdict.counts.items())]
        lines.append(f"  all views equal {self.settled_s:.0f} s after the end")
        return "\n".join([*lines, *(f"  FAULT {fault}" for fault in self.faults)])


def run(plan: Plan, account: Account, root: Path) -> Report:
    """Have everybody work, end it, and judge. `root` is an empty folder for all that a run leaves."""
    secret = root / "password"
    secret.touch(0o600)
    secret.write_text(account.password)
    with contextlib.ExitStack() as stack:
        networks = {
            who: stack.enter_context(Network(account.url, f"{plan.seed}-{who}", haste=plan.haste))
            for who in MOUNTS
        }
        stages = {
            who: stack.enter_context(_mounted(root, who, networks[who], account, plan)) for who in MOUNTS
        }
        stuck, kills = _work(plan, account, root, stages, networks.values())
        folder = Folder(account.url, account.user, account.password)
        stack.callback(folder.close)
        views, settled_s = _settle(root, stages, folder)
        hits = sum((network.hits for network in networks.values()), Counter[str]())
    (root / "views.json").write_text(json.dumps(views, indent=1))
    notes = read_notes(root)
    verdict = judge(notes, Contents(root / "contents"), views)
    clients = [note for note in notes if note["kind"] == "summary"]
    faults = [*stuck, *_differences(views), *verdict.faults, *_crashes(root)]
    return Report(plan.seed, verdict, kills, dict(hits), settled_s, clients, faults)


@contextlib.contextmanager
def _mounted(root: Path, who: str, network: Network, account: Account, plan: Plan) -> Iterator[MountStage]:
    settings = _SETTINGS[who] + (_ENCRYPTED if plan.encrypt and who == MOUNTS[-1] else "")
    stage = MountStage(
        root / f"home-{who}", network, settings=settings, user=account.user, password=account.password
    )
    try:
        yield stage
    finally:
        stage.close()


def _work(
    plan: Plan,
    account: Account,
    root: Path,
    stages: dict[str, MountStage],
    networks: Collection[Network],
) -> tuple[list[str], int]:
    """Let the clients work while the networks fail; return who of them did not end, and how many kills there were."""
    common = (str(root), plan.seed)
    clients = {
        who: _start("mounted", common, who, str(stage.mount_point), plan.pace_s, _DEADLINE_S + SLACK_S)
        for who, stage in stages.items()
    }
    clients[BESIDE] = _start(
        "dav", common, BESIDE, account.url, account.user, root / "password", 3 * plan.pace_s
    )
    kills, stuck = 0, []
    for network in networks:
        network.fail()
    try:
        kills = _kill_now_and_then(plan, root, stages)
    finally:
        (root / "stop").touch()
        for network in networks:
            network.calm()
        for who, client in clients.items():
            try:
                if client.wait(_PATIENCE_S / 5):
                    stuck.append(f"client {who} ended with {client.returncode}")
            except subprocess.TimeoutExpired:
                client.kill()
                stuck.append(f"client {who} does not end")
    return stuck, kills


def _start(program: str, common: tuple[str, str], who: str, *more: object) -> subprocess.Popen[bytes]:
    """Start a client by exec: a plain fork would inherit what this process has open."""
    root, seed = common
    command = [sys.executable, "-m", f"tests.soak.{program}", root, who, seed, *map(str, more)]
    return subprocess.Popen(command, cwd=REPOSITORY)


def _kill_now_and_then(plan: Plan, root: Path, stages: dict[str, MountStage]) -> int:
    """Wait for the end of the run; where it is wanted, kill a daemon every now and then, and mount again."""
    choose, pause, kills = random.Random(f"kills-{plan.seed}"), threading.Event(), 0
    end = time.monotonic() + plan.seconds
    while (left := end - time.monotonic()) > 0:
        if not plan.kill:
            pause.wait(left)
            continue
        pause.wait(min(left, choose.uniform(0.04, 0.12) * min(plan.seconds, 600.0)))
        if end - time.monotonic() <= 0 and kills:
            break
        who = choose.choice(MOUNTS)
        down = root / f"down-{who}"
        stages[who].kill()
        down.touch()
        kills += 1
        _wait_until_ended(stages[who])
        stages[who].mount()
        down.unlink()
    return kills


def _wait_until_ended(stage: MountStage) -> None:
    """Its process is gone before its last thread is, and the account is held until then."""
    until, pause = time.monotonic() + _PATIENCE_S / 10, threading.Event()
    while find_holder(stage.home / "state/a") is not None:
        assert time.monotonic() < until, "a killed daemon does not end: see /proc/PID/task"
        pause.wait(0.05)


def _settle(root: Path, stages: dict[str, MountStage], folder: Folder) -> tuple[dict[str, View], float]:
    """Wait until all see the same and nothing is left to be sent; return the last views, and how long it took."""
    began, pause = time.monotonic(), threading.Event()
    while True:
        for who, stage in stages.items():
            stage.cloudfs("sync", "--wait", "--timeout", "60", check=False)
            _give_up(root, who, stage)
        views: dict[str, View] = {who: _view(root, stage.mount_point) for who, stage in stages.items()}
        views[BESIDE] = _view_of_server(root, folder)
        pending = [stage.status()["pending"] for stage in stages.values()]
        took_s = time.monotonic() - began
        if (not _differences(views) and not any(pending)) or took_s > _PATIENCE_S:
            return views, took_s
        pause.wait(1.0)


def _give_up(root: Path, who: str, stage: MountStage) -> None:
    """Do what `cloudfs status` says about what can never go up, and note what was still there of it."""
    blocked = stage.status()["blocked"]
    if blocked:
        tails = [note["tail"].encode() for note in read_notes(root) if note["kind"] == "tail kept"]
        notes = Notes(root, who, "")
        for tail in give_up(stage.mount_point, cast("list[dict[str, Any]]", blocked), tails):
            notes.note("held back", tail=tail)
        notes.close()


def _view(root: Path, mount: Path) -> View:
    command = [sys.executable, "-m", "tests.soak.look", str(root), str(mount)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True, timeout=_PATIENCE_S)
    view: View = json.loads(done.stdout)
    return view


def _view_of_server(root: Path, folder: Folder) -> View:
    contents = Contents(root / "contents")
    view: View = {}
    for path, is_folder in folder.walk().items():
        answer = None if is_folder else folder.ask("GET", path)
        if answer is None:
            view[path] = None
        else:
            view[path] = contents.keep(answer.content) if answer.is_success else f"HTTP {answer.status_code}"
    return view


def _differences(views: dict[str, View]) -> list[str]:
    """Return what not everybody sees alike; names that stay on one machine are nobody else's business."""
    shared = {
        who: {p: digest for p, digest in view.items() if not any(map(is_local_only, p.split("/")))}
        for who, view in views.items()
    }
    paths = sorted(set().union(*shared.values()))
    seen = {path: {who: view.get(path, "nothing") for who, view in shared.items()} for path in paths}
    return [f"not alike: {path}: {by}" for path, by in seen.items() if len(set(by.values())) > 1]


def _crashes(root: Path) -> list[str]:
    logs = [log for who in MOUNTS for log in (root / f"home-{who}").glob("state/*/daemon.log*")]
    assert len(logs) >= len(MOUNTS), "each daemon has a log"  # or nothing would be looked into
    texts = {log: log.read_text(errors="replace") for log in logs}
    return [
        f"{log.relative_to(root)}: {os.linesep.join(text[at : at + 2000].splitlines()[:40])}"
        for log, text in texts.items()
        if (at := text.find(_CRASH)) >= 0
    ]
