"""A turn notes what a client did, also one that fails or hangs, and takes it away after that."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts._peers.clients import Client, TooSlow, call
from scripts._peers.proxy import DelayProxy
from scripts._peers.server import Server
from scripts._peers.turn import Turn, Wrong, take_turn
from scripts._peers.usage import Usage
from tests.servers import StandIn

USER, PASSWORD = "zoe", "secret of zoe"


class Folder(Client):
    """A client that is a plain folder."""

    name = "folder"
    program = "sh"

    def prepare(self, scratch: Path) -> None:
        self.did: list[str] = []

    def mount(self) -> None:
        self.did.append("mount")

    def unmount(self) -> None:
        self.did.append("unmount")

    def kill(self) -> None:
        self.did.append("kill")

    def sync(self, patience_s: float) -> None:
        self.did.append("sync")

    def pids(self) -> list[int]:
        return [os.getpid()]


@pytest.fixture
def server() -> Iterator[Server]:
    with StandIn({USER: PASSWORD}) as standin:
        yield Server(f"{standin.url}/remote.php/dav/files/{USER}", USER, PASSWORD)


@pytest.fixture
def turn(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Turn]:
    for name in ("_SETTLES_S", "_QUIET_S"):
        monkeypatch.setattr(f"scripts._peers.turn.{name}", 0.01)
    with DelayProxy(*server.host).running() as proxy:
        client = Folder(tmp_path, server.behind(proxy.port))
        yield Turn(client, server, proxy, tmp_path, 40, 60, "work", "own")


def test_what_is_inside_another_measurement_has_figures_of_its_own(turn: Turn) -> None:
    def act(it: Turn) -> None:
        it.begin()
        with it.measured("all"):
            with it.measured("returns"):
                it.run("true")
            it.client.server.make("folder")
            it.sync()

    returns, whole = take_turn(turn, act)
    assert (returns.work, returns.requests, returns.failed) == ("work: returns", 0, "")
    assert (whole.work, whole.methods, whole.rtt_ms) == ("work: all", {"MKCOL": 1}, 40)
    assert whole.up_bytes > 100
    assert whole.down_bytes > 100
    assert whole.seconds >= returns.seconds
    assert whole.peak_mib > 5


def test_a_program_that_hangs_is_given_up_and_its_client_taken_away(turn: Turn) -> None:
    turn.patience_s = 0.1

    def act(it: Turn) -> None:
        it.begin()
        with it.measured("cold"):
            it.run("sleep", "600")
        pytest.fail("nothing else is measured then")

    (figure,) = take_turn(turn, act)
    assert figure.failed == "over 0 s"
    assert isinstance(turn.client, Folder)
    assert turn.client.did[-3:] == ["kill", "unmount", "kill"]


def test_a_program_that_fails_is_wrong(turn: Turn) -> None:
    def act(it: Turn) -> None:
        with it.measured(""):
            it.run("sh", "-c", "echo no such thing; exit 3")

    (figure,) = take_turn(turn, act)
    assert (figure.work, figure.failed) == ("work", "sh: no such thing")


def test_a_client_that_does_not_begin_is_a_figure_too(turn: Turn, monkeypatch: pytest.MonkeyPatch) -> None:
    def mount(_: Client) -> None:
        raise TooSlow("it did not mount")

    monkeypatch.setattr(Folder, "mount", mount)
    (figure,) = take_turn(turn, Turn.begin)
    assert figure.failed == "it did not mount"


def test_what_comes_out_wrong_is_a_failure(turn: Turn) -> None:
    def act(it: Turn) -> None:
        with it.measured(""):
            raise Wrong("names found: 3 instead of 4")

    assert take_turn(turn, act)[0].failed == "names found: 3 instead of 4"


def test_what_is_not_as_expected_afterwards_is_a_failure_too(turn: Turn) -> None:
    def act(it: Turn) -> None:
        with it.measured(""):
            pass
        it.expect("bytes", 3, 3)
        it.expect("files", 3, 4)

    assert take_turn(turn, act)[0].failed == "files: 3 instead of 4"


def test_each_beginning_has_a_home_of_its_own_and_nothing_is_removed(turn: Turn) -> None:
    homes = []
    for _ in range(2):
        turn.client.begin()
        homes.append(turn.client.home)
    assert homes[0] != homes[1]
    assert all(home.is_dir() for home in homes)


def test_the_bench_knows_what_is_on_the_server(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    inside = server.inside("a bench")
    assert inside.make("")
    assert not inside.make("")
    for folder in ("one", "one/two"):
        inside.make(folder)
        inside.put(f"{folder}/file", tmp_path / "file")
    assert inside.count_files("one") == 2
    assert inside.size("one/file") == 7
    inside.copy("one", "three")
    assert inside.count_files("") == 4
    assert inside.file_id("one/file") not in {"", inside.file_id("three/file")}
    assert inside.exists("one")
    for _ in range(2):
        inside.remove("one")
        assert not inside.exists("one")
    assert inside.count_files("") == 2


def test_only_plain_http_can_be_counted() -> None:
    assert Server("http://127.0.0.1:81/dav", "", "").host == ("127.0.0.1", 81)
    with pytest.raises(ValueError, match="http://"):
        _ = Server("https://127.0.0.1/dav", "", "").host


def test_the_cpu_time_of_processes_that_ended_still_counts() -> None:
    usage = Usage()
    spin = "import sys, time\nwhile time.process_time() < 0.2: pass\nprint(flush=True)\nsys.stdin.read()"
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", spin], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as it:
            assert it.stdout is not None
            it.stdout.readline()
            usage.look([it.pid])
            it.communicate()
        usage.look([it.pid])
    assert usage.cpu_s > 0.3  # in ticks of 10 ms
    assert usage.peak_mib > 3


def test_a_call_passes_input_and_environment() -> None:
    said = call("sh", "-c", "cat; echo $WORD", patience_s=60, given="in ", environment={"WORD": "out"})
    assert said == "in out\n"
