"""`cloudfs reload` and the limits of speed, over a mount of a real engine and a NetworkManager of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloudfs.errors import ExitCode
from tests.desktop.networkmanager import ManagerThread, private_bus
from tests.functional.stages import USER, MountStage, wait_until
from tests.servers import Hold, StandIn

pytestmark = [pytest.mark.mount, pytest.mark.shared_engine]

MIB = 1 << 20


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="cloudfs-bus-") as folder, private_bus(Path(folder)) as address:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
        yield address


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        standin.account(USER).write("/theirs", b"theirs")
        yield standin


@pytest.fixture
def stage(tmp_path: Path, server: StandIn, bus: str) -> Iterator[MountStage]:
    del bus
    made = MountStage(tmp_path / "home", server)
    yield made
    made.close()


@pytest.fixture
def say(stage: MountStage) -> Callable[..., None]:
    """Write settings into the account's file, in the place of what was said before."""
    file = stage.home / "config/accounts/a.toml"
    login = file.read_text()

    def say(bandwidth: str = "", settings: str = "") -> None:
        text = login.replace("[settings]\n", f"[settings]\n{settings}\n")
        file.write_text(text.replace("[bandwidth]\n", "") + f"\n[bandwidth]\n{bandwidth}\n")

    return say


def limits(stage: MountStage) -> dict[str, object]:
    answer = stage.status()["limits"]
    assert isinstance(answer, dict)
    return {key: value for key, value in answer.items() if value and not key.endswith("until")}


def test_nothing_has_changed(stage: MountStage) -> None:
    assert stage.cloudfs("reload").stdout == "a: nothing has changed.\n"
    assert "  limit  " not in stage.cloudfs("status").stdout


def test_limits_hold_at_once(stage: MountStage, say: Callable[..., None]) -> None:
    say('up = "2 MB/s"\ndown = "00:00 512k 12:00 512 KiB/s 23:59 1M"')
    said = stage.cloudfs("reload", str(stage.mount_point)).stdout
    assert "a: changed bandwidth.up, bandwidth.down.\n" in said
    assert "  limit       sends at 2.0 MB/s at most\n" in said
    assert limits(stage) in ({"up": 2e6, "down": 512 * 1024}, {"up": 2e6, "down": MIB})
    status = stage.cloudfs("status").stdout
    assert "  limit       sends at 2.0 MB/s at most\n" in status
    assert "  limit       fetches at " in status
    assert " at most until " in status
    say()
    told = json.loads(stage.cloudfs("reload", "--json").stdout)
    assert (told["changed"], told["later"]) == (["bandwidth.up", "bandwidth.down"], [])
    assert limits(stage) == {}


def test_an_upload_under_way_is_quicker_at_once(
    stage: MountStage, server: StandIn, say: Callable[..., None]
) -> None:
    say('up = "8 kB/s"')
    stage.cloudfs("reload")
    data = os.urandom(16 * MIB)
    (stage.mount_point / "large").write_bytes(data)
    wait_until(lambda: bool(stage.status()["transfers"]))
    say()
    stage.cloudfs("reload")
    stage.sync()  # half an hour at the old limit
    assert server.account(USER).read("/large") == data


def test_other_settings(stage: MountStage, say: Callable[..., None]) -> None:
    say(settings='cache_size_bytes = 50_000_000\nkeep = ["/"]\nquiet_s = 0\nmemory_bytes = 10_000_000')
    told = json.loads(stage.cloudfs("reload", "--json").stdout)
    at_once = ["cache_size_bytes", "quiet_s", "keep"]
    assert told["changed"] == [f"settings.{key}" for key in at_once]
    assert told["later"] == ["settings.memory_bytes"]
    assert json.loads(stage.cloudfs("cache", "info", "--json").stdout)["limit_bytes"] == 50_000_000
    wait_until(
        lambda: json.loads(stage.cloudfs("ls", "--json", str(stage.mount_point)).stdout)[0]["here"] == "all"
    )
    # What does not hold yet is told of again.
    said = stage.cloudfs("reload").stdout
    assert said == "a: only the next mount will go by the new settings.memory_bytes.\n"


