"""What the .deb does beside its files. Removed: what still runs from it is told to end, and waited for."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
# As a daemon does: it takes a moment from the signal to its end.
DAEMON = 'trap "sleep 0.3; echo unmounted; exit 0" TERM; echo ready; while :; do sleep 0.05; done'


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """Return what stands for /usr/lib/cloudfs."""
    folder = tmp_path / "cloudfs"
    (folder / "lib/python3/__pycache__").mkdir(parents=True)
    return folder


def remove(prefix: Path, word: str) -> str:
    script = (REPOSITORY / "scripts/_deb/prerm").read_text().replace("/usr/lib/cloudfs", str(prefix))
    command = ["sh", "-c", script, "prerm", word]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stderr


@pytest.fixture
def daemon(prefix: Path) -> Iterator[subprocess.Popen[str]]:
    """Run something under the name of the package's Python."""
    command = ["bash", "-c", 'exec -a "$0" bash -c "$1"', f"{prefix}/bin/python3", DAEMON]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_it_ends_what_runs_and_leaves_no_bytecode(prefix: Path, daemon: subprocess.Popen[str]) -> None:
    assert "unmounting what is mounted" in remove(prefix, "remove")
    assert daemon.wait(30) == 0
    assert daemon.stdout
    assert daemon.stdout.read() == "unmounted\n"
    assert list(prefix.rglob("__pycache__")) == []


def test_an_upgrade_leaves_it_running(prefix: Path, daemon: subprocess.Popen[str]) -> None:
    assert remove(prefix, "upgrade") == ""
    assert daemon.poll() is None
    assert list(prefix.rglob("__pycache__")) == []


def test_nothing_runs(prefix: Path) -> None:
    assert remove(prefix, "remove") == ""


def test_a_system_that_was_never_started_gets_its_table_of_mounts(prefix: Path, tmp_path: Path) -> None:
    script = (REPOSITORY / "scripts/_deb/postinst").read_text().replace("/usr/lib/cloudfs", str(prefix))
    table = tmp_path / "etc/mtab"
    table.parent.mkdir()
    command = ["sh", "-c", script.replace("/etc/mtab", str(table)), "postinst", "configure"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert table.readlink() == Path("../proc/self/mounts")
    subprocess.run(command, check=True, capture_output=True, timeout=60)  # it is left as it is
    table.unlink()
    table.write_text("made otherwise")
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert table.read_text() == "made otherwise"
