"""How many requests common work costs on a real Nextcloud, as the daemon counts them."""

from __future__ import annotations

import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.functional.sites import RealSite, real_site
from tests.functional.stages import MountStage

pytestmark = [
    pytest.mark.real_nextcloud,
    pytest.mark.mount,
    pytest.mark.shared_engine,
    pytest.mark.slow,
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def site() -> Iterator[RealSite]:
    with real_site() as site:
        yield site


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = free.getsockname()[1]
        assert isinstance(number, int)
        return number


@pytest.fixture
def stage(tmp_path_factory: pytest.TempPathFactory, site: RealSite, port: int) -> Iterator[MountStage]:
    made = MountStage(
        tmp_path_factory.mktemp("real") / "home",
        site,
        # What others do is not looked for meanwhile: on a slow server that would be one look more, or several.
        settings=f"poll_s = 3600\nmetrics = {port}",
        user=site.user,
        password=site.password,
    )
    yield made
    made.close()
    made.cloudfs("logout", "a")


def requests(port: int) -> Counter[str]:
    """Return how many there were so far, by method."""
    told = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    found = re.findall(r'^cloudfs_requests_total\{.*?method="(\w+)".*\} (\d+)$', told, re.MULTILINE)
    counts = Counter[str]()
    for method, number in found:
        counts[method] += int(number)
    return counts


def fill(folder: Path, number: int, pause_s: float = 0.0) -> None:
    folder.mkdir()
    pause = threading.Event()
    for name in range(number):
        pause.wait(pause_s)
        (folder / f"{name}").write_bytes(f"{name}\n".encode() * 800)


def send_all(stage: MountStage) -> None:
    while stage.cloudfs("sync", "--wait", "--timeout", "60", check=False).returncode:
        pass  # until this test's own time is over


def test_300_new_small_files_take_at_most_12_requests(stage: MountStage, site: RealSite, port: int) -> None:
    """Held back until all are there: how quickly a machine writes them says nothing about what they cost."""
    list(stage.mount_point.iterdir())
    stage.cloudfs("pause")
    fill(stage.mount_point / "new", 300)
    before = requests(port)
    stage.cloudfs("resume")
    send_all(stage)
    took = requests(port) - before
    assert took["POST"] <= 7  # of fifty files; the first may begin with what is known by then
    assert took["MKCOL"] == 1
    assert took.total() <= 12, took
    assert len(site.tree("new")) == 300


def test_300_files_that_a_slow_program_writes_take_as_few(
    stage: MountStage, site: RealSite, port: int
) -> None:
    """They become due one after the other, and wait for each other."""
    list(stage.mount_point.iterdir())
    before = requests(port)
    fill(stage.mount_point / "copied", 300, pause_s=0.005)
    send_all(stage)
    took = requests(port) - before
    assert took["POST"] <= 7
    assert took["PUT"] == 0
    assert took.total() <= 12, took
    assert len(site.tree("copied")) == 300