@pytest.mark.expect_log("bandwidth.down: 'quick' is no speed. Nothing was changed")
def test_a_mistake_changes_nothing(stage: MountStage, say: Callable[..., None]) -> None:
    say('up = "2 MB/s"')
    stage.cloudfs("reload")
    say('up = "1 MB/s"\ndown = "quick"')
    lines = (stage.home / "config/accounts/a.toml").read_text().splitlines()
    done = stage.cloudfs("reload", check=False)
    assert done.returncode == ExitCode.BAD_CONFIG
    line = lines.index('down = "quick"') + 1
    assert f"a.toml:{line}: bandwidth.down: 'quick' is no speed." in done.stderr
    assert limits(stage) == {"up": 2e6}
    pid = stage.status()["pid"]
    assert isinstance(pid, int)
    os.kill(pid, 1)
    log = stage.home / "state/a/daemon.log"
    wait_until(lambda: f"a.toml:{line}: bandwidth.down" in log.read_text())
    assert limits(stage) == {"up": 2e6}


def test_without_a_mount(stage: MountStage, say: Callable[..., None]) -> None:
    stage.cloudfs("unmount")
    assert stage.cloudfs("reload", check=False).returncode == ExitCode.NOT_MOUNTED
    say('up = "quick"')
    assert stage.cloudfs("reload", check=False).returncode == ExitCode.BAD_CONFIG


def test_on_a_metered_connection(
    stage: MountStage, server: StandIn, bus: str, say: Callable[..., None]
) -> None:
    there = server.account(USER)
    with ManagerThread(bus, 1) as manager:
        wait_until(lambda: limits(stage) == {"metered": True, "fetching_rests": True})
        assert (
            "metered     the connection is: nothing is fetched that no program reads"
            in stage.cloudfs("status").stdout
        )
        done = stage.cloudfs("pin", "--wait", "--timeout", "30", str(stage.mount_point), check=False)
        assert done.returncode == ExitCode.PENDING
        assert "nothing is brought on a metered connection" in done.stderr
        # What programs read comes, and what they write goes up.
        assert (stage.mount_point / "theirs").read_bytes() == b"theirs"
        (stage.mount_point / "mine").write_bytes(b"mine")
        stage.sync()
        assert there.read("/mine") == b"mine"
        # Unless it is told otherwise.
        say('metered = "limit 1 MB/s"\nmetered_up = "pause"')
        stage.cloudfs("reload")
        assert limits(stage) == {"metered": True, "background": 1e6, "sending_rests": True}
        (stage.mount_point / "later").write_bytes(b"later")
        done = stage.cloudfs("sync", "--wait", check=False)
        assert done.returncode == ExitCode.PENDING
        assert done.stderr.startswith("1 change is not on the server: the connection is metered.")
        info = stage.cloudfs("info", str(stage.mount_point / "later")).stdout
        assert "Nothing is sent on a metered connection" in info
        manager.say(2)
        stage.sync()
        assert there.read("/later") == b"later"
    assert limits(stage) == {}


def test_what_was_pinned_on_a_metered_connection_comes_on_another(stage: MountStage, bus: str) -> None:
    with ManagerThread(bus, 1) as manager:
        wait_until(lambda: bool(limits(stage)))
        assert "6 bytes of it still to come" in stage.cloudfs("pin", str(stage.mount_point)).stdout
        manager.say(4)
        stage.cloudfs("pin", "--wait", "--timeout", "60", str(stage.mount_point))


def test_what_is_brought_is_broken_off(stage: MountStage, server: StandIn, bus: str) -> None:
    brought = server.faults.add(Hold(), method="GET", path="theirs", times=1)
    with subprocess.Popen(
        stage.command("pin", "--wait", str(stage.mount_point)),
        env=stage.environ,
        stderr=subprocess.PIPE,
        text=True,
    ) as waiting:
        assert brought.wait_hit()
        with ManagerThread(bus, 3):
            _, said = waiting.communicate(timeout=60)
    assert waiting.returncode == ExitCode.PENDING
    assert "metered" in said
    brought.release()
